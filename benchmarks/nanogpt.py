"""nanoGPT's published laptop run with our model code: tiny Shakespeare by characters, 1.88 nats on validation.

    python -m benchmarks.nanogpt --text FILE_OR_FOLDER

The README of nanoGPT (Karpathy, MIT licence) publishes the run and its loss: 4 layers, 4 heads, d = 128, contexts of
64, batches of 12, 2,000 steps, no dropout; AdamW with a peak learning rate of 1e-3 after 100 steps, cosine decay to
1e-4, beta2 0.99, weight decay 0.1, gradients clipped at 1. Nine tenths of the text are trained on, the rest is
validation. nanoGPT estimates its loss from 20 random batches; here every character of the validation text is predicted
once, in windows of 64. The text is that of karpathy/char-rnn, 1,115,394 characters: as a file, or as a folder of
parquet files whose rows have it in `text` (train, validation, test, in this order).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.measure import Report, enter, machine, positive
from experiments.errors import UserError
from experiments.training.callbacks import seed_all
from ressformer.decoder import Decoder
from ressformer.models.transformer import TransformerConfig
from ressformer.module import OptimConfig, SequenceModule
from tasks.hub.files import DataError, Schema, read_file
from tasks.hub.kinds import read_text

MODULE = "benchmarks.nanogpt"
PUBLISHED = 1.88  # nats a character, https://github.com/karpathy/nanoGPT, README
CONTEXT, BATCH, STEPS, WARM = 64, 12, 2000, 100
PARTS = ("train", "validation", "test")


def read_all(place: Path) -> str:
    """The text of a file, or of the parquet files of a folder one after the other.

    Raises:
        UserError: there is no such text, or it is too short to be cut.
    """
    try:
        if place.is_dir():
            files = [place / f"{part}.parquet" for part in PARTS]
            rows = (row for file in files for row in read_file(file, Schema(columns=("text",))))
            text = "".join(row.need("text", str) for row in rows)
        else:
            text = read_text(place)
    except (OSError, DataError) as error:
        raise UserError(f"--text {place}: {error}") from None
    if len(text) < 20 * CONTEXT:
        raise UserError(f"--text {place} has {len(text)} characters, at least {20 * CONTEXT} are needed")
    return text


def cut(text: str) -> tuple[Tensor, Tensor, int]:
    """Train and validation characters as numbers, and how many different ones there are, as nanoGPT makes them."""
    number = {char: place for place, char in enumerate(sorted(set(text)))}
    ids = torch.tensor([number[char] for char in text])
    split = int(0.9 * len(text))
    return ids[:split], ids[split:], len(number)


def build(vocab: int, steps: int, seed: int) -> SequenceModule:
    """The model at nanoGPT's sizes, with its optimiser."""
    seed_all(seed)
    config = TransformerConfig(d_model=128, n_heads=4, n_layers=4, d_ff=512, tie_embeddings=True)
    decoder = Decoder(config, vocab_size=vocab, length=CONTEXT)
    optim = OptimConfig(lr=1e-3, final=0.1, warmup=WARM / STEPS, beta1=0.9, beta2=0.99, weight_decay=0.1, grad_clip=1.0)
    return SequenceModule(decoder, optim, steps)


def batch_of(ids: Tensor, starts_B: Tensor) -> dict[str, Tensor]:
    """Windows [B, CONTEXT] from these places, and the characters that follow each."""
    at_Bn = starts_B[:, None] + torch.arange(CONTEXT)
    return {"input_ids": ids[at_Bn], "labels": ids[at_Bn + 1]}


def train(module: SequenceModule, ids: Tensor, steps: int, seed: int) -> None:
    """So many steps on random windows."""
    draws = torch.Generator().manual_seed(seed)
    plan = module.configure_optimizers()
    adamw, schedule = plan["optimizer"], plan["lr_scheduler"]["scheduler"]
    for step in range(steps):
        batch = batch_of(ids, torch.randint(len(ids) - CONTEXT, (BATCH,), generator=draws))
        adamw.zero_grad()
        module.training_step(batch, step).backward()
        module.configure_gradient_clipping()
        adamw.step()
        schedule.step()


@torch.no_grad()
def loss_on(module: SequenceModule, ids: Tensor) -> float:
    """Mean nats a character, each predicted once from what stands before it in its window."""
    module.eval()
    total = 0.0
    starts = torch.arange(0, len(ids) - CONTEXT, CONTEXT)
    for some_B in starts.split(64):
        batch = batch_of(ids, some_B)
        logits_BnV = module(batch).logits_BnV
        total += float(cross_entropy(logits_BnV.flatten(0, 1), batch["labels"].flatten(), reduction="sum"))
    module.train()
    return total / (len(starts) * CONTEXT)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 0 where our loss is at most the published one, 1 where it is not, 2 for bad input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="nanoGPT's laptop run, with our model.")
    parser.add_argument("--text", type=Path, required=True, help="tiny Shakespeare: a file, or a folder of parquet")
    parser.add_argument("--seeds", type=positive, default=1, help="runs, of seeds 0, 1, ... (1)")
    parser.add_argument("--steps", type=positive, default=STEPS, help=f"steps of each ({STEPS})")
    parser.add_argument("--out", type=Path, help="folder for nanogpt.md and nanogpt.csv")
    asked = parser.parse_args(words)
    enter(MODULE, words)
    torch.set_num_threads(1)
    try:
        seen, held, vocab = cut(read_all(asked.text))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    report = Report("nanogpt", "nanoGPT's laptop run: tiny Shakespeare by characters", asked.out)
    rows = []
    for seed in range(asked.seeds):
        begun = time.process_time()
        module = build(vocab, asked.steps, seed)
        train(module, seen, asked.steps, seed)
        seconds = time.process_time() - begun
        params = module.model.parameter_counts()
        loss = {"train": loss_on(module, seen[: len(held)]), "validation": loss_on(module, held)}
        rows.append({"seed": seed, "steps": asked.steps, "params": params[0], "seconds": round(seconds, 1), **loss})
    columns = ["seed", "steps", "params", "CPU s", "train, nats", "validation, nats", "published"]
    lines = [
        [
            *(str(row["seed"]), f"{row['steps']:,}", f"{row['params']:,}", f"{row['seconds']:.0f}"),
            *(f"{row['train']:.3f}", f"{row['validation']:.3f}", f"{PUBLISHED:.2f}"),
        ]
        for row in rows
    ]
    report.table(f"{len(seen):,} characters to train on, {len(held):,} to validate, {vocab} different", columns, lines)
    report.say(f"One thread. At the end: {machine()}")
    report.write(nanogpt=rows)
    return 0 if max(row["validation"] for row in rows) <= PUBLISHED + 0.005 else 1


if __name__ == "__main__":
    raise SystemExit(main())
