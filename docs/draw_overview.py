#!/usr/bin/env python3
"""Draws docs/overview.svg, the way from a question to an answer: python docs/draw_overview.py

Coordinates are pixels of a drawing 900 wide. Colours follow the reader's light or dark setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 900, 300
STYLE = """
  .given .frame { fill: #ddf4ff; stroke: #0969da }
  .got .frame { fill: #dafbe1; stroke: #1a7f37 }
  .frame { fill: #f6f8fa; stroke: #57606a; stroke-width: 1.3 }
  text { font-family: system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328; text-anchor: middle }
  .name { font-size: 17px; font-weight: 600 }
  .said { font-size: 13px; fill: #424a53 }
  .arrow { fill: none; stroke: #57606a; stroke-width: 1.6 }
  .head { fill: #57606a }
  @media (prefers-color-scheme: dark) {
    .frame { fill: #161b22; stroke: #9198a1 }
    .given .frame { fill: #0c2d4d; stroke: #58a6ff }
    .got .frame { fill: #0f2f1b; stroke: #3fb950 }
    text { fill: #f0f6fc }
    .said { fill: #c9d1d9 }
    .arrow { stroke: #9198a1 }
    .head { fill: #9198a1 }
  }
"""


@dataclass(frozen=True)
class Box:
    """A frame with its name and up to two lines below the name; `x`, `y` is its middle."""

    name: str
    said: tuple[str, ...]
    x: float
    y: float
    width: float = 122
    height: float = 84
    kind: str = ""

    def svg(self) -> str:
        """The frame and its text."""
        left, top = self.x - self.width / 2, self.y - self.height / 2
        first = self.y + 6 - 9 * len(self.said)
        rows = [f'<text class="name" x="{self.x:g}" y="{first:g}">{escape(self.name)}</text>']
        for n, line in enumerate(self.said, start=1):
            rows.append(f'<text class="said" x="{self.x:g}" y="{first + 2 + 17 * n:g}">{escape(line)}</text>')
        frame = f'<rect class="frame" x="{left:g}" y="{top:g}" width="{self.width:g}" height="{self.height:g}" rx="8"/>'
        return f'<g class="{self.kind}">{frame}{"".join(rows)}</g>'


GIVEN = [
    Box("model", ("ReSSFormer,", "a baseline, yours"), 78, 50, 140, kind="given"),
    Box("task", ("text, questions,", "structure, yours"), 78, 150, 140, kind="given"),
    Box("budget", ("parameters and", "training FLOPs"), 78, 250, 140, kind="given"),
]
STEPS = [
    Box("solver", ("widths, experts,", "steps that fit it"), 258, 150, 122),
    Box("plan", ("every run: sized,", "checked, priced"), 404, 150, 122),
    Box("runs", ("train, validate,", "test, per seed"), 536, 150, 110),
    Box("records", ("one for each", "run, hashed"), 662, 150, 114),
]
GOT = [
    Box("table", ("means, intervals", "and chance"), 830, 50, 126, kind="got"),
    Box("verdict", ("who is better,", "how sure"), 830, 150, 126, kind="got"),
    Box("report", ("curves, costs,", "every seed"), 830, 250, 126, kind="got"),
]
SAID = [
    ("equal for all models,", "tuning trials, too", 258),
    ("a killed run goes on", "from its checkpoint", 520),
    ("made again from", "records alone", 676),
]


def arrow(start: Box, end: Box) -> str:
    """A line from the right side of a box to the left side of another."""
    x0, x1 = start.x + start.width / 2, end.x - end.width / 2
    middle = (x0 + x1) / 2
    path = f"M{x0:g} {start.y:g} C{middle:g} {start.y:g} {middle:g} {end.y:g} {x1 - 6:g} {end.y:g}"
    head = f"M{x1:g} {end.y:g} l-9 -4.5 v9 z"
    return f'<path class="arrow" d="{path}"/><path class="head" d="{head}"/>'


def drawing() -> str:
    """The whole drawing."""
    pairs = [*((box, STEPS[0]) for box in GIVEN), *pairwise(STEPS), *((STEPS[-1], box) for box in GOT)]
    parts = [arrow(start, end) for start, end in pairs]
    parts += [box.svg() for box in (*GIVEN, *STEPS, *GOT)]
    for above, below, x in SAID:
        parts += [f'<text class="said" x="{x}" y="{y}">{escape(t)}</text>' for t, y in ((above, 222), (below, 239))]
    title = "Model, task and budget go to a solver; its plan makes runs; their records make table, verdict and report."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n<title>{title}</title>\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


if __name__ == "__main__":
    Path(__file__).with_name("overview.svg").write_text(drawing())
