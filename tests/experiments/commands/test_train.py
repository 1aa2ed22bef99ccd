"""One run from the command line: as a person gives it, as a W&B agent does, and to see whether it runs at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from experiments.__main__ import program
from experiments.errors import UserError
from experiments.planning.hydra_config import DEBUG
from experiments.store.store import Store


def words_of_an_agent(parameters: dict[str, object]) -> list[str]:
    """What `${args_no_hyphens}` of a sweep's command becomes."""
    sweeps = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    command = {"args": {key: {"value": value} for key, value in parameters.items()}}
    found: list[str] = sweeps.create_sweep_command_args(command)["args_no_hyphens"]
    return found


def test_debug_takes_the_words_of_an_agent_and_leaves_the_results_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESSFORMER_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv(DEBUG, str(tmp_path / "scratch"))
    words = words_of_an_agent({"model": "transformer", "task": "chain", "trainer.optim.lr": 1e-05, "seed": 3})
    assert program(["train", "trainer=debug", *words]) == 0
    said = capsys.readouterr()
    assert "test/id: " in said.out and str(tmp_path / "scratch") in said.out
    told = " ".join(said.err.split())  # lines are broken at the terminal's width
    assert "training FLOPs in 2 steps of" in told and "optim.lr=1e-05" in told and " parameters (" in told
    store = Store(tmp_path / "scratch", write=False)
    record = store.record(store.ids()[0])
    assert record is not None
    assert (record.steps_done, record.spec.seed, record.spec.config["trainer"]["optim"]["lr"]) == (2, 3, 1e-05)
    assert record.spec.config["trainer"]["detect_anomaly"] and not record.spec.budget.on_budget
    assert not (tmp_path / "results").exists()
    assert program(["train", "trainer=debug", *words]) == 0
    assert "is over: nothing is trained again" in capsys.readouterr().err


def test_a_multirun_names_the_verb_for_other_machines(tmp_path: Path) -> None:
    words = ["model=transformer", "task=chain", "seed=0,1", "launcher=slurm", f"results_dir={tmp_path}"]
    with pytest.raises(UserError, match="python -m experiments sweep takes the same words"):
        program(["train", "-m", *words, "hydra/launcher=basic"])
    assert os.listdir(tmp_path) in ([], ["launches"])
