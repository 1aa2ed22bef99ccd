"""Looks at the model of a finished run: evaluates it again, or on other items, and has it answer a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from experiments.errors import UserError, unknown
from experiments.planning.hydra_config import composed, composer, options, plain, require_option
from experiments.planning.hydra_values import override_key
from experiments.planning.instantiate import build_task, refused
from experiments.planning.plan import plan_files
from experiments.planning.table_name import is_part, preset_of
from experiments.planning.task_data import require_as_planned
from experiments.reporting.screen import show_rows
from experiments.store import plan_file
from experiments.store.records import Record
from experiments.store.store import Store
from experiments.studies.runs import named_run
from experiments.training.evaluate import Evaluator, Outcome, evaluating
from experiments.training.kept_model import FILE, continued, kept_module
from tasks.base import Task
from tasks.item import IGNORE, collate

COLUMNS = ["split", "metric", "value", "record", "difference"]
TEXT, ANSWER = 200, 64  # tokens that are written at most, where nobody says how many
SHOWN = 2000  # characters of an item


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a model is asked: a prompt, or an item of test/id by its number; temperature 0 takes the most probable."""

    prompt: str = ""
    item: int | None = None
    tokens: int | None = None
    temperature: float = 0.0
    seed: int = 0


def evaluate_run(store: Store, given: str, words: Sequence[str], splits: Sequence[str] | None) -> int:
    """Print the metrics of a run's model; 1 if they should be the record's and are not.

    Args:
        store: where the run lies.
        given: its id, or the first digits of it.
        words: task=NAME and task.KEY=VALUE; none: what the run was trained on, item by item.
        splits: which; None: those of test.

    Raises:
        UserError: no such run or split, no checkpoint, or a task that the model cannot read.
    """
    record = record_of(store, given)
    own = build_task(record.spec.config["task"], record.spec.allow_targets)
    task = other_task(record, own, words) if words else own
    if not words:
        require_as_planned(record.spec, own)
    chosen = list(splits or [split for split in task.splits if split != "validation"])
    for split in chosen:
        if split not in task.splits:
            raise UserError(unknown(f"split of task {task.name}", split, list(task.splits)))
    longest = max(task.length_of(split) for split in chosen)
    module = kept_module(record, checkpoint_of(store, record), own, longest)
    batch = int(record.spec.config["trainer"].get("eval_batch_size", 64))
    outcomes = Evaluator(task, task.describe().metric, batch, lambda: None).all(module, chosen)
    rows = list(_rows(record, outcomes, compare=not words))
    what = f"run {record.id}: {record.spec.model} trained on {record.spec.task}, seed {record.spec.seed}"
    show_rows(rows, COLUMNS if not words else COLUMNS[:3], f"{what}; evaluated on {' '.join(words) or 'it'}")
    return 0 if words else _agreement(record, outcomes, rows)


def _rows(record: Record, outcomes: dict[str, Outcome], *, compare: bool) -> Iterator[dict[str, object]]:
    for split, outcome in outcomes.items():
        known = (record.selection if split == "validation" else record.metrics.get(split, {})) if compare else {}
        for metric, value in outcome.metrics.items():
            before = known.get(metric)
            difference = None if before is None else value - before
            yield {"split": split, "metric": metric, "value": value, "record": before, "difference": difference}


def _agreement(record: Record, outcomes: dict[str, Outcome], rows: Sequence[dict[str, object]]) -> int:
    """Say whether the figures are the record's; 1 if not."""
    apart = [str(row["metric"]) for row in rows if row["difference"] != 0]
    items = [split for split, found in outcomes.items() if record.items.get(split, found.items) != found.items]
    if not apart and not items:
        print(f"these are the record's figures to the last digit: {len(rows)} means, and the score of every item")
        return 0
    print(
        f"{len(apart)} of {len(rows)} means and items of {len(items)} splits are not the record's; on another kind of "
        "processor the last digits may differ, else sources or data have changed"
    )
    return 1


def record_of(store: Store, given: str) -> Record:
    """The record of a run that went well.

    Raises:
        UserError: no such run, or it has no result.
    """
    run = named_run(store, given)
    record = store.record(run)
    store.require_sound()
    if record is None or record.status != "done":
        raise UserError(f"run {run} has no result: it is {store.state(run) if record is None else record.status}")
    return record


def checkpoint_of(store: Store, record: Record) -> Path:
    """The checkpoint that the run kept.

    Raises:
        UserError: it kept none; the line says how to get one.
    """
    path = store.folder(record.id) / FILE
    if not path.exists():
        raise UserError(
            f"run {record.id} kept no checkpoint; this trains it again and keeps it: {again(store, record)}"
        )
    return path


