"""What became of the rows of a data set: kept, left out and why, shared by train and test. Never silent."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict


class Report:
    """Counts per split."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.kept: dict[str, int] = {}
        self.skipped: dict[str, Counter[str]] = defaultdict(Counter)
        self.notes: dict[str, Counter[str]] = defaultdict(Counter)
        self.overlap: dict[str, tuple[int, int]] = {}

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
        return "; ".join(words)

    def print(self) -> None:
        """One line on standard error for each split of which something was left out or changed, or shared."""
        for part in self.kept:
            if self.skipped[part] or self.notes[part] or self.overlap.get(part, (0, 0))[0]:
                print(f"task {self.task}: {part}: {self.line(part)}", file=sys.stderr)
