"""Preflight: what a model must stand before any figure of it is believed.

    from ressformer.checks import preflight
    from ressformer.cost import Shape
    from ressformer.models.transformer import TransformerConfig

    report = preflight(TransformerConfig(d_model=32), Shape(batch=2, length=48, vocab=17))
    print(report)

The model is built with random weights (no branch is silent because it starts at zero) and run on CPU at three lengths,
odd ones among them, in train and in eval mode:

- future: no later token changes an earlier logit (causal shapes). Tokens from a cut on, one later token and all later
  tokens at once are replaced, every cut at the shortest length; gradients to later embeddings are 0.
- padding: the contents of the padding, on the right, change neither logits at real tokens nor losses.
- batch: no other row changes a row's logits, in train mode either.
- state: a call leaves nothing behind: no buffer or weight changes, and the same input gives the same logits again.
- weights: live weights = declared, shared ones once, tables by the convention of `ressformer.cost`.
- cost: executed FLOPs declared = counted, every operator counted, charged, free by convention or refused by name
  (`ressformer.checks.operators`). A family without closed form is counted.
- gradients: finite at each length, and none missing or 0 at all lengths.

Tolerances. The first four demand equal bits, all generators seeded alike. Where bits differ the run is repeated in fp64
and the largest difference must be at most 1e-12 of the largest value: sums may be taken in another order (a transform,
a running sum taken from a total), which fp64 shows as about 1e-15. Weights are equal to the unit. FLOPs agree to
0.5 %. Products written as multiplications and sums are charged where they exceed 3 % of the counted FLOPs, other
elementwise multiplications where they exceed 25 %.

Not covered: what happens at lengths, positions or token values that were not tried; a model that knows when it is
checked; arithmetic outside torch on CPU that has a twin in torch where it is counted; additions elementwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ressformer.checks.causality_and_padding import batch, future, padding, state
from ressformer.checks.charges import cost, gradients, weights
from ressformer.checks.report import Check, Finding, Report, checked
from ressformer.checks.subject import Subject, default_lengths, undisturbed
from ressformer.cost import Shape
from ressformer.decoder import ModelConfig

CHECKS: dict[str, Callable[[Subject], Finding]] = {
    check.__name__: check for check in (future, padding, batch, state, weights, cost, gradients)
}

__all__ = ["CHECKS", "Check", "Report", "preflight"]


def preflight(config: ModelConfig, shape: Shape, *, lengths: Sequence[int] = (), seed: int = 0) -> Report:
    """Run every check on the model. Deterministic; random states and torch's settings are as before afterwards.

    Args:
        config: the model's config.
        shape: what it trains on; `max_length` bounds the lengths.
        lengths: those to run at; empty = the training length, the longest, and an odd one of about two thirds.
        seed: of weights and tokens.

    Raises:
        ValueError: a length is below 1 or above the shape's longest.
    """
    tried = tuple(sorted(set(lengths))) or default_lengths(shape)
    if tried[0] < 1 or tried[-1] > shape.positions:
        raise ValueError(f"lengths must be in 1..{shape.positions}, got {', '.join(map(str, tried))}")
    with undisturbed():
        subjects: list[Subject] = []

        def build() -> Finding:
            subjects.append(Subject(config, shape, tried, seed))
            return Finding(True, "the model is built", {})

        built = checked("build", build)
        if not subjects:
            return Report(config.family, tried, (built,))
        checks = [checked(name, partial(check, subjects[0])) for name, check in CHECKS.items()]
    return Report(config.family, tried, (built, *checks))
