"""What the figures of the report are drawn from: tidy frames of curves, made from records and logs.

A curve is found by name. The last part of a split or of a metric that is a word and a number (`test/length_512`,
`probe/noise20`, `accuracy/hops3`) gives a point: axis `length`, `noise`, `hops`, and x. The splits `test/len_half`,
`test/len_2x` and so on are lengths, as multiples of the training length. Depths at evaluation are an axis of their own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from experiments.analysis.frames import Runs, primary_by_seed
from experiments.analysis.run_details import flops_of_step
from experiments.analysis.run_log import log_lines
from experiments.analysis.significance import groups, summary
from experiments.planning.levels import best_rule, perfect_reader
from experiments.store.graph_file import Sample
from experiments.store.records import DepthPoint, Record, RunSpec, TaskInfo
from experiments.store.store import Store

POINT = re.compile(r"(?:^|[/_])(?P<axis>[a-z]+)[_=]?(?P<x>\d+(?:\.\d+)?)$")
LENGTHS = {"test/len_eighth": 0.125, "test/len_quarter": 0.25, "test/len_half": 0.5}
LENGTHS |= {"test/len_2x": 2.0, "test/len_4x": 4.0}
ORIGIN = {"noise": 0.0, "length": 1.0}  # where test/id stands on the axis of splits that change it
DEPTH = "depth"
LOGGED_SEEDS = 10  # runs of a cell whose logs are read; the band of more is no narrower to the eye
CURVE_COLUMNS = ["task", "model", "axis", "metric", "x", "mean", "low", "high", "n"]
DEPTH_COLUMNS = [
    *("model", "task", "split", "metric", "primary", "depth", "trained_depth", "flops_per_token", "train_flops"),
    *("n", "mean", "sd", "low", "high"),
]
STEP = re.compile(r"^train/(?P<what>support|support_full|load_max|edge_turnover|cosine)/(?P<step>\d+)$")


def _point(text: str) -> tuple[str, float] | None:
    if text in LENGTHS:
        return "length", LENGTHS[text]
    found = POINT.search(text)
    return (found["axis"], float(found["x"])) if found else None


def point_curves(runs: Runs, *, each: bool = False) -> pd.DataFrame:
    """Quality against length, noise, hops, loops and the like: the curves that have two points or more.

    With `each` a row has one seed's value, as `mean`, beside `seed`.
    """
    values = [
        (spec.task, spec.model, *key, *([spec.seed] if each else []), value)
        for spec, record in _done(runs)
        for key, value in _points(spec, record).items()
    ]
    frame = _banded(values, ["task", "model", "axis", "metric", "x", *(["seed"] if each else [])])
    frame = frame[frame.groupby(["task", "axis", "metric"])["x"].transform("nunique") > 1]
    return frame.sort_values(["task", "axis", "metric", "model", "x"], kind="stable").reset_index(drop=True)


def _done(runs: Runs) -> Iterator[tuple[RunSpec, Record]]:
    return ((spec, record) for spec, record in runs if record is not None and record.status == "done")


def _points(spec: RunSpec, record: Record) -> dict[tuple[str, str, float], float]:
    """(axis, metric, x) -> value of one run.

    A metric's point is averaged over the splits that have it. test/id begins the axes of `ORIGIN`, unless the lengths
    are absolute.
    """
    primary = spec.task_info.metric
    found: dict[tuple[str, str, float], list[float]] = defaultdict(list)
    for split, metrics in record.metrics.items():
        if (place := _point(split)) is not None and primary in metrics:
            found[(place[0], primary, place[1])].append(metrics[primary])
        elif place is None:
            for name, value in metrics.items():
                if name.startswith(primary) and (place_m := _point(name.removeprefix(primary))) is not None:
                    found[(place_m[0], primary, place_m[1])].append(value)
    relative = {axis for axis in ORIGIN if any(axis == key[0] for key in found)}
    relative -= {"length"} - {"length" if set(LENGTHS) & set(record.metrics) else ""}
    for axis in relative:
        found[(axis, primary, ORIGIN[axis])].append(record.metrics["test/id"][primary])
    for point in record.depths:
        found[(DEPTH, primary, float(point.depth))].append(point.metrics["test/id"][primary])
    return {key: sum(values) / len(values) for key, values in found.items()}


def level_points(info: TaskInfo) -> pd.DataFrame:
    """What is scored without the skill along the axes of `point_curves`: columns axis, x, kind, value.

    Kinds are chance, rule (the strongest) and reader (a perfect one, of what the noise left).
    """
    primary = info.metric
    splits = list(dict.fromkeys([*info.chance, *(level.split for level in info.levels)]))
    rows: list[tuple[str, float, str, float | None]] = []
    for split in splits:
        places = [place] if (place := _point(split)) else []
        places += [(axis, x) for axis, x in ORIGIN.items()] if split == "test/id" else []
        for axis, x in places:
            rule = best_rule(info, split, primary)
            rows += [(axis, x, "chance", info.chance.get(split)), (axis, x, "rule", rule.value if rule else None)]
            rows.append((axis, x, "reader", perfect_reader(info, split, primary)))
    for metric in dict.fromkeys(level.metric for level in info.levels if level.metric.startswith(f"{primary}/")):
        rule, at = best_rule(info, "test/id", metric), _point(metric.removeprefix(primary))
        if rule is not None and at is not None:
            rows.append((*at, "rule", rule.value))
    return pd.DataFrame([row for row in rows if row[3] is not None], columns=["axis", "x", "kind", "value"])


def apart(runs: Runs) -> set[tuple[str, str]]:
    """The cells (task, model) whose seeds fall into groups on test/id: their mean is that of no run."""
    infos = {spec.task: spec.task_info for spec, _ in runs}
    found = set()
    for task, info in infos.items():
        if (chance := info.chance.get("test/id")) is not None:
            scale = abs((1.0 if info.higher_is_better else 0.0) - chance)
            by_model = primary_by_seed(runs, task)
            found |= {(task, model) for model, values in by_model.items() if groups(list(values.values()), scale)}
    return found


def distance(runs: Runs) -> pd.DataFrame:
    """The primary metric on test/id and on each out-of-distribution split, in the order of the records."""
    values = [
        (spec.task, spec.model, split, metrics[spec.task_info.metric])
        for spec, record in _done(runs)
        for split, metrics in record.metrics.items()
        if spec.task_info.metric in metrics and (split == "test/id" or split.startswith("test/ood"))
    ]
    frame = _banded(values, ["task", "model", "split"])
    return frame[frame.groupby("task")["split"].transform("nunique") > 1].reset_index(drop=True)


def learning(runs: Runs, store: Store, *, each: bool = False) -> pd.DataFrame:
    """Validation against training FLOPs, mean and interval over the first `LOGGED_SEEDS` seeds of a cell.

    With `each` a row has one seed's value, as `mean`, beside `seed`.
    """
    values = [
        (spec.task, spec.model, flops_of_step(spec, line["step"]), *([spec.seed] if each else []), found)
        for spec, _record in _first(runs)
        for line in log_lines(store, spec.id, b'"val/')
        if (found := line.get(f"val/{spec.task_info.metric}")) is not None
    ]
    frame = _banded(values, ["task", "model", "flops", *(["seed"] if each else [])])
    return frame.sort_values(["task", "model", "flops"], kind="stable").reset_index(drop=True)


def inner(runs: Runs, store: Store) -> pd.DataFrame:
    """What the model does at each of its steps: diagnostics over the last fifth of training, mean over seeds."""
    values = [
        (spec.task, spec.model, found["what"], int(found["step"]), spec.id, value)
        for spec, _record in _first(runs)
        for line in log_lines(store, spec.id, b'"train/')
        if line["step"] >= 0.8 * spec.steps
        for key, value in line.items()
        if (found := STEP.match(key)) is not None
    ]
    keys = ["task", "model", "what", "step"]
    each = _banded(values, [*keys, "id"])[[*keys, "mean"]]
    frame = _banded(each.itertuples(index=False, name=None), keys)
    return frame.sort_values(["what", "task", "model", "step"], kind="stable").reset_index(drop=True)


def _first(runs: Runs) -> list[tuple[RunSpec, Record]]:
    """The first runs of each cell that have a record."""
    seen: dict[tuple[str, str], int] = defaultdict(int)
    chosen = []
    for spec, record in runs:
        if record is not None and seen[spec.model, spec.task] < LOGGED_SEEDS:
            seen[spec.model, spec.task] += 1
            chosen.append((spec, record))
    return chosen


def _banded(values: Iterable[tuple[Any, ...]], keys: list[str]) -> pd.DataFrame:
    """Mean and interval of the values, the last of each tuple, that share the keys before it, as they come."""
    frame = pd.DataFrame(values, columns=[*keys, "value"])
    rows = []
    for key, part in frame.groupby(keys, sort=False)["value"]:
        short = summary(part.tolist())
        rows.append([*key, short.mean, short.low, short.high, short.n])
    return pd.DataFrame(rows, columns=[*keys, "mean", "low", "high", "n"])


def samples(runs: Runs, store: Store) -> dict[tuple[str, str], Sample]:
    """(model, task) -> the graph over a sample that the first run that has one kept."""
    found: dict[tuple[str, str], Sample] = {}
    for spec, _record in _first(runs):
        if (spec.model, spec.task) not in found and (sample := store.graph(spec.id)) is not None:
            found[(spec.model, spec.task)] = sample
    return found


def depth_rows(records: Sequence[Record], confidence: float = 0.95) -> list[dict[str, Any]]:
    """Points of the curves: mean over seeds with interval (three seeds or more), in the order of the records."""
    cells: dict[tuple[str, str, str, str, int], list[tuple[Record, DepthPoint, float]]] = {}
    for record in records:
        for point in record.depths:
            for split, metrics in point.metrics.items():
                for metric, value in metrics.items():
                    key = (record.spec.model, record.spec.task, split, metric, point.depth)
                    cells.setdefault(key, []).append((record, point, value))
    rows = []
    for (model, task, split, metric, depth), found in cells.items():
        spec, point = found[0][0].spec, found[0][1]
        short = summary([value for _, _, value in found], confidence)
        rows.append(
            {
                **{"model": model, "task": task, "split": split, "metric": metric, "depth": depth},
                "primary": metric == spec.task_info.metric,
                "trained_depth": spec.cost.eval_depth,
                "flops_per_token": point.flops_forward / spec.task_info.length,
                "train_flops": spec.cost.flops_train,
                "n": len(found),
                **{key: getattr(short, key) for key in ("mean", "sd", "low", "high")},
            }
        )
    return rows
