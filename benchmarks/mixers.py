"""Time, memory and FLOPs of one mixer, forward and backward, by length.

    python -m benchmarks.mixers --out results/benchmarks
    python -m benchmarks.mixers --lengths 1024 4096 --only longformer reformer --no-memory

Shapes: B batch, H heads, n length, h head width, d = H * h.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contenders import WIDTH, D, H, Mixer, mixers
from benchmarks.measure import (
    Report,
    enter,
    exponent,
    in_fresh_process,
    interleaved,
    machine,
    peak_kib,
    positive,
    shown,
)

MODULE = "benchmarks.mixers"
LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16384)
TITLE = "Mixers: forward and backward, d = {d}, {h} heads, fp32, {tokens} tokens in the batch"


@dataclass
class Measured:
    """What was measured of a mixer, each by length: CPU seconds and KiB and FLOPs per token."""

    seconds: dict[int, float] = field(default_factory=dict)
    kib: dict[int, float] = field(default_factory=dict)
    flops: dict[int, float] = field(default_factory=dict)


def step(mixer: Mixer, n: int, tokens: int) -> Callable[[], object]:
    """One forward and backward pass of the mixer on random inputs, gradients of inputs and weights included."""
    batch = max(1, tokens // n)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    run = mixer.make(n)
    if mixer.level == "core":
        # As projections leave them: heads side by side in a token.
        draw = [torch.randn(batch, n, H, WIDTH, generator=generator).transpose(1, 2) for _ in range(4)]
    else:
        draw = [torch.randn(batch, n, D, generator=generator) for _ in range(2)]
    *inputs, grad = draw
    wanted = [x.requires_grad_() for x in inputs]
    wanted += list(run.parameters()) if hasattr(run, "parameters") else []

    def once() -> object:
        for x in wanted:
            x.grad = None
        return run(*inputs).backward(grad)

    return once


def _flash(q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> int:
    """2 products of the query-key pairs; the causal kernel skips the upper half."""
    causal = args[1] if len(args) > 1 else kwargs.get("is_causal", False)
    pairs = q[2] * (q[2] + 1) // 2 if causal else q[2] * k[2]
    return int(4 * q[0] * q[1] * pairs * q[3])


def _flash_backward(grad: Any, q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> int:
    return 2 * _flash(q, k, v, *args[2:], **kwargs)


def counted(call: Callable[[], object]) -> int:
    """FLOPs that the kernels are handed, three products for each forward one, as in `ressformer.cost`."""
    ops = torch.ops.aten
    formulas: dict[Any, Any] = {
        ops._scaled_dot_product_flash_attention_for_cpu: _flash,
        ops._scaled_dot_product_flash_attention_for_cpu_backward: _flash_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        call()
    return counter.get_total_flops()


def available(wanted: Sequence[Mixer], say: Callable[[str], None]) -> list[Mixer]:
    """Those whose package is there; a line for each that is not."""
    found = []
    for mixer in wanted:
        try:
            mixer.make(max(mixer.shortest, 256))
        except ImportError as error:
            say(f"left out: {mixer.name} ({error.name or error} is not installed)")
        else:
            found.append(mixer)
    return found


def measure(chosen: Sequence[Mixer], options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Measured]:
    """All figures; lengths in the outer loop, so that mixers take turns."""
    found = {mixer.name: Measured() for mixer in chosen}
    for n in options.lengths:
        fit = [mixer for mixer in chosen if mixer.shortest <= n <= mixer.longest]
        tokens = max(1, options.tokens // n) * n
        calls = {mixer.name: step(mixer, n, options.tokens) for mixer in fit}
        for name, seconds in interleaved(calls, options.repeats).items():
            found[name].seconds[n] = seconds / tokens
            found[name].flops[n] = counted(calls[name]) / tokens
        for mixer in fit if n in options.memory_lengths else ():
            words = ["--peak", mixer.name, "--lengths", str(n), "--tokens", str(options.tokens)]
            kib = in_fresh_process(MODULE, words)
            if kib is not None:
                found[mixer.name].kib[n] = kib / tokens
    return found


def rows(chosen: Sequence[Mixer], found: dict[str, Measured]) -> list[dict[str, Any]]:
    """One row per mixer and length, for the CSV."""
    every = []
    for mixer in chosen:
        dense, own = found[baseline(chosen, mixer)], found[mixer.name]
        for n, seconds in own.seconds.items():
            every.append(
                {
                    "mixer": mixer.name,
                    "level": mixer.level,
                    "length": n,
                    "us_per_token": seconds * 1e6,
                    "speed_over_dense": dense.seconds[n] / seconds,
                    "kib_per_token": own.kib.get(n),
                    "flops_per_token": own.flops[n],
                    "dense_flops_over_own": dense.flops[n] / own.flops[n] if own.flops[n] else None,
                    "exponent": exponent(own.seconds),
                }
            )
    return every


def baseline(chosen: Sequence[Mixer], mixer: Mixer) -> str:
    """The first of the mixer's level."""
    return next(each.name for each in chosen if each.level == mixer.level)


