"""The sections of the run config that belong to the harness; unknown keys and wrong types are errors."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from experiments.errors import UserError, clipped
from experiments.planning.labels import label
from experiments.planning.limits import LARGEST_COUNT, LARGEST_SEED, require_runs

FILES = ("runs", "metrics", "items", "steps", "costs", "claims")  # of every results folder's exports
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


class Section(BaseModel):
    """A frozen section of the config: no other keys, no value that has to be turned into another type, all finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Label = Annotated[str, AfterValidator(label)]
Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]


class RunSettings(Section):
    """What stands at the top of the run config."""

    seed: Seed = Field(description="Which training items are drawn, and the model's initial weights and draws.")
    allow_targets: list[Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*$")]] = Field(
        default_factory=list, description="Packages that a _target_ may come from, beside ressformer and tasks."
    )
    allow_unchecked: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list, description="Models that run although they fail preflight; marked, and never bold."
    )


class SeedSettings(Section):
    """`seeds`: what is seeded apart from the run's `seed`."""

    data: Seed | None = Field(default=None, description="Which training items are drawn.")
    model: Seed | None = Field(default=None, description="Initial weights, and draws in training.")
    order: Seed | None = Field(default=None, description="Order of the items drawn; null: as drawn.")


class OptimSettings(Section):
    """`trainer.optim`: the fields of ressformer.module.OptimConfig; a test holds names, defaults and ranges equal."""

    lr: float = Field(default=2e-3, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(default=0.1, ge=0, description="On matrices only.")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="Share of all steps spent warming up.")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's first moment.")
    beta2: float = Field(default=0.98, ge=0, lt=1, description="AdamW's second moment.")
    grad_clip: float = Field(default=1.0, ge=0, description="Largest gradient norm; 0 = off.")
    schedule: Literal["cosine", "constant"] = Field(default="cosine", description="After the warm-up.")
    final: float = Field(default=0.1, ge=0, le=1, description="Last learning rate over the peak (cosine).")


class TrainerSettings(Section):
    """conf/trainer: how a run trains, selects and checkpoints."""

    optim: OptimSettings = Field(default_factory=OptimSettings, description="The optimiser and its schedule.")
    accelerator: Literal["auto", "cpu", "gpu", "cuda"] = Field(default="auto", description="As Lightning reads it.")
    select: Literal["best", "last"] = Field(default="best", description="Weights to evaluate on test.")
    val_every: Count = Field(default=100, description="Steps between validations.")
    eval_batch_size: Count = Field(default=64, description="Sequences per evaluation batch.")
    log_every: Count = Field(default=20, description="Steps between lines of metrics.jsonl.")
    checkpoint_every_s: float = Field(default=30.0, ge=0, description="Seconds between checkpoints.")
    checkpoint_every_steps: Count | None = Field(default=None, description="Steps between checkpoints.")
    keep_checkpoint: bool = Field(default=False, description="Keep the checkpoint of a finished run.")
    threads: int = Field(default=1, ge=1, le=4096, description="Threads of torch per run.")
    eval_depths: list[Annotated[int, Field(ge=1, le=10_000)]] = Field(
        default_factory=list, description="Depths (loop counts K) to evaluate the trained model at, beside its own."
    )
    max_steps: Count | None = Field(default=None, description="End training here, before the budget is used up.")
    detect_anomaly: bool = Field(default=False, description="Name the operation that makes a gradient NaN; slow.")
    compile: bool = Field(default=False, description="torch.compile the model; rounding differs, so it is identity.")
    precision: Literal["32-true", "bf16-mixed"] = Field(default="32-true", description="Lightning's precision=.")
    strategy: Literal["auto", "ddp"] = Field(default="auto", description="ddp: one run on `devices` devices.")
    devices: int = Field(default=1, ge=1, le=4096, description="Devices (CPU: processes) of one run under ddp.")
    nodes: int = Field(default=1, ge=1, le=4096, description="Machines of one run under ddp, `devices` on each.")

    @model_validator(mode="after")
    def _several(self) -> TrainerSettings:
        for key in ("devices", "nodes"):
            if getattr(self, key) > 1 and self.strategy != "ddp":
                raise ValueError(f"{key}={getattr(self, key)} needs strategy=ddp, which trainer=ddp sets")
        return self


