"""Planning asks preflight: no table is planned with a model that reads the future or costs what it does not say.

Each different solved model is checked at each different shape of the plan, and the finding is remembered in the user's
cache folder under a hash of all that it hangs on: the solved config, the shape, the sources of ressformer/, those of a
model from outside, and torch's version. A second plan costs nothing.

The lengths are bounded, so that tasks of thousands of tokens do not keep a plan waiting: the training length, an odd
one of two thirds, and the longest readable one up to twice the training length, all at most `LONGEST` tokens (a third
of the training length where nothing longer may be read). FLOPs are counted at the training length, however long. What
happens at lengths beyond is not covered; `check model=NAME task=NAME` runs at the longest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch

from experiments.errors import UserError, unknown
from experiments.planning.instantiate import build_model_config, build_task, model_shape
from experiments.store import atomic_files as atomic
from experiments.store.provenance import source_fingerprint, versions
from experiments.store.records import RunSpec
from ressformer.checks import Check, Report, preflight
from ressformer.checks.subject import ROWS, default_lengths
from ressformer.cost import Shape
from tasks.hub.cache import cache_root

LONGEST = 512
PASSED = "passed"


def bounded_lengths(shape: Shape) -> tuple[int, ...]:
    """The lengths that a plan checks at."""
    trained = min(shape.length, LONGEST)
    longest = max(trained, min(shape.positions, 2 * shape.length, LONGEST))
    return default_lengths(dataclasses.replace(shape, length=trained, max_length=longest))


def checked_rows(
    specs: Sequence[RunSpec], names: Mapping[str, str], allow_unchecked: Collection[str] = ()
) -> dict[str, str]:
    """What stands in the column `checked` for each row: `passed`, or `unchecked: CHECK on TASK`.

    Args:
        specs: the runs of a plan.
        names: of each row (label), the model.
        allow_unchecked: rows that may fail, by label or model.

    Raises:
        UserError: a model fails and is not allowed to, or a name that no row has.
    """
    known = sorted({*names, *names.values()})
    for name in allow_unchecked:
        if name not in known:
            raise UserError(unknown("model in allow_unchecked", name, known))
    found = dict.fromkeys(names, PASSED)
    refused: dict[str, str] = {}
    for (model, task), report in _reports(specs).items():
        if report.passed:
            continue
        if {model, names[model]}.isdisjoint(allow_unchecked):
            refused.setdefault(model, f"model {model} fails preflight on task {task}: {_words(report.failures)}")
        elif found[model] == PASSED:
            found[model] = f"unchecked: {', '.join(check.name for check in report.failures)} on {task}"
    if refused:
        raise UserError(_refusal(refused))
    return found


def _refusal(refused: dict[str, str]) -> str:
    first, *others = refused
    too = f"; so {'do' if len(others) > 1 else 'does'} {', '.join(others)}" if others else ""
    names = ",".join(refused)
    return f"{refused[first]}{too}; allow_unchecked=[{names}] runs it all the same, marked and never bold"


def _words(failures: Sequence[Check]) -> str:
    """Each failure in words, its numbers among them, on one line.

    Rows that see one another come first: the other trials change several rows at once, and fail for that reason alone.
    """
    ordered = sorted(failures, key=lambda check: check.name != "batch")
    return "; ".join(f"{check.name}: {check.sentence}" for check in ordered)


def _reports(specs: Sequence[RunSpec]) -> dict[tuple[str, str], Report]:
    """The report of each row on each task, one that fails before others; prints what it cost."""
    sources = {"ressformer": source_fingerprint(("ressformer",)), "torch": versions().get("torch", "")}
    shapes: dict[str, Shape] = {}
    made: dict[str, Report] = {}
    found: dict[tuple[str, str], Report] = {}
    begun, fresh = time.process_time(), 0
    for spec in specs:
        task = atomic.digest(spec.config["task"])
        if task not in shapes:
            shapes[task] = _small(model_shape(build_task(spec.config["task"], spec.allow_targets)))
        parts = {"sizes": spec.sizes, "shape": dataclasses.asdict(shapes[task]), "foreign": spec.foreign_sources}
        key = atomic.digest({**parts, **sources}, 32)
        if key not in made:
            path = cache_root() / "preflight" / f"{key}.json"
            report = remembered(path)
            if report is None:
                report = _run(spec, shapes[task])
                remember(path, report)
                fresh += 1
            made[key] = report
        if (spec.model, spec.task) not in found or not made[key].passed:
            found[spec.model, spec.task] = made[key]
    spent = time.process_time() - begun
    print(f"preflight: {fresh} models checked in {spent:.0f} s, {len(made) - fresh} known", file=sys.stderr)
    return found


def _small(shape: Shape) -> Shape:
    """The shape at the batch that preflight runs: tasks that differ in nothing else share their findings."""
    return dataclasses.replace(shape, batch=max(2, min(shape.batch, ROWS)))


def remember(path: Path, report: Report) -> None:
    """Write the report under its hash; a cache that cannot be written costs the time again, no more."""
    text = json.dumps(report.to_dict(), sort_keys=True)
    with contextlib.suppress(OSError):
        atomic.write_text(path, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n")


def remembered(path: Path) -> Report | None:
    """The report in a file; None if there is none, or it is not as it was written."""
    try:
        seal, _, text = path.read_text().rstrip("\n").partition("\n")
        if hashlib.sha256(text.encode()).hexdigest() == seal:
            return Report.from_dict(json.loads(text))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _run(spec: RunSpec, shape: Shape) -> Report:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the models are small: threads would wait for each other more than they work
    try:
        config = build_model_config(spec.sizes, spec.allow_targets)
        return preflight(config, shape, lengths=bounded_lengths(shape))
    finally:
        torch.set_num_threads(threads)
