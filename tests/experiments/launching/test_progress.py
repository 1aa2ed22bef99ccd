"""What is shown of long work: it fits the terminal, comes in time, and its remaining times are near the truth."""

from __future__ import annotations

import io
import itertools
import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from toy import frozen_plan, make_record, make_spec

from experiments.launching import progress, run_line
from experiments.launching.estimate import Estimate
from experiments.launching.progress import Display
from experiments.launching.run_line import RunLine
from experiments.launching.time_left import TimeLeft, in_words, work
from experiments.store.records import RunSpec
from experiments.store.store import Progress, Store
from experiments.studies.run_start import start_lines

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def at(step: int, total: int = 100, phase: str = "train") -> Progress:
    return Progress(phase=phase, step=step, total=total, loss=1.25, time=0.0)


def costly(factor: float, **fields: object) -> RunSpec:
    spec = make_spec(**fields)  # type: ignore[arg-type]
    return spec.model_copy(update={"cost": spec.cost.model_copy(update={"flops_train": factor * 1e9})})


def simulated(
    seconds: dict[str, tuple[RunSpec, float]], workers: int, start: float, watched: float
) -> tuple[float, float]:
    """(what is said to be left, what is left) after `watched` seconds: runs in their order, `start` seconds each."""
    left = TimeLeft([spec for spec, _ in seconds.values()], at_a_time=workers)
    free, spans = [0.0] * workers, {}
    for run, (_, lasts) in seconds.items():
        worker = free.index(min(free))
        spans[run] = (free[worker], free[worker] + start + lasts)
        free[worker] = spans[run][1]
    now = 0.0
    while now < watched:
        over = [run for run, (_, end) in spans.items() if end <= now]
        working: dict[str, Progress | None] = {}
        for run, (begin, end) in spans.items():
            if begin <= now < end:
                done = (now - begin - start) / (end - begin - start)
                working[run] = at(int(1000 * done), 1000) if done >= 0 else None
        left.look(now, over, working)
        now += 0.5
    said = left.seconds()
    assert said is not None
    return said, max(free) - now


@pytest.mark.parametrize(("watched", "near"), [(20.0, 0.5), (60.0, 0.25), (200.0, 0.15)])
def test_the_time_left_is_near_the_truth_from_the_first_minute(watched: float, near: float) -> None:
    """Models differ in pace and tasks in FLOPs; runs start with seconds of imports; at 20 s one model was not seen."""
    runs = {}
    for seed in range(6):
        for model, pace in (("a", 1e8), ("b", 4e7)):
            for task, factor in (("chain", 6.0), ("listops", 1.5)):
                spec = costly(factor, model=model, task=task, seed=seed)
                spec = spec.model_copy(update={"id": f"{model}{task}{seed}"})
                runs[spec.id] = (spec, sum(work(spec)) / pace)
    said, true = simulated(runs, 2, 6.0, watched)
    assert true > 300 and said == pytest.approx(true, rel=near), (said, true)


def test_what_records_say_counts_until_there_is_a_pace() -> None:
    spec, other = make_spec(), make_spec(seed=1)
    assert TimeLeft([spec]).seconds() is None
    assert TimeLeft([spec, other], {spec.id: 30.0, other.id: 50.0}, at_a_time=2).seconds() == 50.0
    assert [in_words(s) for s in (None, 4.2, 200, 7500, 273600)] == [
        "time left not known yet",
        "4 s left",
        "3 min 20 s left",
        "2 h 05 min left",
        "3 d 4 h left",
    ]


def screen(text: str) -> list[str]:
    return [line.rstrip() for line in re.split(r"[\r\n]+", CONTROL.sub("", text))]


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_a_table_fits_the_terminal(width: int, encoding: str, store: Store) -> None:
    runs = [make_spec(seed=seed, model="ressformer_neutral_conv", task="variable_tracking") for seed in range(40)]
    plan, _ = frozen_plan(store, runs)
    store.write_record(make_record(runs[0]))
    for spec in runs[1:]:
        (store.folder(spec.id)).mkdir(parents=True)
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    console = Console(file=file, width=width, height=20, force_terminal=True, legacy_windows=False)
    display = Display(plan, store, console)
    working = {spec.id: at(37) for spec in runs[1:]}
    console.print(display._picture(working))
    file.flush()
    lines = screen(file.buffer.getvalue().decode(encoding))  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= width and len(lines) <= 20 + 3
    assert lines[0].startswith("table toy: 1/40 runs done") and "and 23 more" in "\n".join(lines)
    row = next(line for line in lines if "37/100" in line)
    assert row.startswith("  variable_tracking")
    assert ("loss 1.250" in row) == (width == 80)


