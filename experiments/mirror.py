"""Mirrors of metrics.jsonl: nothing, a CSV file, or W&B. No failure of a mirror harms the run."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments import atomic
from experiments.records import RunSpec
from experiments.settings import LoggerSettings


class Mirror:
    """Does nothing; the base of the others."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Show metrics of a step."""

    def finish(self, ok: bool) -> None:
        """End of the run."""


class CsvMirror(Mirror):
    """Turns metrics.jsonl into metrics.csv at the end: one row per line, the union of all keys as columns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def finish(self, ok: bool) -> None:
        source = self._folder / "metrics.jsonl"
        lines = source.read_text().splitlines() if source.exists() else []
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        columns = list(dict.fromkeys(key for row in rows for key in row))
        target = self._folder / "metrics.csv"
        tmp = target.with_name(".metrics.csv.tmp")
        with open(tmp, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(tmp, target)


class WandbMirror(Mirror):
    """W&B, offline unless WANDB_MODE says otherwise: online it waits 100 s for a missing network."""

    def __init__(self, spec: RunSpec, settings: LoggerSettings, folder: Path) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):  # or it would write into the home folder
            os.environ.setdefault(name, str(folder.parent.parent / ".wandb"))
            Path(os.environ[name]).mkdir(parents=True, exist_ok=True)
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", settings.project),
            group=os.environ.get("WANDB_RUN_GROUP", settings.group),
            name=f"{spec.task}-{spec.model}-{spec.seed}-{spec.id[:6]}",
            tags=[spec.model, spec.task, spec.budget.name],
            config={**spec.config, "sizes": spec.sizes, "steps": spec.steps, "id": spec.id},
            mode=mode,
            dir=os.environ.get("WANDB_DIR", str(folder)),
            settings=wandb.Settings(init_timeout=20),
        )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.log(dict(metrics), step=step)

    def finish(self, ok: bool) -> None:
        self._run.finish(exit_code=0 if ok else 1)


class Safe(Mirror):
    """Guards another mirror: its first error is said once and ends it."""

    def __init__(self, kind: str, inner: Mirror | None) -> None:
        self._kind, self._inner = kind, inner

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        if self._inner is not None:
            try:
                self._inner.log(metrics, step)
            except Exception as error:
                self._off(error)

    def finish(self, ok: bool) -> None:
        if self._inner is not None:
            try:
                self._inner.finish(ok)
            except Exception as error:
                self._off(error)

    def _off(self, error: Exception) -> None:
        print(f"logger={self._kind} is off: {type(error).__name__}: {error}; the run goes on", flush=True)
        self._inner = None


def mirror_for(spec: RunSpec, folder: Path) -> Mirror:
    """The mirror that the run's logger section asks for."""
    settings = LoggerSettings.model_validate(spec.config.get("logger", {}))
    guarded = Safe(settings.kind, None)
    if settings.kind == "none" or (settings.kind == "wandb" and os.environ.get("WANDB_MODE") == "disabled"):
        return guarded
    try:
        inner = CsvMirror(folder) if settings.kind == "csv" else WandbMirror(spec, settings, folder)
    except (Exception, SystemExit) as error:
        guarded._off(error if isinstance(error, Exception) else RuntimeError(str(error)))
        return guarded
    return Safe(settings.kind, inner)


class MetricsLog:
    """metrics.jsonl: one line per logged step, flushed; the run's own account, which the mirror copies."""

    def __init__(self, path: Path, mirror: Mirror) -> None:
        self._path, self._mirror = path, mirror

    def rewind(self, step: int) -> None:
        """Drop the lines after `step`: a resumed run writes them again."""
        if self._path.exists():
            kept = [line for line in self._path.read_text().splitlines() if _step(line) <= step]
            atomic.write_text(self._path, "".join(f"{line}\n" for line in kept))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Append a line and hand it to the mirror."""
        with open(self._path, "a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._mirror.log(metrics, step)


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
