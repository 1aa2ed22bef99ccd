"""Logs as columns: by key, since like numbers compress better, and back byte by byte."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.store.archive import log_line, log_of
from experiments.store.columns import write_columns

keys = st.sampled_from(["train/loss", "train/lr", "train/load_max/1", "val/loss", "val/at0-15"])
steps = st.integers(0, 10**6)
lines = st.tuples(steps, st.lists(st.tuples(keys, st.floats()), unique_by=lambda pair: pair[0], max_size=5))


def rows_of(log: bytes, folder: Path) -> list[dict[str, object]]:
    """The rows of a run's log, as they lie in the file."""
    write_columns(folder, [], {"r": log}, {})
    return list(pq.read_table(folder / "steps.parquet").to_pylist())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(lines, min_size=1))
def test_a_log_comes_back_in_the_order_of_keys_and_in_that_of_lines(
    tmp_path: Path, log: list[tuple[int, list[tuple[str, float]]]]
) -> None:
    text = b"".join(log_line({"step": step, **dict(numbers)}) for step, numbers in log)
    rows = rows_of(text, tmp_path)
    assert log_of(rows) == text
    assert log_of(sorted(rows, key=lambda row: row["line"])) == text  # as archives of before have them


def test_numbers_of_one_key_lie_together_and_few_lines_are_kept_as_they_are(tmp_path: Path) -> None:
    first = [{"step": n, "train/loss": 3.0 - n, "train/lr": 0.004} for n in range(4)]
    later = [{"step": n, "train/loss": 1.0, "train/edge_turnover": 0.1, "train/lr": 0.004} for n in range(4, 8)]
    tests = [{"step": n, "val/loss": 2.0} for n in (3, 7)]
    turned = {"step": 8, "train/lr": 0.004, "train/loss": 1.0}
    text = b"".join(map(log_line, [*first, *later, *tests, turned]))
    rows = rows_of(text, tmp_path)
    assert log_of(rows) == text
    assert [row["line"] for row in rows if row["raw"] is not None] == [10]
    found = [row["key"] for row in rows if row["key"] is not None]
    assert found == ["val/loss"] * 2 + ["train/loss"] * 8 + ["train/edge_turnover"] * 4 + ["train/lr"] * 8
