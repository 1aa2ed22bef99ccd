"""What the commands of `python -m tasks` print about many tasks: agreement of the checkers, and a table."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tasks.base import Task
from tasks.probes import ProbedTask
from tasks.registry import load, names
from tasks.size import split_sizes, too_small

CHECK_SEED = 1  # not the seed of the evaluation splits, so that other items are seen


def generated() -> list[str]:
    """Names of the tasks whose items are generated."""
    return [name for name in names() if isinstance(load(name), ProbedTask)]


def check(chosen: Sequence[str], items: int) -> int:
    """Print how many of `items` random items per task, dealt over its splits, the checker agrees on; 1 if not all.

    The last column is the CPU time of generating 32 training items.
    """
    wrong = 0
    tasks = {name: load(name) for name in chosen or generated()}
    print(f"{'task':<18} {'items':>6} {'agree':>6} {'splits':>6} {'ms per 32 items':>16}", flush=True)
    for name, task in tasks.items():
        splits = ["train", *task.splits]
        share = -(-items // len(splits))
        agreed = sum(_agrees(task, split, index) for split in splits for index in range(share))
        start = time.process_time()
        for index in range(320):
            task.generate("train", CHECK_SEED, index)
        spent = (time.process_time() - start) * 100
        wrong += share * len(splits) - agreed
        print(f"{name:<18} {share * len(splits):>6} {agreed:>6} {len(splits):>6} {spent:>16.1f}", flush=True)
    return int(wrong > 0)


def _agrees(task: Task, split: str, index: int) -> bool:
    item = task.generate(split, CHECK_SEED, index)
    return task.check(item).tolist() == item.labels.tolist()


def table() -> None:
    """Print the generated tasks as Markdown; levels are measured on test/id."""
    print("| task | family | what it asks | metric | chance | best shortcut | looping | probes |")
    print("|---|---|---|---|---|---|---|---|")
    for name in generated():
        task = load(name)
        assert isinstance(task, ProbedTask)
        card = task.card
        best = (max if card.higher_is_better else min)(card.shortcuts, key=lambda rule: card.shortcuts[rule])
        cells = [
            f"`{name}`",
            card.family,
            card.summary,
            card.metric,
            f"{card.chance['test/id']:.3f}",
            f"{card.shortcuts[best]:.3f} (`{best}`)",
            card.looping,
            ", ".join(f"`{probe}`" for probe in task.probes),
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


def sizes(chosen: Sequence[str], settings: Sequence[str] = ()) -> None:
    """Print as Markdown how many different items each split of tasks has, and the effective number, in brackets.

    Of train a sample is counted, so that its numbers are lower bounds. `*`: too few for a verdict (`NEEDED`).
    """
    print("| task | the same item but for | train, at least | validation | test/id | further splits |")
    print("|---|---|---:|---:|---:|---|")
    for name in chosen or generated():
        task = load(name, settings)
        found = split_sizes(task)
        small = {line.partition(" ")[0] for line in too_small(found)}
        shown = {s: f"{size.different} ({size.effective:.0f}){'*' * (s in small)}" for s, size in found.items()}
        first = [shown.pop(split) for split in ("train", "validation", "test/id")]
        rest = ", ".join(f"`{split.removeprefix('test/')}` {text}" for split, text in shown.items())
        print(f"| `{name}` | {task.same_item} | {' | '.join(first)} | {rest} |", flush=True)
