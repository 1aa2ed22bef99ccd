"""Speed on an accelerator: mixers by length beside fused dense attention, whole models, and MFU.

    python -m benchmarks.gpu --device cuda --dtype bf16 --out results/gpu
    python -m benchmarks.gpu --device cpu --tiny --lengths 256 --tokens 256        rehearsal

Times are of events on the device's own clock, medians of interleaved turns; on a CPU, of the wall clock. MFU is
training FLOPs per second over the peak of the device (`--peak-tflops`; 989 is the dense bf16 figure of NVIDIA's data
sheets for H100 and H200), with the FLOPs of a token counted as 6 N + 12 L H Q T (Chowdhery et al. 2022, appendix B):
N parameters, L layers, H heads, Q width of a head, T tokens of a sequence; and, beside it, as this project does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import WIDTH, D, H, Mixer, mixers
from benchmarks.measure import Report, positive, shown
from benchmarks.mixers import available
from benchmarks.models import VANILLA, batch_of, module_for, solved, step
from experiments.planning.hydra_config import composer, options
from experiments.planning.search_path import TEMPLATES
from ressformer.cost import Shape

MIB = 2**20
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def clocked(call: Callable[[], object], device: str) -> tuple[float, float | None]:
    """Seconds of one call, and MiB of the device that it holds at its highest."""
    if device != "cuda":
        begun = time.perf_counter()
        call()
        return time.perf_counter() - begun, None
    torch.cuda.reset_peak_memory_stats()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3, torch.cuda.max_memory_allocated() / MIB


def turns(calls: Mapping[str, Callable[[], object]], repeats: int, device: str) -> dict[str, dict[str, Any]]:
    """Median seconds and peak MiB of each call; an error in the place of the figures of one that fails."""
    taken: dict[str, list[tuple[float, float | None]]] = {name: [] for name in calls}
    broken: dict[str, str] = {}
    for turn in range(repeats + 2):
        for name, call in calls.items():
            if name in broken:
                continue
            try:
                found = clocked(call, device)
            except (RuntimeError, KeyError) as error:
                broken[name] = str(error).splitlines()[0][:120]
                continue
            if turn > 1:
                taken[name].append(found)
    return {
        name: {"error": broken[name]}
        if name in broken
        else {"seconds": statistics.median(s for s, _ in own), "mib": max((m for _, m in own if m), default=None)}
        for name, own in taken.items()
    }


def mixer_step(mixer: Mixer, n: int, asked: argparse.Namespace) -> Callable[[], object]:
    """Forward and backward of the mixer on random inputs of the dtype."""
    batch, dtype = max(1, asked.tokens // n), DTYPES[asked.dtype]
    torch.manual_seed(0)
    run: Any = mixer.make(n)
    if isinstance(run, torch.nn.Module):
        run = run.to(asked.device)
    shape = (batch, n, H, WIDTH) if mixer.level == "core" else (batch, n, D)
    drawn = [torch.randn(shape, device=asked.device) for _ in range(4 if mixer.level == "core" else 2)]
    if mixer.level == "core":
        drawn = [x.to(dtype).transpose(1, 2) for x in drawn]
    *inputs, grad = drawn
    for x in inputs:
        x.requires_grad_()

    def once() -> None:
        for x in inputs:
            x.grad = None
        with torch.autocast(asked.device, dtype, enabled=dtype != torch.float32):
            out = run(*inputs)
        out.backward(grad.to(out.dtype))

    return once


def mixer_rows(asked: argparse.Namespace, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Time and memory per length; the dense one of each level first."""
    # Mixers of other packages are measured on a CPU by benchmarks.mixers; several do not move to a device.
    own = [m for m in mixers() if not m.name.startswith(("HF", "local-", "reformer-pytorch"))]
    rows = []
    for n in asked.lengths:
        calls = {}
        for mixer in available([m for m in own if m.shortest <= n <= m.longest], say):
            calls[mixer.name] = mixer_step(mixer, n, asked)
        for name, found in turns(calls, asked.repeats, asked.device).items():
            rows.append({"mixer": name, "length": n, **found})
    return rows


