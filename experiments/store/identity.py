"""What names a run: one rule, in one place.

A run's name is the hash of all that decides its numbers: the config with every default written out, the solved sizes
and steps, the fingerprint of the data, the seeds, the versions of the model's family and of the task's generator, the
sources of foreign code, and the version of this rule. Where or how often something is written is left out, and so is
where the data lie: what they are is in their fingerprint.

A default that changes makes new names, since it is written out. A field that comes later must not, where it changes
nothing: `LATER` lists it with the value at which it is left out.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.errors import UserError
from experiments.store import atomic_files as atomic
from experiments.store.records import IDENTITY_VERSION, RunSpec

# Fields that came after the names of this version were first given: path in `content`, and the neutral value at which
# the field is left out, e.g. ("config.trainer.ema", 0.0).
LATER: tuple[tuple[str, Any], ...] = (
    ("config.task.phrases_min", 1),
    ("config.trainer.max_steps", None),
    ("config.trainer.detect_anomaly", False),
    ("sizes.top_k_per_head", False),
    ("sizes.cache_step", "current"),
)

# Keys of the config that choose, carry or show runs; the model is told by its sizes, the seeds stand apart.
COSMETIC = frozenset(
    {"results_dir", "logger", "launcher", "name", "table", "hydra", "allow_targets", "allow_unchecked"}
    | {"model", "seed", "seeds"}
)
COSMETIC_TRAINER = frozenset(
    {"threads", "checkpoint_every_s", "checkpoint_every_steps", "log_every", "keep_checkpoint"}
)
FILED = ("mixer", "decoder")  # of the sizes: classes of the user's, whose `file` says where they lie, not what they are
OURS = ("ressformer", "tasks", "experiments")  # their numbers are versioned by family and generator


def named(spec: RunSpec) -> RunSpec:
    """The spec under its name.

    Raises:
        UserError: a value that is not finite.
    """
    return spec.model_copy(update={"id": identity(spec)})


def identity(spec: RunSpec, later: Sequence[tuple[str, Any]] = LATER) -> str:
    """The name of a run: `r` and 15 hex digits; the letter keeps every parser from reading a number in it.

    Raises:
        UserError: a value that is not finite.
    """
    values = told(spec, later)
    require_finite(values)
    return "r" + atomic.digest(values, 15)


def require_finite(values: Any) -> None:
    """Raise UserError, with its place, if a number in nested values is not finite."""
    if where := ", ".join(_not_finite(values)):
        raise UserError(f"{where} must be a finite number: a run that has no such number cannot be named")


def content(spec: RunSpec) -> dict[str, Any]:
    """All that the name of a run hangs on, as plain values."""
    config = {key: value for key, value in spec.config.items() if key not in COSMETIC}
    for key, left_out in (("task", frozenset(spec.places)), ("trainer", COSMETIC_TRAINER)):
        config[key] = {name: value for name, value in config.get(key, {}).items() if name not in left_out}
    return {
        "rule": IDENTITY_VERSION,
        "config": config,
        "sizes": {key: _placeless(value) if key in FILED else value for key, value in spec.sizes.items()},
        "steps": spec.steps,
        "data": spec.data_fingerprint,
        "seeds": {
            "run": spec.seed,
            "data": spec.data_seed,
            "model": spec.model_seed,
            "order": spec.order_seed,
        },
        "versions": {"model": spec.model_version, "task": spec.task_info.version},
        "foreign": dict(spec.foreign_sources),
    }


def told(spec: RunSpec, later: Sequence[tuple[str, Any]] = LATER) -> dict[str, Any]:
    """`content` without the fields that came later and say nothing: alike in specs from before and after."""
    return without_later(content(spec), later)


def without_later(values: dict[str, Any], later: Sequence[tuple[str, Any]] = LATER) -> dict[str, Any]:
    """A copy of a spec's values, or of `content`, without the fields that came later and say nothing."""
    values = copy.deepcopy(values)
    for path, neutral in later:
        _leave_out(values, path.split("."), neutral)
    return values


def told_sizes(spec: RunSpec) -> dict[str, Any]:
    """A model's sizes without the fields that came later and say nothing: alike in specs from before and after."""
    sizes: dict[str, Any] = without_later({"sizes": spec.sizes})["sizes"]
    return sizes


def _placeless(value: Any) -> Any:
    """A class of the user's without the file that it lies in: the hash of its source is among the foreign ones."""
    return {key: v for key, v in value.items() if key != "file"} if isinstance(value, dict) else value


def _leave_out(values: Any, keys: Sequence[str], neutral: Any) -> None:
    for key in keys[:-1]:
        values = values.get(key) if isinstance(values, dict) else None
    last = keys[-1]
    # Compared by their texts: to Python, 1, 1.0 and True are equal.
    if isinstance(values, dict) and last in values and atomic.canonical(values[last]) == atomic.canonical(neutral):
        del values[last]


def _not_finite(values: Any, where: str = "") -> Iterator[str]:
    """The paths of the numbers that are not finite."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _not_finite(value, f"{where}.{key}" if where else str(key))
    elif isinstance(values, (list, tuple)):
        for number, value in enumerate(values):
            yield from _not_finite(value, f"{where}.{number}")
    elif isinstance(values, float) and not abs(values) < float("inf"):
        yield f"{where.removeprefix('config.')}={values}"


def module_named(name: str) -> ModuleType:
    """The module that a config names."""
    return importlib.import_module(name)


def foreign_sources(targets: Iterable[str]) -> dict[str, str]:
    """The hash of every source that classes from outside of this project are made of, by module.

    That is the module that a target names, all of its package that it has loaded, and the user's own modules beside
    it that it takes names from; what is installed for everybody (numpy, torch) has its version in the record.

    Args:
        targets: `package.module.Class`; those of this project's own packages are passed over. A module that was read
            from a file is called `stem@hash`, and `stem` here: what a file holds is in its hash.
    """
    found: dict[str, str] = {}
    for target in targets:
        name = target.rpartition(".")[0]
        if name.split(".")[0] in OURS:
            continue
        for module in _closure(module_named(name)):
            path = getattr(module, "__file__", None)
            if path is not None and Path(path).is_file():
                found[module.__name__.partition("@")[0]] = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    return dict(sorted(found.items()))


def _closure(first: ModuleType) -> list[ModuleType]:
    """A module and the modules that it is made of, package folders included."""
    package = first.__name__.split(".")[0]
    todo, seen = [first], {first.__name__: first}
    while todo:
        module = todo.pop()
        names = {module.__name__.rpartition(".")[0]}
        for value in tuple(vars(module).values()):
            names.add(value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", "")))
        for name in names - set(seen):
            other = sys.modules.get(name)
            if other is not None and (name.split(".")[0] == package or _own(other)):
                seen[name] = other
                todo.append(other)
    return list(seen.values())


def _own(module: ModuleType) -> bool:
    """Whether the user wrote the module: neither this project's, nor installed."""
    path = getattr(module, "__file__", None)
    if not path or module.__name__.split(".")[0] in (*OURS, "__main__"):
        return False
    installed = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    return not any(Path(path).is_relative_to(folder) for folder in installed)
