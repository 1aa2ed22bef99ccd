"""The engines beside Hydra's launchers, as far as they can be tried without one; test_cluster.py tries real ones."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from toy import frozen_plan, make_record, make_spec

from experiments.errors import UserError
from experiments.launching import local_gpus, progress, ray_cluster, slurm
from experiments.launching import queue_worker as drain
from experiments.launching.job import Job
from experiments.launching.launch import Launch
from experiments.planning.settings import LauncherSettings
from experiments.store.provenance import ROOT
from experiments.store.records import RunSpec
from experiments.store.store import Progress, Store


def job_for(path: Path, runs: list[RunSpec], **changes: Any) -> Job:
    values = {"plan": str(path), "runs": [s.id for s in runs], "deaths": 3, "n_jobs": -1, "environment": {}}
    return Job.model_validate({**values, "options": {}, "wait": True, **changes})


@pytest.mark.slow
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


@pytest.mark.parametrize("where", ["file", "RAY_ADDRESS", "option"])
def test_a_ray_cluster_that_is_gone_is_said_in_one_line(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the dead address stands, the wait is short and the line names it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"  # nobody listens there
    options = {"address": address} if where == "option" else {}
    monkeypatch.setenv("RAY_ADDRESS", address if where == "RAY_ADDRESS" else "")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    if where == "file":
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(address + "\n")
    monkeypatch.setattr(ray_cluster.time, "sleep", lambda seconds: None)
    found, origin = ray_cluster.address_to_join(options)
    assert found == address
    with pytest.raises(UserError, match=f"no Ray cluster answers at {address} .*RAY_ADDRESS=local"):
        ray_cluster.require_answer(address, origin)
    assert {"file": "ray_current_cluster", "option": "launcher.options.address"}.get(where, where) in origin


@pytest.mark.parametrize("address", ["nowhere", "host:", ":1", "host:port", "ray://host"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="is no address of a Ray cluster"):
        ray_cluster.require_answer(address, "RAY_ADDRESS")


@pytest.mark.parametrize("variable", ["", "local", "auto"])
def test_without_an_address_ray_starts_here(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", variable)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert ray_cluster.address_to_join({})[0] is None


def test_a_cluster_that_listens_and_never_lets_in_is_given_up() -> None:
    code = (
        "import time; from experiments.launching.ray_cluster import at_most\n"
        "with at_most(0.2, 'it lets nobody in'): time.sleep(60)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2 and done.stderr == "error: it lets nobody in (0 s)\n"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", "is empty so far"),
        ("one\n\n  the address is dead \n\n", "ends with: the address is dead"),
        ("x" * 9000 + "\nlast", "ends with: last"),
        ("[red]no markup[/red]", "ends with: [red]no markup[/red]"),
        ("caf\udce9", "ends with: caf"),
        ("[2026-01-02 03:04:05,678][HYDRA] \t#5 : plan=a run=b", "launcher-1.log names the jobs"),
        ("[2026-01-02 03:04:05,678][HYDRA] no nodes", "ends with: no nodes"),
    ],
)
def test_while_nothing_starts_the_console_says_the_last_words(
    log: str, words: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = frozen_plan(store, [make_spec()])
    path, text, now = tmp_path / "launcher-1.log", io.StringIO(), [0.0]
    path.write_bytes(log.encode(errors="surrogateescape"))
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Display(plan, store, Console(file=text, width=80)) as display:
        display.follow(path)
        for now[0] in (1.0, 29.0):
            display.update()
        assert "nothing has been at work" not in text.getvalue()
        for now[0] in (31.0, 40.0, 62.0):
            display.update()
    assert text.getvalue().count("nothing has been at work") == 2 and words in text.getvalue()


def test_while_runs_are_at_work_the_log_is_not_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec()
    plan, path = frozen_plan(store, [spec])
    text, now = io.StringIO(), [0.0]
    with store.claim(spec.id), progress.Display(plan, store, Console(file=text, width=80)) as display:
        store.beat(spec.id, Progress(phase="train", step=1, total=9, loss=None, time=0.0))
        monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
        display.follow(path)
        for now[0] in (31.0, 62.0):
            display.update()
    assert "nothing has been at work" not in text.getvalue()
