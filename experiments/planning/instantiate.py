"""Objects from configs: tasks and models, from an allow-list of packages."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.errors import FULL, NoData, UserError
from experiments.store.identity import module_named

if TYPE_CHECKING:
    from ressformer.cost import Shape  # loads torch: 2 s
    from ressformer.decoder import Decoder, ModelConfig
    from tasks.base import Task

PREFIXES = ("ressformer.", "tasks.")


def resolve(target: str, where: str, allow: Sequence[str] = ()) -> Any:
    """The class that `_target_` names.

    Raises:
        UserError: the package is not allowed, cannot be imported or has no such name.
    """
    allowed = (*PREFIXES, *(prefix if prefix.endswith(".") else f"{prefix}." for prefix in allow))
    if not target.startswith(allowed):
        packages = ", ".join(prefix.rstrip(".") for prefix in allowed)
        raise UserError(
            f"{where}._target_={target} is outside of the allowed packages ({packages}); "
            "allow another with allow_targets=[PACKAGE]"
        )
    module, _, name = target.rpartition(".")
    try:
        return getattr(module_named(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{where}._target_={target} cannot be loaded: {error}") from None
    except Exception as error:
        if target.startswith(PREFIXES):
            raise
        raise UserError(f"{where}._target_={target} cannot be loaded: {_foreign(error)}") from error


def _foreign(error: Exception) -> str:
    """An error of the user's own code: its kind, its words, and how to see where it was raised."""
    return f"{type(error).__name__}: {error} ({FULL}=1 prints where)"


def _target(config: Mapping[str, Any], where: str, allow: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    values = dict(config)
    target = values.pop("_target_", None)
    if not isinstance(target, str):
        raise UserError(f"{where} has no _target_: name the class to build, e.g. _target_: package.module.Class")
    return resolve(target, where, allow), values


def build_task(config: Mapping[str, Any], allow: Sequence[str] = ()) -> Task:
    """The task that the section describes.

    Raises:
        UserError: unknown class, unknown key, wrong value.
    """
    kind, values = _target(config, "task", allow)
    try:
        task: Task = kind(**values)
    except (TypeError, ValueError) as error:
        raise refused(error) from None
    except Exception as error:
        if config["_target_"].startswith(PREFIXES):
            raise
        raise UserError(f"task._target_={config['_target_']} cannot be built: {_foreign(error)}") from error
    from tasks.base import Task as Base  # the class of the task has loaded it

    if not isinstance(task, Base):
        raise UserError(f"task._target_={config['_target_']} is no task: name a subclass of tasks.base.Task")
    return task


def refused(error: Exception) -> UserError:
    """The error of a task in the words of the user; NoData where its data are not there."""
    files = sys.modules.get("tasks.hub.files")  # where it is not loaded, no error is of its making
    missing = files is not None and isinstance(error, files.MissingData)
    return NoData(str(error)) if missing else UserError(str(error))


def build_model_config(config: Mapping[str, Any], allow: Sequence[str] = ()) -> ModelConfig:
    """The model's config dataclass that the section describes.

    Raises:
        UserError: unknown class, unknown key, wrong value.
    """
    kind, values = _target(config, "model", allow)
    if not hasattr(kind, "from_dict"):
        raise UserError(f"model._target_={config['_target_']} is no config of a model: name a subclass of ModelConfig")
    try:
        built: ModelConfig = kind.from_dict(values)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UserError(str(error)) from None
    except Exception as error:
        if config["_target_"].startswith(PREFIXES):
            raise
        raise UserError(f"model._target_={config['_target_']} cannot be built: {_foreign(error)}") from error
    return built


def targets_of(model: ModelConfig, sizes: Mapping[str, Any], task: Mapping[str, Any]) -> list[str]:
    """Every class that a run names: the model's, what it is built of, the task's."""
    return [str(sizes["_target_"]), *model.foreign_targets(), str(task["_target_"])]


def model_shape(task: Task) -> Shape:
    """What a model is run on while it trains on `task`."""
    from ressformer.cost import Shape  # loads torch: 2 s

    return Shape(
        batch=task.batch_size,
        length=task.length,
        vocab=task.vocab_size,
        causal=task.causal,
        max_length=task.max_length,
    )


def build_decoder(config: ModelConfig, task: Task) -> Decoder:
    """The model for the task, weights drawn from torch's global generator."""
    return config.build(vocab_size=task.vocab_size, length=task.length, max_length=task.max_length, causal=task.causal)


def helps(sizes: Mapping[str, Any], allow: Sequence[str] = ()) -> str:
    """What the family declares as help and a row uses, e.g. `short_conv=4`; of a class that is gone the convolution."""
    try:
        model = build_model_config(sizes, allow)
    except UserError:
        return f"short_conv={sizes['short_conv']}" if sizes.get("short_conv") else ""
    found = sorted(f"{key}={value}" for key, value in model.helps().items())
    return " ".join([*found, *([model.by_design] if model.by_design else [])])
