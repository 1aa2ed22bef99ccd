"""runs/<id>/graph.json: the graph that a trained model induces over one sample, beside the record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.store import atomic_files as atomic

FILE = "graph.json"

Edge = tuple[int, int, float]


@dataclass(frozen=True)
class Sample:
    """A sample's tokens as words, and per inner step the edges (from token, to token, weight) over it."""

    split: str
    item: int
    words: list[str]
    steps: list[list[Edge]]


def write_graph(folder: Path, sample: dict[str, Any]) -> None:
    """Put the fields of a `Sample` into the folder of a run.

    Raises:
        OSError: the folder cannot be written.
    """
    atomic.write_text(folder / FILE, json.dumps(sample, separators=(",", ":")) + "\n")


def read_graph(folder: Path) -> Sample | None:
    """What `write_graph` wrote; None if there is nothing that can be read."""
    try:
        return parse((folder / FILE).read_bytes())
    except OSError:
        return None


def parse(data: bytes) -> Sample | None:
    """The sample in the bytes of a graph file; None if they hold none."""
    try:
        found = json.loads(data)
        steps = [[(int(i), int(j), float(weight)) for i, j, weight in edges] for edges in found["steps"]]
        return Sample(str(found["split"]), int(found["item"]), [str(word) for word in found["words"]], steps)
    except (ValueError, KeyError, TypeError):
        return None
