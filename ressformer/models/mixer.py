"""A mixer of the user's own in the stack that all families share: any module that maps [B, n, d] to [B, n, d].

    model=mixer model.mixer=./my.py:MyMixer
    model=mixer model.mixer._target_=mypackage.MyMixer model.mixer.ARG=VALUE

The class is handed `d_model`, and `n_heads`, `causal` and `out_scale` where its signature has them. Its cost is torch's
count (`ressformer.counted`). Padding stands on the right: a mixer whose `forward` has an argument `mask` gets it (True
at real tokens, or None); for others, padded positions are 0 where the task lets a token see what follows it.

Shapes: B batch, n length, d width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ressformer.cost import Shape
from ressformer.counted import require_shape
from ressformer.foreign import Named, built, named, takes
from ressformer.stack import StackConfig


@dataclass(frozen=True, kw_only=True)
class MixerConfig(StackConfig):
    """Dials of the stack, and the class that mixes.

    Attributes:
        mixer: the class and its arguments: {_target_: package.Class, ARG: VALUE}, with `file` {_target_: Class}.
    """

    family: ClassVar[str] = "mixer"

    positions: str = "none"
    mixer: Named

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.positions != "rotary", "what it rotates is the mixer's business: positions=none or learned")
        self.require(not self.qk_norm, "qk_norm is a switch of our attention; a mixer of yours norms what it likes")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a config; see `ModelConfig.from_dict`. The class is loaded, and built once to see that it can be."""
        config = super().from_dict({**values, "mixer": named(values.get("mixer"), "model.mixer")})
        config.require_built()
        return config

    def require_built(self) -> None:
        """Raise ValueError, in one line, if the mixer cannot be built."""
        built_on_meta(self.mixer, self._needed, self._offered(causal=True, out_scale=1.0))

    @property
    def position_free(self) -> bool:
        return False

    @property
    def _needed(self) -> dict[str, Any]:
        return {"d_model": self.d_model}

    def _offered(self, *, causal: bool, out_scale: float) -> dict[str, Any]:
        return {"n_heads": self.n_heads, "causal": causal, "out_scale": out_scale}

    def foreign_targets(self) -> tuple[str, ...]:
        return (self.mixer.full_name,)

    def state_size(self, shape: Shape) -> int | None:
        """What the mixer says: `state_size(length)`, numbers that one layer keeps; None where it does not say."""
        say = getattr(self.mixer.kind, "state_size", None)
        if not shape.causal or say is None:
            return None if shape.causal else 0
        mixer: Any = built(self.mixer, self._needed, self._offered(causal=True, out_scale=1.0))
        return self.n_layers * int(mixer.state_size(shape.length))

    def build_mixer(self, *, length: int, causal: bool, out_scale: float) -> nn.Module:
        return ForeignMixer(
            built(self.mixer, self._needed, self._offered(causal=causal, out_scale=out_scale)), causal=causal
        )


def built_on_meta(name: Named, needed: dict[str, Any], offered: dict[str, Any]) -> None:
    """Raise ValueError, in one line, if the class cannot be built, on the meta device or, failing that, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                built(name, needed, offered)
        except ValueError:
            built(name, needed, offered)


class ForeignMixer(nn.Module):
    """The user's module in a layer; what it returns has to have the shape of what it got."""

    def __init__(self, module: nn.Module, *, causal: bool) -> None:
        super().__init__()
        self.module, self.causal, self.mask_name = module, causal, takes(module, "mask", "attention_mask")

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> Tensor:
        if self.mask_name:
            y_Bnd = self.module(x_Bnd, **{self.mask_name: mask_Bn})
        else:
            if mask_Bn is not None and not self.causal:
                x_Bnd = x_Bnd * mask_Bn.unsqueeze(-1).to(x_Bnd.dtype)
            y_Bnd = self.module(x_Bnd)
        require_shape(type(self.module).__name__, x_Bnd.shape, y_Bnd)
        found: Tensor = y_Bnd
        return found
