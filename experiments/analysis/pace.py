"""Time at equal loss: when a run's validation is first as good as a target, in seconds of training."""

from __future__ import annotations

from experiments.analysis.run_details import log_lines
from experiments.store.records import Record
from experiments.store.store import Store


def validations(record: Record, store: Store) -> list[tuple[float, float]]:
    """(seconds of training, validation) of a run in the order of its steps; higher is better.

    Steps are taken to last alike: a run logs how long its training took, not each step.
    """
    info, seconds = record.spec.task_info, record.measured.train_seconds
    if seconds is None or not record.steps_done:
        return []
    key, sign = f"val/{info.metric}", 1.0 if info.higher_is_better else -1.0
    lines = [line for line in log_lines(store, record.id, b'"val/') if key in line]
    return [(seconds * line["step"] / record.steps_done, sign * line[key]) for line in lines]


def seconds_saved(mine: Record, theirs: Record, store: Store) -> float | None:
    """Share of the other run's seconds that a run saves to come to the same validation.

    The target is the worse of the two runs' best validations, so that both come to it. Negative: it takes longer. None
    where a run has logged no validation.
    """
    curves = [validations(record, store) for record in (mine, theirs)]
    if not all(curves):
        return None
    target = min(max(value for _, value in curve) for curve in curves)
    ours, others = (next(seconds for seconds, value in curve if value >= target) for curve in curves)
    return 1.0 - ours / others
