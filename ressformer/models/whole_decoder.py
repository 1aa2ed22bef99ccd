"""A whole decoder of the user's own, from token ids [B, n] to logits [B, n, V], at the sizes that it has.

    model=decoder model.decoder=./my.py:MyDecoder budget=off
    model=decoder model.decoder._target_=mypackage.MyDecoder model.decoder.ARG=VALUE budget=off

The class is handed `vocab_size`, and `length`, `max_length` and `causal` where its signature has them. It shares
nothing with the other models, no solver moves its sizes, and its cost is torch's count (`ressformer.counted`); the
table marks it. What it returns is the logits, or has them as `logits`. A mask is handed on as `attention_mask` or
`mask` where its `forward` has that argument (True at real tokens, or None).

Shapes: B batch, n length, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ressformer.cost import Cost, Shape, group
from ressformer.counted import ROWS, counted, require_shape
from ressformer.decoder import Core, Decoder, ModelConfig, ModelOutput
from ressformer.dials import Dial
from ressformer.foreign import Named, built, named, takes


@dataclass(frozen=True, kw_only=True)
class WholeDecoderConfig(ModelConfig):
    """The class and its arguments; the dials of other models are not its own.

    Attributes:
        decoder: {_target_: package.Class, ARG: VALUE}, with `file` {_target_: Class}.
    """

    family: ClassVar[str] = "decoder"
    fill: ClassVar[str] = ""

    decoder: Named

    def __post_init__(self) -> None:
        super().__post_init__()
        for f in fields(self):
            same = f.name == "decoder" or getattr(self, f.name) == f.default
            self.require(
                same, f"{f.name} is no dial of a whole decoder; its own arguments are model.decoder.NAME=VALUE"
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a config; see `ModelConfig.from_dict`. The class is loaded."""
        return super().from_dict({**values, "decoder": named(values.get("decoder"), "model.decoder")})

    @property
    def counted(self) -> bool:
        return True

    def foreign_targets(self) -> tuple[str, ...]:
        return (self.decoder.full_name,)

    def dials(self) -> tuple[Dial, ...]:
        return ()

    def build_core(self, *, length: int, max_length: int, causal: bool) -> Core:
        raise NotImplementedError("a whole decoder has no core of ours")

    def core_cost(self, shape: Shape) -> Cost:
        raise NotImplementedError("a whole decoder has no core of ours")

    def build(self, *, vocab_size: int, length: int, max_length: int = 0, causal: bool = True) -> Decoder:
        longest = max(length, max_length)
        offered = {"length": length, "max_length": longest, "causal": causal}
        module = built(self.decoder, {"vocab_size": vocab_size}, offered)
        return WholeDecoder(self, module, vocab_size=vocab_size, max_length=longest, causal=causal)

    def whole_cost(self, shape: Shape) -> Cost:
        """The cost of the whole model, counted, per sequence."""
        return _counted(self, replace(shape, batch=ROWS))


@lru_cache(maxsize=256)
def _counted(config: WholeDecoderConfig, shape: Shape) -> Cost:
    sizes = {"vocab_size": shape.vocab, "length": shape.length, "max_length": shape.max_length, "causal": shape.causal}

    def run(model: nn.Module) -> Tensor:
        logits_BnV: Tensor = model(torch.zeros(shape.batch, shape.length, dtype=torch.long)).logits_BnV
        return logits_BnV

    where = f"model decoder on {shape.length} tokens"
    return group("decoder", counted("decoder (counted)", lambda: config.build(**sizes), run, where))  # type: ignore[arg-type]


class WholeDecoder(Decoder):
    """The user's module where a `Decoder` is expected."""

    def __init__(
        self, config: WholeDecoderConfig, module: nn.Module, *, vocab_size: int, max_length: int, causal: bool
    ) -> None:
        nn.Module.__init__(self)
        self.config, self.vocab_size, self.max_length, self.causal = config, vocab_size, max_length, causal
        self.module, self.mask_name = module, takes(module, "attention_mask", "mask")
        self.core = Core()  # it holds the switches of diagnosis, which a module of the user's does not read
        tables = [m for m in module.modules() if isinstance(m, nn.Embedding) and m.num_embeddings == vocab_size]
        if not tables:
            kind = type(module).__name__
            raise ValueError(
                f"model.decoder: {kind} has no nn.Embedding of vocab_size={vocab_size} rows for the tokens"
            )
        heads = [m for m in module.modules() if isinstance(m, nn.Linear) and m.out_features == vocab_size]
        # References to parts of `module`, past the registry of submodules: each weight has one name.
        object.__setattr__(self, "embedding", tables[0])
        object.__setattr__(self, "head", heads[-1] if heads else tables[0])

    def forward(self, input_ids_Bn: Tensor, attention_mask_Bn: Tensor | None = None) -> ModelOutput:
        masked = {self.mask_name: attention_mask_Bn} if self.mask_name else {}
        out = self.module(input_ids_Bn, **masked)
        logits_BnV = getattr(out, "logits", out)
        require_shape(type(self.module).__name__, torch.Size((*input_ids_Bn.shape, self.vocab_size)), logits_BnV)
        return ModelOutput(logits_BnV)
