"""The sections of the run config that belong to the harness; unknown keys and wrong types are errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic import SerializerFunctionWrapHandler as Handler

from experiments.errors import UserError


class Section(BaseModel):
    """A frozen section of the config."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SeedSettings(Section):
    """`seeds`: what is seeded apart from the run's `seed`."""

    data: int | None = Field(default=None, ge=0, strict=True, description="Which training items are drawn.")
    model: int | None = Field(default=None, ge=0, strict=True, description="Initial weights, and draws in training.")
    order: int | None = Field(default=None, ge=0, strict=True, description="Order of the items drawn; null: as drawn.")

    def apart_from(self, seed: int) -> dict[str, int]:
        """Those that make another run than `seed` alone does."""
        given = self.model_dump(exclude_none=True)
        return {part: value for part, value in given.items() if part == "order" or value != seed}


class TrainerSettings(Section):
    """conf/trainer: how a run trains, selects and checkpoints."""

    optim: dict[str, Any] = Field(default_factory=dict, description="Keys of ressformer.module.OptimConfig.")
    accelerator: str = Field(default="auto", description="auto | cpu | gpu, as Lightning reads it.")
    select: Literal["best", "last"] = Field(default="best", description="Weights to evaluate on test.")
    val_every: int = Field(default=100, ge=1, description="Steps between validations.")
    eval_batch_size: int = Field(default=64, ge=1, description="Sequences per evaluation batch.")
    log_every: int = Field(default=20, ge=1, description="Steps between lines of metrics.jsonl.")
    checkpoint_every_s: float = Field(default=30.0, ge=0, description="Seconds between checkpoints.")
    checkpoint_every_steps: int | None = Field(default=None, ge=1, description="Steps between checkpoints.")
    keep_checkpoint: bool = Field(default=False, description="Keep the checkpoint of a finished run.")
    threads: int = Field(default=1, ge=1, description="Threads of torch per run.")
    eval_depths: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=list, description="Depths (loop counts K) to evaluate the trained model at, beside its own."
    )
    compile: bool = Field(default=False, description="torch.compile the model; rounding differs, so it is identity.")
    precision: Literal["32-true", "bf16-mixed"] = Field(default="32-true", description="Lightning's precision=.")
    strategy: Literal["auto", "ddp"] = Field(default="auto", description="ddp: one run on `devices` devices.")
    devices: int = Field(default=1, ge=1, description="Devices (on a CPU: processes) of one run under ddp.")
    nodes: int = Field(default=1, ge=1, description="Machines of one run under ddp, each with `devices` devices.")


class LoggerSettings(Section):
    """conf/logger: a mirror of metrics.jsonl; the record never comes from it."""

    kind: Literal["none", "csv", "tensorboard", "wandb"] = "none"
    project: str = "ressformer"
    group: str | None = None


class LauncherSettings(Section):
    """conf/launcher: who carries the runs."""

    name: str
    n_jobs: int = Field(default=-1, ge=-1, description="Runs at a time; -1 = one per core (or GPU, or slot).")
    hydra: list[str] = Field(default_factory=list, description="Overrides that choose Hydra's launcher.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the engine: SLURM, Ray, GPUs.")
    retry_failed: bool = Field(default=False, description="Run failed and diverged runs again.")
    deaths: int = Field(default=3, ge=1, description="Deaths of a run's process without progress until it fails.")
    wait: bool = Field(default=True, description="Stay until all is done; false: submit to SLURM and go.")


class Entry(Section):
    """A row of a table: a model under a label, with overrides of its own."""

    label: str
    model: str
    overrides: list[str] = Field(default_factory=list)


class ColumnSettings(Section):
    """A column of a table: a metric of a split of a task."""

    task: str
    split: str = "test/id"
    metric: str | None = Field(default=None, description="null = the task's primary metric.")
    label: str | None = Field(default=None, description="Heading; null = task, split, metric.")


class TableSettings(Section):
    """conf/table: which runs a table is made of, and how it is laid out."""

    name: str
    models: list[str | Entry] = Field(min_length=1)
    tasks: list[str] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    budget: str
    overrides: list[str] = Field(default_factory=list)
    per_task: dict[str, list[str]] = Field(default_factory=dict)
    per_model: dict[str, list[str]] = Field(default_factory=dict)
    per_cell: dict[str, dict[str, list[str]]] = Field(
        default_factory=dict, description="Task, then model: what equal tuning chose for the cell."
    )
    confidence: float = Field(default=0.95, gt=0, lt=1)
    alpha: float = Field(default=0.05, gt=0, lt=1)
    columns: list[ColumnSettings] = Field(default_factory=list, description="Default: the primary metric of each task.")
    groups: dict[str, list[str]] = Field(default_factory=dict, description="Headings and the rows under each.")
    regime: str | None = Field(default=None, description="The regime that the budget must have; null = any.")
    optional: list[str] = Field(default_factory=list, description="Tasks left out, in a line, where data are absent.")
    bold_seeds: int = Field(default=5, ge=3, description="Seeds that a verdict needs; many columns need more.")

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
        labels = [entry.label for entry in self.entries()]
        grouped = [label for members in self.groups.values() for label in members]
        if self.groups and sorted(grouped) != sorted(labels):
            raise ValueError(f"groups must name each row once; rows: {', '.join(labels)}")
        if unknown := [column.task for column in self.columns if column.task not in self.tasks]:
            raise ValueError(f"columns name the task {unknown[0]}, which is not in tasks: {', '.join(self.tasks)}")
        return self

    @model_serializer(mode="wrap")
    def _as_frozen(self, dump: Handler) -> dict[str, Any]:
        """Without the settings that older plans lack, where they are the default: those plans keep their hash."""
        plain = {"optional": [], "bold_seeds": 5, "per_cell": {}}
        found: dict[str, Any] = dump(self)
        return {key: value for key, value in found.items() if key not in plain or value != plain[key]}

    def entries(self) -> list[Entry]:
        """The rows, plain names spelled out."""
        return [m if isinstance(m, Entry) else Entry(label=m, model=m) for m in self.models]


S = TypeVar("S", bound=Section)


def section(kind: type[S], values: Any, where: str) -> S:
    """Validate one section of the config.

    Raises:
        UserError: names the key, what is wrong and, for an unknown key, the known ones.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in (where, *first["loc"]))
        if first["type"] == "extra_forbidden":
            known = ", ".join(kind.model_fields)
            raise UserError(f"unknown key {path}; known keys of {where}: {known}") from None
        raise UserError(f"{path}: {first['msg'].lower()}, got {first['input']!r}") from None
