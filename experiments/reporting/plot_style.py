"""Panels of the report, drawn by matplotlib: SVG that follows the page's colours, and PNG and PDF for papers.

Colours are those of Okabe and Ito, told apart by colour-blind eyes; marker and dash differ as well. In the SVG each
colour becomes a CSS variable, so that light and dark pages draw the same figure.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.reporting.grid import Grid

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d1f", "#5f5f5f")
MARKERS = "osD^vPX*"
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
INK, MUTED, RULE = "#1b1f24", "#66707b", "#dde1e6"
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "figure.dpi": 72,
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Panel:
    """One drawing: a file name, a title, what it shows in words, its SVG, and what to conclude from it."""

    name: str
    title: str
    words: str
    svg: str
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A heading, how to read what follows, panels, tables, remarks, and what would make those that are missing."""

    name: str
    title: str
    words: str
    panels: list[Panel]
    missing: list[tuple[str, str]]  # (what is missing, the command)
    grids: list[Grid] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Pen:
    """Draws panels; the same model has the same colour, marker and dash in all of them.

    Args:
        models: labels in the order of the table.
        folder: where PNG and PDF go; None = nowhere.
    """

    def __init__(self, models: Sequence[str], folder: Path | None = None) -> None:
        self.models, self.folder = list(models), folder

    def look(self, model: str) -> dict[str, Any]:
        """Colour, marker and dash of a model."""
        n = self.models.index(model) if model in self.models else len(self.models)
        size = len(PALETTE)
        return {"color": PALETTE[n % size], "marker": MARKERS[n % size], "linestyle": DASHES[(n // size + n) % 4]}

    def panel(
        self,
        name: str,
        title: str,
        words: str,
        paint: Callable[[Any], None],
        caption: str = "",
        size: tuple[float, float] | None = None,
    ) -> Panel:
        """Make a panel; `paint` draws on a matplotlib Axes. One of a `size` (inches) of its own is bare and wide."""
        style: Any = {**STYLE, "svg.hashsalt": name}
        with matplotlib.rc_context(style):
            figure = Figure(figsize=size or (4.4, 2.7))
            FigureCanvasAgg(figure)
            axes = figure.add_axes(
                (0.15, 0.18, 0.82, 0.78) if size is None else (0, 0, 1, 1)
            )  # a layout engine is slow
            paint(axes)
            text = io.StringIO()
            figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
            if self.folder is not None:
                # The page has the title above the figure, and a legend that stays at its top.
                axes.set_title(title)
                if axes.get_legend_handles_labels()[1] and axes.get_legend() is None:
                    axes.legend(frameon=False, fontsize=7, labelcolor=MUTED)
                self.folder.mkdir(parents=True, exist_ok=True)
                figure.savefig(self.folder / f"{name}.png", dpi=200, bbox_inches="tight")
                figure.savefig(self.folder / f"{name}.pdf", bbox_inches="tight", metadata={"CreationDate": None})
        svg = inline(text.getvalue(), f"{title}. {words} {caption}".strip())
        return Panel(name, title, words, svg, caption, size is not None)

    def lines(
        self, axes: Any, frame: pd.DataFrame, x: str, *, band: bool = True, without_band: Collection[str] = ()
    ) -> None:
        """A line per model of `frame` (columns model, x, mean, low, high), with its interval as a band in its range."""
        least, most = bounds(frame["mean"])
        for model, part in frame.groupby("model", sort=False):
            look = self.look(str(model))
            axes.plot(
                part[x], part["mean"], gid=self.mark(str(model)), label=model, markevery=spaced(len(part)), **look
            )
            known = part.dropna(subset=["low", "high"])
            if band and len(known) and model not in without_band:
                shade = {"color": look["color"], "alpha": 0.14, "linewidth": 0}
                low, high = (known[end].clip(least, most) for end in ("low", "high"))
                axes.fill_between(known[x], low, high, gid=f"{self.mark(str(model))}-band", **shade)

    def seeds(self, axes: Any, frame: pd.DataFrame, x: str) -> None:
        """A thin line per seed of `frame` (columns model, seed, x, mean), where a mean would be that of no run."""
        for (model, _), part in frame.groupby(["model", "seed"], sort=False):
            look = {"color": self.look(str(model))["color"], "linewidth": 0.7, "alpha": 0.55}
            axes.plot(part[x], part["mean"], gid=self.mark(str(model)), zorder=1, **look)

    def points(self, axes: Any, frame: pd.DataFrame, x: str) -> None:
        """A point per model and place, with its interval as a bar: what stands side by side is no curve."""
        least, most = bounds(frame["mean"])
        models = list(dict.fromkeys(frame["model"]))
        for n, model in enumerate(models):
            part, gid = frame[frame["model"] == model], self.mark(str(model))
            look = {**self.look(str(model)), "linestyle": "none"}
            places = part[x] + 0.5 * ((n + 0.5) / len(models) - 0.5)
            axes.plot(places, part["mean"], gid=gid, label=model, **look)
            low, high = (part[end].clip(least, most) for end in ("low", "high"))
            axes.vlines(places, low, high, color=look["color"], alpha=0.45, gid=gid)

    def mark(self, model: str) -> str:
        """The id by which the page finds a model's line; the page dims the others."""
        return f"series-{self.models.index(model) if model in self.models else 'x'}"


_SHAPES = {
    "o": '<circle cx="15" cy="6" r="4"/>',
    "s": '<rect x="11" y="2" width="8" height="8"/>',
    "D": '<path d="M15 1l5 5-5 5-5-5z"/>',
    "^": '<path d="M15 1l5 9h-10z"/>',
    "v": '<path d="M15 11l5-9h-10z"/>',
    "P": '<path d="M13 2h4v2h2v4h-2v2h-4v-2h-2v-4h2z"/>',
    "X": '<path d="M11 3l2-2 2 2 2-2 2 2-2 3 2 3-2 2-2-2-2 2-2-2 2-3z"/>',
    "*": '<path d="M15 0l1.5 4 4.5.5-3.5 3 1 4.5-3.5-2.5-3.5 2.5 1-4.5-3.5-3 4.5-.5z"/>',
}
_STROKES = ("", "6 2", "2 1.5", "6 2 1.5 2")


def glyph(number: int) -> str:
    """The mark and the line of the model with that number in the table, as a small SVG for a legend."""
    size = len(PALETTE)
    dash = _STROKES[(number // size + number) % 4]
    line = f'<path d="M0 6h30" stroke="currentColor" stroke-width="2" stroke-dasharray="{dash}"/>'
    color = f"var(--c{number % size})"
    shape = _SHAPES[MARKERS[number % size]]
    return f'<svg viewBox="0 0 30 12" width="30" height="12" fill="{color}" style="color:{color}">{line}{shape}</svg>'


def spaced(points: int, shown: int = 10) -> int:
    """Every how many points a marker stands."""
    return max(1, points // shown)


def bounds(means: pd.Series) -> tuple[float, float | None]:
    """What a metric cannot leave: shares end at 1; none of ours is below 0."""
    return (min(0.0, float(means.min())), 1.0 if float(means.max()) <= 1 else None) if len(means) else (0.0, None)


def clamp(axes: Any, frame: pd.DataFrame, chance: float | None = None) -> None:
    """Keep wide intervals from flattening the means: the y axis spans the means, chance (dotted) and some room.

    Chance of what is no share may be far off; then it is drawn only where it falls among the means.
    """
    low, high = float(frame["mean"].min()), float(frame["mean"].max())
    if chance is not None:
        axes.axhline(chance, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=0, gid="chance")
        low, high = (min(low, chance), max(high, chance)) if high <= 1 else (low, high)
    room = 0.35 * (high - low) or 0.1 * abs(high) or 0.1
    bottom, top = low - room, high + room
    if low >= 0 and high <= 1:
        bottom, top = max(-0.02, bottom), min(1.02, top)  # a mark at an end is whole
    axes.set_ylim(bottom, top)


def level(axes: Any, name: str, value: float) -> None:
    """A dashed line at what is scored without the skill, by the rule `name`; the axis is widened to hold it."""
    low, high = axes.get_ylim()
    room = 0.06 * (max(high, value) - min(low, value))
    axes.set_ylim(min(low, value - room), max(high, value + room))
    axes.axhline(value, color=MUTED, linewidth=1, linestyle=(0, (5, 3)), zorder=0)
    if name:
        place = {"xycoords": ("axes fraction", "data"), "va": "bottom"}  # where curves begin, away from where they end
        axes.annotate(name, (0.01, value), color=MUTED, fontsize=7, **place)


def levels_along(axes: Any, frame: pd.DataFrame) -> None:
    """Levels along a curve (columns x, kind, value): chance dotted, best rule dashed, perfect reader dash-dotted."""
    dashes = {"chance": (0, (1, 2)), "rule": (0, (5, 3)), "reader": (0, (8, 2, 1, 2))}
    low, high = axes.get_ylim()
    for kind, part in frame.groupby("kind", sort=False):
        ordered = part.drop_duplicates("x").sort_values("x")
        look = {"color": MUTED, "linewidth": 1, "linestyle": dashes[str(kind)], "zorder": 0, "gid": f"level-{kind}"}
        if len(ordered) == 1:
            axes.axhline(ordered["value"].iloc[0], **look)
        else:
            axes.plot(ordered["x"], ordered["value"], **look)
        low, high = min(low, float(ordered["value"].min())), max(high, float(ordered["value"].max()))
    axes.set_ylim(low, high)


def inline(svg: str, words: str) -> str:
    """SVG for the inside of a page: without prolog and metadata, colours as variables, named for a screen reader."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'<svg ([^>]*?)(width="[^"]*"|height="[^"]*")', r"<svg \1", svg, count=1)
    svg = re.sub(r'^<svg ([^>]*?)\s(?:width|height)="[^"]*"', r"<svg \1", svg)
    # An id may stand once in a page; the models' marks are many, so they become classes.
    svg = re.sub(r'id="(series-\w+?)(-band)?"', r'class="series \1"', svg)
    for number, colour in enumerate(PALETTE):
        svg = svg.replace(colour, f"var(--c{number})")
    for colour, name in ((INK, "ink"), (MUTED, "muted"), (RULE, "rule")):
        svg = svg.replace(colour, f"var(--{name})")
    svg = re.sub(r"font: [^;\"]*sans-serif[^;\"]*", lambda m: re.sub(r"'[^;]*sans-serif.*", "var(--face)", m[0]), svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(words, quote=True)}" ', 1).strip()
