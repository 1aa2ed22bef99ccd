"""The shell that every model shares: embed -> core -> norm -> head.

A model is a config dataclass beside its core (`ressformer/models/`). The shell owns the token embedding, the final
norm and the output head, so that models differ in nothing but their cores.

Shapes: B batch, n length, d width, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ressformer.cost import Cost, Shape, Spread
from ressformer.dials import MULTIPLE, NARROW, WIDTH, Dial, with_own
from ressformer.layers.norms import NORMS, make_norm
from ressformer.typed import typed

DEEPEST = 10_000  # blocks; costs are summed block by block


@dataclass
class ModelOutput:
    """What every model returns.

    Attributes:
        logits_BnV: scores of the vocabulary at each position.
        aux_losses: weighted scalars to add to the task's loss (balance, router z, structure).
        diagnostics: detached scalars for the log (collapse, expert load, edge turnover, support).
    """

    logits_BnV: Tensor
    aux_losses: dict[str, Tensor] = field(default_factory=dict)
    diagnostics: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class CoreOutput:
    """What a core returns: hidden states, and the losses and diagnostics of `ModelOutput`."""

    h_Bnd: Tensor
    aux_losses: dict[str, Tensor] = field(default_factory=dict)
    diagnostics: dict[str, Tensor] = field(default_factory=dict)


class Core(nn.Module):
    """What stands between embedding and final norm.

    `diagnose` asks for diagnostics (they cost time). `eval_depth` runs it so many blocks deep instead of as deep as it
    was trained; 0 = as trained.
    """

    diagnose: bool = False
    eval_depth: int = 0

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> CoreOutput:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ModelConfig(ABC):
    """Dials that all models have; each family's config extends it. A family whose numbers change gets a new `version`.

    Attributes:
        d_model: width d.
        n_heads: attention heads; d must be divisible by it.
        short_conv: kernel width of a depthwise causal convolution before each mixer; 0 = off. A help that any
            model may use and the table names, so that what it gives is never credited to an architecture.
        tie_embeddings: the head reuses the token embedding.
        embedding_std: standard deviation of the initial token embedding.
        norm: layer (gain, no bias) | rms (1910.07467), of every block and before the head.
    """

    family: ClassVar[str]
    fill: ClassVar[str]
    depth_field: ClassVar[str] = ""
    version: ClassVar[int] = 1
    # Fields that, at equal shapes, give a head start that others lack, and the values at which they give none.
    help_fields: ClassVar[Mapping[str, Any]] = MappingProxyType({"short_conv": 0, "embedding_std": 0.02})
    # Numbers and switches that change the initial function at equal shapes and are no help, each with the reason.
    switches: ClassVar[Mapping[str, str]] = MappingProxyType({"n_heads": "the number of heads is architecture"})
    by_design: ClassVar[str] = ""  # A cue that the family has in any case, and the table names.

    d_model: int = 64
    n_heads: int = 4
    short_conv: int = 0
    tie_embeddings: bool = False
    embedding_std: float = 0.02
    norm: str = "layer"

    def __post_init__(self) -> None:
        self.require(self.d_model >= 1 and self.n_heads >= 1, "d_model and n_heads must be positive")
        self.require(
            self.d_model % self.n_heads == 0,
            f"d_model={self.d_model} must be divisible by n_heads={self.n_heads}",
        )
        self.require(self.short_conv >= 0, "short_conv is a kernel width: 0 (off) or more")
        self.choice("norm", NORMS)

    def helps(self) -> dict[str, Any]:
        """The helps in use and their values: the declared fields that do not stand at their neutral values."""
        return {key: getattr(self, key) for key, off in self.help_fields.items() if getattr(self, key) != off}

    def require(self, condition: bool, message: str) -> None:
        """Raise ValueError with one clear line that names the family, unless `condition` holds."""
        if not condition:
            raise ValueError(f"model {self.family}: {message}")

    def choice(self, key: str, options: tuple[str, ...]) -> None:
        """Require that the field `key` is one of `options`."""
        value = getattr(self, key)
        self.require(value in options, f"{key}={value!r} is unknown; choose from {', '.join(options)}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a config; unknown keys, and values of another type than the default's, are a ValueError."""
        known = sorted(f.name for f in dataclasses.fields(cls))
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"model {cls.family}: unknown key {', '.join(unknown)}; known keys: {', '.join(known)}")
        given = {f.name: typed(cls.family, f, values[f.name]) for f in dataclasses.fields(cls) if f.name in values}
        built = cls(**given)
        built.require(built.depth <= DEEPEST, f"{cls.depth_field}={built.depth} is too deep: at most {DEEPEST}")
        return built

    @property
    def position_free(self) -> bool:
        """True when the model, run bidirectionally, cannot tell one order of its input from another."""
        return False

    @abstractmethod
    def build_core(self, *, length: int, max_length: int, causal: bool) -> Core:
        """The core's module for training length `length` and longest length `max_length`."""

    @abstractmethod
    def core_cost(self, shape: Shape) -> Cost:
        """The core's closed-form cost tree, per sequence."""

    @property
    def counted(self) -> bool:
        """Whether FLOPs are torch's count of what runs, for want of a closed form."""
        return False

    def foreign_targets(self) -> tuple[str, ...]:
        """Classes of the user's own that the model is built of, as `module.Class`."""
        return ()

    def build(self, *, vocab_size: int, length: int, max_length: int = 0, causal: bool = True) -> Decoder:
        """The model; see `Decoder`."""
        return Decoder(self, vocab_size=vocab_size, length=length, max_length=max_length, causal=causal)

    def state_size(self, shape: Shape) -> int | None:
        """Numbers kept per sequence of `shape.length` tokens to go on generating (keys, values, slots).

        None = the family does not say; 0 where `shape` is not causal: nothing is generated.
        """
        return None

    def spreads(self, shape: Shape) -> tuple[Spread, ...]:
        """What depends on the data, forward and per sequence: least, charged, most."""
        return ()

    def at_depth(self, depth: int) -> Self | None:
        """This config as it runs `depth` blocks deep at evaluation, for its cost; None = it cannot be.

        A loop may turn as often as one likes; a stack can be cut short.
        """
        return None

    @property
    def fill_range(self) -> range:
        """The values that a solver may give to the field `fill`, the width that weights are affine in."""
        step = MULTIPLE if self.d_model >= NARROW else MULTIPLE // 2
        return range(step, 64 * self.d_model + 1, step)

    @property
    def depth(self) -> int:
        """How many blocks a token passes through, loops counted: the effective depth. 0 = the family has none."""
        return int(getattr(self, self.depth_field)) if self.depth_field else 0

    @property
    def eval_depth(self) -> int:
        """The depth at evaluation, where a family may choose another than in training."""
        return self.depth

    @property
    def looped(self) -> bool:
        """True where depth costs FLOPs but no weights."""
        return False

    def dials(self) -> tuple[Dial, ...]:
        """What a budget solver may move, with ranges that hold for this config's other values.

        A family adds its own to these; `turned` must be able to set each.
        """
        head = self.d_model // self.n_heads
        step = math.lcm(MULTIPLE, head)
        widths = with_own(range(_up(self.d_model / 2, step), 4 * self.d_model + 1, step), self.d_model)
        fill = Dial(name=self.fill, values=self.fill_range, affine=True, fills=True, smooth=64)
        width = Dial(name="d_model", values=widths, rank=WIDTH, ordinary=self.d_model, smooth=64)
        return fill, width

    def turned(self, values: Mapping[str, int]) -> Self:
        """This config with the dials set; heads keep their width where `values` moves `d_model` alone.

        Raises:
            ValueError: the config refuses the values.
        """
        changes: dict[str, Any] = dict(values)
        if "d_model" in values and "n_heads" not in values:
            head = self.d_model // self.n_heads
            changes["n_heads"] = self.n_heads if values["d_model"] % head else values["d_model"] // head
        return dataclasses.replace(self, **changes)


