"""Which tasks does a small model learn in a few CPU minutes? Task x model, each trained for the same CPU time.

    python -m benchmarks.learnable --tasks mqar,dyck --models transformer_rope,ressformer --seconds 300
    python -m benchmarks.learnable --models suited     # one model per task, the likeliest; at most 85 CPU minutes
    python -m benchmarks.learnable --show              # run nothing, print the table of all cells in --out

Models are sized to budget=tiny (0.2 M non-embedding parameters) and trained by one thread with the default optimiser, a
warm-up of 50 steps and a learning rate that falls linearly with the CPU time used. The figure is the primary metric on
the task's validation items, which are in distribution. Training ends early at 0.99. Each cell is one JSON line in
--out; cells that are there already (task, model, seconds, learning rate) are not run again, so a table can be made in
pieces. One process at a time, on a machine that does nothing else: CPU time counts no waiting, but shared caches slow
it down.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from experiments.errors import UserError
from experiments.planning.budget import Budget
from experiments.planning.hydra_config import composed, composer, options, plain
from experiments.planning.instantiate import build_decoder, build_model_config, build_task, model_shape
from experiments.planning.run_spec import require_order
from experiments.planning.solve import solve
from experiments.training.callbacks import seed_all
from experiments.training.evaluate import Evaluator
from ressformer.module import OptimConfig, SequenceModule
from tasks.base import Task
from tasks.figures import generated
from tasks.loaders import TrainLoader

WARM = 50  # steps
CHECKS = 20  # validations in a cell's time
ENOUGH, LEARNED = 0.99, 0.9
# What was worth trying first: who looks facts up is let to recall by content; transformer_rope elsewhere.
RECALL = "chain kinship variable_tracking table_qa reachability shortest_path mqar induction"
SUITED = {**dict.fromkeys(RECALL.split(), "ressformer"), "state_tracking": "looped"}
MODELS = "transformer,transformer_rope,transformer_nope,looped,longformer,bigbird,reformer,ressformer"


def build(task_name: str, model: str, lr: float) -> tuple[Task, SequenceModule, int]:
    """The task, the sized model inside its module, and its non-embedding parameters."""
    config = plain(composed([f"model={model}", f"task={task_name}", "budget=tiny"]))
    task = build_task(config["task"])
    family = build_model_config(config["model"])
    require_order(family, task)
    budget = Budget.from_dict(config["budget"])
    reference = build_model_config(plain(composed([f"model={budget.reference}"]))["model"])
    solution = solve(family, budget, model_shape(task), reference, strict=False)
    seed_all(0)
    module = SequenceModule(build_decoder(solution.config, task), OptimConfig(lr=lr), 1)
    return task, module, int(solution.cost.params_non_embedding)


def cell(task_name: str, model: str, seconds: float, lr: float) -> dict[str, Any]:
    """Train one model on one task; the figures of its JSON line."""
    task, module, params = build(task_name, model, lr)
    metric, rising = task.describe().metric, task.describe().higher_is_better
    evaluate = Evaluator(task, metric, 64, lambda: None)
    optimizer = module.configure_optimizers()["optimizer"]
    loader = TrainLoader(task, task.batch_size, seed=0)
    used = drawn = 0.0
    step, value, reached = 0, float("nan"), None
    curve: list[float] = []
    module.train()
    for check in range(1, CHECKS + 1):
        while used < seconds * check / CHECKS:
            start = time.process_time()
            batch = loader.batch(step)
            drawn += time.process_time() - start
            for group in optimizer.param_groups:
                group["lr"] = lr * min(1.0, (step + 1) / WARM, max(0.02, 1 - used / seconds))
            loss = module.training_step(batch, step)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            step += 1
            used += time.process_time() - start
        value = evaluate(module, "validation").metrics[metric]
        curve.append(round(value, 4))
        if rising and reached is None and value >= LEARNED:
            reached = round(used, 1)
        if rising and value >= ENOUGH:
            break
    return {
        "task": task_name,
        "model": model,
        "seconds": seconds,
        "lr": lr,
        "params": params,
        "metric": metric,
        "value": value,
        "curve": curve,
        "steps": step,
        "used": round(used, 1),
        "ms_per_step": round(1000 * used / step, 1),
        "generation_share": round(drawn / used, 4),
        "seconds_to_0.9": reached,
    }


def models_for(task: str, asked: str) -> list[str]:
    """The models asked for; "suited" is the one that is most likely to learn the task."""
    return [SUITED.get(task, "transformer_rope") if name == "suited" else name for name in asked.split(",")]


def markdown(cells: list[dict[str, Any]]) -> str:
    """A row for each cell, tasks in alphabetical order, the best first; bold from 0.9."""
    head = ["task", "model", "learning rate", "CPU limit", "metric", "value", "0.9 after", "steps", "generation"]
    lines = [f"| {' | '.join(head)} |", "|---|---|---:|---:|---|---:|---:|---:|---:|"]
    for one in sorted(cells, key=lambda one: (one["task"], -one["value"])):
        rising = one["metric"] != "excess_bits"
        value = f"**{one['value']:.3f}**" if rising and one["value"] >= LEARNED else f"{one['value']:.3f}"
        reached = f"{one['seconds_to_0.9']:.0f} s" if one["seconds_to_0.9"] else "-"
        steps, drawn = f"{one['steps']:,}", f"{one['generation_share']:.1%}"
        row = [f"`{one['task']}`", one["model"], f"{one['lr']:g}", f"{one['seconds']:.0f} s", one["metric"], value]
        lines.append(f"| {' | '.join([*row, reached, steps, drawn])} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Exit status: 0, or 2 after one line about a wrong argument."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learnable")
    parser.add_argument("--tasks", default=",".join(generated()))
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("results/learnable.jsonl"))
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    known = [json.loads(line) for line in asked.out.read_text().splitlines()] if asked.out.exists() else []
    if asked.show:
        print(markdown(known))
        return 0
    done = {(one["task"], one["model"]) for one in known if (one["seconds"], one["lr"]) == (asked.seconds, asked.lr)}
    try:
        with composer():
            for group, chosen in (("task", asked.tasks), ("model", asked.models)):
                known_names = [*options(group), *(["suited"] if group == "model" else [])]
                unknown = [name for name in chosen.split(",") if name not in known_names]
                if unknown:
                    raise UserError(f"unknown {group} '{unknown[0]}'; known: {', '.join(known_names)}")
            for task in asked.tasks.split(","):
                for model in models_for(task, asked.models):
                    if (task, model) not in done:
                        found = cell(task, model, asked.seconds, asked.lr)
                        with asked.out.open("a") as file:
                            file.write(json.dumps(found) + "\n")
                        print(json.dumps(found), file=sys.stderr, flush=True)
                        known.append(found)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(markdown(known))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
