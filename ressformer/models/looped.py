"""The looped Transformer: one dense layer applied K times (Universal Transformer, 1807.03819, without halting).

The control for ReSSFormer: the same loop, without sparsity, memory, graph or experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ressformer.models.transformer import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class LoopedConfig(TransformerConfig):
    """Dials of the looped Transformer: those of the stack; `n_layers` is the number of applications K."""

    family: ClassVar[str] = "looped"
    switches: ClassVar[Mapping[str, str]] = {
        **TransformerConfig.switches,
        "n_layers": "depth of the loop",
    }

    @property
    def shared(self) -> bool:
        return True