class LoggerSettings(Section):
    """conf/logger: a mirror of metrics.jsonl; the record never comes from it."""

    kind: Literal["none", "csv", "tensorboard", "wandb"] = "none"
    project: str = Field(default="ressformer", min_length=1, max_length=128)
    group: str | None = Field(default=None, min_length=1, max_length=128)


class LauncherSettings(Section):
    """conf/launcher: who carries the runs."""

    name: str = Field(min_length=1)
    n_jobs: int = Field(default=-1, ge=-1, le=100_000, description="Runs at a time; -1 = one per core, GPU or slot.")
    hydra: list[str] = Field(default_factory=list, description="Overrides that choose Hydra's launcher.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the engine: SLURM, Ray, GPUs.")
    retry_failed: bool = Field(default=False, description="Run failed and diverged runs again.")
    deaths: int = Field(
        default=3, ge=1, le=1000, description="Deaths of a run's process without progress until it fails."
    )
    wait: bool = Field(default=True, description="Stay until all is done; false: submit to SLURM and go.")


class Entry(Section):
    """A row of a table: a model under a label, with overrides of its own."""

    label: Label
    model: str = Field(min_length=1)
    overrides: list[str] = Field(default_factory=list)
    tasks: list[Label] = Field(default=[], exclude_if=lambda value: not value, description="Its columns; empty: all.")


def row_of(label: str) -> str:
    """The row that a trial of a sweep is of; trials are labelled `row #2`."""
    return re.sub(r" #\d+$", "", label)


class ColumnSettings(Section):
    """A column of a table: a metric of a split of a task."""

    task: str
    split: str = "test/id"
    metric: str | None = Field(default=None, description="null = the task's primary metric.")
    label: str | None = Field(default=None, description="Heading; null = task, split, metric.")


