"""`python -m tasks list` and `python -m tasks show TASK [key=value ...]`: cards and readable samples."""

from __future__ import annotations

import sys
from dataclasses import fields

from tasks.base import EVAL_SEED, Task, TaskCard
from tasks.registry import load, names

USAGE = "usage: python -m tasks list | python -m tasks show TASK [key=value ...]"


def _print_card(task: Task, card: TaskCard) -> None:
    for entry in fields(card):
        value = getattr(card, entry.name)
        if isinstance(value, dict):
            value = "; ".join(f"{k}: {v:.3f}" if isinstance(v, float) else f"{k}: {v}" for k, v in value.items())
        print(f"  {entry.name.replace('_', ' '):<20} {value}")
    print(f"  {'sizes':<20} {'; '.join(f'{split}: {count}' for split, count in task.splits.items())}")
    print(f"  {'length, vocabulary':<20} {task.length}, {task.vocab_size}")


def main(arguments: list[str]) -> int:
    """Exit status: 0, or 2 after one line that says what would do."""
    try:
        if arguments == ["list"]:
            for name in names():
                card = load(name).describe()
                print(f"{name:<12} {card.family:<10} {card.metric:<14} {card.summary}")
        elif len(arguments) >= 2 and arguments[0] == "show":
            task = load(arguments[1], arguments[2:])
            card = task.card  # first, so that a task without its data prints nothing but that
            print(arguments[1])
            _print_card(task, card)
            for split in ("train", *task.splits):
                print(f"\n{split}, item 0\n{task.text(task.generate(split, EVAL_SEED, 0))}")
        else:
            raise ValueError(USAGE)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
