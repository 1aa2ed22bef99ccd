"""Training of one run with Lightning: model, data, callbacks, resume."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment

from experiments.planning.instantiate import build_decoder, build_model_config, build_task
from experiments.planning.run_spec import with_count
from experiments.planning.settings import TrainerSettings
from experiments.planning.task_data import CannotBegin, require_as_planned
from experiments.store.records import RunSpec
from experiments.training.callbacks import Account, Keeper, Selector, seed_all
from experiments.training.checkpoint import AtomicCheckpointIO, newest
from experiments.training.context import Effort, RunContext, TrainingEnded
from experiments.training.distributed import Place, strategy, together
from experiments.training.evaluate import Evaluator
from experiments.training.loader import StepLoader
from experiments.training.loggers import MetricsLog
from experiments.training.signals import Interrupted
from ressformer.module import OptimConfig, SequenceModule
from tasks.base import Task

MIB = 2**20


@dataclass(frozen=True)
class Fitted:
    """A trained model with the selected weights, ready for evaluation."""

    module: SequenceModule
    evaluate: Evaluator
    splits: list[str]
    selected_step: int | None
    selection: dict[str, float]
    effort: Effort
    peak: Callable[[], float | None]


@dataclass(frozen=True)
class Trained:
    """What a rank has after training; only the first one's is of use."""

    module: SequenceModule
    selector: Selector
    trainer: L.Trainer
    evaluate: Evaluator
    task: Task
    effort: Effort


def fit(context: RunContext) -> Fitted:
    """Train the run's model, from its newest checkpoint if there is one.

    Raises:
        TrainingEnded: the training ended early, for whatever cause.
        Exception: whatever task and model raise before it has begun.
    """
    peak = PeakMemory()
    checkpoint = resume_from(context.folder / "checkpoint.ckpt")
    with together(context.settings, context.folder, checkpoint) as place:
        trained = train(context, place, checkpoint)
    trained.module.load_state_dict(trained.selector.weights)
    return Fitted(
        module=trained.module,
        evaluate=trained.evaluate,
        splits=[split for split in trained.task.splits if split != "validation"],
        selected_step=trained.selector.step,
        selection=trained.selector.metrics,
        effort=trained.effort,
        peak=lambda: peak.mib(trained.trainer),
    )


def train(context: RunContext, place: Place, checkpoint: Path | None) -> Trained:
    """The training of one rank.

    Raises:
        TrainingEnded: the training ended early.
        Exception: whatever task and model raise before it has begun.
    """
    quiet_lightning()
    spec, settings = context.spec, context.settings
    torch.set_num_threads(settings.threads)
    task = build_task(spec.config["task"], spec.allow_targets)
    if place.first:
        require_device(spec, settings)
        require_as_planned(spec, task)
    spec = with_count(spec, task)
    beat = EvaluationBeat(context)
    evaluate = Evaluator(task, spec.task_info.metric, settings.eval_batch_size, beat)
    try:
        module = build_module(spec, settings, task)
        account, selector, keeper, loader = _callbacks(context, spec, task, evaluate, place, resumed=bool(checkpoint))
    except Exception as error:
        raise TrainingEnded(error, Effort(spec.cost)) from error
    if not place.first:
        seed_all(spec.model_seed + 7919 * place.rank)  # the same weights, but draws of its own
    beat.account = account
    trainer = make_trainer(context, [account, selector, keeper], place)
    # Lightning's own handler of SIGTERM broadcasts inside the handler, and the other ranks do not answer.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    context.beat("train", 0, None)

    def effort() -> Effort:
        return account.effort(spec.cost, _accelerator(trainer))

    try:
        trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True)
    except Exception as error:
        raise TrainingEnded(error, effort()) from error
    beat.trained = True
    return Trained(module, selector, trainer, evaluate, task, effort())


def require_device(spec: RunSpec, settings: TrainerSettings) -> None:
    """Raise CannotBegin where the run wants a GPU that this machine does not have."""
    if settings.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise CannotBegin(
            f"run {spec.id} has trainer.accelerator={settings.accelerator}, and torch finds no GPU on this machine; "
            "trainer.accelerator=auto takes what is there"
        )


