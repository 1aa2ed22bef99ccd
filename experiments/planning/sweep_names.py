"""What a sweep is called: `sweep.name=NAME`, or its preset and table (`lr-quick`); another if that name is taken.

<results_dir>/sweeps/NAME.json says what the sweep of that name was asked for. It is written when the sweep is run, so
that to plan one takes no name.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.planning.hydra_config import composed, composer, options, plain, results_folder, values_of
from experiments.store import atomic_files as atomic

FOLDER = "sweeps"
OWN = ("sweep.name", "sweep.sampler")  # arguments that are the sweep's own


@dataclass(frozen=True)
class Claim:
    """The name of a sweep, and what it was asked for."""

    name: str
    key: str
    tables: tuple[str, ...]
    preset: str

    def write(self, root: Path) -> None:
        """Take the name in a results folder."""
        values = {"key": self.key, "tables": list(self.tables), "preset": self.preset}
        atomic.write_json(root / FOLDER / f"{self.name}.json", values)


def results_root(words: Sequence[str]) -> Path:
    """The results folder of the words, or the default one."""
    with composer():
        config = composed([f"results_dir={value}" for value in values_of("results_dir", words)])
        return Path(results_folder(plain(config))).expanduser().absolute()


def default_name(preset: str, tables: Sequence[str]) -> str:
    """`lr-quick`."""
    return "-".join([preset, *tables[-1:]])


def claimed(words: Sequence[str], preset: str, tables: Sequence[str], asked: Any) -> Claim:
    """The name that the sweep gets. Nothing is written; a line on stderr says so where the default name is taken.

    Args:
        words: all arguments.
        preset: of conf/sweep.
        tables: the table that is named, if any.
        asked: all that decides what is run.

    Raises:
        UserError: the name that was given belongs to a sweep that was asked for something else.
    """
    root, key = results_root(words), atomic.digest(asked)
    given = values_of("sweep.name", words)
    name = given[-1] if given else default_name(preset, tables)
    with composer():
        if name in options("table"):
            raise UserError(f"{name} is the name of a table; choose another sweep.name")
    if _holder(root, name) in (None, key):
        return Claim(name, key, tuple(tables), preset)
    if given:
        raise UserError(f"sweep {name} in {root.name} was asked for something else; choose another sweep.name")
    other = f"{name}-{key[:6]}"
    line = f"{name} in {root.name} was asked for something else; this is {other} (sweep.name=NAME renames it)"
    print(line, file=sys.stderr)
    return Claim(other, key, tuple(tables), preset)


def _holder(root: Path, name: str) -> str | None:
    try:
        return str(json.loads((root / FOLDER / f"{name}.json").read_text())["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def sweeps_of(root: Path, table: str) -> list[str]:
    """The sweeps of a preset of conf/table, by name: those that noted it, and those whose name and exports say so.

    An archive has the exports of a sweep, and not the note.
    """
    found = set()
    for path in (root / FOLDER).glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if table in json.loads(path.read_text())["tables"]:
                found.add(path.stem)
    with composer():
        default = [default_name(preset, [table]) for preset in options("sweep")]
    return sorted(found | {name for name in default if (root / "exports" / f"{name}-best.csv").exists()})
