"""Tables on the terminal: words and figures stay whole, however narrow it is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from toy import fill, frozen_plan, make_spec, table_plan

from experiments.planning.plan import Plan
from experiments.reporting.grid import Cell, Grid
from experiments.reporting.screen import rich_table, shortest
from experiments.store.store import Store
from experiments.studies import runs
from experiments.studies.run_states import show_status
from experiments.studies.runs import show_runs

HEADS = ["model", "pycode (bits_per_byte ↓)", "chain (accuracy ↑)", "cogs_like (accuracy ↑)", "ok/launched", "helps"]
HELPS = "cache_lean=4.0 edge_similarity=True expert_copies=True"
ROWS = [["ressformer", "2.6211 ± 0.0220", "0.9051 ± 0.0270", "0.5360 ± 0.0860", "15/15", HELPS]]
ROWS += [["transformer_rope", "2.7760 ± 0.0270", "0.3380 ± 0.0140", "0.6630 ± 0.0120", "15/15", "none"]]


def printed(width: int) -> list[str]:
    said = io.StringIO()
    grid = Grid("Results", HEADS, [[Cell(text) for text in row] for row in ROWS])
    Console(file=said, width=width).print(rich_table(grid))
    return said.getvalue().splitlines()


@pytest.mark.parametrize(("width", "parts"), [(200, 1), (120, 1), (80, 2), (50, 4)])
def test_figures_and_names_stay_whole_and_each_part_names_its_rows(width: int, parts: int) -> None:
    lines = printed(width)
    assert max(map(len, lines)) <= width
    for text in (*ROWS[0][:5], *HELPS.split(), *ROWS[1]):
        assert any(text in line for line in lines), text
    assert sum("transformer_rope" in line for line in lines) == parts
    assert sum("Results" in line for line in lines) == 1


def test_columns_come_closer_before_they_part() -> None:
    grid = Grid("", ["id", "a", "b"], [[Cell("x" * 10) for _ in range(3)]])
    for width, gap in ((38, "   "), (36, "  "), (34, " ")):
        said = io.StringIO()
        Console(file=said, width=width).print(rich_table(grid))
        assert gap.join(["x" * 10] * 3) in said.getvalue()


def test_a_terminal_that_is_too_narrow_folds(capsys: pytest.CaptureFixture[str]) -> None:
    assert all(len(line) <= 20 for line in printed(20))


def test_the_runs_of_a_narrow_terminal_have_short_ids_that_name_them(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = table_plan()
    fill(store, plan)
    ids = [spec.id for spec in plan.runs]
    monkeypatch.setattr(runs, "wide_console", lambda: Console(width=80))
    assert show_runs(store, [], {}) == 0
    said = capsys.readouterr().out
    short = shortest(ids, store.ids())
    assert all(len(short[run]) == 8 and f" {short[run]} " in said and run not in said for run in ids)
    assert show_runs(store, [short[ids[0]], short[ids[1]]], {}) == 0 and "seed" in capsys.readouterr().out


def test_ids_that_begin_alike_are_shown_longer() -> None:
    assert shortest(["r12345678a"], ["r12345678b", "s"]) == {
        "r12345678a": "r12345678a",
        "r12345678b": "r12345678b",
        "s": "s",
    }


def test_the_status_has_no_empty_columns(store: Store) -> None:
    specs = [make_spec(seed=seed, model="transformer_rope") for seed in range(3)]
    plan: Plan = frozen_plan(store, specs)[0]
    said = io.StringIO()
    assert show_status(plan, store, Console(file=said, force_terminal=True, width=80, no_color=True)) == 0
    text = said.getvalue()
    assert "heartbeat" not in text and "…" not in text and text.count("transformer_rope") == 3
