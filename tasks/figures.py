"""What is printed about tasks: card, evidence and samples of one; agreement of the checkers and tables of many."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields

from tasks.base import Task, TaskCard
from tasks.gaps import rule_gaps
from tasks.item import EVAL_SEED
from tasks.levels import levels, strongest
from tasks.probes import ProbedTask
from tasks.registry import load, names
from tasks.size import split_sizes, too_small

CHECK_SEED = 1  # not the seed of the evaluation splits, so that other items are seen


def generated() -> list[str]:
    """Names of the tasks whose items are generated."""
    return [name for name in names() if isinstance(load(name), ProbedTask)]


def show(name: str, task: Task) -> None:
    """Print the card of a task, what is known of its splits, and item 0 of each."""
    card = task.card  # first, so that a task without its data prints nothing but that
    print(name)
    _print_card(task, card)
    _print_evidence(task, card.higher_is_better)
    for split in ("train", *task.splits):
        print(f"\n{split}, item 0\n{_sample(task, split)}")


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


def check(tasks: Mapping[str, Task], items: int) -> int:
    """Print how many of `items` random items per task, dealt over its splits, the checker agrees on; 1 if not all.

    The last column is the CPU time of generating 32 training items.
    """
    wrong = 0
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


def table(tasks: Mapping[str, ProbedTask]) -> None:
    """Print generated tasks as Markdown; levels are measured on test/id."""
    print("| task | family | what it asks | metric | chance | best shortcut | looping | probes |")
    print("|---|---|---|---|---|---|---|---|")
    for name, task in tasks.items():
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


def sizes(tasks: Mapping[str, Task]) -> None:
    """Print as Markdown how many different items each split of tasks has, and the effective number, in brackets.

    Of train a sample is counted, so that its numbers are lower bounds. `*`: too few for a verdict (`NEEDED`).
    """
    print("| task | the same item but for | train, at least | validation | test/id | further splits |")
    print("|---|---|---:|---:|---:|---|")
    for name, task in tasks.items():
        found = split_sizes(task)
        small = {line.partition(" ")[0] for line in too_small(found)}
        shown = {s: f"{size.different} ({size.effective:.0f}){'*' * (s in small)}" for s, size in found.items()}
        first = [shown.pop(split) for split in ("train", "validation", "test/id")]
        rest = ", ".join(f"`{split.removeprefix('test/')}` {text}" for split, text in shown.items())
        print(f"| `{name}` | {task.same_item} | {' | '.join(first)} | {rest} |", flush=True)
