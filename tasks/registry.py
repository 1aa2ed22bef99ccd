"""Finds tasks: every YAML in conf/task names one by `_target_`. A new task is its file and its YAML."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from tasks.base import Task

ROOT = Path(__file__).resolve().parents[1]
INSIDE = ROOT / "experiments" / "conf"  # of an installed package; a checkout has it at its top
CONF = (INSIDE if INSIDE.is_dir() else ROOT / "conf") / "task"


def names() -> list[str]:
    """Names of the tasks that can be loaded."""
    return sorted(path.stem for path in CONF.glob("*.yaml"))


def load(name: str, overrides: Sequence[str] = ()) -> Task:
    """The task of conf/task/NAME.yaml with `key=value` overrides.

    Raises ValueError, in one line, on an unknown task, key or value, or a `_target_` that cannot be imported.
    """
    if name not in names():
        raise ValueError(f"unknown task '{name}'; tasks: {', '.join(names())}")
    for override in overrides:
        if "=" not in override:
            raise ValueError(f"task {name}: '{override}' is not of the form key=value")
    config = OmegaConf.merge(OmegaConf.load(CONF / f"{name}.yaml"), OmegaConf.from_dotlist(list(overrides)))
    values = cast("dict[str, Any]", OmegaConf.to_container(config))
    module, _, attribute = str(values.pop("_target_", "")).rpartition(".")
    try:
        task_class = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"task {name}: cannot import '_target_' of {name}.yaml: {error}") from None
    task = task_class(**values)
    if not isinstance(task, Task):
        raise ValueError(f"task {name}: '{module}.{attribute}' is no tasks.base.Task")
    return task
