"""Carries a plan: runs what has no record, through a child process (Hydra or a carrier), and watches it.

The child has its own session, so that Ctrl-C reaches this process only, which then stops its own children and
nothing else. A child that breaks (the death of a worker breaks joblib's pool) is started again for what is
still missing.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from experiments.errors import UserError
from experiments.launching.estimate import estimates
from experiments.launching.job import ENGINES, Job
from experiments.launching.progress import POLL_SECONDS, Display
from experiments.planning.hydra_values import quoted
from experiments.planning.plan import Plan
from experiments.planning.settings import LauncherSettings
from experiments.store import atomic_files as atomic
from experiments.store import blocks
from experiments.store.provenance import ROOT
from experiments.store.records import RunSpec
from experiments.store.storage_errors import kind_of
from experiments.store.store import Store

GRACE_SECONDS = 30.0

FRUITLESS = 2
BAD_INPUT = 2
# Runs per child: a command line has its limits.
PER_CHILD = 2000

# One thread per run; and malloc that keeps its pages, which halves the time of large attention on a CPU.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}


class Launch:
    """One launch of a plan."""

    def __init__(self, plan: Plan, plan_file: Path, store: Store, settings: LauncherSettings) -> None:
        self.plan, self.file, self.store, self.settings = plan, plan_file, store, settings
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
        self.folder = store.root / "launches" / f"{plan.table.name}-{stamp}-{os.getpid()}"
        self.fruitless = 0
        self._furthest: dict[str, int] = {}

    def missing(self) -> list[RunSpec]:
        """Runs without a record, the longest first."""
        runs = [s for s in self.plan.unique() if self.store.state(s.id) not in ("done", "failed")]
        return sorted(runs, key=lambda s: -s.cost.flops_train)

    def go(self) -> None:
        """Run all that is missing.

        Raises:
            UserError: runs could not begin (data that are not as planned); all others are over.
            KeyboardInterrupt: after the children were stopped.
        """
        self._forget()
        if not self.missing():
            return
        if shared := [s.id for s in self.missing() if s.config["trainer"].get("nodes", 1) > 1]:
            raise UserError(
                f"run {shared[0]} has trainer.nodes > 1: a launcher starts runs on one machine each; "
                "give python -m experiments.train on each machine instead (docs/clusters.md)"
            )
        with self._display() as display:
            attempt = 0
            while missing := self.missing():
                refused = self._refused(missing)
                free = [s for s in missing if not self.store.leased(s.id) and s.id not in refused][:PER_CHILD]
                if len(refused) == len(missing):
                    raise UserError(self._refusals(list(refused.values())))
                if free:
                    attempt += 1
                    if self._round(free, display, attempt) == 0 and not self.settings.wait:
                        return
                else:  # another launcher works on all that is left
                    display.update()
                    time.sleep(POLL_SECONDS)

    def _display(self) -> Display:
        """The display of this launch; until it has a pace, it goes by what records and timings say."""
        found = estimates(self.plan.unique(), self.store, measure=False)
        known = {run: each.seconds for run, each in found.items() if each.seconds is not None}
        here = self.settings.n_jobs if self.settings.n_jobs > 0 else os.cpu_count() or 1
        jobs = 1 if self.settings.name in ("ray", "local_gpus") else here  # whose number only they know
        return Display(self.plan, self.store, known=known, at_a_time=jobs)

    def _forget(self) -> None:
        """What kept runs from a result may be mended by now: why they could not begin, and failures where asked."""
        for spec in self.plan.unique():
            state = self.store.state(spec.id)
            if state == "failed" and self.settings.retry_failed:
                self.store.retire(spec.id)
            if state in ("planned", "stale"):
                self.store.note_refusal(spec.id, None)

    def _refused(self, runs: list[RunSpec]) -> dict[str, str]:
        """The runs that could not begin where they were tried, and why."""
        found = ((spec.id, self.store.refusal(spec.id)) for spec in runs)
        return {run: reason for run, reason in found if reason is not None}

    @staticmethod
    def _refusals(reasons: list[str]) -> str:
        more = f" ({len(reasons) - 1} more runs could not begin either)" if len(reasons) > 1 else ""
        return reasons[0] + more

    def _round(self, runs: list[RunSpec], display: Display, attempt: int) -> int:
        """One child for these runs, and what it left; its exit code.

        Raises:
            UserError: the storage or the launcher takes no more.
        """
        log = self.folder / f"launcher-{attempt}.log"
        before = self._traces(runs)
        blocks.clear(self.store.root, [spec.id for spec in runs])
        code = self._carry(runs, display, attempt, log)
        if code == 0 and not self.settings.wait:
            return code
        self.store.require_space()
        self._require_fruit(before == self._traces(runs), code, log, runs)
        return code

    def _carry(self, runs: list[RunSpec], display: Display, attempt: int, log_file: Path) -> int:
        """One child for these runs, until it ends; its exit code."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(log_file, "wb") as log:
            child = subprocess.Popen(
                self.command(runs, attempt),
                cwd=ROOT,
                env={**os.environ, **ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        display.follow(log_file)
        try:
            while child.poll() is None:
                show(display)
                time.sleep(POLL_SECONDS)
        except BaseException:
            self._stop(child)
            raise
        return child.returncode

    def command(self, runs: list[RunSpec], attempt: int) -> list[str]:
        """The program that carries the runs: a multirun of Hydra's, or one of experiments.launching.job."""
        if engine := ENGINES.get(self.settings.name):
            return [sys.executable, "-m", f"experiments.launching.{engine}", str(self._job_file(runs, attempt))]
        jobs = self.settings.n_jobs if self.settings.n_jobs > 0 else os.cpu_count() or 1
        extra = []
        if self.settings.name == "joblib":
            extra = [f"hydra.launcher.n_jobs={min(jobs, len(runs))}", "hydra.launcher.batch_size=1"]
        return [
            *(sys.executable, "-m", "experiments.launching.hydra_worker", "-m"),
            f"plan={quoted(self.file)}",
            f"run={','.join(quoted(spec.id) for spec in runs)}",
            f"deaths={self.settings.deaths}",
            *self.settings.hydra,
            *extra,
            f"hydra.sweep.dir={quoted(self.folder / str(attempt))}",
            "hydra.sweep.subdir=${run}",
            "hydra.output_subdir=null",
            "hydra.job.chdir=false",
            "hydra/job_logging=disabled",
        ]

    def _job_file(self, runs: list[RunSpec], attempt: int) -> Path:
        path = self.folder / f"job-{attempt}.json"
        job = Job(
            plan=str(self.file.absolute()),
            runs=[spec.id for spec in runs],
            deaths=self.settings.deaths,
            n_jobs=self.settings.n_jobs,
            environment=ENVIRONMENT,
            options=self.settings.options,
            wait=self.settings.wait,
        )
        atomic.write_text(path, job.model_dump_json(indent=1) + "\n")
        return path

    def _stop(self, child: subprocess.Popen[bytes]) -> None:
        """Ask our own children to stop, give their checkpoints time, then insist."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        end = time.monotonic() + GRACE_SECONDS
        with contextlib.suppress(KeyboardInterrupt):
            while time.monotonic() < end and _group_lives(child.pid):
                child.poll()
                time.sleep(0.1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def _traces(self, runs: list[RunSpec]) -> list[tuple[str | None, int, int]]:
        """What a launcher leaves behind if it gets anywhere: how the runs ended, how far they came at best, deaths."""
        for spec in runs:
            progress = self.store.progress(spec.id)
            self._furthest[spec.id] = max(self._furthest.get(spec.id, -1), progress.step if progress else -1)
        return [(self.store.status(s.id), self._furthest[s.id], self.store.deaths(s.id)[0]) for s in runs]

    def _require_fruit(self, unchanged: bool, code: int, log: Path, runs: list[RunSpec]) -> None:
        """Give up on a launcher that gets nowhere, and on a storage that the user has to mend.

        Raises:
            UserError: the launcher or a run said what the user can mend.
            LaunchError: it ended twice without a trace of a run.
        """
        stopped = blocks.found(self.store.root, [spec.id for spec in runs if self.store.status(spec.id) is None])
        for block in sorted(stopped, key=lambda block: block.kind == "transient"):
            if block.kind != "transient" or (unchanged and self.fruitless + 1 >= FRUITLESS):
                raise UserError(f"run {block.run} stopped: {block.words}")
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        last = lines[-1] if lines else ""
        if code == BAD_INPUT and last.startswith("error: "):
            raise UserError(last.removeprefix("error: "))
        self.fruitless = self.fruitless + 1 if unchanged else 0
        if self.fruitless >= FRUITLESS:
            raise LaunchError(f"the launcher ends without running anything: {last} (see {log})")


class LaunchError(UserError):
    """The launcher itself does not work; the message has its last words."""


def show(display: Display) -> None:
    """Look again; while the storage fails for a moment, the child works on all the same."""
    try:
        display.update()
    except OSError as error:
        if kind_of(error) != "transient":
            raise


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
