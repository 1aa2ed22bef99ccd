"""`python -m tasks`: cards and readable samples, agreement of the checkers, a table of the generated tasks."""

from __future__ import annotations

import sys
from dataclasses import fields

from tasks.base import Task, TaskCard
from tasks.figures import check, table
from tasks.item import EVAL_SEED
from tasks.probes import ProbedTask
from tasks.registry import load, names

USAGE = (
    "usage: python -m tasks list | python -m tasks show TASK [key=value ...] | "
    "python -m tasks check [TASK ...] [--n ITEMS] | python -m tasks table"
)


def _print_card(task: Task, card: TaskCard) -> None:
    for entry in fields(card):
        value = getattr(card, entry.name)
        if isinstance(value, dict):
            value = "; ".join(f"{k}: {v:.3f}" if isinstance(v, float) else f"{k}: {v}" for k, v in value.items())
        print(f"  {entry.name.replace('_', ' '):<20} {value}")
    print(f"  {'sizes':<20} {'; '.join(f'{split}: {count}' for split, count in task.splits.items())}")
    print(f"  {'length, vocabulary':<20} {task.length}, {task.vocab_size}")
    if isinstance(task, ProbedTask):
        print(f"  {'probes':<20} {', '.join(task.probes)}")


def _sample(task: Task, split: str) -> str:
    """Item 0 for a reader; noise may leave nothing that reads as facts, so its tokens are shown."""
    item = task.item(split, EVAL_SEED, 0)
    return " ".join(map(str, item.input_ids.tolist())) if split.startswith("probe/noise") else task.text(item)


def _check(arguments: list[str]) -> int:
    chosen, items = arguments, "10000"
    if "--n" in arguments:
        place = arguments.index("--n")
        chosen, items = [*arguments[:place], *arguments[place + 2 :]], (arguments[place + 1 : place + 2] or [""])[0]
    if not items.isdigit() or int(items) < 1:
        raise ValueError(f"--n {items}: give a number of items of 1 or more")
    return check(chosen, int(items))


def main(arguments: list[str]) -> int:
    """Exit status: 0, or 2 after one line that says what would do."""
    try:
        if arguments == ["list"]:
            for name in names():
                card = load(name).describe()
                print(f"{name:<18} {card.family:<10} {card.metric:<14} {card.summary}")
        elif len(arguments) >= 2 and arguments[0] == "show":
            task = load(arguments[1], arguments[2:])
            card = task.card  # first, so that a task without its data prints nothing but that
            print(arguments[1])
            _print_card(task, card)
            for split in ("train", *task.splits):
                print(f"\n{split}, item 0\n{_sample(task, split)}")
        elif arguments == ["table"]:
            table()
        elif arguments[:1] == ["check"]:
            return _check(arguments[1:])
        else:
            raise ValueError(USAGE)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