@pytest.mark.parametrize("width", [40, 80])
def test_a_run_says_at_its_start_what_it_is_and_costs(width: int, store: Store) -> None:
    lines = list(start_lines(make_spec(), store, Estimate(90.0, "timed now"), width))
    said = " ".join(" ".join(lines).split())
    assert all(len(line) <= width for line in lines if not line.startswith("  results"))
    for words in ("toy on chain, seed 0", "d_model=16", "optim.lr=0.01", "n_test=16", "1,500 parameters"):
        assert words in said
    assert "1e+09 training FLOPs in 12 steps" in said and "about 1.5 min (timed now)" in said and "MiB of disk" in said


def watched_run(store: Store, step: int = 40) -> RunSpec:
    spec = make_spec()
    store.folder(spec.id).mkdir(parents=True, exist_ok=True)
    lines = [{"step": 20, "train/lr": 0.002}, {"step": 30, "val/accuracy": 0.5}]
    (store.folder(spec.id) / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"st')
    return spec


def beaten(store: Store, spec: RunSpec, step: int, phase: str = "train") -> None:
    store.beat(spec.id, at(step, phase=phase))


def test_the_line_of_a_run(store: Store) -> None:
    spec, text = watched_run(store), io.StringIO()
    line = RunLine(spec, store, Console(file=text, width=80))
    assert line.line(0.0) == "data and weights are being made"
    with store.claim(spec.id):
        beaten(store, spec, 0)
        line.line(1.0)
        beaten(store, spec, 50)
        assert line.line(11.0) == "step 50/100, loss 1.250, lr 0.002, val accuracy 0.500, 10 s left"
        (store.folder(spec.id) / "metrics.jsonl").write_text('{"step": 5, "val/accuracy": 0.25}\n')  # rewound
        assert line.line(14.0).endswith("val accuracy 0.250, 7 s left")  # between two steps it runs down
        beaten(store, spec, 100, "evaluate")
        assert line.line(21.0).startswith("tests, loss")


def plain_times(show: object, text: io.StringIO, now: list[float], seconds: int) -> list[float]:
    found, before = [], 0
    for half in range(2 * seconds):
        now[0] = half / 2
        show()  # type: ignore[operator]
        if text.tell() > before:
            found.append(now[0])
            before = text.tell()
    return found


def test_plain_lines_come_no_more_often_than_ten_seconds_and_no_less_than_thirty(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = watched_run(store)
    plan, _ = frozen_plan(store, [spec])
    for module in (progress, run_line):
        now, text = [0.0], io.StringIO()
        monkeypatch.setattr(module.time, "monotonic", lambda now=now: now[0])
        console = Console(file=text, width=40)
        with store.claim(spec.id):
            beaten(store, spec, 10)
            if module is progress:
                display = Display(plan, store, console)
                times = plain_times(display.update, text, now, 300)
            else:
                line = RunLine(spec, store, console)
                times = plain_times(lambda line=line, now=now: line.update(now[0]), text, now, 300)
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert times[0] <= 10 and min(gaps) >= 10 and max(gaps) <= 30
        assert all(len(said) < 100 for said in text.getvalue().splitlines())


def test_a_fault_of_the_terminal_does_not_reach_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = watched_run(store)
    file = io.StringIO()
    file.close()
    monkeypatch.setattr(run_line, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(run_line, "SHORTEST", 0.0)
    with RunLine(spec, store, Console(file=file, width=80)) as line:
        line._thread.join(0.2)
        assert line._thread.is_alive()
    assert Path(store.folder(spec.id)).is_dir()
