"""The tasks of conf/task, and of other folders on Hydra's search path: listed, shown, checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.errors import UserError, unknown
from experiments.planning.hydra_config import composed, composer, names_in, options, plain
from experiments.planning.hydra_values import override_key
from experiments.planning.instantiate import build_task, refused
from tasks import figures
from tasks.base import Task
from tasks.probes import ProbedTask

ELSEWHERE = (
    "hydra.searchpath",
    "allow_targets",
)  # overrides that say where tasks are found; the others are of the task

PACKED = ".jsonl.gz"


def load(names: Sequence[str], words: Sequence[str]) -> dict[str, Task]:
    """The tasks of these names, all there are if none is given.

    Args:
        names: YAML files in conf/task or in a folder of hydra.searchpath.
        words: overrides: keys of the task, `task.` before them or not, and those of ELSEWHERE.

    Raises:
        UserError: an unknown name, key or value.
    """
    given = [word if _elsewhere(word) or word.startswith("task.") else f"task.{word}" for word in words]
    found = {}
    with composer():
        have = options("task", [word for word in words if override_key(word) == ELSEWHERE[0]])
        for name in names or have:
            if name not in have:
                raise UserError(unknown("task", name, have))
            values = plain(composed([f"task={name}", *given]))
            found[name] = build_task(values["task"], names_in(values, "allow_targets"))
    return found


def _elsewhere(word: str) -> bool:
    return override_key(word) in ELSEWHERE


def list_tasks(names: Sequence[str], words: Sequence[str], items: int) -> int:
    """A line for each task."""
    _none(names, words, "list")
    for name, task in load([], words).items():
        card = task.describe()
        print(f"{name:<18} {card.family:<10} {card.metric:<14} {card.summary}")
    return 0


def show_task(names: Sequence[str], words: Sequence[str], items: int) -> int:
    """The card of a task and an item of each split."""
    if len(names) != 1:
        raise UserError("tasks show takes one task, e.g. tasks show chain")
    (task,) = load(names, words).values()
    try:
        figures.show(names[0], task)
    except (ValueError, TypeError) as error:
        raise refused(error) from None
    return 0


def check_tasks(names: Sequence[str], words: Sequence[str], items: int) -> int:
    """How often checker and generator agree; 1 if not always."""
    tasks = load(names, words)
    return figures.check({name: task for name, task in tasks.items() if names or isinstance(task, ProbedTask)}, items)


def print_table(names: Sequence[str], words: Sequence[str], items: int) -> int:
    """The generated tasks as Markdown."""
    _none(names, words, "table")
    figures.table({name: task for name, task in load([], words).items() if isinstance(task, ProbedTask)})
    return 0


def print_sizes(names: Sequence[str], words: Sequence[str], items: int) -> int:
    """How many different items the splits of tasks have, as Markdown."""
    tasks = load(names, words)
    figures.sizes({name: task for name, task in tasks.items() if names or isinstance(task, ProbedTask)})
    return 0


def pack_text(names: Sequence[str], words: Sequence[str], to: str) -> int:
    """Write the text of a task that reads installed packages into the file `to`.

    Raises:
        UserError: another task, no name of a file that can be read again, or a file that cannot be written.
    """
    if len(names) != 1 or not to.endswith(PACKED):
        raise UserError(f"tasks pack-text takes one task and a file, e.g. tasks pack-text pycode --to pycode{PACKED}")
    (task,) = load(names, words).values()
    packed = getattr(task, "packed", None)
    if packed is None:
        raise UserError(f"tasks pack-text: {names[0]} reads no installed packages; pycode does")
    try:
        data = packed()
        Path(to).write_bytes(data)
        print(f"{to}: {len(data)} bytes; {getattr(task, 'licences', '')}; read it with task.path={to}")
    except (ValueError, TypeError) as error:
        raise refused(error) from None
    except OSError as error:
        raise UserError(f"tasks pack-text: {to} cannot be written: {error.strerror}") from None
    return 0


def _none(names: Sequence[str], words: Sequence[str], action: str) -> None:
    for word in [*names, *(word for word in words if not _elsewhere(word))]:
        raise UserError(f"tasks {action} takes no '{word}'; it knows {', '.join(f'{key}=[...]' for key in ELSEWHERE)}")


ACTIONS: dict[str, Callable[[Sequence[str], Sequence[str], int], int]] = {
    "list": list_tasks,
    "show": show_task,
    "check": check_tasks,
    "table": print_table,
    "sizes": print_sizes,
}
