"""Parts of lines that are stored once come back as they were, whatever the lines hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.store import seal
from experiments.store.shared_parts import LEAST, PART, share, whole

LONG = {"text": "x" * LEAST, "numbers": [1, 2.5, None]}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=200),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just(PART), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(max_size=3), JSON, max_size=3), max_size=4), st.integers(1, 3))
def test_lines_come_back_byte_by_byte(lines: list[dict[str, Any]], times: int) -> None:
    asked = [{**line, "long": LONG, "n": n} for n in range(times) for line in lines]
    short, parts = share(asked)
    back = [whole(json.loads(seal.compact(line)), parts) for line in short]
    assert [seal.compact(line) for line in back] == [seal.compact(line) for line in asked]
    assert all(seal.short_hash(text) == name for name, text in parts.items())


def test_what_occurs_twice_is_stored_once() -> None:
    short, parts = share(
        [{"id": 1, "a": LONG}, {"id": 2, "b": [LONG, {"c": 0}]}, {"id": 3, "d": {"once": "y" * LEAST}}]
    )
    assert list(parts.values()) == [seal.compact(LONG)] and short[0]["a"] == short[1]["b"][0] == {
        PART: next(iter(parts))
    }
    assert short[2]["d"] == {"once": "y" * LEAST}


def test_a_part_that_is_not_there_is_said() -> None:
    short, parts = share([{"a": LONG}, {"a": LONG}])
    with pytest.raises(ValueError, match="its part 0000 is not in the archive"):
        whole({"a": {PART: "0000"}}, parts)
    assert whole(short[0], parts) == {"a": LONG}
