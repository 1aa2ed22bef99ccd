"""What the solver makes of the presets is what it made of them before; a file that says otherwise is found out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from experiments.__main__ import program
from experiments.errors import UserError
from experiments.planning.hydra_config import composer, options
from experiments.studies import solved_sizes

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "solved_sizes.csv"
ANEW = "python -m experiments budget lock --to=tests/data/solved_sizes.csv"


@pytest.fixture
def composing() -> Iterator[None]:
    with composer():
        yield


@pytest.fixture
def few(tmp_path: Path, composing: None) -> Path:
    """The rows of one budget, one task and two models."""
    frame = pd.read_csv(GOLDEN, keep_default_na=False)
    frame = frame[
        (frame["budget"] == "tiny") & (frame["task"] == "chain") & frame["model"].isin(["looped", "reformer"])
    ]
    frame.to_csv(tmp_path / "few.csv", index=False)
    return tmp_path / "few.csv"


@pytest.mark.usefixtures("composing")
def test_one_task_is_solved_as_before() -> None:
    assert list(solved_sizes.stale(GOLDEN, ["chain"], count=False)) == [], ANEW


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("composing")
def test_everything_is_solved_as_before() -> None:
    assert list(solved_sizes.stale(GOLDEN)) == [], ANEW


@pytest.mark.usefixtures("composing")
def test_the_file_holds_every_preset_and_many_cells() -> None:
    rows = solved_sizes.read(GOLDEN)
    assert len(rows) >= 1_008 and {row["budget"] for row in rows} == {"tiny", "mini", "small", "base"}
    assert solved_sizes.presets() == ["tiny", "mini", "small", "base"]
    assert sorted(options("budget")) == ["base", "mini", "off", "small", "tiny"]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("steps", "1", "tiny: looped on chain: steps"),
        ("sizes", "d_model=8", "tiny: looped on chain: sizes"),
        ("residual_params", "", "tiny: looped on chain: residual_params"),
        ("why", "too large", "tiny: looped on chain: why"),
    ],
)
def test_a_row_that_is_not_so_any_more_is_named(few: Path, column: str, value: str, said: str) -> None:
    frame = pd.read_csv(few, keep_default_na=False, dtype=str)
    assert list(solved_sizes.stale(few, ["chain"], count=False)) == []
    frame.loc[frame["model"] == "looped", column] = value
    frame.to_csv(few, index=False)
    assert list(solved_sizes.stale(few, ["chain"], count=False)) == [said]


def test_what_is_missing_is_added_and_the_rest_stays(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.read_csv(few, keep_default_na=False, dtype=str)
    lost = frame[frame["model"] == "looped"]
    frame = frame[frame["model"] == "reformer"].assign(why="kept as it is")
    frame.to_csv(few, index=False)
    whole_tasks = solved_sizes.tasks
    monkeypatch.setattr(solved_sizes, "tasks", lambda only=(): whole_tasks(["chain"]))
    monkeypatch.setattr(solved_sizes, "presets", lambda: ["tiny"])
    chosen = ["looped", "reformer", "transformer"]
    monkeypatch.setattr(solved_sizes, "options", lambda group: chosen if group == "model" else options(group))
    assert solved_sizes.write(few, keep=True) == 3
    rows = {row["model"]: row for row in solved_sizes.read(few)}
    assert rows["reformer"]["why"] == "kept as it is" and rows["looped"]["sizes"] == lost["sizes"].iloc[0]


def test_a_model_that_the_file_does_not_have_takes_no_edit(few: Path) -> None:
    assert not any("longformer" in line for line in solved_sizes.stale(few, ["chain"], count=False))


def test_unknown_words_are_refused(tmp_path: Path) -> None:
    for words, said in (
        (["knock"], "word after budget"),
        (["table", "tinny"], "did you mean tiny"),
        (["check"], "needs a file"),
        (["check", f"--to={tmp_path}/none.csv"], "no file"),
    ):
        with pytest.raises(UserError, match=said):
            program(["budget", *words])
