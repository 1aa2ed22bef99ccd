"""The example at the head of the search is what it does."""

from __future__ import annotations

import doctest

import pytest

from experiments.planning import integer_search
from experiments.planning.integer_search import Goal, Question, search
from ressformer.dials import Dial


def test_the_worked_example() -> None:
    assert doctest.testmod(integer_search).attempted >= 3 and doctest.testmod(integer_search).failed == 0


def test_what_is_said_of_the_grid_in_the_example() -> None:
    """Every row of the drawing, by hand: the nearest allowed width and how far it is off."""
    for experts, (width, off) in {1: (64, -0.488), 2: (64, 0.024), 3: (40, -0.04), 4: (32, 0.024)}.items():
        question = Question(
            turn=lambda model, values: {**model, **values},
            dials=lambda model: (Dial(name="f", values=range(8, 65, 8), affine=True, fills=True, ordinary=32),),
            measure=lambda model: {"params": 16.0 * model["experts"] * model["f"]},
            goals={"params": Goal(2000, 0.03)},
        )
        found = search(question, start={"experts": experts, "f": 32})
        assert found.model["f"] == width and found.residuals["params"] == pytest.approx(off, abs=1e-3)
        assert found.met == (abs(off) <= 0.03)