def tables(report: Report, chosen: Sequence[Mixer], found: dict[str, Measured], lengths: Sequence[int]) -> None:
    """Time with the ratio to dense attention, FLOPs, memory."""
    columns = ["mixer", *(f"n = {n}" for n in lengths)]

    def cells(show: Callable[[Measured, Measured, int], str]) -> list[list[str]]:
        pairs = [(m, found[m.name], found[baseline(chosen, m)]) for m in chosen]
        return [
            [m.name, *(show(own, dense, n) if n in own.seconds else "-" for n in lengths)] for m, own, dense in pairs
        ]

    timed = cells(lambda own, dense, n: f"{own.seconds[n] * 1e6:.1f} ({dense.seconds[n] / own.seconds[n]:.2f}x)")
    grown = [shown(exponent(found[m.name].seconds), ".2f") for m in chosen]
    report.table(
        "CPU time, us per token (speed over dense causal attention of the same level)",
        [*columns, "time ~ n^"],
        [[*row, last] for row, last in zip(timed, grown, strict=True)],
    )
    report.table(
        "FLOPs of dense causal attention over FLOPs executed (three products for each forward one)",
        columns,
        cells(lambda own, dense, n: f"{dense.flops[n] / own.flops[n]:.2f}x" if own.flops[n] else "-"),
    )
    held = sorted({n for own in found.values() for n in own.kib})
    if held:
        memory = [[m.name, *(shown(found[m.name].kib.get(n)) for n in held)] for m in chosen]
        title = "Peak memory in a fresh process, KiB per token, gradients included"
        report.table(title, ["mixer", *(f"n = {n}" for n in held)], memory)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="Time, memory and FLOPs of mixers.")
    parser.add_argument("--lengths", type=positive, nargs="+", default=list(LENGTHS))
    parser.add_argument("--tokens", type=positive, default=16384, help="tokens in a batch (16384)")
    parser.add_argument("--repeats", type=positive, default=5, help="turns of each mixer (5)")
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="mixers whose name contains one of these")
    parser.add_argument("--memory-lengths", type=positive, nargs="*", default=[256, 1024, 4096, 16384])
    parser.add_argument("--no-memory", dest="memory_lengths", action="store_const", const=[])
    parser.add_argument("--out", type=Path, help="folder for mixers.md and mixers.csv")
    parser.add_argument("--peak", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    enter(MODULE, words)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # other people's packages
    logging.disable(logging.WARNING)
    if options.peak:
        mixer = next(mixer for mixer in mixers() if mixer.name == options.peak)
        print(json.dumps(peak_kib(step(mixer, options.lengths[0], options.tokens))))
        return 0
    report = Report("mixers", TITLE.format(d=D, h=H, tokens=options.tokens), options.out)
    dense = {baseline(mixers(), mixer) for mixer in mixers()}
    named = [m for m in mixers() if not options.only or m.name in dense or any(t in m.name for t in options.only)]
    chosen = available(named, report.say)
    found = measure(chosen, options, report.say)
    tables(report, chosen, found, options.lengths)
    report.say(f"Medians of {options.repeats} turns, interleaved. At the end: {machine()}")
    report.write(mixers=rows(chosen, found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