class Decoder(nn.Module):
    """Token embedding, core, final norm and head.

    Args:
        config: the model's config.
        vocab_size: V.
        length: training length n.
        max_length: the longest length that will ever be read; 0 = `length`.
        causal: a switch of the task's: position i sees only positions <= i.
    """

    def __init__(
        self, config: ModelConfig, *, vocab_size: int, length: int, max_length: int = 0, causal: bool = True
    ) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.max_length = max(length, max_length)
        self.causal = causal
        self.embedding = nn.Embedding(vocab_size, config.d_model)
        self.core = config.build_core(length=length, max_length=self.max_length, causal=causal)
        self.norm = make_norm(config.norm, config.d_model)
        self.head = nn.Linear(config.d_model, vocab_size, bias=False)
        nn.init.normal_(self.embedding.weight, std=config.embedding_std)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        else:
            nn.init.normal_(self.head.weight, std=1.0 / math.sqrt(config.d_model))

    def forward(self, input_ids_Bn: Tensor, attention_mask_Bn: Tensor | None = None) -> ModelOutput:
        """Logits at every position.

        Args:
            input_ids_Bn: token ids, long.
            attention_mask_Bn: True at real tokens; None = no padding.

        Raises:
            ValueError: the sequence is longer than `max_length`.
        """
        if input_ids_Bn.shape[1] > self.max_length:
            raise ValueError(
                f"sequence of {input_ids_Bn.shape[1]} tokens, but the model was built for max_length={self.max_length}"
            )
        out = self.core(self.embedding(input_ids_Bn), attention_mask_Bn)
        logits_BnV = self.head(self.norm(out.h_Bnd))
        return ModelOutput(logits_BnV, out.aux_losses, out.diagnostics)

    def parameter_counts(self) -> tuple[int, int]:
        """(all weights, non-embedding weights) of the live module; shared weights count once."""
        total = sum(p.numel() for p in self.parameters())
        tables = {id(p): p.numel() for m in self.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
        if not self.config.tie_embeddings:
            tables[id(self.head.weight)] = self.head.weight.numel()
        return total, total - sum(tables.values())


def _up(value: float, multiple: int) -> int:
    return math.ceil(value / multiple) * multiple


def init_linear(weight: Tensor, *, scale: float = 1.0) -> None:
    """Normal init with std `scale` / sqrt(fan_in), fan_in the last dimension of an [out, in] weight."""
    nn.init.normal_(weight, std=scale / math.sqrt(weight.shape[-1]))


def mean_cosine(h_Bnd: Tensor) -> Tensor:
    """Mean cosine between different tokens of a sequence: near 1 = the representations have collapsed."""
    u_Bnd = torch.nn.functional.normalize(h_Bnd.detach().float(), dim=-1)
    n = u_Bnd.shape[1]
    if n < 2:
        return u_Bnd.new_zeros(())
    total = u_Bnd.sum(dim=1).square().sum(dim=-1) - u_Bnd.square().sum(dim=(1, 2))
    return (total / (n * (n - 1))).mean()
