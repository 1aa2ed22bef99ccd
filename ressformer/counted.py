"""What a module without closed form costs: counted by running it once on the meta device, where nothing is computed.

The rule. Matrix products are charged by torch's formulas, and so are transforms, triangular solves and products written
as multiplications and sums (`ressformer.checks.operators`); a running sum (`cumsum`, `cumprod`) is charged one FLOP an
element. Elementwise multiplications and additions (a scan written step by step or as a tree is made of them) are free
as everywhere, up to a quarter of the rest; beyond it each is a FLOP. An operator that nothing is known of is refused by
name. What is executed counts as useful, since nothing tells otherwise.

Shapes: B batch, n length, d width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor, nn

from ressformer.checks.operators import Operators, counting
from ressformer.cost import Cost, Shape
from ressformer.decoder import Decoder

ROWS = 2  # of the batch that is counted
FREE = 0.25  # share of all else that elementwise arithmetic may have; see ressformer.checks.charges
# Fields of a stack that its mixer does not hang on: it is counted once for all their values.
SHELL = ("n_layers", "d_ff", "feed_forward", "short_conv", "tie_embeddings", "embedding_std", "norm")


class BuildsMixer(Protocol):
    """A config whose mixer can be counted: a dataclass, as `ressformer.stack.StackConfig` is."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def d_model(self) -> int:
        """Width of what the mixer reads."""

    @property
    def family(self) -> str:
        """Its name, for messages."""

    def build_mixer(self, *, length: int, causal: bool, out_scale: float) -> nn.Module:
        """The mixer, which maps [B, n, d] and a mask or None to [B, n, d]."""


@dataclass(frozen=True)
class _Asked:
    """A mixer at a length; configs that differ in the shell alone are the same question."""

    key: tuple[Any, ...]
    length: int
    causal: bool
    config: BuildsMixer = field(compare=False)


def counted_mixer(config: BuildsMixer, shape: Shape) -> Cost:
    """The cost of the mixer that `config` builds, per sequence and application.

    Raises:
        ValueError: it cannot be run at this shape, or does what no rule charges; the message says what.
    """
    key = (type(config), *(getattr(config, f.name) for f in fields(config) if f.name not in SHELL))
    return _counted(_Asked(key, shape.length, shape.causal, config))


@lru_cache(maxsize=1024)
def _counted(asked: _Asked) -> Cost:
    config = asked.config

    def build() -> nn.Module:
        return config.build_mixer(length=asked.length, causal=asked.causal, out_scale=1.0)

    def run(mixer: nn.Module) -> Tensor:
        x_Bnd = torch.randn(ROWS, asked.length, config.d_model).requires_grad_()
        y_Bnd = mixer(x_Bnd, None)
        require_shape("the mixer", x_Bnd.shape, y_Bnd)
        return cast("Tensor", y_Bnd)

    where = f"model {config.family} on {asked.length} tokens of width {config.d_model}"
    return counted("mixer (counted)", build, run, where)


def require_shape(what: str, wanted: torch.Size, value: Any) -> None:
    """Raise ValueError unless `value` is a tensor of the shape `wanted`."""
    if not isinstance(value, Tensor) or value.shape != wanted:
        found = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise ValueError(f"{what} returns {found}, and must return one tensor {list(wanted)}")


def counted(name: str, build: Callable[[], nn.Module], run: Callable[[nn.Module], Tensor], where: str) -> Cost:
    """The cost of a module, per row of its batch of `ROWS`.

    Args:
        name: of the node.
        build: makes the module on the current device.
        run: calls it on `ROWS` rows of the current device.
        where: the beginning of a message.

    Raises:
        ValueError: it cannot be run, or an operator is refused.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            with torch.device("meta"):
                module, ahead, whole = _charged(build, run)
        except Exception:  # it looks at its values, so it has to have some
            try:
                with torch.device("cpu"):
                    module, ahead, whole = _charged(build, run)
            except Exception as error:
                kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
                raise ValueError(f"{where}: {kind}{' '.join(str(error).split())}") from error
    if refused := sorted(whole.refused):
        raise ValueError(f"{where}: no FLOP rule for {', '.join(refused)}; use operators of torch that have one")
    forward, train = (_flops(seen) / ROWS for seen in (ahead, whole))
    (params, tables), back = _weights(module), train - forward
    return Cost(name=name, params=params, embedding=tables, flops=forward, backward=back, executed_backward=back)


def _charged(
    build: Callable[[], nn.Module], run: Callable[[nn.Module], Tensor]
) -> tuple[nn.Module, Operators, Operators]:
    """The module, what its forward pass did, and what both passes did."""
    module, whole = build().train(), Operators()
    with counting(), whole:
        out = run(module)
        ahead = whole.copy()
        if out.requires_grad:
            out.backward(torch.ones_like(out))
    return module, ahead, whole


def _flops(seen: Operators) -> float:
    matrix = seen.flops + seen.disguised + seen.scanned
    plain = max(0.0, seen.multiplied - seen.disguised / 2) + seen.added
    return matrix + (plain if plain > FREE * matrix else 0.0)


def _weights(module: nn.Module) -> tuple[int, int]:
    """(weights, those of look-up tables among them); shared ones once."""
    if isinstance(module, Decoder):  # the head counts as a table there
        total, core = module.parameter_counts()
        return total, total - core
    tables = {id(p): p.numel() for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    return sum(p.numel() for p in module.parameters()), sum(tables.values())
