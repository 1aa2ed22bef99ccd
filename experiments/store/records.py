"""The record of a run: a versioned schema with a sentence per field. One run, one record, written once."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from experiments.store import atomic_files as atomic

SCHEMA = 1
IDENTITY_VERSION = 2  # of the rule of experiments.store.identity; 1 named runs otherwise
COUNTED = ("counted_forward", "counted_train")  # of a cost: what torch counts, not a closed form
Status = Literal["done", "failed", "diverged"]


class Strict(BaseModel):
    """Unknown keys are errors, and so is NaN: a metric that is not finite is not a metric."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class SizeInfo(Strict):
    """How large a split is: see tasks.size."""

    items: int = Field(description="Items that are evaluated; of text, windows.")
    different: int = Field(description="Different items, renamings not counted.")
    effective: float = Field(description="1 / sum p^2 over the shares p of the different items.")
    documents: int | None = Field(
        default=None, description="Independent texts the windows are cut from; null: no text."
    )
    needed: float = Field(default=0.0, description="Effective number that a verdict needs; 0: none rests on the split.")


class LevelInfo(Strict):
    """What is scored without the skill that a task asks for, or what a perfect reader scores: see tasks.levels."""

    split: str = Field(description="Split.")
    metric: str = Field(description="Metric.")
    name: str = Field(description="The rule, the n-gram, or perfect_reader.")
    value: float = Field(description="Its score.")


class TaskInfo(Strict):
    """What the table has to know of a task, copied from its card."""

    name: str = Field(description="Name of the task.")
    version: int = Field(description="Version of its generator.")
    metric: str = Field(description="Primary metric.")
    higher_is_better: bool = Field(description="Direction of the primary metric.")
    unit: str = Field(description="Unit of the primary metric.")
    chance: dict[str, float] = Field(description="Chance level of the primary metric per split.")
    length: int = Field(description="Training length in tokens, padding included.")
    batch_size: int = Field(description="Sequences per training step.")
    vocab_size: int = Field(description="Size of the vocabulary.")
    sizes: dict[str, SizeInfo] = Field(default={}, description="Size of each split; empty = not counted.")
    levels: list[LevelInfo] = Field(
        default=[], description="Per split and metric the strongest rule; n-grams; the perfect reader under noise."
    )


class BudgetInfo(Strict):
    """What was to be matched and how well it was."""

    name: str = Field(description="Name of the budget.")
    regime: str = Field(description="params | flops_per_token | train_flops | effective_depth.")
    target: dict[str, float] = Field(description="Targets of the budget, by name.")
    tolerance: dict[str, float] = Field(description="Relative tolerance of each target.")
    residual: dict[str, float] = Field(description="(actual - target) / target, by name.")
    binding: str = Field(description="The limit that binds, in words; empty if none does.")
    on_budget: bool = Field(description="True if every residual is within its tolerance.")
    notes: list[str] = Field(description="What the solver has to say.")


class CostInfo(Strict):
    """Cost in the convention of ressformer.cost: 2 FLOPs per multiply-accumulate."""

    params_total: int = Field(description="All weights.")
    params_non_embedding: int = Field(description="Weights less look-up tables.")
    params_active: int = Field(description="Non-embedding weights that one token passes through.")
    flops_forward: float = Field(description="Useful forward FLOPs per sequence.")
    flops_forward_executed: float = Field(description="Executed forward FLOPs per sequence.")
    flops_per_token: float = Field(description="Useful forward FLOPs per token.")
    flops_train: float = Field(description="Useful FLOPs of the whole training run.")
    counted_forward: float | None = Field(description="Executed forward FLOPs per sequence, counted; null until run.")
    counted_train: float | None = Field(description="Executed training FLOPs per sequence, counted; null until run.")
    bytes_moved: float = Field(description="Bytes moved by sort, gather and top-k per sequence.")
    basis: Literal["closed form", "counted"] = Field(
        default="closed form",
        exclude_if=lambda value: value == "closed form",  # costs of before modules were counted keep their hashes
        description="What the FLOPs come from: a closed form, or torch's count of the module (useful = executed).",
    )
    eval_depth: int | None = Field(default=None, description="Blocks (loops K counted) a token passes at evaluation.")
    flops_eval: float | None = Field(default=None, description="Useful forward FLOPs per sequence at that depth.")


class RunSpec(Strict):
    """All that a run needs, frozen by the plan: editing a config later changes nothing here."""

    id: str = Field(description="Name of the run, by experiments.store.identity.")
    model: str = Field(description="Label of the model, a row of the table.")
    task: str = Field(description="Label of the task, a column of the table.")
    seed: int = Field(description="Seed of the model and of the training items, but for what `config.seeds` says.")
    config: dict[str, Any] = Field(description="Resolved run config, plain.")
    sizes: dict[str, Any] = Field(description="The model's config after the budget was solved.")
    steps: int = Field(description="Training steps after the budget was solved.", ge=1)
    task_info: TaskInfo = Field(description="The task's metric, chance and shape.")
    budget: BudgetInfo = Field(description="Targets and residuals.")
    cost: CostInfo = Field(description="Cost, analytic and counted.")
    data_fingerprint: str = Field(description="Hash of the task's data.")
    allow_targets: list[str] = Field(default=[], description="Packages that _target_ may also come from.")
    identity_version: int = Field(default=1, description="Version of the rule that gave `id`.")
    model_version: int = Field(default=1, description="Version of the model's family.")
    foreign_sources: dict[str, str] = Field(default={}, description="Hash of each source from outside, by module.")
    places: list[str] = Field(default=[], description="Keys of config.task that say where its data lie.")

    @property
    def data_seed(self) -> int:
        """Which training items are drawn."""
        return self._seed("data", self.seed)

    @property
    def model_seed(self) -> int:
        """Initial weights, and the model's own draws."""
        return self._seed("model", self.seed)

    @property
    def order_seed(self) -> int | None:
        """The order of the training items; None: as drawn."""
        order: int | None = self.config.get("seeds", {}).get("order")
        return order

    def _seed(self, part: str, default: int) -> int:
        given = self.config.get("seeds", {}).get(part)
        return default if given is None else int(given)


