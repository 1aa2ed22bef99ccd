"""A table in the forms that people read: Markdown, LaTeX (booktabs), HTML, wide CSV. One grid, many coats."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd


@dataclass(frozen=True)
class Cell:
    """A formatted cell; `key` = (model, task, split, metric) where it stands for runs."""

    text: str
    bold: bool = False
    key: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grid:
    """A formatted table; `groups` = (number of the row it stands above, heading)."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    groups: tuple[tuple[int, str], ...] = ()


def markdown(grid: Grid) -> str:
    """A table of GitHub's Markdown under its title."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    out = [f"**{grid.title}**", "", line(grid.columns), line(["---", *("---:" for _ in grid.columns[1:])])]
    heads = dict(grid.groups)
    for number, row in enumerate(grid.rows):
        if number in heads:
            out.append(line([f"*{heads[number]}*", *("" for _ in grid.columns[1:])]))
        out.append(line([f"**{c.text}**" if c.bold else c.text for c in row]))
    return "\n".join(out)


_TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_TEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$"}
_TEX |= {"<": r"\textless{}", ">": r"\textgreater{}"}


def tex(text: str) -> str:
    """The text with what TeX would take for a command escaped."""
    return "".join(_TEX.get(letter, letter) for letter in text)


def latex(grid: Grid, label: str, notes: Sequence[str] = ()) -> str:
    """A `table` environment; it needs \\usepackage{booktabs}."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    width = len(grid.columns)
    body = []
    heads = dict(grid.groups)
    for number, row in enumerate(grid.rows):
        if number in heads:
            body += [
                *([r"\midrule"] if number else []),
                rf"\multicolumn{{{width}}}{{l}}{{\emph{{{tex(heads[number])}}}}} \\",
            ]
        body.append(line([rf"\textbf{{{tex(c.text)}}}" if c.bold else tex(c.text) for c in row]))
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{tex(grid.title)}. {tex(' '.join(notes))}}}",
            rf"\label{{tab:{re.sub(r'[^A-Za-z0-9-]', '-', label)}}}",
            rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}",
            r"\toprule",
            line([tex(column) for column in grid.columns]),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def html(grid: Grid) -> str:
    """A plain <table>."""

    def td(cell: Cell) -> str:
        text = escape(cell.text)
        return f"<td><b>{text}</b></td>" if cell.bold else f"<td>{text}</td>"

    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in grid.columns)
    heads = dict(grid.groups)
    rows = ""
    for number, row in enumerate(grid.rows):
        if number in heads:
            rows += f'<tr><th colspan="{len(grid.columns)}" scope="rowgroup">{escape(heads[number])}</th></tr>'
        rows += f"<tr>{''.join(td(cell) for cell in row)}</tr>"
    return f"<table><caption>{escape(grid.title)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def wide(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per model, per column of the tidy table its mean, low and high: `chain test/id accuracy mean`, ..."""
    names = cells["task"] + " " + cells["split"] + " " + cells["metric"]
    order = list(dict.fromkeys(names))
    frame = cells.assign(column=names).pivot(index="model", columns="column", values=["mean", "low", "high", "n_ok"])
    chosen = [(value, name) for name in order for value in ("mean", "low", "high", "n_ok")]
    frame = frame.reindex(list(dict.fromkeys(cells["model"])))[chosen]
    frame.columns = pd.Index([f"{name} {value}" for value, name in chosen])
    return frame.reset_index()


def spoken(heading: str) -> str:
    """A column's heading with its metric in words: `cogs_like (bits_per_byte)` -> `cogs_like (bits per byte)`."""
    task, bracket, metric = heading.partition(" (")
    return f"{task}{bracket}{metric.replace('_', ' ')}"


def number(value: float) -> str:
    """Four decimals; nothing for no value."""
    return "" if pd.isna(value) else f"{value:.4f}"


def span(values: pd.Series) -> str:
    """The least and the largest value, once where they read alike."""
    if len(values) == 0:
        return ""
    low, high = engineering(values.min()), engineering(values.max())
    return low if low == high else f"{low} - {high}"


def engineering(value: float) -> str:
    """12345 -> 12.3k; steps below a thousand stay whole."""
    for limit, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:g}"
