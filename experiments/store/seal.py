"""The bytes of records and plans: one line of JSON that begins with a hash of all the rest, the seal.

It is checked over the bytes as they lie on the disk, without parsing them, whenever they are read. A record without a
seal that fits (reformatted, or written before there were seals) is parsed and its content hash taken again. Keys keep
their order, which is that of the rows in tables.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from experiments.store.records import Record, content_hash

SEAL = re.compile(rb'\{"seal":"([0-9a-f]{16})",')
HEAD = re.compile(rb'\{\s*"schema_version": ?\d+,\s*"id": ?"[^"]*",\s*"status": ?"(done|failed|diverged)"')
LOG_HASH = re.compile(rb'"log_hash": ?"([0-9a-f]{16})"')


def compact(values: Any) -> bytes:
    """JSON in one line, keys in their order; NaN is refused."""
    return json.dumps(values, separators=(",", ":"), allow_nan=False).encode()


def seal_of(values: dict[str, Any], name: str = "") -> str:
    """The seal of values in a file whose name is part of what is sealed."""
    return short_hash(name.encode() + compact(values))


def line_of(values: dict[str, Any], seal: str) -> bytes:
    """The line of values under a seal."""
    return b'{"seal":"%s",' % seal.encode() + compact(values)[1:] + b"\n"


def record_line(record: Record) -> bytes:
    """The line of a record, with its hashes."""
    values = record.sealed().model_dump(mode="json")
    return line_of(values, seal_of(values))


def opened(data: bytes, name: str = "") -> bytes | None:
    """The JSON under a seal that fits; None if there is none."""
    if (found := SEAL.match(data)) is None:
        return None
    body = b"{" + data[found.end() :].rstrip()
    return body if short_hash(name.encode() + body) == found[1].decode() else None


def record_in(data: bytes) -> bytes:
    """The JSON of a record, checked: by its seal, or else by its content hash.

    Raises:
        ValueError: it is no JSON object, has no hash, or another content than its hash says.
    """
    if (body := opened(data)) is not None:
        return body
    values = json.loads(data)
    if not isinstance(values, dict):
        raise ValueError("it is no record")
    values.pop("seal", None)
    if not values.get("content_hash"):
        raise ValueError("it has no hash")
    if content_hash(values) != values["content_hash"]:
        raise ValueError("its content does not fit its hash")
    return compact(values)


def status_in(body: bytes) -> str:
    """The status in the JSON of a record.

    Raises:
        ValueError, KeyError, TypeError: there is none.
    """
    if found := HEAD.match(body):
        return found[1].decode()
    return str(json.loads(body)["status"])


def log_hash_in(data: bytes) -> str:
    """The hash of the run's metrics.jsonl in the bytes of its record; empty if the record has none."""
    found = LOG_HASH.search(data)
    return found[1].decode() if found else ""


def short_hash(data: bytes) -> str:
    """The first sixteen hex digits of the sha256."""
    return hashlib.sha256(data).hexdigest()[:16]
