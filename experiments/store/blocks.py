"""Why a run stopped without a record: the storage took no more. A launcher reads it and says so.

    <results_dir>/blocked/<run>.json

A note is smaller than what `Store.require_space` asks for: where not even a note fits, that will tell.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from experiments.store import atomic_files as atomic
from experiments.store.storage_errors import in_words, kind_of


@dataclass(frozen=True)
class Block:
    """What stopped a run. `kind` is one of experiments.store.storage_errors."""

    run: str
    kind: str
    words: str


def note(root: Path, run: str, error: OSError) -> None:
    """Write down what stopped the run, if that can be written."""
    with contextlib.suppress(OSError):
        atomic.write_json(_path(root, run), {"kind": kind_of(error) or "", "words": in_words(error)})


def clear(root: Path, runs: Iterable[str]) -> None:
    """Forget what stopped these runs: they are tried again."""
    for run in runs:
        with contextlib.suppress(OSError):
            _path(root, run).unlink(missing_ok=True)


def found(root: Path, runs: Iterable[str]) -> list[Block]:
    """What stopped these runs, as far as it is known."""
    blocks = []
    for run in runs:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            says = json.loads(_path(root, run).read_text())
            blocks.append(Block(run, str(says["kind"]), str(says["words"])))
    return blocks


def _path(root: Path, run: str) -> Path:
    return root / "blocked" / f"{run}.json"
