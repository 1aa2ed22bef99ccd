"""The verb `time`: every cell of a plan once, both with the C kernels and without, kept beside the records."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from toy import frozen_plan, make_spec

from experiments.__main__ import program
from experiments.errors import UserError
from experiments.store.store import Store
from experiments.store.timings import read_timings
from experiments.studies import step_times as verb
from experiments.training.step_times import PRODUCTS, answer
from ressformer.layers.native import loader

OURS = {"_target_": "ressformer.models.ressformer.ReSSFormerConfig", "d_model": 16, "n_heads": 2}


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Measure in this process, which takes seconds less; the questions that were asked."""
    asked: list[dict[str, Any]] = []

    def run(words: list[str], *, input: str, env: dict[str, str], **rest: Any) -> SimpleNamespace:
        assert words[1:] == ["-m", "experiments.training.step_times"] and env["MALLOC_MMAP_MAX_"] == "0"
        asked.append(json.loads(input))
        threads = torch.get_num_threads()
        try:
            return SimpleNamespace(returncode=0, stdout="noise\n" + json.dumps(answer(asked[-1])) + "\n")
        finally:
            torch.set_num_threads(threads)

    monkeypatch.setattr(verb.subprocess, "run", run)
    return asked


def test_every_cell_is_timed_once(
    store: Store, one_process: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [make_spec(seed=seed) for seed in (0, 1)]
    ours = make_spec(model="ours").model_copy(update={"sizes": OURS})
    _, path = frozen_plan(store, [*plain, ours])
    assert program(["time", f"plan={path}", "--repeats", "1"]) == 0
    (question,) = one_process
    assert [spec["model"] for spec in question["specs"]] == ["toy", "ours"] and question["threads"] == 1
    found = read_timings(store, "toy")
    assert found is not None and [cell.model for cell in found.cells] == ["toy", "ours"]
    assert found.peak_flops > 0 and found.peak_size in PRODUCTS and found.repeats == 1
    first, second = found.cells
    assert first.with_kernels.kernels == [] and second.without_kernels.kernels == []
    assert ("topk" in second.with_kernels.kernels) == (loader.library("topk") is not None)
    assert found.cell(plain[1]) == first and found.cell(ours) == second
    assert 0 < found.mfu(first) < 1
    out = capsys.readouterr().out
    assert "time/FLOP is over toy's" in out and "MFU" in out and str(store.root / "timings" / "toy.json") in out


def test_a_table_of_a_gpu_and_a_failed_pass_are_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = frozen_plan(store, [make_spec(trainer={"accelerator": "gpu"})])
    with pytest.raises(UserError, match="trains on a GPU; time measures CPU steps"):
        program(["time", f"plan={path}"])
    _, path = frozen_plan(store, [make_spec()])
    monkeypatch.setattr(verb.subprocess, "run", lambda *words, **rest: SimpleNamespace(returncode=2, stdout=""))
    with pytest.raises(UserError, match="could not be measured; the lines above say why"):
        program(["time", f"plan={path}"])
    assert read_timings(store, "toy") is None
