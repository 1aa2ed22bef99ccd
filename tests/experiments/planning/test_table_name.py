"""A table with overrides has a name of its own, the same however they are spelled; a part is told from other runs."""

from __future__ import annotations

import re

import pytest

from experiments.errors import UserError
from experiments.planning.plan import read_request
from experiments.planning.table_name import READABLE, is_part, preset_of


def name(*overrides: str) -> str:
    return read_request(["table=quick", *overrides]).table.name


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["launcher.n_jobs=1"],
        ["logger=csv", "results_dir=elsewhere", "trainer.threads=2", "trainer.log_every=1"],
        ["table.seeds=[1,2]"],
    ],
)
def test_what_changes_nothing_keeps_the_name(overrides: list[str]) -> None:
    assert name(*overrides) == "quick"


@pytest.mark.parametrize(
    ("overrides", "start", "part"),
    [
        (["table.seeds=[0,1]"], "quick+seeds-0-1-", True),
        (["table.tasks=[chain]", "table.models=[ressformer]"], "quick+models-ressformer+tasks-chain-", True),
        (["trainer.optim.lr=3e-3"], "quick++lr-0.003-", False),
        (["table.seeds=[0]", "trainer.optim.lr=3e-3"], "quick++lr-0.003+seeds-0-", False),
        (["table.budget=mini"], "quick++budget-mini-", False),
        (
            ["table.models=[{label: ressformer, model: ressformer, overrides: ['model.core.top_k=4']}]"],
            "quick++",
            False,
        ),
    ],
)
def test_the_name_says_what_was_asked(overrides: list[str], start: str, part: bool) -> None:
    found = name(*overrides)
    assert re.fullmatch(re.escape(start) + r"[\w.+-]*[0-9a-f]{6}", found)
    assert is_part(found, "quick") == part and preset_of(found) == "quick"


def test_order_and_spelling_do_not_matter_and_values_do() -> None:
    assert name("table.seeds=[0,1]", "task.length=32") == name("task.length=32", "table.seeds=[0, 1]")
    assert name("trainer.optim.lr=1e-3") == name("trainer.optim.lr=0.001")
    assert name("trainer.optim.lr=2e-3", "trainer.optim.lr=1e-3") == name("trainer.optim.lr=1e-3")
    found = [name(f"trainer.optim.lr={n}e-3") for n in range(1, 6)] + [name(f"table.seeds=[{n}]") for n in range(5)]
    assert len(set(found)) == len(found)


def test_a_long_request_has_a_short_name() -> None:
    long = [name(f"table.seeds=[{','.join(map(str, range(n)))}]") for n in (50, 60)]
    assert long[0] != long[1] and all(len(found) < READABLE + 30 and "-etc-" in found for found in long)


def test_a_name_that_was_given_is_kept_unless_it_is_that_of_another_preset() -> None:
    assert name("table.name=mine", "table.seeds=[0]") == "mine"
    assert name("table.name=quick", "table.seeds=[0]").startswith("quick+seeds-0-")
    with pytest.raises(UserError, match=r"table\.name=smoke is the name of a preset"):
        name("table.name=smoke")
