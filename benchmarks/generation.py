"""What share of a training step is spent on making its batch?

    python -m benchmarks.generation --steps 40

Per generated task: CPU time of drawing and collating a batch, and of a training step on it (forward, backward,
clipping, AdamW) of one model at budget=tiny, by one thread, alternating; medians. transformer_rope is the fastest
model, so its shares are the largest. Share = batch / (batch + step).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch

from benchmarks.learnable import build
from experiments.errors import UserError
from experiments.planning.hydra_config import composer
from tasks.figures import generated
from tasks.loaders import TrainLoader


def cell(task_name: str, model: str, steps: int) -> tuple[float, float]:
    """Median CPU seconds of a batch, and of a training step on it."""
    task, module, _ = build(task_name, model, 2e-3)
    optimizer = module.configure_optimizers()["optimizer"]
    loader = TrainLoader(task, task.batch_size, seed=0)
    drawn, trained = [], []
    for step in range(steps + 2):  # the first two warm up
        start = time.process_time()
        batch = loader.batch(step)
        middle = time.process_time()
        loss = module.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        drawn.append(middle - start)
        trained.append(time.process_time() - middle)
    return statistics.median(drawn[2:]), statistics.median(trained[2:])


def main(arguments: list[str]) -> int:
    """Exit status: 0, or 2 after one line about a wrong argument."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generation")
    parser.add_argument("--tasks", default=",".join(generated()))
    parser.add_argument("--model", default="transformer_rope")
    parser.add_argument("--steps", type=int, default=40)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("| task | ms per batch of 32 | ms per step | share |\n|---|---:|---:|---:|", flush=True)
    try:
        with composer():
            for task in asked.tasks.split(","):
                batch, step = cell(task, asked.model, asked.steps)
                print(f"| `{task}` | {1e3 * batch:.1f} | {1e3 * step:.1f} | {batch / (batch + step):.1%} |", flush=True)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
