"""Which operators take the time of a training step: torch's profiler on the cells of a table, in shares of the step.

Its clock is on the wall, and it adds a microsecond or so to every operator: shares carry over, milliseconds do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.measure import Report
from experiments.planning.instantiate import build_task
from experiments.store.records import RunSpec
from experiments.training.step_times import BATCHES, step
from ressformer.layers.native import loader
from tasks.loaders import TrainLoader

STEP, KERNEL = "whole step", "C kernel "
OUTSIDE, REST = "outside operators (Python, autograd)", "elementwise and reductions"
# The first kind one of whose words is in an operator's name has it.
KINDS = {
    "C kernels": (KERNEL,),
    "dense attention": ("scaled_dot_product",),
    "optimiser and clipping": ("adamw", "foreach", "Optimizer", "linalg_vector_norm"),
    "products, convolutions": ("::mm", "addmm", "bmm", "_mm", "::matmul", "::linear", "einsum", "convolution"),
    "norms, softmax, GELU, loss": ("norm", "softmax", "gelu", "nll_loss", "cross_entropy", "silu"),
    "copies, gathers, sorting": (
        *("copy", "cat", "stack", "index", "gather", "scatter", "embedding", "clone", "contiguous", "sort", "topk"),
        *(
            "fill",
            "zero",
            "pad_nd",
            "one_hot",
            "nonzero",
            "bincount",
            "cumsum",
            "unfold",
            "roll",
            "repeat",
            "where",
            "::to",
        ),
    ),
    "views and allocation": (
        *("view", "reshape", "transpose", "expand", "slice", "select", "split", "unsqueeze", "squeeze", "permute"),
        *("empty", "as_strided", "::t", "narrow", "chunk", "unbind", "detach", "resize", "alias", "result_type"),
    ),
}


class _Recorded:
    """The kernels of a library, each call of which the profiler sees."""

    def __init__(self, kernels: loader.Kernels) -> None:
        self._kernels = kernels

    def __getattr__(self, name: str) -> Callable[..., Any]:
        called = getattr(self._kernels, name)

        def call(*operands: Any) -> Any:
            with record_function(KERNEL + name):
                return called(*operands)

        return call


@contextmanager
def recorded() -> Iterator[None]:
    """Inside the block the profiler sees C kernels, which torch does not know as operators."""
    load = loader._load

    def wrapped(name: str) -> Any:
        found = load(name)
        return None if found is None else _Recorded(found)

    loader._load = wrapped
    try:
        yield
    finally:
        loader._load = load


def kind(operator: str) -> str:
    """The kind of a profiler's key: what is no operator of torch is autograd's node, or Python around operators."""
    if operator.startswith("autograd::") or not any(mark in operator for mark in ("::", KERNEL, "Optimizer")):
        return OUTSIDE
    return next((name for name, words in KINDS.items() if any(word in operator for word in words)), REST)


def shares(spec: RunSpec, repeats: int) -> list[dict[str, Any]]:
    """Share of the time, and calls, of each operator in a step of the run."""
    task = build_task(spec.config["task"])
    with recorded():
        once = step(spec, task, list(TrainLoader(task, task.batch_size, 0, BATCHES)))
        once()
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            for _ in range(repeats):
                with record_function(STEP):
                    once()
    events = seen.key_averages()
    total = next(event.cpu_time_total for event in events if event.key == STEP)
    return [
        {
            "task": spec.task,
            "model": spec.model,
            "operator": event.key,
            "kind": kind(event.key),
            "share": round(event.self_cpu_time_total / total, 5),
            "calls": event.count / repeats,
        }
        for event in sorted(events, key=lambda event: -event.self_cpu_time_total)
    ]


def show(rows: Sequence[dict[str, Any]], report: Report) -> None:
    """One table for a task: kinds of operators, and of each model their share of its step and the calls in it."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    lines = []
    for name in (*KINDS, REST, OUTSIDE):
        own = [[row for row in rows if row["model"] == model and row["kind"] == name] for model in models]
        cells = [f"{sum(r['share'] for r in each):.0%}, {sum(r['calls'] for r in each):.0f}" for each in own]
        lines.append([name, *cells])
    report.table(f"{rows[0]['task']}: share of a step's time, and calls in it", ["operators", *models], lines)
    for model in models:
        first = [row for row in rows if row["model"] == model][:8]
        report.say(f"{model}: " + "; ".join(f"{r['operator']} {r['share']:.1%} ({r['calls']:.0f})" for r in first))
