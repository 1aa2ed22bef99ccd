"""What a budget is: the regime, the targets, the ordinary shape that models start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError, unknown

if TYPE_CHECKING:
    from ressformer.cost import Cost
    from ressformer.decoder import ModelConfig

REGIMES = ("params", "flops_per_token", "train_flops", "effective_depth", "matched", "off")
WORDS = {
    "params": "non-embedding parameters",
    "flops_per_token": "training FLOPs per token",
    "train_flops": "training FLOPs",
    "depth": "block applications",
}
LARGEST = {  # beyond these, or where a value is no finite number, nothing can be solved
    **{"params": 10**15, "depth": 10**6, "width": 10**6, "heads": 10**6, "layers": 10**6},
    **{"train_flops": 1e32, "flops_per_token": 1e32},
    **{"tolerance_params": 1.0, "tolerance_flops_per_token": 1.0, "tolerance_flops": 1.0},
}
VERSION = 3  # Of the solver: a change of its answers is a new version.


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What every model of a table gets.

    Attributes:
        name: the preset's name.
        regime: what is matched; one of `REGIMES`.
        params: non-embedding parameters.
        train_flops: training FLOPs of a whole run; where steps are the reference's, those of the reference.
        flops_per_token: training FLOPs per token; 0 = those of the reference model.
        depth: block applications; 0 = those of the reference model.
        reference: the model (a name of conf/model) that targets of 0 are taken from, sized to `params` itself.
        width, heads, layers: the ordinary shape at this size, which models start from; 0 = each model's own. Loop
            counts are not layers.
        count: useful | executed: which of the two FLOPs is matched.
        tolerance_params, tolerance_flops_per_token, tolerance_flops: largest relative residuals of the parameters, of
            the FLOPs per token and of the training FLOPs of a run.
    """

    name: str
    regime: str = "train_flops"
    params: int = 0
    train_flops: float = 0.0
    flops_per_token: float = 0.0
    depth: int = 0
    reference: str = "transformer"
    width: int = 0
    heads: int = 0
    layers: int = 0
    count: str = "useful"
    tolerance_params: float = 0.01
    tolerance_flops_per_token: float = 0.01
    tolerance_flops: float = 0.005

    def __post_init__(self) -> None:
        for key, options in (("regime", REGIMES), ("count", ("useful", "executed"))):
            if getattr(self, key) not in options:
                raise UserError(
                    f"budget {self.name}: unknown {key} {getattr(self, key)!r}; choose from {', '.join(options)}"
                )
        for key, largest in LARGEST.items():
            if not getattr(self, key) <= largest:
                raise UserError(f"budget {self.name}: {key} must be at most {largest:g}, got {getattr(self, key)}")
        positive = ["train_flops", "tolerance_params", "tolerance_flops_per_token", "tolerance_flops"]
        for key in positive if self.regime == "off" else ["params", *positive]:
            if not getattr(self, key) > 0:
                raise UserError(f"budget {self.name}: {key} must be positive, got {getattr(self, key)}")
        for key in ("params", "flops_per_token", "depth", "width", "heads", "layers"):
            if getattr(self, key) < 0:
                raise UserError(f"budget {self.name}: {key} must not be negative, got {getattr(self, key)}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Budget:
        """Build a budget; unknown keys and values that are no numbers are a UserError."""
        if wrong := sorted(set(values) - set(cls.__dataclass_fields__)):
            raise UserError(unknown("key of budget", wrong[0], list(cls.__dataclass_fields__)))
        typed = dict(values)
        for key, value in values.items():
            wanted = type(cls.__dataclass_fields__[key].default) if key != "name" else str
            kinds = (int, float) if wanted is float else (wanted,)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise UserError(f"budget.{key} must be of type {wanted.__name__}, got {value!r}")
            typed[key] = float(value) if wanted is float and isinstance(value, int) else value
        if "name" not in values:
            raise UserError("a budget has no name; its YAML says name: NAME")
        return cls(**typed)

    def train_flops_of(self, cost: Cost) -> float:
        """Training FLOPs per sequence, as this budget counts."""
        return cost.flops_train if self.count == "useful" else cost.flops_train_executed


def started(config: ModelConfig, budget: Budget, pinned: frozenset[str] = frozenset()) -> ModelConfig:
    """`config` at the ordinary shape of the budget, as far as the user has not given another.

    Raises:
        UserError: width and heads do not go together.
    """
    wanted = {"d_model": budget.width, "n_heads": budget.heads}
    if config.depth_field and not config.looped:
        wanted[config.depth_field] = budget.layers
    changes = {key: value for key, value in wanted.items() if value and key not in pinned}
    if "d_model" in changes and "n_heads" not in changes:
        changes["n_heads"] = config.n_heads  # `turned` would keep the heads' width instead of their number
    try:
        return config.turned(changes) if changes else config
    except ValueError as error:
        raise UserError(f"budget {budget.name}: {error}; give model.d_model and model.n_heads that fit") from None


def at_depth(config: ModelConfig, depth: int, budget: Budget, pinned: frozenset[str]) -> ModelConfig:
    """`config` with as many block applications, unless the user gave another number.

    Raises:
        UserError: the family has no such dial.
    """
    if not config.depth_field:
        raise UserError(f"budget {budget.name}: {config.family} has no layers or steps to set to depth {depth}")
    return config if config.depth_field in pinned else config.turned({config.depth_field: depth})
