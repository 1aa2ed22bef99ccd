"""A published curve of associative recall with our model and our task: attention solves MQAR at a width of 64.

    python -m benchmarks.mqar --points 64x4 128x8

Arora et al. (arXiv 2312.04927, figure 2; code: HazyResearch/zoology, Apache-2.0) publish accuracy by width. At a width
of 64 and more, attention is at 1.00 for 64 tokens with 4 pairs and for 128 tokens with 8 pairs; 64 is the least width
they show. Their model: 2 layers of causal attention with one head, no feed-forward network, learned positions, tied
embeddings, dropout 0.1 of the embedding and of attention. Their training: 100,000 examples, batches of 512, AdamW with
weight decay 0.1, no warm-up, no clipping, the best of four peak learning rates from 1e-4 to 1e-2, cosine decay over
64 epochs of 196 steps; it ends as soon as 3,000 held-out examples are answered with an accuracy above 0.99.

Their layout is that of the examples here: pairs of one of 4,095 keys and one of 4,096 values, then each key once
more, at places whose distance from the last pair follows a power law, a filler between them. Our task
(`tasks.recall.mqar`) marks each pair and each question instead and leaves no gaps, which no setting changes;
`--layout task` takes its items at the same numbers of keys, values and pairs. Loss and accuracy are of the questions
alone, so the head computes nothing else. Our training differs: no dropout, a constant learning rate, smaller batches,
and a feed-forward network of width 1 because the model cannot have none. Values may repeat.

Shapes: N examples, B of a batch, n length, P pairs, d width, V vocabulary.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.measure import Report, enter, machine, positive
from experiments.training.callbacks import seed_all
from ressformer.decoder import Decoder
from ressformer.models.transformer import TransformerConfig
from ressformer.module import IGNORE, OptimConfig, SequenceModule
from tasks.recall.mqar import MQAR

MODULE = "benchmarks.mqar"
PUBLISHED, SOLVED = 1.00, 0.99
KEYS, VALUES = 4095, 4096  # with the filler 8,192 tokens
SEEN, HELD, GLANCE = 100_000, 3_000, 500  # examples to train on, held out, and of these for the curve on the way
POWER = 0.01  # of the distance between the pairs and a question
LAYOUTS = ("published", "task")


@dataclass(frozen=True)
class Point:
    """A point of the curve: tokens and pairs of an example."""

    length: int
    pairs: int

    @classmethod
    def read(cls, text: str) -> Point:
        """From e.g. `64x4`. Raises ValueError where pairs and questions do not fit."""
        length, pairs = (int(part) for part in text.split("x"))
        if pairs < 1 or length < 4 * pairs or length % 2:
            raise ValueError(text)
        return cls(length, pairs)

    def task(self) -> MQAR:
        """Our task with so many pairs, each of them asked."""
        n, pairs = 5 * self.pairs, self.pairs
        sizes = {"pairs_min": pairs, "pairs_max": pairs, "n_questions": pairs, "n_keys": KEYS, "n_values": VALUES}
        return MQAR(**sizes, length=n, ood_length=16 * pairs, n_validation=HELD, n_test=HELD)


@dataclass(frozen=True)
class Examples:
    """Inputs and labels [N, n]."""

    ids_Nn: Tensor
    labels_Nn: Tensor

    def __getitem__(self, rows: Tensor | slice) -> Examples:
        return Examples(self.ids_Nn[rows], self.labels_Nn[rows])


def draw(point: Point, split: str, count: int, layout: str) -> Examples:
    """`count` examples of a split, train or test/id, in a layout."""
    if layout == "published":
        draws = torch.Generator().manual_seed(("train", "test/id").index(split))
        return laid_out(pairs(point, count, draws), point, draws)
    task = point.task()
    items = [task.generate(split, 0, index) for index in range(count)]
    ids_Nn = torch.stack([torch.from_numpy(item.input_ids) for item in items])
    return Examples(ids_Nn, torch.stack([torch.from_numpy(item.labels) for item in items]))


def pairs(point: Point, count: int, draws: torch.Generator) -> Tensor:
    """Tokens [N, P, 2] of different keys and of their values."""
    keys_NP = torch.randint(KEYS, (count, point.pairs), generator=draws)
    while (again_N := (keys_NP.sort(1).values.diff(dim=1) == 0).any(1)).any():
        keys_NP[again_N] = torch.randint(KEYS, (int(again_N.sum()), point.pairs), generator=draws)
    values_NP = torch.randint(VALUES, (count, point.pairs), generator=draws)
    return torch.stack([1 + keys_NP, 1 + KEYS + values_NP], dim=2)


def laid_out(pairs_NP2: Tensor, point: Point, draws: torch.Generator) -> Examples:
    """Keys and values [N, P, 2] as published: the pairs, then each key once more behind a gap, else the filler 0."""
    count, told = len(pairs_NP2), 2 * point.pairs
    slots = (point.length - told) // 2  # a question may stand at every second place
    weight_s = torch.arange(1.0, slots + 1) ** (POWER - 1)
    chosen_NP = torch.multinomial(weight_s.expand(count, slots), point.pairs, generator=draws)
    places_NP = told + 2 * chosen_NP
    ids_Nn = torch.zeros(count, point.length, dtype=torch.long)
    ids_Nn[:, :told] = pairs_NP2.flatten(1)
    ids_Nn.scatter_(1, places_NP, pairs_NP2[:, :, 0])
    labels_Nn = torch.full_like(ids_Nn, IGNORE).scatter_(1, places_NP, pairs_NP2[:, :, 1])
    return Examples(ids_Nn, labels_Nn)


def build(examples: Examples, width: int, rate: float, seed: int) -> SequenceModule:
    """The model at the published sizes, with its optimiser."""
    seed_all(seed)
    config = TransformerConfig(d_model=width, n_heads=1, n_layers=2, d_ff=1, tie_embeddings=True)
    decoder = Decoder(config, vocab_size=1 + KEYS + VALUES + 2, length=examples.ids_Nn.shape[1])
    optim = OptimConfig(lr=rate, weight_decay=0.1, warmup=0.0, beta2=0.999, grad_clip=0.0, schedule="constant")
    return SequenceModule(decoder, optim, 1)


def answers(model: Decoder, batch: Examples) -> tuple[Tensor, Tensor]:
    """Logits [questions, V] and labels [questions]: the head at what is asked, and nowhere else."""
    asked_Bn = batch.labels_Nn != IGNORE
    h_Bnd = model.core(model.embedding(batch.ids_Nn), None).h_Bnd
    logits: Tensor = model.head(model.norm(h_Bnd[asked_Bn]))
    return logits, batch.labels_Nn[asked_Bn]


@torch.no_grad()
def accuracy(model: Decoder, examples: Examples) -> float:
    """Share of all questions that are answered."""
    right = total = 0
    for rows in torch.arange(len(examples.ids_Nn)).split(250):
        logits, labels = answers(model, examples[rows])
        right, total = right + int((logits.argmax(-1) == labels).sum()), total + len(labels)
    return right / total


def train(module: SequenceModule, seen: Examples, held: Examples, asked: argparse.Namespace, seed: int) -> list[Any]:
    """Up to so many steps, ended where the held-out questions are solved: (step, loss, accuracy), the curve."""
    draws = torch.Generator().manual_seed(seed)
    adamw = module.configure_optimizers()["optimizer"]
    order = torch.empty(0, dtype=torch.long)
    losses: list[float] = []
    curve: list[Any] = []
    for step in range(1, asked.steps + 1):
        if len(order) < asked.batch:
            order = torch.cat([order, torch.randperm(len(seen.ids_Nn), generator=draws)])
        batch, order = seen[order[: asked.batch]], order[asked.batch :]
        adamw.zero_grad()
        loss = cross_entropy(*answers(module.model, batch))
        loss.backward()
        adamw.step()
        losses.append(loss.item())
        if step % asked.every == 0 or step == asked.steps:
            reached = accuracy(module.model, held[:GLANCE])
            if reached > SOLVED or step == asked.steps:
                reached = accuracy(module.model, held)
            curve.append((step, sum(losses) / len(losses), reached))
            print(f"step {step:,}: loss {curve[-1][1]:.3f}, accuracy {curve[-1][2]:.3f}", file=sys.stderr, flush=True)
            losses = []
            if curve[-1][2] > SOLVED:
                break
    return curve


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """What is asked."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="A published MQAR curve, with our model.")
    points = [Point(64, 4), Point(128, 8)]
    parser.add_argument("--points", type=Point.read, nargs="+", default=points, help="TOKENSxPAIRS ... (64x4 128x8)")
    parser.add_argument("--layout", choices=LAYOUTS, default=LAYOUTS[0], help="that of the paper, or of our task")
    parser.add_argument("--widths", type=positive, nargs="+", default=[64], help="widths d (64)")
    parser.add_argument("--seeds", type=positive, default=1, help="runs of each, of seeds 0, 1, ... (1)")
    parser.add_argument("--steps", type=positive, default=8_000, help="most steps of a run (8000)")
    parser.add_argument("--batch", type=positive, default=64, help="examples of a step (64)")
    parser.add_argument("--rate", type=float, default=4e-3, help="learning rate (4e-3)")
    parser.add_argument("--every", type=positive, default=100, help="steps between two points of the curve (100)")
    parser.add_argument("--out", type=Path, help="folder for mqar.md, mqar.csv and mqar_curve.csv")
    return parser.parse_args(words)


