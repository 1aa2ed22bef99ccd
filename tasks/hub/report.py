"""What became of the rows of a data set: kept, left out and why, shared by train and test. Never silent."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

FILES_SHOWN = 3


def files_read(files: Mapping[str, Sequence[str]]) -> str:
    """The files of each split of the data set, relative to its folder; of many the first ones and how many."""
    words = []
    for split, names in files.items():
        more = f" and {len(names) - FILES_SHOWN} more" if len(names) > FILES_SHOWN else ""
        words.append(f"{split}: {', '.join(names[:FILES_SHOWN])}{more}")
    return "read from " + "; ".join(words)


class Report:
    """Counts per split."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.kept: dict[str, int] = {}
        self.skipped: dict[str, Counter[str]] = defaultdict(Counter)
        self.notes: dict[str, Counter[str]] = defaultdict(Counter)
        self.overlap: dict[str, tuple[int, int]] = {}
        self.doubles: dict[str, int] = {}
        self.files: dict[str, list[str]] = {}

    def skip(self, part: str, reason: str) -> None:
        """Count an item that is left out."""
        self.skipped[part][reason] += 1

    def note(self, part: str, what: str) -> None:
        """Count an item that is kept, but not as it was."""
        self.notes[part][what] += 1

    def line(self, part: str) -> str:
        """One line on a split."""
        kept, left = self.kept.get(part, 0), self.skipped[part]
        words = [f"{kept} items"]
        if left:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left.items()))
            words = [f"{kept} of {kept + left.total()} items, left out: {reasons}"]
        words += [f"{count} {what}" for what, count in sorted(self.notes[part].items())]
        if part in self.overlap:
            shared, total = self.overlap[part]
            words.append(f"{shared} of {total} also in train")
        if self.doubles.get(part):
            words.append(f"{self.doubles[part]} stand there more than once (prompt and answer the same; kept)")
        return "; ".join(words)

    def read(self) -> str:
        """The files that were read, by the data set's split."""
        return files_read(self.files)

    def print(self) -> None:
        """One line on standard error for each split of which something was left out or changed, or shared."""
        for part in self.kept:
            if self.skipped[part] or self.notes[part] or self.overlap.get(part, (0, 0))[0] or self.doubles.get(part):
                print(f"task {self.task}: {part}: {self.line(part)}", file=sys.stderr)