def _callbacks(
    context: RunContext, spec: RunSpec, task: Task, evaluate: Evaluator, place: Place, *, resumed: bool
) -> tuple[Account, Selector, Keeper, StepLoader]:
    settings = context.settings
    log = MetricsLog(context.folder / "metrics.jsonl" if place.first else None, context.mirror())
    loader = StepLoader(task, spec.data_seed, spec.steps, place, spec.order_seed)
    keeper = Keeper(context.folder / "checkpoint.ckpt", settings, context.stop, spec.steps, place)
    account = Account(loader, log, context.beat, settings.log_every, keeper)
    selector = Selector(spec, settings, evaluate, log, place)
    if not resumed:
        log.rewind(0)
    return account, selector, keeper, loader


def quiet_lightning() -> None:
    """Keep Lightning's banners and advice, which repeat per run, out of the log."""
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("lightning")]:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=r".*num_workers.*")
    warnings.filterwarnings("ignore", message=r".isinstance\(treespec, LeafSpec\)", category=FutureWarning)
    warnings.filterwarnings("ignore", message=r".*srun.*")


def build_module(spec: RunSpec, settings: TrainerSettings, task: Task) -> SequenceModule:
    """The run's model, initialised by its seed, inside the LightningModule."""
    seed_all(spec.model_seed)
    optim = OptimConfig(**settings.optim.model_dump())
    decoder = build_decoder(build_model_config(spec.sizes, spec.allow_targets), task)
    if settings.compile:
        decoder.compile()  # in place: names of weights, and so checkpoints, stay as they are
    return SequenceModule(decoder, optim, spec.steps)


def make_trainer(context: RunContext, callbacks: list[L.Callback], place: Place) -> L.Trainer:
    """Lightning's trainer with all that we do ourselves switched off."""
    # The environment is named, or Lightning would install SLURM's requeue handlers over ours.
    environment = [LightningEnvironment()] if place.world == 1 else []
    return L.Trainer(
        strategy=strategy(place),
        use_distributed_sampler=False,
        max_steps=context.spec.steps,
        accelerator=context.settings.accelerator,
        devices=place.devices,
        num_nodes=place.nodes,
        precision=context.settings.precision,
        detect_anomaly=context.settings.detect_anomaly,
        logger=False,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), *environment],
        default_root_dir=context.folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )


def resume_from(path: Path) -> Path | None:
    """The newest sound checkpoint; says what it found."""
    found, lines = newest(path, path.with_name("metrics.jsonl"))
    for line in lines:
        print(line, flush=True)
    if found is not None:
        print(f"goes on from {found.name}", flush=True)
    return found


class EvaluationBeat:
    """Beats between batches of an evaluation; after training it also ends a run that is told to stop.

    Attributes:
        account: what counts the steps of the training; None until there is one.
        trained: training is over, and its checkpoint is written.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self.account: Account | None = None
        self.trained = False

    def __call__(self) -> None:
        step = 0 if self.account is None else self.account.step
        self._context.beat("evaluate" if self.trained else "validate", step, None)
        if self._context.stop.wanted and self.trained and step == self._context.spec.steps:
            raise Interrupted(step)


def _accelerator(trainer: L.Trainer) -> str:
    device = trainer.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


class PeakMemory:
    """Peak memory above what the process held at the start, in MiB; None where the system does not tell."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._before = _status("VmRSS")

    def mib(self, trainer: L.Trainer) -> float | None:
        """The peak so far: device memory on a GPU, resident memory on a CPU."""
        device = trainer.strategy.root_device
        if device.type == "cuda":
            return torch.cuda.max_memory_allocated(device) / MIB
        now = _status("VmHWM")
        return None if now is None or self._before is None else (now - self._before) / 1024


def _status(key: str) -> float | None:
    """A figure of /proc/self/status in KiB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{key}:"):
            return float(line.split()[1])
    return None
