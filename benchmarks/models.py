"""Whole models: a training step of each under one budget, and the vanilla Transformer beside a plain GPT-2.

python -m benchmarks.models --out results/benchmarks
python -m benchmarks.models --length 1024 --models transformer ressformer --no-gpt2
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from benchmarks.gpt2 import GPT2, optimizer
from benchmarks.measure import Report, enter, in_fresh_process, interleaved, machine, peak_kib, positive, shown
from experiments.errors import UserError
from experiments.planning.budget import Budget
from experiments.planning.hydra_config import composed, composer, options, plain
from experiments.planning.instantiate import build_model_config
from experiments.planning.plan import run_spec
from experiments.planning.run_spec import Pricer
from experiments.planning.search_path import TEMPLATES
from experiments.planning.solution import Solution
from experiments.planning.solve import solve
from experiments.store.store import Store
from experiments.training.callbacks import Account, Keeper
from experiments.training.distributed import ALONE
from experiments.training.fit import make_trainer, quiet_lightning
from experiments.training.loggers import MetricsLog
from experiments.training.run import Run
from experiments.training.signals import StopFlag
from ressformer.cost import Shape
from ressformer.decoder import Decoder, ModelConfig
from ressformer.models.transformer import TransformerConfig
from ressformer.module import OptimConfig, SequenceModule

MODULE = "benchmarks.models"
VANILLA = "transformer"
GPT: dict[str, int] = {"vocab": 65, "d": 128, "heads": 4, "layers": 4, "d_ff": 512}

Batch = dict[str, Tensor]


def batch_of(shape: Shape) -> Batch:
    """Random tokens; each position predicts the next."""
    tokens = torch.randint(0, shape.vocab, (shape.batch, shape.length + 1), generator=torch.Generator().manual_seed(0))
    return {"input_ids": tokens[:, :-1].contiguous(), "labels": tokens[:, 1:].contiguous()}


def step(module: SequenceModule, batch: Batch) -> Callable[[], object]:
    """One whole training step: forward, backward, clipping, AdamW."""
    adamw = module.configure_optimizers()["optimizer"]

    def once() -> None:
        module.training_step(batch, 0).backward()
        torch.nn.utils.clip_grad_norm_(module.model.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad()

    return once


def module_for(config: ModelConfig, shape: Shape) -> SequenceModule:
    torch.manual_seed(0)
    model = Decoder(config, vocab_size=shape.vocab, length=shape.length, causal=shape.causal)
    return SequenceModule(model, OptimConfig(), 1000)


def solved(names: Sequence[str], budget_name: str, shape: Shape) -> dict[str, Solution]:
    """Each model at the budget's size for sequences of `shape`.

    Raises:
        UserError: an unknown name, or a budget that a model cannot meet.
    """
    with composer():
        for group, wanted in (("budget", [budget_name]), ("model", names)):
            for name in wanted:
                if name not in options(group):
                    raise UserError(f"unknown {group} {name}; choose from {', '.join(options(group))}")
        section = plain(composed([f"budget={budget_name}"]))["budget"]
        # One step is timed: whether whole steps meet the training FLOPs does not matter here.
        budget = Budget.from_dict({**section, "tolerance_flops": 1.0})
        configs = {n: build_model_config(plain(composed([f"model={n}"]))["model"]) for n in {*names, budget.reference}}
    return {name: solve(configs[name], budget, shape, configs[budget.reference]) for name in names}


def compare(asked: argparse.Namespace, report: Report) -> list[dict[str, Any]]:
    """Time, throughput, time per FLOP and memory of each model under the budget."""
    shape = Shape(batch=max(1, asked.tokens // asked.length), length=asked.length, vocab=asked.vocab)
    solutions = solved(asked.models, asked.budget, shape)
    batch = batch_of(shape)
    calls = {name: step(module_for(solution.config, shape), batch) for name, solution in solutions.items()}
    seconds = interleaved(calls, asked.repeats)
    rows = []
    for name, solution in solutions.items():
        flops = solution.cost.flops_train * shape.batch
        longer, more = seconds[name] / seconds[VANILLA], flops / (solutions[VANILLA].cost.flops_train * shape.batch)
        words = ["--peak", name, "--length", str(asked.length), "--tokens", str(asked.tokens)]
        kib = in_fresh_process(MODULE, [*words, "--vocab", str(asked.vocab), "--budget", asked.budget])
        rows.append(
            {
                "model": name,
                "parameters": solution.params,
                "train_flops_per_token": flops / shape.batch / shape.length,
                "step_ms": seconds[name] * 1e3,
                "tokens_per_second": shape.batch * shape.length / seconds[name],
                "step_over_vanilla": longer,
                "time_per_flop_over_vanilla": longer / more,
                "executed_over_useful": solution.cost.flops_train_executed / solution.cost.flops_train,
                "peak_mib": None if kib is None else kib / 1024,
            }
        )
    report.table(
        f"Training step at budget {asked.budget}: {shape.batch} x {shape.length} tokens, CPU time of one thread",
        ["model", "parameters", "MFLOP/token", "step ms", "tokens/s", "step", "time/FLOP", "executed", "peak MiB"],
        [
            [
                str(row["model"]),
                f"{row['parameters']:,}",
                f"{row['train_flops_per_token'] / 1e6:.2f}",
                f"{row['step_ms']:.0f}",
                f"{row['tokens_per_second']:,.0f}",
                f"{row['step_over_vanilla']:.2f}x",
                f"{row['time_per_flop_over_vanilla']:.2f}x",
                f"{row['executed_over_useful']:.2f}x",
                shown(row["peak_mib"], ".0f"),
            ]
            for row in rows
        ],
    )
    report.say(
        f"'step' and 'time/FLOP' are over {VANILLA}'s; FLOPs are useful training FLOPs; 'executed' is what kernels "
        "are handed over that; memory is that of one step in a fresh process."
    )
    return rows


class Clock(L.Callback):
    """CPU seconds from the end of one training step to the end of the next."""

    def __init__(self) -> None:
        self._last: float | None = None
        self.seconds: list[float] = []

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        now = time.process_time()
        if self._last is not None:
            self.seconds.append(now - self._last)
        self._last = now


class Steps(list[Batch]):
    """The same batch for every step, in the place of a task's loader."""

    trained = 0


