"""What lies beside the final metrics of a run: its log step by step, its cost by module and by length.

Nothing is run here: logs are read from the run's folder, costs come from the closed forms of `ressformer.cost`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from experiments.errors import UserError
from experiments.planning.instantiate import build_model_config
from experiments.store.records import RunSpec
from ressformer.cost import Cost, Shape, model_cost

LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
EXPONENT_FROM = 2048  # growth is fitted from here on: below, the terms that do not grow with length hide it


def flops_of_step(spec: RunSpec, step: float) -> float:
    """Useful training FLOPs spent up to a step."""
    return spec.cost.flops_train * step / spec.steps


def shape_of(spec: RunSpec, length: int | None = None) -> Shape:
    """What the run trained on, at another length if one is given."""
    info, task = spec.task_info, spec.config.get("task", {})
    n = length or info.length
    causal = not task.get("bidirectional", False)
    return Shape(batch=info.batch_size, length=n, vocab=info.vocab_size, causal=causal, max_length=n)


def cost_tree(spec: RunSpec, length: int | None = None) -> Cost:
    """The closed-form cost of the run's model.

    Raises:
        UserError: the model's class is not there (any more).
    """
    return model_cost(build_model_config(spec.sizes, spec.allow_targets), shape_of(spec, length))


def growth(spec: RunSpec, lengths: Sequence[int] = LENGTHS) -> dict[int, float]:
    """Useful forward FLOPs per token by length; lengths that the model refuses are left out."""
    found = {}
    for n in lengths:
        try:
            found[n] = cost_tree(spec, n).flops_forward / n
        except (UserError, ValueError):
            continue
    return found


def exponent(per_token: dict[int, float]) -> float | None:
    """e of FLOPs ~ n^e per sequence, by least squares on logarithms from `EXPONENT_FROM` tokens on."""
    points = [(math.log(n), math.log(value * n)) for n, value in per_token.items() if n >= EXPONENT_FROM]
    if len(points) < 2:
        return None
    x, y = (sum(p[i] for p in points) / len(points) for i in (0, 1))
    return sum((p[0] - x) * (p[1] - y) for p in points) / sum((p[0] - x) ** 2 for p in points)


def module_rows(spec: RunSpec) -> Iterator[dict[str, Any]]:
    """A row per module of the cost tree, per sequence; `depth` says how deep it hangs."""
    for row in cost_tree(spec).rows():
        yield {
            "module": row.name,
            "depth": row.depth,
            "repeats": row.repeats,
            "params": row.params,
            "flops_forward": row.flops,
            "flops_forward_executed": row.executed,
            "flops_train": row.train_flops,
            "bytes_moved": row.bytes_moved,
        }
