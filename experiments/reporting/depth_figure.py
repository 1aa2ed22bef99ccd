"""Curves of a metric against the depth that a trained model is run at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.reporting.plot_style import Pen


def draw(rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """The curves of `rows` as PNG and PDF, a picture per task; a ring stands at the depth of training.

    Args:
        rows: of one split and the primary metrics, see `experiments.analysis.curves.depth_rows`.
        folder: made if need be.
    """
    frame = pd.DataFrame(rows)
    pen = Pen(list(dict.fromkeys(frame["model"])), folder)
    files = []
    for task, part in frame.groupby("task", sort=False):

        def paint(axes: Any, part: pd.DataFrame = part) -> None:
            pen.lines(axes, part, "depth")
            trained = part[part["depth"] == part["trained_depth"]]
            axes.plot(trained["depth"], trained["mean"], "o", ms=11, mfc="none", color="#66707b", label="as trained")
            axes.set_xticks(sorted(set(part["depth"])))
            axes.set_xlabel("depth at test (blocks applied)")
            axes.set_ylabel(f"test {part['metric'].iloc[0]}")
            axes.legend(frameon=False, fontsize=8)

        name = f"iterations-{task}"
        pen.panel(name, f"{task}, by depth at test", "The metric by depth, a line per model.", paint)
        files += [folder / f"{name}.{kind}" for kind in ("png", "pdf")]
    return files