class TableSettings(Section):
    """conf/table: which runs a table is made of, and how it is laid out."""

    name: str = Field(description="What its plans and exports are called.")
    models: list[Label | Entry] = Field(min_length=1)
    tasks: list[Label] = Field(min_length=1)
    seeds: list[Seed] = Field(min_length=1)
    budget: str = Field(min_length=1)
    overrides: list[str] = Field(default_factory=list)
    per_task: dict[str, list[str]] = Field(default_factory=dict)
    per_model: dict[str, list[str]] = Field(default_factory=dict)
    per_cell: dict[str, dict[str, list[str]]] = Field(
        default_factory=dict, description="Task, then row or model: what equal tuning chose for the cell."
    )
    confidence: float = Field(default=0.95, gt=0, lt=1)
    alpha: float = Field(default=0.05, gt=0, lt=1)
    columns: list[ColumnSettings] = Field(default_factory=list, description="Default: the primary metric of each task.")
    groups: dict[str, list[str]] = Field(default_factory=dict, description="Headings and the rows under each.")
    regime: str | None = Field(default=None, description="The regime that the budget must have; null = any.")
    optional: list[str] = Field(default_factory=list, description="Tasks left out, in a line, where data are absent.")
    allow_small_test: list[str] = Field(
        default_factory=list, description="Tasks whose test may be too small for a verdict: marked, and never bold."
    )
    means_nothing: bool = Field(default=False, description="The table shows that all runs; any test will do, no bold.")
    reference: str | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # plans of before keep their names
        description="Row that costs to equal quality are over; null: the first vanilla Transformer with RoPE.",
    )
    bold_seeds: int = Field(
        default=5, ge=3, le=10_000, description="Seeds that a verdict needs; many columns need more."
    )

    @field_validator("budget", mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads the bare word as a boolean

    @field_validator("groups")
    @classmethod
    def _members(cls, groups: dict[str, list[str]], info: ValidationInfo) -> dict[str, list[str]]:
        """Less what `table.models=[...]` left out: Hydra merges mappings, so a command line cannot empty this."""
        labels = {m.label if isinstance(m, Entry) else m for m in info.data.get("models", [])}
        kept = {name: [label for label in members if label in labels] for name, members in groups.items()}
        return {name: members for name, members in kept.items() if members}

    @model_validator(mode="after")
    def _layout(self) -> TableSettings:
        require_runs(len(self.models), len(self.tasks), len(self.seeds))
        labels = [entry.label for entry in self.entries()]
        grouped = [label for members in self.groups.values() for label in members]
        if self.groups and sorted(grouped) != sorted(labels):
            raise ValueError(f"groups must name each row once; rows: {', '.join(labels)}")
        if self.reference is not None and self.reference not in labels:
            raise ValueError(f"reference={self.reference} is no row; rows: {', '.join(labels)}")
        if unknown := [column.task for column in self.columns if column.task not in self.tasks]:
            raise ValueError(f"columns name the task {unknown[0]}, which is not in tasks: {', '.join(self.tasks)}")
        if unknown := [task for task in self.allow_small_test if task not in self.tasks]:
            raise ValueError(f"allow_small_test names {unknown[0]}, which is not in tasks: {', '.join(self.tasks)}")
        return self

    @field_validator("name")
    @classmethod
    def _file_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("it names files: use letters, digits and . _ + -, a letter or digit first, at most 100")
        if name.lower() in FILES:
            raise ValueError(f"{name}.csv is a file of every export; choose another name")
        return name

    @field_validator("seeds", "tasks")
    @classmethod
    def _once(cls, values: list[Any]) -> list[Any]:
        if twice := sorted(value for value, count in Counter(values).items() if count > 1):
            raise ValueError(f"each must stand once, and {', '.join(map(str, twice))} stands more often")
        return values

    def entries(self) -> list[Entry]:
        """The rows, plain names spelled out."""
        return [m if isinstance(m, Entry) else Entry(label=m, model=m) for m in self.models]

    def chosen(self, entry: Entry, task: str) -> list[str]:
        """What tuning chose for a cell, under its label, else that of the row a trial is of, else its model."""
        cells = self.per_cell.get(task, {})
        return next((cells[name] for name in (entry.label, row_of(entry.label), entry.model) if name in cells), [])


def without(table: TableSettings, absent: Sequence[str]) -> TableSettings:
    """The table less some of its tasks, and less their columns.

    Raises:
        UserError: nothing is left.
    """
    tasks = [task for task in table.tasks if task not in absent]
    if not tasks:
        raise UserError(f"table {table.name}: the data of every task are absent: {', '.join(absent)}")
    columns = [column for column in table.columns if column.task not in absent]
    return table.model_copy(update={"tasks": tasks, "columns": columns})


S = TypeVar("S", bound=Section)


def section(kind: type[S], values: Any, where: str) -> S:
    """Validate one section of the config.

    Raises:
        UserError: names the key, what is wrong and, for an unknown key, the known ones.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(_told(kind, error, where)) from None


def _told(kind: type[Section], error: ValidationError, where: str) -> str:
    # A choice of types fails once for each; the complaint that got furthest into the value is the one that is meant.
    every = error.errors()
    first = max(every, key=lambda e: (e["type"] == "extra_forbidden", len(e["loc"]), -every.index(e)))
    first = first if first["loc"][:1] == every[0]["loc"][:1] else every[0]
    # Of a choice of types pydantic names the type, too, which is no key.
    keys = [str(part) for part in first["loc"] if part != "Entry" and "[" not in str(part)]
    path = ".".join(filter(None, (where, *keys)))
    if first["type"] == "extra_forbidden":
        parent, _, key = path.rpartition(".")
        known = list(_kind_at(kind, first["loc"][:-1]).model_fields)
        near = difflib.get_close_matches(key, known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"unknown key {path}{hint}; known keys of {parent}: {', '.join(known)}"
    message = first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], str) and first["input"].startswith(("range(", "choice(", "interval(")):
        message += " (a sweep's grammar; write a list, such as [0,1,2])"
    whole = isinstance(first["input"], dict) and first["type"] == "value_error"
    got = "" if whole else f", got {clipped(repr(first['input']))}"
    return f"{path}: {message[:1].lower()}{message[1:]}{got}"


def _kind_at(kind: type[Section], loc: tuple[int | str, ...]) -> type[Section]:
    """The section that a path leads to."""
    for part in loc:
        found = kind.model_fields.get(str(part))
        inner = [t for t in (found.annotation, *get_args(found.annotation)) if found] if found else []
        inner += [t for kept in inner for t in get_args(kept)]
        kinds = [t for t in inner if isinstance(t, type) and issubclass(t, Section)]
        kind = kinds[0] if kinds else kind
    return kind
