"""A comparison of two models as people read it: a table of one screen, and a sentence per task."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from experiments.reporting.grid import Cell, Grid


def grid(frame: pd.DataFrame, confidence: float = 0.95) -> Grid:
    """The answer as a table of one screen."""
    a, b = (str(frame[key].iloc[0]) for key in ("a", "b"))
    heads = ["task", a, b, f"gain of {a}", "p (Holm)", f"P({a} better)", "detectable", "items won", "time x", "winner"]
    rows = []
    for row in frame.to_dict("records"):
        gain = _text(row["gain"], "{:+.4f}")
        if not pd.isna(row["low"]):
            gain += f" [{row['low']:+.4f}, {row['high']:+.4f}]"
        arrow = "↑" if row["higher_is_better"] else "↓"
        items = "" if pd.isna(row["items_a"]) else f"{row['items_a']:.0%} : {row['items_b']:.0%}"
        texts = [
            f"{row['task']} ({row['metric']} {arrow})",
            *(_text(row["a_mean"]), _text(row["b_mean"]), gain, _text(row["p_holm"], "{:.3f}")),
            *(_text(row["improvement"], "{:.2f}"), _text(row["detectable"]), items, _text(row["time_ratio"], "{:.2f}")),
            row["winner"] or "not decided",
        ]
        rows.append([Cell(text, bold=bool(row["winner"]) and n == 9) for n, text in enumerate(texts)])
    return Grid(f"{a} against {b}", heads, rows)


def sentences(frame: pd.DataFrame, small: Collection[str] = ()) -> list[str]:
    """The answer in words, a sentence per task; tasks in `small` have too few different items for a verdict."""
    return [_sentence({str(k): v for k, v in row.items()}, small) for row in frame.to_dict("records")]


def _sentence(row: Mapping[str, Any], small: Collection[str]) -> str:
    if pd.isna(row["gain"]):
        return f"{row['task']}: no seed has a result of both {row['a']} and {row['b']}."
    a, b = row["a"], row["b"]
    by = f"{abs(row['gain']):.4f} {row['metric']}"
    level = float(f"{row['gain']:.4f}") == 0  # as it is printed
    ahead = a if row["gain"] > 0 else b
    lead = f"{a} and {b} are level" if level else f"{ahead} is ahead by {by}"
    cost = "" if pd.isna(row["time_ratio"]) else f" {row['a']} takes {row['time_ratio']:.2f} times the time."
    seeds, are = (f"{row['seeds']} seeds", "are") if row["seeds"] != 1 else ("1 seed", "is")
    if row["winner"]:
        return f"{row['task']}: {ahead} wins by {by} (p = {row['p_holm']:.3f}).{cost}"
    if pd.isna(row["p_holm"]):
        return f"{row['task']}: {lead}, on {seeds}: too few for a verdict.{cost}"
    if row["seeds"] < row["needed"]:
        few = f"{seeds} {are} too few for a verdict, it needs {row['needed']:.0f} (p = {row['p_holm']:.3f})"
        return f"{row['task']}: {lead}, not decided: {few}.{cost}"
    if row["task"] in small:
        few = f"its splits have too few different items for a verdict (p = {row['p_holm']:.3f})"
        return f"{row['task']}: {lead}, not decided: {few}.{cost}"
    doubt = f"p = {row['p_holm']:.3f}; {row['seeds']} seeds find a gap of {row['detectable']:.4f} 4 times in 5"
    return f"{row['task']}: not decided: {lead}, {doubt}.{cost}"


def _text(value: Any, form: str = "{:.4f}") -> str:
    return "" if value is None or pd.isna(value) else form.format(value)
