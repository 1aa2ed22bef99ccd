"""A trained model on its test splits at depths other than the one that it was trained at."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.planning.instantiate import build_model_config, build_task, model_shape
from experiments.store.records import DepthPoint, RunSpec
from experiments.training.fit import Fitted
from ressformer.cost import model_cost


def depth_points(fitted: Fitted, spec: RunSpec, depths: Sequence[int]) -> list[DepthPoint]:
    """The trained model on its test splits at each depth that it can be run at."""
    config = build_model_config(spec.sizes, spec.allow_targets)
    if not depths:
        return []
    core, shape = fitted.module.model.core, model_shape(build_task(spec.config["task"], spec.allow_targets))
    points = []
    for depth in sorted(set(depths)):
        at_depth = config.at_depth(depth)
        if at_depth is None:
            continue
        core.eval_depth = depth
        try:
            found = fitted.evaluate.all(fitted.module, fitted.splits)
        finally:
            core.eval_depth = 0
        flops = model_cost(at_depth, shape).flops_forward
        metrics = {split: outcome.metrics for split, outcome in found.items()}
        points.append(DepthPoint(depth=depth, flops_forward=flops, metrics=metrics))
    return points
