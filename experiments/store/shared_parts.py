"""What lines of an archive have in common, stored once: a line keeps the name of the part, which is its hash."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.store import seal

PART = "$part"
LEAST = 120  # bytes; a shorter part is not worth its name


def share(values: Sequence[Any]) -> tuple[list[Any], dict[str, bytes]]:
    """JSON values in which each object or list that occurs more than once is named, and those parts by name.

    The values themselves stay objects. Where one of them holds the key of a name as its own, nothing is shared.
    """
    count: Counter[bytes] = Counter()
    for inner in _inner(values):
        if isinstance(inner, dict) and PART in inner:
            return list(values), {}
        text = seal.compact(inner)
        if len(text) >= LEAST:
            count[text] += 1
    parts: dict[str, bytes] = {}
    return [_named(value, count, parts, top=True) for value in values], parts


def whole(value: Any, parts: Mapping[str, bytes]) -> Any:
    """The value with its parts in their places.

    Raises:
        ValueError: a part is missing.
    """
    if isinstance(value, list):
        return [whole(each, parts) for each in value]
    if not isinstance(value, dict):
        return value
    if parts and value.keys() == {PART}:
        if (name := str(value[PART])) not in parts:
            raise ValueError(f"its part {name} is not in the archive")
        return json.loads(parts[name])
    return {key: whole(each, parts) for key, each in value.items()}


def _inner(value: Any) -> Iterator[Any]:
    """All objects and lists inside of a value."""
    for each in value.values() if isinstance(value, dict) else value:
        if isinstance(each, dict | list):
            yield each
            yield from _inner(each)


def _named(value: Any, count: Mapping[bytes, int], parts: dict[str, bytes], *, top: bool = False) -> Any:
    if not isinstance(value, dict | list):
        return value
    if not top and count.get(text := seal.compact(value), 0) > 1:
        name = seal.short_hash(text)
        parts[name] = text
        return {PART: name}
    if isinstance(value, dict):
        return {key: _named(each, count, parts) for key, each in value.items()}
    return [_named(each, count, parts) for each in value]
