"""Sweeps on real engines: a one-node SLURM and a local Ray cluster, with a job killed in the middle.

`make test-cluster` runs these; docs/clusters.md has the commands one by one. Each skips, and says so, where its
engine is not installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toy import TASK, frozen_plan, make_spec

from experiments.store import lease
from experiments.store.identity import foreign_sources
from experiments.store.provenance import ROOT
from experiments.store.records import RunSpec
from experiments.store.store import Store

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]  # ends what hangs; a busy machine takes its time
NODE = ROOT / "tools" / "slurm" / "node.py"
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch")
PROGRAM = [sys.executable, "-m", "experiments"]
# Ray's parts take each other for dead after some seconds, and a start on a busy machine takes minutes. Of some ports of
# its agents Ray waits 15 s to hear, whatever is set; given ones it need not hear of, but for the agent's own.
AGENTS = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port", "metrics-export-port")
PATIENCE = {
    "raylet_start_wait_time_s": 120,
    "agent_register_timeout_ms": 3_600_000,
    "worker_register_timeout_seconds": 3600,
    "gcs_server_request_timeout_seconds": 3600,
    "health_check_failure_threshold": 1000,
}
STARTS = 6  # attempts: where an agent gets no CPU within those 15 s, Ray's start fails


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a running SLURM."""
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"NOT TRIED: no {', '.join(missing)} here; see {NODE.relative_to(ROOT)}")
    if os.geteuid() != 0:
        pytest.skip("NOT TRIED: SLURM's daemons need root")
    folder = tmp_path / "slurm"
    done = subprocess.run([sys.executable, NODE, "start", folder], capture_output=True, text=True, check=False)
    try:
        assert done.returncode == 0, done.stderr
        found = dict(re.findall(r"^export (\w+)=(.*)$", done.stdout, flags=re.MULTILINE))
        yield {**os.environ, **found}
    finally:
        subprocess.run([sys.executable, NODE, "stop", folder], check=True)


@pytest.fixture
def ray() -> Iterator[dict[str, str]]:
    """The environment of a running Ray cluster of two slots."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("NOT TRIED: Ray is not installed (extra `ray`)")
    program = str(Path(sys.executable).with_name("ray"))
    before = ray_processes()
    words = [program, "start", "--head", "--node-ip-address=127.0.0.2", "--num-cpus=2", "--include-dashboard=false"]
    words += [f"--{name}={26379 + number}" for number, name in enumerate(("port", *AGENTS))]
    environment = {**os.environ, **{f"RAY_{name}": str(value) for name, value in PATIENCE.items()}}
    environment["RAY_USAGE_STATS_ENABLED"] = "0"
    environment["RAY_worker_niceness"] = "0"  # 15 otherwise: on a busy machine nothing would move
    try:
        for _ in range(STARTS):
            started = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
            if started.returncode == 0:
                break
            end_processes(ray_processes() - before)
        assert started.returncode == 0, f"Ray did not start in {STARTS} attempts: {started.stdout}{started.stderr}"
        yield {**environment, "RAY_ADDRESS": "auto"}
    finally:
        end_processes(ray_processes() - before)


def end_processes(pids: set[int], seconds: float = 15.0) -> None:
    """Ask the processes to end, then insist: Ray's own server may ignore SIGTERM."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        end = time.monotonic() + seconds
        while any(lease.birth(pid) for pid in pids) and time.monotonic() < end:
            time.sleep(0.2)