def model_rows(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Tokens per second, MFU and memory of one training step of each model."""
    length = 128 if asked.tiny else asked.length
    shape = Shape(batch=max(1, asked.tokens // length), length=length, vocab=64 if asked.tiny else 512)
    with composer():
        names = [VANILLA] if asked.tiny else [VANILLA, *(n for n in options("model") if n not in (VANILLA, *TEMPLATES))]
    batch = {key: value.to(asked.device) for key, value in batch_of(shape).items()}
    rows = []
    for name, solution in solved(names, "tiny" if asked.tiny else asked.budget, shape).items():
        once = step(module_for(solution.config, shape).to(asked.device), batch)

        def cast(once: Callable[[], object] = once) -> None:
            with torch.autocast(asked.device, DTYPES[asked.dtype], enabled=asked.dtype != "fp32"):
                once()

        found = turns({name: cast}, asked.repeats, asked.device)[name]
        row = {"model": name, "parameters": solution.params, **found}
        if "seconds" in found:
            rate, peak = shape.batch * length / found["seconds"], asked.peak_tflops * 1e12
            row |= {"tokens_per_second": rate, "mfu": rate * solution.cost.flops_train / length / peak}
            if name == VANILLA:
                layers, width = solution.config.n_layers, solution.config.d_model  # type: ignore[attr-defined]
                row["mfu_6n"] = rate * (6 * solution.params + 12 * layers * width * length) / peak
        rows.append(row)
    return rows


def figure(row: Mapping[str, Any], key: str, form: str, scale: float = 1.0) -> str:
    value = row.get(key)
    return shown(None if value is None else value * scale, form)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Speed on an accelerator.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--dtype", choices=list(DTYPES), default="bf16")
    parser.add_argument("--lengths", type=positive, nargs="+", default=[1024, 4096, 16384, 65536])
    parser.add_argument("--tokens", type=positive, default=65536, help="tokens of a step (65536)")
    parser.add_argument("--length", type=positive, default=4096, help="tokens of a model's sequence (4096)")
    parser.add_argument("--budget", default="small", help="preset of conf/budget (small)")
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--peak-tflops", type=float, default=989.0, help="of the device, dense bf16 (989)")
    parser.add_argument("--tiny", action="store_true", help="one tiny model: a rehearsal")
    parser.add_argument("--out", type=Path, help="folder for gpu.md, gpu.json and CSV files")
    asked = parser.parse_args(arguments)
    if asked.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device; --device cpu --tiny rehearses this program", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")
    name = torch.cuda.get_device_name() if asked.device == "cuda" else "cpu"
    report = Report("gpu", f"Speed on {name}, {asked.dtype}", asked.out)
    by_mixer, by_model = mixer_rows(asked, report.say), model_rows(asked)
    heads = ["mixer", "n", "ms", "peak MiB", "error"]
    cells = [
        [r["mixer"], str(r["length"]), figure(r, "seconds", ".2f", 1e3), figure(r, "mib", ".0f"), r.get("error", "")]
        for r in by_mixer
    ]
    report.table(f"Forward and backward, {asked.tokens} tokens", heads, cells)
    heads = ["model", "ms", "tokens/s", "MFU", "MFU by 6N + 12LHQT", "peak MiB", "error"]
    cells = [
        [
            *(r["model"], figure(r, "seconds", ".1f", 1e3), figure(r, "tokens_per_second", ",.0f")),
            *(figure(r, "mfu", ".4f"), figure(r, "mfu_6n", ".4f"), figure(r, "mib", ".0f"), r.get("error", "")),
        ]
        for r in by_model
    ]
    report.table("Training step", heads, cells)
    report.write(mixers=by_mixer, models=by_model)
    if asked.out is not None:
        values = {"device": name, "torch": torch.__version__, "dtype": asked.dtype, "tokens": asked.tokens}
        text = json.dumps({**values, "mixers": by_mixer, "models": by_model}, indent=1)
        (asked.out / "gpu.json").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
