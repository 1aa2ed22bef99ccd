"""Records and plans that go elsewhere: where data lay on this machine is no business of others.

What the data are is in their fingerprint, and a run's name leaves out where they lie (experiments.store.identity), so
names, results and their hashes stay; the hash of a record's content is taken again.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from experiments.store.records import content_hash


def portable_record(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a record, their places by the last part of their paths alone."""
    spec = portable_spec(values["spec"])
    if spec == values["spec"]:
        return values
    moved = {**values, "spec": spec}
    return {**moved, "content_hash": content_hash(moved)}


def portable_plan(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a plan, the same; its file keeps the name that it had."""
    return {**values, "runs": [portable_spec(spec) for spec in values["runs"]]}


def portable_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec with `/mine/data/books` as `books`."""
    config = spec["config"]
    places = {key: config["task"][key] for key in spec.get("places", ()) if isinstance(config["task"].get(key), str)}
    if not places:
        return spec
    task = {**config["task"], **{key: last_part(place) for key, place in places.items()}}
    return {**spec, "config": {**config, "task": task}}


def last_part(path: str) -> str:
    """The last part of an absolute path; of a path so short that this may be a user's name, nothing."""
    parts = PurePosixPath(path).parts
    if not path.startswith("/"):
        return path
    return parts[-1] if len(parts) > 3 else ""
