"""`python -m tasks`: cards and readable samples, agreement of the checkers, a table of the generated tasks."""

from __future__ import annotations

import sys
from dataclasses import fields

from tasks.base import Task, TaskCard
from tasks.figures import check, sizes, table
from tasks.gaps import rule_gaps
from tasks.item import EVAL_SEED
from tasks.levels import levels, strongest
from tasks.probes import ProbedTask
from tasks.registry import load, names
from tasks.size import split_sizes, too_small

USAGE = (
    "usage: python -m tasks list | python -m tasks show TASK [key=value ...] | "
    "python -m tasks check [TASK ...] [--n ITEMS] | python -m tasks table | "
    "python -m tasks sizes [TASK [key=value ...]]"
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
    print(f"  {'the same item but for':<20} {task.same_item}")


def _print_evidence(task: Task, higher_is_better: bool) -> None:
    """How large the splits are, what needs no skill, and what is wrong with both."""
    found = split_sizes(task)
    for split, size in found.items():
        print(f"  {'size of ' + split:<20} {size}")
    if isinstance(task, ProbedTask) or hasattr(task, "texts"):
        known = levels(task)
        for (split, metric), level in strongest(known, higher_is_better).items():
            print(f"  {'best rule':<20} {split}, {metric}: {level.name} {level.value:.3f}")
        for level in known:
            if level.split.startswith("probe/"):
                print(f"  {'perfect reader':<20} {level.split}, {level.metric}: {level.value:.3f}")
    gaps = rule_gaps(task) if isinstance(task, ProbedTask) else []
    for line in [*too_small(found), *(str(gap) for gap in gaps if gap.flagged)]:
        print(f"  {'MIND':<20} {line}")


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
            _print_evidence(task, card.higher_is_better)
            for split in ("train", *task.splits):
                print(f"\n{split}, item 0\n{_sample(task, split)}")
        elif arguments == ["table"]:
            table()
        elif arguments[:1] == ["sizes"]:
            sizes(arguments[1:2], arguments[2:])
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
