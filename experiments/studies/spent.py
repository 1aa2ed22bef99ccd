"""What was spent: runs, training FLOPs and hours of every results folder below one, from the records alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.errors import UserError
from experiments.reporting.screen import show_rows
from experiments.store.archive import INDEX, NAME
from experiments.store.records import Record
from experiments.store.store import Store

COLUMNS = ["folder", "runs", "not done", "training FLOPs", "hours", "of these training"]


@dataclass
class Spent:
    """Sums over records.

    Attributes:
        runs: records.
        bad: those of failed and diverged runs; what they took counts like the rest.
        flops: useful training FLOPs of the steps that were made.
        seconds: wall time of the attempts that made the records; earlier ones, which were killed, left none.
        training: of these, seconds in training steps (killed attempts included).
    """

    runs: int = 0
    bad: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    training: float = 0.0

    def add(self, record: Record) -> None:
        """Count a record in."""
        self.runs += 1
        self.bad += record.status != "done"
        self.flops += record.spec.cost.flops_train * record.steps_done / record.spec.steps
        self.seconds += record.measured.wall_seconds
        self.training += record.measured.train_seconds


def folders(root: Path) -> Iterator[Path]:
    """The results folders at and below `root`: those that hold runs/ or an archive."""
    packed = (path.parent for path in root.glob(f"**/{NAME}/{INDEX}"))
    yield from sorted({path.parent for path in [*root.glob("**/runs"), *packed] if path.is_dir()})


def spent(root: Path) -> dict[str, Spent]:
    """By results folder, and "all", in which a run that lies in several counts once.

    Raises:
        UserError: no runs below `root`, or a corrupt record.
    """
    found: dict[str, Spent] = {}
    once: dict[tuple[str, str], Record] = {}
    for folder in dict.fromkeys(folders(root)):
        store, mine = Store(folder, write=False), Spent()
        for record in store.records(store.ids()).values():
            mine.add(record)
            once[record.id, record.content_hash] = record
        store.require_sound()
        if mine.runs:
            found[str(folder.relative_to(root))] = mine
    if not found:
        raise UserError(f"no records below {root}; name a results folder, e.g. results_dir=results")
    found["all, each run once"] = Spent()
    for record in once.values():
        found["all, each run once"].add(record)
    return found


def show_spent(root: Path) -> int:
    """Print the sums as a table."""
    rows = [
        {
            "folder": name,
            "runs": str(one.runs),
            "not done": str(one.bad),
            "training FLOPs": f"{one.flops:.3g}",
            "hours": f"{one.seconds / 3600:.2f}",
            "of these training": f"{one.training / 3600:.2f}",
        }
        for name, one in spent(root).items()
    ]
    show_rows(rows, COLUMNS, f"Spent below {root.name}")
    return 0
