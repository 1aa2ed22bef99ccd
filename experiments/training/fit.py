"""Training of one run with Lightning: model, data, callbacks, resume."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment

from experiments.errors import UserError
from experiments.planning.instantiate import build_decoder, build_model_config, build_task
from experiments.planning.run_spec import with_count
from experiments.planning.settings import TrainerSettings
from experiments.store.records import RunSpec
from experiments.training.callbacks import Account, Diverged, Keeper, Selector, seed_all
from experiments.training.checkpoint import AtomicCheckpointIO, newest
from experiments.training.distributed import Peer, strategy, together
from experiments.training.evaluate import Evaluator
from experiments.training.loader import StepLoader
from experiments.training.loggers import MetricsLog
from experiments.training.place import Place
from experiments.training.signals import Interrupted
from ressformer.module import OptimConfig, SequenceModule
from tasks.base import Task

if TYPE_CHECKING:
    from experiments.training.run import Run

MIB = 2**20


@dataclass(frozen=True)
class Fitted:
    """A trained model with the selected weights, ready for evaluation."""

    module: SequenceModule
    evaluate: Evaluator
    splits: list[str]
    selected_step: int | None
    selection: dict[str, float]
    peak: Callable[[], float | None]


@dataclass(frozen=True)
class Trained:
    """What a rank has after training; only the first one's is of use."""

    module: SequenceModule
    selector: Selector
    trainer: L.Trainer
    evaluate: Evaluator
    task: Task


def fit(run: Run) -> Fitted:
    """Train the run's model, from its newest checkpoint if there is one.

    Raises:
        Diverged, Interrupted, and whatever task and model raise.
    """
    peak = PeakMemory()
    checkpoint = resume_from(run.folder / "checkpoint.ckpt")
    with together(run.settings, run.folder, checkpoint) as place:
        trained = train(run, place, checkpoint)
    trained.module.load_state_dict(trained.selector.weights)
    splits = [split for split in trained.task.splits if split != "validation"]
    selected = trained.selector
    evaluate, trainer = trained.evaluate, trained.trainer
    return Fitted(trained.module, evaluate, splits, selected.step, selected.metrics, lambda: peak.mib(trainer))


def train(run: Run | Peer, place: Place, checkpoint: Path | None) -> Trained:
    """The training of one rank."""
    quiet_lightning()
    torch.set_num_threads(run.settings.threads)
    task = build_task(run.spec.config["task"], run.spec.allow_targets)
    run.spec = with_count(run.spec, task)
    metric = run.spec.task_info.metric
    evaluate = Evaluator(task, metric, run.settings.eval_batch_size, lambda: _evaluation_beat(run))
    module = build_module(run.spec, run.settings, task)
    log = MetricsLog(run.folder / "metrics.jsonl" if place.first else None, run.mirror())
    loader = StepLoader(task, run.spec.data_seed, run.spec.steps, place, run.spec.order_seed)
    keeper = Keeper(run.folder / "checkpoint.ckpt", run.settings, run.stop, run.spec.steps, place)
    account = Account(loader, log, run.beat, run.settings.log_every, keeper)
    selector = Selector(run.spec, run.settings, evaluate, log, place)
    if checkpoint is None:
        log.rewind(0)
    if not place.first:
        seed_all(run.spec.model_seed + 7919 * place.rank)  # the same weights, but draws of its own
    trainer = make_trainer(run, [account, selector, keeper], place)
    # Lightning's own handler of SIGTERM broadcasts inside the handler, and the other ranks do not answer.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    run.beat("train", 0, None)
    try:
        trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True)
    finally:
        run.steps_done, run.train_seconds = account.step, account.seconds
        run.accelerator = _accelerator(trainer)
    return Trained(module, selector, trainer, evaluate, task)


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
    try:
        optim = OptimConfig(**settings.optim)
    except (TypeError, ValueError) as error:
        raise UserError(f"trainer.optim: {error}") from None
    decoder = build_decoder(build_model_config(spec.sizes, spec.allow_targets), task)
    if settings.compile:
        decoder.compile()  # in place: names of weights, and so checkpoints, stay as they are
    return SequenceModule(decoder, optim, spec.steps)


def make_trainer(run: Run | Peer, callbacks: list[L.Callback], place: Place) -> L.Trainer:
    """Lightning's trainer with all that we do ourselves switched off."""
    # The environment is named, or Lightning would install SLURM's requeue handlers over ours.
    environment = [LightningEnvironment()] if place.world == 1 else []
    return L.Trainer(
        strategy=strategy(place),
        use_distributed_sampler=False,
        max_steps=run.spec.steps,
        accelerator=run.settings.accelerator,
        devices=place.devices,
        num_nodes=place.nodes,
        precision=run.settings.precision,
        logger=False,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), *environment],
        default_root_dir=run.folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )


def resume_from(path: Path) -> Path | None:
    """The newest sound checkpoint; says what it found."""
    found, lines = newest(path)
    for line in lines:
        print(line, flush=True)
    if found is not None:
        print(f"goes on from {found.name}", flush=True)
    return found


def _evaluation_beat(run: Run | Peer) -> None:
    run.beat("evaluate", run.steps_done, None)
    if run.stop.wanted and run.steps_done == run.spec.steps:
        raise Interrupted(run.steps_done)


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


__all__ = ["Diverged", "Fitted", "fit"]
