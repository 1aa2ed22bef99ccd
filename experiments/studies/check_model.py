"""The preflight of a model on the screen: every check with what it found, and what the model costs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from experiments.errors import UserError
from experiments.studies.model_cost import bill, described, sections, totals
from ressformer.checks import Check, preflight
from ressformer.cost import Shape
from ressformer.decoder import ModelConfig

DEFAULT = Shape(batch=4, length=64, vocab=32, causal=True)


def check_model(overrides: Sequence[str], *, lengths: Sequence[int] = (), seed: int = 0) -> int:
    """Check the model that the overrides describe and print what was found; 1 if a check fails.

    Raises:
        UserError: no model, an unknown name or value, or lengths that the shape does not have.
    """
    given = sections(overrides)
    if "model" not in given:
        raise UserError("check needs model=NAME, e.g. model=ressformer task=chain")
    config, shape = described(overrides, None if "task" in given else DEFAULT)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the models are small: threads would wait for each other more than they work
    try:
        report = preflight(config, shape, lengths=lengths, seed=seed)
    except ValueError as error:
        raise UserError(str(error)) from None
    finally:
        torch.set_num_threads(threads)
    sight = "causal" if shape.causal else "bidirectional"
    print(f"{report.model} on {shape.length} tokens, vocabulary {shape.vocab}, {sight}")
    print(f"run at lengths {', '.join(map(str, report.lengths))} in {report.seconds:.2f} s")
    for check in report.checks:
        print(_line(check))
    print("\n".join(_cost(config, shape)))
    failed = [check.name for check in report.failures]
    print(f"failed: {', '.join(failed)}" if failed else "every check passed")
    return 1 if failed else 0


def _cost(config: ModelConfig, shape: Shape) -> list[str]:
    try:
        return totals(bill(config, shape))
    except Exception as error:  # whatever a model raises that does not stand its checks
        return [f"no cost: {type(error).__name__}: {' '.join(str(error).split())}"]


def _line(check: Check) -> str:
    figures = ", ".join(f"{name} {_text(value)}" for name, value in check.numbers.items())
    told = f"{check.sentence} ({figures})" if figures else check.sentence
    return f"  {'ok  ' if check.passed else 'FAIL'}  {check.name:<9}  {told}"


def _text(value: float | int | str | bool) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
