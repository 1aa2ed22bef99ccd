"""What a model costs on a task, module by module.

Useful FLOPs count the pairs that may influence the output, executed ones what the kernels are handed (`ressformer.cost`
has the convention in words).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.planning.budget import Budget
from experiments.planning.hydra_config import composed, composer, given_dials, names_in, plain
from experiments.planning.hydra_values import override_key
from experiments.planning.instantiate import build_model_config, build_task, model_shape
from experiments.planning.solve import require_counted, solve
from experiments.reporting.grid import Cell, Grid
from experiments.reporting.screen import rich_table, wide_console
from ressformer.cost import Cost, Row, Shape, model_cost
from ressformer.count import Count, counted
from ressformer.decoder import ModelConfig

COLUMNS = [
    *("depth", "module", "repeats", "params", "params_non_embedding", "params_active"),
    *("forward", "forward_executed", "train", "train_executed", "bytes_moved"),
]
NUMBER = 4  # Bytes of a number in fp32.


@dataclass(frozen=True)
class Bill:
    """A model on a shape with all that can be said of its cost."""

    config: ModelConfig
    shape: Shape
    cost: Cost
    count: Count


def bill(config: ModelConfig, shape: Shape) -> Bill:
    """Closed form and count of a model.

    Raises:
        ValueError: an operator has no FLOP formula; the message names it.
    """
    return Bill(config, shape, model_cost(config, shape), counted(config, shape))


def cost(overrides: Sequence[str], *, as_csv: bool = False) -> int:
    """Print the cost of the model that the overrides describe.

    Raises:
        UserError: an unknown name or value, or a budget that cannot be met.
    """
    found = bill(*described(overrides))
    if as_csv:
        print(to_csv(found), end="")
    else:
        show(found)
    return 0


def described(overrides: Sequence[str], shape: Shape | None = None) -> tuple[ModelConfig, Shape]:
    """The model of the overrides, solved if they name a budget, and the shape of their task, or `shape`.

    Raises:
        UserError: an unknown name or value, or a budget that cannot be met.
    """
    with composer():
        values = plain(composed(overrides))
        allow = names_in(values, "allow_targets")
        config = build_model_config(values["model"], allow)
        found = shape or model_shape(build_task(values["task"], allow))
        if config.counted:
            require_counted(config, found)
        if "budget" in sections(overrides):
            config = _solved(config, Budget.from_dict(values["budget"]), found, overrides, allow)
    return config, found


def sections(overrides: Sequence[str]) -> set[str]:
    """The sections of the config that the overrides touch."""
    return {override_key(override).split(".")[0] for override in overrides}


def _solved(
    config: ModelConfig, budget: Budget, shape: Shape, overrides: Sequence[str], allow: Sequence[str]
) -> ModelConfig:
    section = composed([f"model={budget.reference}"]).model
    reference = build_model_config({str(key): value for key, value in section.items()}, allow)
    return solve(config, budget, shape, reference, pinned=given_dials(overrides)).config


def to_csv(found: Bill) -> str:
    """The tree as CSV, a row a module, FLOPs and bytes per sequence."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for r in found.cost.rows():
        writer.writerow(
            [
                *(r.depth, r.name, r.repeats, r.params, r.params_non_embedding, r.active),
                *(r.flops, r.executed, r.train_flops, r.train_executed, r.bytes_moved),
            ]
        )
    return text.getvalue()


def show(found: Bill) -> None:
    """Print the tree and the totals."""
    console = wide_console()
    console.print(rich_table(tree(found)))
    for line in totals(found):
        console.print(line, highlight=False, soft_wrap=True)


def tree(found: Bill) -> Grid:
    """The tree as a grid; FLOPs per token."""
    shape = found.shape
    columns = ["module", "x", "params", "active", "forward", "executed", "train", "executed", "bytes moved"]
    rows = [[Cell(text) for text in _line(row, shape.length)] for row in found.cost.rows()]
    where = f"{found.config.family} on {shape.length} tokens, vocabulary {shape.vocab}"
    return Grid(f"{where}: FLOPs per token, useful and executed; bytes per sequence", columns, rows)


def _line(row: Row, length: int) -> list[str]:
    flops = [f"{value / length:,.0f}" for value in (row.flops, row.executed, row.train_flops, row.train_executed)]
    name = "  " * row.depth + row.name
    return [name, str(row.repeats), f"{row.params:,}", f"{row.active:,}", *flops, f"{row.bytes_moved:,.0f}"]


def totals(found: Bill) -> list[str]:
    """What the tree has no column for, a line each."""
    config, shape, root = found.config, found.shape, found.cost
    batch = shape.batch
    state = config.state_size(shape)
    kept = "the family does not say" if state is None else f"{state * NUMBER:,} bytes a sequence (fp32)"
    torch_says, weights = found.count, (root.params_total, root.params_non_embedding, root.params_active)
    lines = [
        "parameters: {:,}, non-embedding {:,}, active {:,}".format(*weights),
        f"a sequence: forward {root.flops_forward:.4g} FLOPs ({root.flops_forward_executed:.4g} executed), "
        f"training {root.flops_train:.4g} ({root.flops_train_executed:.4g} executed)",
        f"counted by torch: forward {torch_says.forward / batch:.4g}, training {torch_says.train / batch:.4g} executed",
        f"activations kept for the backward pass: {torch_says.activations / batch:,.0f} bytes a sequence (fp32)",
        f"state kept while generating, at {shape.length} tokens: {kept if shape.causal else 'none, it is not causal'}",
    ]
    for spread in config.spreads(shape):
        lines.append(
            f"depends on the data: {spread.name}: best {spread.best:.4g}, charged {spread.charged:.4g}, "
            f"worst {spread.worst:.4g} {spread.unit}"
        )
    return lines
