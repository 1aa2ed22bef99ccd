"""What is said before a single run begins: its config with every default, and what it will cost."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from experiments.launching.estimate import MIB, Estimate, disk
from experiments.store.records import RunSpec
from experiments.store.store import Store

INDENT = 9
NARROWEST = 40


def announce(spec: RunSpec, store: Store, known: Estimate) -> None:
    """Print it on standard error, as wide as the terminal."""
    console = Console(stderr=True)
    for line in start_lines(spec, store, known, max(NARROWEST, min(console.width, 120))):
        console.print(Text(line), soft_wrap=True)
    sys.stderr.flush()


def start_lines(spec: RunSpec, store: Store, known: Estimate, width: int) -> Iterator[str]:
    """The lines, of at most `width` columns where a word is not longer."""
    config = spec.config
    yield from textwrap.wrap(f"run {spec.id}: {spec.model} on {spec.task}, seed {spec.seed}", width)
    sections: dict[str, Any] = {"model": spec.sizes, "task": config["task"], "budget": config["budget"]}
    sections |= {"trainer": config["trainer"]}
    if config["logger"].get("kind", "none") != "none":
        sections |= {"logger": config["logger"]}
    for name, values in sections.items():
        words = " ".join(f"{key}={value}" for key, value in _flat(values) if not key.endswith("_target_"))
        yield from _paragraph(name, words, width)
    yield from _paragraph("cost", "; ".join(cost_words(spec, known)), width)
    yield f"{'  results':<{INDENT}} {store.folder(spec.id)}"  # in one piece, to be copied


def cost_words(spec: RunSpec, known: Estimate) -> list[str]:
    """Parameters, FLOPs, minutes and disk of the run."""
    cost, info = spec.cost, spec.task_info
    stay, working = disk([spec], 1)
    if known.seconds is None:
        minutes = "minutes: shown once it trains"
    else:
        minutes = f"about {known.seconds / 60:.1f} min ({known.source})"
    return [
        f"{cost.params_total:,} parameters ({cost.params_non_embedding:,} non-embedding)",
        f"{cost.flops_train:.3g} training FLOPs in {spec.steps:,} steps of {info.batch_size} x {info.length} tokens",
        minutes,
        f"{max(stay / MIB, 0.1):.1f} MiB of disk, {working / MIB:.1f} MiB more for checkpoints while it runs",
    ]


def _paragraph(name: str, words: str, width: int) -> list[str]:
    head = f"{'  ' + name:<{INDENT}} "
    wrapper = textwrap.TextWrapper(
        width, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False, break_on_hyphens=False
    )
    return wrapper.wrap(words or "-")


def _flat(values: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{head}{key}.")
        elif value is not None and value != "":
            yield f"{head}{key}", f"{value:g}" if isinstance(value, float) else str(value).replace(", ", ",")
