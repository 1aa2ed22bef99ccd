"""Facts and questions before they are written down, and the settings that every task of `tasks.facts` has."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.base import require
from tasks.codec import Fact
from tasks.probes import ProbeConfig

Asked = tuple[str, tuple[int, ...], int]  # kind of question, arguments, answer in the alphabet `answers`


@dataclass(frozen=True, kw_only=True)
class AskConfig(ProbeConfig):
    """Sizes every such task has."""

    n_questions: int = 8
    ood_length: int = 128
    bidirectional: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_questions >= 1, f"n_questions={self.n_questions} is too small: use 1 or more")
        require(
            self.ood_length >= self.length,
            f"ood_length={self.ood_length} is below length={self.length}: use ood_length >= {self.length}",
        )


@dataclass(frozen=True, kw_only=True)
class FactConfig(AskConfig):
    """For facts that are a set: `order_free` writes one token per fact and reads in both directions."""

    order_free: bool = False


@dataclass(frozen=True, kw_only=True)
class Puzzle:
    """Facts and questions over integers, before names are drawn."""

    facts: list[Fact]
    questions: list[Asked]
    difficulty: dict[str, int | float]
    canonical: str
    split_key: str = ""  # see `Item`