def through_lightning(config: ModelConfig, shape: Shape, steps: int, folder: Path) -> list[float]:
    """CPU seconds of each of `steps` steps in the trainer that runs have, its account and log included."""
    with composer():
        spec = run_spec(composed([f"model={VANILLA}", "task=chain", "budget=tiny"]), VANILLA, "chain", 0, Pricer())
    spec = spec.model_copy(update={"steps": steps + 1})
    store = Store(folder)
    store.write_spec(spec)
    run = Run(spec, store, StopFlag())
    data, clock = Steps([batch_of(shape)] * (steps + 1)), Clock()
    log = MetricsLog(run.folder / "metrics.jsonl", run.mirror())
    keeper = Keeper(run.folder / "checkpoint.ckpt", run.settings, run.stop, spec.steps)
    account = Account(data, log, run.beat, run.settings.log_every, keeper)  # type: ignore[arg-type]
    make_trainer(run, [account, clock], ALONE).fit(module_for(config, shape), data)
    return clock.seconds


def yardstick(asked: argparse.Namespace, report: Report) -> list[dict[str, Any]]:
    """The vanilla Transformer, bare and through Lightning, beside a plain GPT-2 of the same sizes."""
    shape = Shape(batch=asked.gpt2_batch, length=asked.length, vocab=GPT["vocab"])
    sizes = {"d_model": GPT["d"], "n_heads": GPT["heads"], "n_layers": GPT["layers"], "d_ff": GPT["d_ff"]}
    config, batch = TransformerConfig(**sizes, tie_embeddings=True), batch_of(shape)  # type: ignore[arg-type]
    plain_gpt = GPT2(length=shape.length, **GPT)
    adamw = optimizer(plain_gpt)

    def once() -> None:
        plain_gpt(batch["input_ids"], batch["labels"]).backward()
        torch.nn.utils.clip_grad_norm_(plain_gpt.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad()

    quiet_lightning()
    calls = {"GPT-2 in plain torch": once, "vanilla": step(module_for(config, shape), batch)}
    taken: dict[str, list[float]] = {name: [] for name in (*calls, "vanilla through Lightning")}
    for turn in range(asked.repeats):
        for name, seconds in interleaved(calls, 3).items():
            taken[name].append(seconds)
        with tempfile.TemporaryDirectory() as folder:
            taken["vanilla through Lightning"] += through_lightning(config, shape, 3, Path(folder) / str(turn))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    base = medians["GPT-2 in plain torch"]
    tokens = shape.batch * shape.length
    rows = [
        {"model": name, "step_ms": s * 1e3, "tokens_per_second": tokens / s, "speed_over_gpt2": base / s}
        for name, s in medians.items()
    ]
    report.table(
        f"Same sizes, {shape.batch} x {shape.length} tokens: {GPT['layers']} layers, d = {GPT['d']}, CPU time",
        ["model", "step ms", "tokens/s", "speed"],
        [[name, f"{s * 1e3:.0f}", f"{tokens / s:,.0f}", f"{base / s:.2f}x"] for name, s in medians.items()],
    )
    return rows


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="Training steps of whole models.")
    parser.add_argument("--budget", default="tiny", help="preset of conf/budget (tiny)")
    parser.add_argument("--length", type=positive, default=256, help="tokens per sequence (256)")
    parser.add_argument("--tokens", type=positive, default=4096, help="tokens per step (4096)")
    parser.add_argument("--vocab", type=positive, default=64, help="size of the vocabulary (64)")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="presets of conf/model (all)")
    parser.add_argument("--repeats", type=positive, default=5, help="turns of each model (5)")
    parser.add_argument("--gpt2-batch", type=positive, default=32, help="sequences in the comparison with GPT-2 (32)")
    parser.add_argument("--no-gpt2", action="store_true", help="leave out the comparison with a plain GPT-2")
    parser.add_argument("--out", type=Path, help="folder for models.md, models.csv and gpt2.csv")
    parser.add_argument("--peak", metavar="NAME", help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if asked.models is None:
        with composer():
            asked.models = [name for name in options("model") if name not in TEMPLATES]
    if VANILLA not in asked.models:
        asked.models = [VANILLA, *asked.models]
    return asked


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 2 for bad input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    asked = parse(words)
    enter(MODULE, words)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        if asked.peak:
            shape = Shape(batch=max(1, asked.tokens // asked.length), length=asked.length, vocab=asked.vocab)
            config = solved([asked.peak], asked.budget, shape)[asked.peak].config
            print(json.dumps(peak_kib(step(module_for(config, shape), batch_of(shape)))))
            return 0
        report = Report("models", "Whole models, one training step", asked.out)
        tables = {"models": compare(asked, report)}
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if not asked.no_gpt2:
        tables["gpt2"] = yardstick(asked, report)
    report.say(f"Medians of {asked.repeats} turns, interleaved. At the end: {machine()}")
    report.write(**tables)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
