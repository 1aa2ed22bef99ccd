"""What comparison and figures say: nobody is ahead by nothing, nobody is worst where all end at chance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from experiments.reporting.comparison import sentences
from experiments.reporting.curve_figures import loses
from experiments.reporting.plot_style import Pen, bounds, clamp

ROW: Mapping[str, Any] = {
    **{"task": "chain", "metric": "accuracy", "a": "x", "b": "y", "winner": "", "needed": 5.0, "p_holm": None},
    **{"seeds": 1, "gain": 0.1, "time_ratio": None, "detectable": 0.2},
}
ENDS = {"low": [0.8, 0.2, 0.4, -0.1], "high": [1.2, 0.3, 0.6, 0.5]}
LINES = {"model": ["x", "x", "y", "y"], "place": [0, 1, 0, 1], **ENDS}


@pytest.mark.parametrize("p", [None, 0.9])
@pytest.mark.parametrize("seeds", [1, 3, 9])
@pytest.mark.parametrize("gain", [0.0, -0.0, -0.00001, 0.00004])
def test_level_is_not_ahead(gain: float, seeds: int, p: float | None) -> None:
    (text,) = sentences(pd.DataFrame([{**ROW, "gain": gain, "seeds": seeds, "p_holm": p}]))
    assert "x and y are level" in text and "ahead" not in text and "0.0000" not in text
    assert not re.search(r"\b1 seeds", text)


def test_who_is_ahead_is_said_with_the_gap() -> None:
    (text,) = sentences(pd.DataFrame([{**ROW, "gain": -0.1}]))
    assert text == "chain: y is ahead by 0.1000 accuracy, on 1 seed: too few for a verdict."


def test_who_ends_at_chance_has_not_lost_most() -> None:
    frame = pd.DataFrame({**LINES, "mean": [0.95, 0.252, 0.5, 0.25]})
    assert "all end at chance" in loses(frame, "place", True, 0.25)
    assert "y changes by -0.250, x by -0.698" in loses(frame, "place", True)
    above = frame.assign(mean=[0.95, 0.6, 0.5, 0.25])
    assert "y changes by -0.250, x by -0.350" in loses(above, "place", True, 0.25)
    bits = frame.assign(mean=[2.0, 4.0, 3.0, 4.01])
    assert "all end at chance" in loses(bits, "place", False, 4.0)


def drawn() -> Any:
    return Figure().add_axes((0, 0, 1, 1))


def test_bands_stay_in_the_range_of_the_metric() -> None:
    frame = pd.DataFrame({**LINES, "mean": [0.95, 0.25, 0.5, 0.25]})
    axes = drawn()
    Pen(["x", "y"]).lines(axes, frame, "place")
    corners = np.concatenate([band.get_paths()[0].vertices[:, 1] for band in axes.collections])
    assert corners.min() == 0.0 and corners.max() == 1.0
    assert bounds(pd.Series([2.1, 4.0])) == (0.0, None) and bounds(pd.Series([-0.5]))[0] == -0.5


def test_splits_side_by_side_are_points_with_bars() -> None:
    frame = pd.DataFrame({**LINES, "mean": [0.95, 0.25, 0.5, 0.25]})
    axes = drawn()
    Pen(["x", "y"]).points(axes, frame, "place")
    assert [line.get_linestyle() for line in axes.lines] == ["None", "None"]
    assert not set(axes.lines[0].get_xdata()) & set(axes.lines[1].get_xdata())
    ends = np.concatenate([segment[:, 1] for bars in axes.collections for segment in bars.get_segments()])
    assert ends.min() == 0.0 and ends.max() == 1.0


def test_chance_is_drawn_and_in_sight() -> None:
    frame = pd.DataFrame({**LINES, "mean": [0.95, 0.85, 0.9, 0.8]})
    axes = drawn()
    clamp(axes, frame, 0.25)
    low, high = axes.get_ylim()
    assert low < 0.25 < high and [line.get_ydata()[0] for line in axes.lines] == [0.25]