def again(store: Store, record: Record) -> str:
    """The command that makes the run anew in a folder of its own, with its checkpoint; the id stays the same."""
    spec, keep = record.spec, "trainer.keep_checkpoint=true results_dir=kept"
    with composer():
        presets = options("table")
    for path, name in plan_files(store.root / "plans").items():
        if preset_of(name) not in presets or not (name in presets or is_part(name, preset_of(name))):
            continue
        if any(each["id"] == record.id for each in json.loads(plan_file.read(path))["runs"]):
            cell = f"'table.models=[{spec.model}]' 'table.tasks=[{spec.task}]' 'table.seeds=[{spec.seed}]'"
            return f"python -m experiments reproduce table={preset_of(name)} {cell} {keep}"
    names = f"model={spec.model} task={spec.task} budget={spec.budget.name} seed={spec.seed}"
    return f"python -m experiments train {names} {keep}, with the overrides that it had"


def of_task(words: Sequence[str]) -> list[str]:
    """The words that choose or set a task.

    Raises:
        UserError: a word that does neither.
    """
    for word in words:
        if (key := override_key(word)).split(".")[0] not in ("run", "task", "results_dir"):
            raise UserError(unknown("argument of evaluate", key, ["run", "task", "split", "length", "results_dir"]))
    return [word for word in words if override_key(word).split(".")[0] == "task"]


def other_task(record: Record, own: Task, words: Sequence[str]) -> Task:
    """The task of `task=NAME` and `task.KEY=VALUE`, which must speak the tokens of the run's own.

    Raises:
        UserError: an unknown name or key, or another vocabulary.
    """
    spec = record.spec
    if any(override_key(word) == "task" for word in words):
        with composer():
            for word in (word for word in words if override_key(word) == "task"):
                require_option("task", word.partition("=")[2])
            section = plain(composed(words))["task"]
    else:
        changes = OmegaConf.from_dotlist([word.partition("task.")[2] for word in words])
        section = {**spec.config["task"], **plain(changes)}
    task = build_task(section, spec.allow_targets)
    if task.vocab_size != own.vocab_size or any(task.word(t) != own.word(t) for t in range(task.vocab_size)):
        raise UserError(f"run {spec.id} knows the {own.vocab_size} tokens of {spec.task}, and {task.name} has others")
    if task.causal != own.causal:
        raise UserError(
            f"run {spec.id} reads {'one way' if own.causal else 'both ways'}, and task {task.name} does not"
        )
    return task


def sample_run(store: Store, given: str, asked: Asked) -> int:
    """Print what the run's model writes behind a prompt, or what it answers to an item.

    Raises:
        UserError: no such run or item, no checkpoint, or a prompt that is not of the task.
    """
    record = record_of(store, given)
    task = build_task(record.spec.config["task"], record.spec.allow_targets)
    checkpoint = checkpoint_of(store, record)
    if asked.item is not None:
        return _answer_item(record, checkpoint, task, asked.item)
    try:
        prompt = task.prompt(asked.prompt)
    except ValueError as error:
        raise refused(error) from None
    is_text = task.describe().family == "language"
    usual = TEXT if is_text else 1 if task.end_id is None else ANSWER
    count = asked.tokens or (usual if task.causal else 1)
    if not prompt or (count > 1 and not task.causal):
        why = "the prompt is empty" if not prompt else f"{record.spec.model} reads both ways: it answers one token"
        raise UserError(f"{why}; e.g. sample run={record.id} item=0 shows an item of the task, and tokens=1 one answer")
    longest = min(len(prompt), task.max_length) if is_text else len(prompt)
    module = kept_module(record, checkpoint, task, longest)
    written = continued(
        module, prompt, count, temperature=asked.temperature, seed=asked.seed, end=None if is_text else task.end_id
    )
    print(f"{asked.prompt}{task.written(written)}" if is_text else f"{asked.prompt} -> {task.written(written)}")
    return 0


def _answer_item(record: Record, checkpoint: Path, task: Task, item: int) -> int:
    """An item of test/id as a reader sees it, then each label beside what the model takes for the most probable."""
    total = task.splits["test/id"]
    if item >= total:
        raise UserError(f"test/id of {record.spec.task} has {total} items: item=0 to item={total - 1}")
    drawn = task.eval_items("test/id", item + 1)[item]
    module = kept_module(record, checkpoint, task, task.length_of("test/id"))
    batch = collate([drawn], [item], task.length_of("test/id"), task.pad_id)
    with evaluating(module):
        found = module.predict({key: value.to(module.device) for key, value in batch.items()})["pred_Bn"][0]
    places = [place for place, label in enumerate(drawn.labels.tolist()) if label != IGNORE]
    pairs = [(int(drawn.labels[place]), int(found[place])) for place in places]
    print(task.text(drawn)[:SHOWN])
    if task.describe().family != "language":
        print("prompt:  " + task.written(drawn.input_ids[: places[0] + 1].tolist())[:SHOWN])
    print("answers: " + task.written([label for label, _ in pairs])[:SHOWN])
    print("model:   " + task.written([pred for _, pred in pairs])[:SHOWN])
    print(f"{sum(label == pred for label, pred in pairs)} of {len(pairs)} tokens right, each after the right ones")
    return 0