def run(point: Point, width: int, seed: int, asked: argparse.Namespace) -> tuple[dict[str, Any], list[Any]]:
    """A row of the table, and its curve."""
    begun = time.process_time()
    seen = draw(point, "train", min(SEEN, asked.steps * asked.batch), asked.layout)
    held = draw(point, "test/id", HELD, asked.layout)
    module = build(seen, width, asked.rate, seed)
    curve = train(module, seen, held, asked, seed)
    steps, _, reached = curve[-1]
    name = f"{seen.ids_Nn.shape[1]} tokens, {point.pairs} pairs"
    row = {"point": name, "layout": asked.layout, "width": width, "seed": seed, "rate": asked.rate}
    row |= {"steps": steps, "examples": steps * asked.batch, "seconds": round(time.process_time() - begun, 1)}
    return row | {"accuracy": reached}, curve


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 0 where each run solves its point, 1 where one does not, 2 for bad input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    asked = parsed(words)
    enter(MODULE, words)
    torch.set_num_threads(1)
    report = Report("mqar", "Multi-query associative recall: attention at a width of 64 solves it", asked.out)
    rows, steps = [], []
    for point in asked.points:
        for width in asked.widths:
            for seed in range(asked.seeds):
                row, curve = run(point, width, seed, asked)
                rows.append(row)
                head = {key: row[key] for key in ("point", "layout", "width", "seed")}
                steps += [head | {"step": at, "loss": loss, "accuracy": got} for at, loss, got in curve]
    columns = ["point", "d", "seed", "rate", "steps", "examples", "CPU s", "published", "ours"]
    published = f"{PUBLISHED:.2f}" if asked.layout == "published" else "-"
    lines = [
        [
            *(row["point"], str(row["width"]), str(row["seed"]), f"{row['rate']:g}", f"{row['steps']:,}"),
            *(f"{row['examples']:,}", f"{row['seconds']:.0f}", published, f"{row['accuracy']:.3f}"),
        ]
        for row in rows
    ]
    report.table(f"Accuracy on {HELD:,} held-out examples, layout: {asked.layout}", columns, lines)
    curves = [[s["point"], str(s["width"]), str(s["seed"]), f"{s['step']:,}", *_two(s)] for s in steps]
    report.table("The curve", ["point", "d", "seed", "step", "loss, nats", "accuracy"], curves)
    report.say(f"A run ends where the accuracy is above {SOLVED}, as theirs do. At the end: {machine()}")
    report.write(mqar=rows, mqar_curve=steps)
    return 0 if all(row["accuracy"] > SOLVED for row in rows) else 1


def _two(step: dict[str, Any]) -> tuple[str, str]:
    return f"{step['loss']:.3f}", f"{step['accuracy']:.3f}"


if __name__ == "__main__":
    raise SystemExit(main())