def ray_processes() -> set[int]:
    """The processes of Ray on this machine."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(b"/site-packages/ray/" in word or word.startswith(b"ray::") for word in words[:4]):
            found.add(int(path.parent.name))
    return found


def sweep_of(store: Store, n: int = 4, steps: int = 400) -> tuple[list[RunSpec], list[str]]:
    """A sweep of some runs, and what the commands call it; no run ends before its gate is opened."""
    often = {"val_every": 100, "checkpoint_every_steps": 20, "log_every": 20}
    specs = [make_spec(seed=seed, steps=steps, trainer=often) for seed in range(n)]
    for number, spec in enumerate(specs):
        gate(spec, store).touch()
        task = {**TASK, "_target_": "gated_chain.GatedChain", "gate": str(gate(spec, store))}
        changes: dict[str, Any] = {"allow_targets": ["gated_chain"], "config": {**spec.config, "task": task}}
        changes["foreign_sources"] = foreign_sources([str(task["_target_"])])
        specs[number] = spec.model_copy(update=changes)
    _, path = frozen_plan(store, specs)
    return specs, [f"plan={path}"]


def gate(spec: RunSpec, store: Store) -> Path:
    """While this file is there, the run stays in the middle of training."""
    return store.root / f"gate-{spec.id}"


def open_gates(store: Store, but: RunSpec | None = None) -> None:
    """Let all runs end, except for one."""
    for path in store.root.glob("gate-*"):
        if but is None or path != gate(but, store):
            path.unlink()


def until(condition: Callable[[], bool], process: subprocess.Popen[str], what: str) -> None:
    """Wait for the condition as long as the process lives: the gates keep it from coming true too late."""
    while not condition():
        if process.poll() is not None:
            raise AssertionError(f"never seen: {what}; {process.communicate()}")
        time.sleep(0.05)


def at_work(store: Store, specs: list[RunSpec]) -> list[RunSpec]:
    """Runs in the middle, behind a checkpoint and before the gate."""
    found = [s for s in specs if store.state(s.id) == "running" and (store.folder(s.id) / "checkpoint.ckpt").exists()]
    return [spec for spec in found if (p := store.progress(spec.id)) is not None and 20 < p.step < p.total]


def complete_and_undisturbed(store: Store, specs: list[RunSpec], whole: Path) -> None:
    """Every run is done, and each result is that of a run that nothing happened to."""
    from experiments.training.run import execute

    calm = Store(whole)
    for spec in specs:
        record = store.record(spec.id)
        assert record is not None and record.status == "done"
        lines = (store.folder(spec.id) / "metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in lines if "train/loss" in line]
        assert steps == list(range(20, spec.steps + 1, 20))
    killed = next(spec for spec in specs if store.deaths(spec.id)[0] or (store.folder(spec.id) / "killed").exists())
    assert execute(killed, calm) == "done"
    ours, theirs = store.record(killed.id), calm.record(killed.id)
    assert ours is not None and theirs is not None and ours.result_hash == theirs.result_hash


def run(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    """The command, in an environment in which workers find the toy task."""
    environment = {**environment, "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_slurm_a_killed_job_is_sent_again_and_a_requeued_one_goes_on(
    slurm: dict[str, str], store: Store, tmp_path: Path
) -> None:
    specs, words = sweep_of(store)
    with run([*PROGRAM, "reproduce", *words, "launcher=slurm", "launcher.n_jobs=2", MEMORY], slurm) as process:
        until(lambda: bool(at_work(store, specs)), process, "a run at work")
        victim = at_work(store, specs)[0]
        first = job_of(victim, store)
        subprocess.run(["scancel", "--signal=KILL", "--full", first], env=slurm, check=True)
        (store.folder(victim.id) / "killed").touch()
        until(lambda: "JobState=RUNNING" not in show(first, slurm), process, "the end of the killed job")
        open_gates(store, but=victim)  # the other job ends its runs, and comes back for this one
        until(lambda: job_of(victim, store) not in ("", first), process, "the run in another job")
        until(lambda: bool(at_work(store, specs)), process, "a run at work in another job")
        other = at_work(store, specs)[0]
        (store.folder(other.id) / "killed").touch()
        second = job_of(other, store)
        subprocess.run(["scontrol", "requeue", second], env=slurm, check=True)
        until(lambda: released(second, slurm), process, "the job in the queue again")
        until(lambda: "JobState=RUNNING" in show(second, slurm), process, "the job at work again")
        assert "Restarts=1" in show(second, slurm)
        open_gates(store)
        said, _ = process.communicate()
    assert process.returncode == 0, said
    assert "goes on from checkpoint.ckpt" in (store.folder(other.id) / "log").read_text()
    complete_and_undisturbed(store, specs, tmp_path / "calm")


MEMORY = "launcher.options.mem_gb=1"


def job_of(spec: RunSpec, store: Store) -> str:
    """The SLURM job whose process holds the run; empty if none does."""
    held = lease.held(store.folder(spec.id))
    try:
        variables = Path(f"/proc/{held.says['pid'] if held else 0}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    values = dict(each.decode().split("=", 1) for each in variables if b"=" in each)
    if "SLURM_ARRAY_JOB_ID" not in values:  # a process on its way out shows no variables
        return ""
    return f"{values['SLURM_ARRAY_JOB_ID']}_{values['SLURM_ARRAY_TASK_ID']}"


def show(job: str, environment: dict[str, str]) -> str:
    words = ["scontrol", "show", "job", job]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False).stdout


def released(job: str, environment: dict[str, str]) -> bool:
    """True once a requeued job, which SLURM holds for two minutes, has been told to start at once."""
    if "Reason=BeginTime" not in show(job, environment):
        return False
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], env=environment, check=True)
    return True


def test_slurm_ctrl_c_takes_the_jobs_back_and_the_same_command_goes_on(slurm: dict[str, str], store: Store) -> None:
    specs, words = sweep_of(store, n=2)
    command = [*PROGRAM, "reproduce", *words, "launcher=slurm", "launcher.n_jobs=1", MEMORY]
    # A shell has what it starts in the background ignore Ctrl-C, these tests perhaps among it.
    with run(["env", "--default-signal=INT", *command], slurm) as process:
        until(lambda: bool(at_work(store, specs)), process, "a run at work")
        stopped = at_work(store, specs)[0]
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate()
    assert process.returncode == 130 and "the same command goes on from there" in said
    assert not subprocess.run(["squeue", "-h"], env=slurm, capture_output=True, text=True).stdout.strip()
    assert store.state(stopped.id) == "planned" and (store.folder(stopped.id) / "checkpoint.ckpt").exists()
    open_gates(store)
    with run(command, slurm) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    assert "goes on from checkpoint.ckpt" in (store.folder(stopped.id) / "log").read_text()


def test_ray_a_killed_worker_is_replaced(ray: dict[str, str], store: Store, tmp_path: Path) -> None:
    specs, words = sweep_of(store)
    with run([*PROGRAM, "reproduce", *words, "launcher=ray", "launcher.n_jobs=2"], ray) as process:
        until(lambda: bool(at_work(store, specs)), process, "a run at work")
        victim = at_work(store, specs)[0]
        held = lease.held(store.folder(victim.id))
        assert held is not None
        (store.folder(victim.id) / "killed").touch()
        os.kill(ray_worker_of(int(held.says["pid"])), signal.SIGKILL)
        open_gates(store)
        said, _ = process.communicate()
    assert process.returncode == 0, said
    assert "goes on from checkpoint.ckpt" in (store.folder(victim.id) / "log").read_text()
    complete_and_undisturbed(store, specs, tmp_path / "calm")


def ray_worker_of(pid: int) -> int:
    """The Ray worker above a run's process."""
    while not Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        assert pid > 1
    return pid
