"""A toy task that keeps its runs in the middle of training for as long as a file is there."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tasks.item import Item
from tasks.qa.chain import Chain, ChainConfig

SLOW_FROM, HELD_FROM = 100, 105  # steps
SECONDS = 1.0  # that a slow step takes: time for heartbeats that say how far the run is


@dataclass(frozen=True, kw_only=True)
class GatedChainConfig(ChainConfig):
    """`gate`: the file."""

    gate: str = ""


class GatedChain(Chain):
    """The items of `chain`, handed out slowly while the gate is there, and from some step on not at all."""

    Config = GatedChainConfig

    def generate(self, split: str, seed: int, index: int) -> Item:
        assert isinstance(self.config, GatedChainConfig)
        step, rest = divmod(index, self.batch_size)
        gate = Path(self.config.gate)
        if split == "train" and rest == 0 and step >= SLOW_FROM and gate.exists():
            time.sleep(SECONDS)
            while step >= HELD_FROM and gate.exists() and not told_to_stop():
                time.sleep(0.1)
        return super().generate(split, seed, index)


def told_to_stop() -> bool:
    """Whether the run has been: it stops once the step that it waits for is over."""
    return bool(getattr(signal.getsignal(signal.SIGTERM), "wanted", False))
