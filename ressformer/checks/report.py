"""What a preflight found, as plain data."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Self

Number = float | int | str | bool


@dataclass(frozen=True)
class Check:
    """One check of a model.

    Attributes:
        name: future | padding | batch | state | weights | cost | gradients | build.
        passed: whether the model stands it.
        numbers: what was measured, and where the worst was found.
        seconds: CPU time it took.
        sentence: the finding in words, one line.
    """

    name: str
    passed: bool
    numbers: dict[str, Number]
    seconds: float
    sentence: str


@dataclass(frozen=True)
class Report:
    """All checks of one model at one shape; `lengths` are those it was run at."""

    model: str
    lengths: tuple[int, ...]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def seconds(self) -> float:
        """CPU time of all checks."""
        return sum(check.seconds for check in self.checks)

    def __getitem__(self, name: str) -> Check:
        """The check of that name (KeyError: there is none)."""
        found = {check.name: check for check in self.checks}
        return found[name]

    def __str__(self) -> str:
        """One line a check."""
        head = f"{self.model} at lengths {', '.join(map(str, self.lengths))}: {self.seconds:.2f} s"
        lines = [
            f"  {'ok' if c.passed else 'FAIL':<4} {c.name:<9} {c.sentence} ({c.seconds:.2f} s)" for c in self.checks
        ]
        return "\n".join([head, *lines])

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` reads; JSON holds it."""
        return {**asdict(self), "lengths": list(self.lengths), "checks": [asdict(check) for check in self.checks]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The report that `to_dict` wrote."""
        checks = tuple(Check(**check) for check in values["checks"])
        return cls(values["model"], tuple(values["lengths"]), checks)


@dataclass(frozen=True)
class Finding:
    """What a check returns; `checked` adds its name and its time."""

    passed: bool
    sentence: str
    numbers: dict[str, Number]


def checked(name: str, work: Callable[[], Finding]) -> Check:
    """The check, timed. What the model raises is a failure with its message, whatever it is."""
    start = time.process_time()
    try:
        found = work()
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no message"])[0]
        found = Finding(False, f"raised {type(error).__name__}: {first}", {"error": type(error).__name__})
    return Check(name, found.passed, found.numbers, time.process_time() - start, found.sentence)
