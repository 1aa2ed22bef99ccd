"""A toy task that keeps its runs in the middle of training for as long as a file is there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tasks.item import Item
from tasks.qa.chain import Chain, ChainConfig

HELD_FROM = 100  # steps
SECONDS = 1.0  # that a step takes from there on while the gate is there: a run that is told to stop still ends soon


@dataclass(frozen=True, kw_only=True)
class GatedChainConfig(ChainConfig):
    """`gate`: the file."""

    gate: str = ""


class GatedChain(Chain):
    """The items of `chain`, handed out slowly while the gate is there."""

    Config = GatedChainConfig

    def generate(self, split: str, seed: int, index: int) -> Item:
        assert isinstance(self.config, GatedChainConfig)
        step, rest = divmod(index, self.batch_size)
        if split == "train" and rest == 0 and step >= HELD_FROM and Path(self.config.gate).exists():
            time.sleep(SECONDS)
        return super().generate(split, seed, index)
