"""The engines beside Hydra's launchers, as far as they can be tried without one; test_cluster.py tries real ones."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toy import frozen_plan, make_record, make_spec

from experiments.errors import UserError
from experiments.launching import local_gpus, slurm
from experiments.launching import queue_worker as drain
from experiments.launching.job import Job
from experiments.launching.launch import Launch
from experiments.planning.settings import LauncherSettings
from experiments.store.records import RunSpec
from experiments.store.store import Store


def job_for(path: Path, runs: list[RunSpec], **changes: Any) -> Job:
    values = {"plan": str(path), "runs": [s.id for s in runs], "deaths": 3, "n_jobs": -1, "environment": {}}
    return Job.model_validate({**values, "options": {}, "wait": True, **changes})


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_run_per_gpu_with_a_faked_count(store: Store) -> None:
    """Two 'GPUs' share six runs; each process saw one of them, and no run was done twice."""
    specs = [make_spec(seed=seed, steps=4) for seed in range(6)]
    plan, path = frozen_plan(store, specs)
    settings = LauncherSettings(name="local_gpus", options={"gpus": [0, 1]})
    launch = Launch(plan, path, store, settings)
    launch.go()
    assert {store.state(spec.id) for spec in specs} == {"done"}
    said = (launch.folder / "launcher-1.log").read_text()
    counts = [int(line.split()[1]) for line in said.splitlines() if line.startswith("drained: ") and "done" in line]
    assert sum(counts) >= 6 and 1 <= len(counts) <= 2  # one that finds a run just done counts it as well
    for spec in specs:
        lines = (store.folder(spec.id) / "metrics.jsonl").read_text().splitlines()
        assert len(lines) == len({line.split(",")[0] + line.split("/")[0] for line in lines})


def test_which_gpus(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    spec = make_spec()
    _, path = frozen_plan(store, [spec])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert local_gpus.gpus(job_for(path, [spec])) == ["3", "5"]
    assert local_gpus.gpus(job_for(path, [spec], options={"gpus": [1]})) == ["1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError, match=r"finds no GPU.*launcher=joblib"):
        local_gpus.gpus(job_for(path, [spec]))


def test_each_copy_sees_its_gpu_only(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = make_spec()
    _, path = frozen_plan(store, [spec])
    seen: list[str] = []

    class Copy:
        def __init__(self, words: list[str], env: dict[str, str]) -> None:
            assert words[1:3] == ["-m", "experiments.launching.queue_worker"]
            seen.append(env["CUDA_VISIBLE_DEVICES"])

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(subprocess, "Popen", Copy)
    local_gpus.carry(job_for(path, [spec], options={"gpus": [4, 7, 9]}, n_jobs=2), tmp_path / "job.json")
    assert seen == ["4", "7"]


def test_an_engine_that_is_not_there_is_said_in_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, path = frozen_plan(store, [make_spec()])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError, match="finds no GPU"):
        Launch(plan, path, store, LauncherSettings(name="local_gpus")).go()
    monkeypatch.setenv("PATH", str(store.root))
    with pytest.raises(UserError, match="SLURM takes no job"):
        Launch(plan, path, store, LauncherSettings(name="slurm")).go()


def test_draining_skips_what_is_over_or_claimed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [make_spec(seed=seed, steps=2) for seed in range(4)]
    _, path = frozen_plan(store, specs)
    store.folder(specs[3].id).mkdir()
    done: list[str] = []

    def run(spec: RunSpec, store: Store, deaths: int) -> str:
        done.append(spec.id)
        return "interrupted" if spec is specs[2] or spec.id == specs[2].id else "done"

    monkeypatch.setattr("experiments.launching.queue_worker.run_isolated", run)
    with store.claim(specs[0].id):
        ends = drain.drain(job_for(path, specs))
    assert done == [specs[1].id, specs[2].id]  # told to stop: it does not begin the fourth
    assert ends == {"done": 1, "interrupted": 1}


def test_draining_comes_back_for_what_its_holder_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder of the first run goes away while the second is at work, and nobody else is left to take it."""
    specs = [make_spec(seed=seed, steps=2) for seed in range(2)]
    _, path = frozen_plan(store, specs)
    done: list[str] = []

    with contextlib.ExitStack() as holder:
        holder.enter_context(store.claim(specs[0].id))

        def run(spec: RunSpec, store: Store, deaths: int) -> str:
            holder.close()
            done.append(spec.id)
            store.write_record(make_record(spec))
            return "done"

        monkeypatch.setattr("experiments.launching.queue_worker.run_isolated", run)
        assert drain.drain(job_for(path, specs)) == {"done": 2}
    assert done == [specs[1].id, specs[0].id]


def test_a_launcher_carries_no_run_of_several_machines(store: Store) -> None:
    plan, path = frozen_plan(store, [make_spec(trainer={"strategy": "ddp", "nodes": 2})])
    with pytest.raises(UserError, match=r"trainer.nodes > 1.*experiments.train on each machine"):
        Launch(plan, path, store, LauncherSettings(name="basic")).go()


def fake_slurm(folder: Path, **programs: str) -> None:
    for name, body in programs.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)


def test_the_queue_decides_when_slurm_is_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for body, expected in (
        ("echo RUNNING", True),
        ("echo PENDING; echo COMPLETING", True),
        ("exit 0", False),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", False),
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", True),
    ):
        fake_slurm(tmp_path, squeue=body)
        assert slurm.queued("7") is expected


def test_nothing_but_a_path_is_pickled(tmp_path: Path) -> None:
    import pickle
    import pickletools

    text = pickle.dumps(slurm.Drain("JOB.json"))
    names = [str(arg) for op, arg, _ in pickletools.genops(text) if op.name in ("SHORT_BINUNICODE", "GLOBAL")]
    assert names == ["experiments.launching.slurm", "Drain", "path", "JOB.json"]


@pytest.mark.parametrize("name", ["local_gpus", "slurm", "ray"])
def test_the_configs_of_the_launchers_are_sound(name: str, store: Store) -> None:
    from experiments.planning.plan import read_request

    request = read_request(["table=smoke", f"launcher={name}", "launcher.n_jobs=3"])
    assert request.launcher.name == name and request.launcher.n_jobs == 3
    plan, path = frozen_plan(store, [make_spec()])
    launch = Launch(plan, path, store, request.launcher)
    words = launch.command(plan.runs, 1)
    assert words[:2] == [sys.executable, "-m"] and words[2].startswith("experiments.launching.")
    assert json.loads(Path(words[3]).read_text())["runs"] == [plan.runs[0].id]