class Provenance(Strict):
    """Where a number comes from. No host name and no path."""

    git_commit: str | None = Field(description="Commit of the sources; null outside a repository.")
    git_dirty: bool | None = Field(description="True if the work tree differed from the commit.")
    code_fingerprint: str = Field(description="Hash of the sources of ressformer/ and tasks/.")
    versions: dict[str, str] = Field(description="Versions of Python and of the packages that matter.")
    cpu: str = Field(description="Model of the processor.")
    cores: int = Field(description="Logical cores.")
    threads: int = Field(description="Threads torch used, in the last attempt.")
    attempt_threads: list[int] = Field(
        default=[],
        exclude_if=lambda value: not value,
        description="The different thread counts of all attempts, in their order; absent if they were the same.",
    )
    accelerator: str = Field(description="Name of the accelerator; 'cpu' if none was used.")
    native_kernels: list[str] | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # records of before they were noted keep their hashes
        description="C kernels that ran, in any attempt; empty: none did; absent: not noted.",
    )


class Measured(Strict):
    """Wall-clock figures: they differ from run to run and stand apart for that reason."""

    started: str = Field(description="Start of the first attempt, UTC, ISO 8601.")
    finished: str = Field(description="Time of the record, UTC, ISO 8601.")
    wall_seconds: float = Field(description="Wall time of this attempt.")
    train_seconds: float = Field(description="Time in training steps, over all attempts.")
    tokens_per_second: float | None = Field(description="Training tokens per second of train_seconds.")
    peak_memory_mib: float | None = Field(description="Peak resident (or device) memory of the last attempt, MiB.")


class ErrorInfo(Strict):
    """Why a run did not end well."""

    type: str = Field(description="Class of the error.")
    message: str = Field(description="One line.")
    traceback: str = Field(description="Where it happened; empty if there is nothing to show.")


class DepthPoint(Strict):
    """The trained model run at another depth: one point of an iteration curve."""

    depth: int = Field(description="Blocks (loops K counted) that a token passed through.")
    flops_forward: float = Field(description="Useful forward FLOPs per sequence of the training length at this depth.")
    metrics: dict[str, dict[str, float]] = Field(description="Mean of each metric per split.")


class ValidationScores(Strict):
    """What the selected weights score on each validation item: how sure a choice by validation is, hangs on it."""

    scores: list[float | None] = Field(description="Primary metric of each item, in item order; null: it has none.")
    weights: list[float] | None = Field(default=None, description="Weight of each item in the mean; null = all equal.")
    forms: list[int] = Field(description="Which different item each one is: renamings have one number.")


class Record(Strict):
    """What became of a run."""

    schema_version: Literal[1] = Field(default=1, description="Version of this schema.")
    id: str = Field(description="Identity of the run.")
    status: Status = Field(description="done | failed | diverged.")
    spec: RunSpec = Field(description="What was run.")
    steps_done: int = Field(description="Training steps that went well.")
    selected_step: int | None = Field(description="Step whose weights were evaluated.")
    selection: dict[str, float] = Field(description="Validation metrics of the selected weights.")
    metrics: dict[str, dict[str, float]] = Field(description="Mean of each metric per split.")
    items: dict[str, list[float | None]] = Field(
        description="Primary metric of each item, per split, in item order; null where an item has none."
    )
    item_weights: dict[str, list[float]] = Field(
        default={}, description="Weight of each item in the mean, per split; absent = all equal."
    )
    validation: ValidationScores | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # records of before it was kept keep their hashes
        description="Scores of the validation items; absent if they were not kept.",
    )
    depths: list[DepthPoint] = Field(default=[], description="The selected weights at other depths, where asked for.")
    provenance: Provenance = Field(description="Sources, versions, hardware.")
    measured: Measured = Field(description="Wall-clock figures.")
    error: ErrorInfo | None = Field(default=None, description="Set unless the run is done.")
    log_hash: str = Field(
        default="",
        exclude_if=lambda value: not value,  # records of before it was taken keep their hashes
        description="Hash of metrics.jsonl as the run wrote it; absent if it logged nothing.",
    )
    result_hash: str = Field(
        default="", description="Hash of all that the same config and seed must give again, bit for bit."
    )
    content_hash: str = Field(default="", description="Hash of the record without this field.")

    def sealed(self) -> Record:
        """The record with its hashes."""
        values = self.model_dump(mode="json")
        changes = {"result_hash": result_hash(values)}
        return self.model_copy(update={**changes, "content_hash": content_hash({**values, **changes})})


# What the clock, the machine or the sources' own history decide; validation items stand in their mean (`selection`).
CIRCUMSTANCES = {"validation", "provenance", "measured", "error", "log_hash", "result_hash", "content_hash"}


def result_hash(values: dict[str, Any]) -> str:
    """Hash of a record's outcome: two runs of one config and seed on one machine must agree in it."""
    kept = {key: value for key, value in values.items() if key not in CIRCUMSTANCES}
    # Where and how often something is written is part of the spec, not of the outcome.
    kept["spec"] = kept["spec"]["id"]
    return atomic.digest(kept)


def content_hash(values: dict[str, Any]) -> str:
    """Hash of a record's content."""
    return atomic.digest({key: value for key, value in values.items() if key != "content_hash"})
