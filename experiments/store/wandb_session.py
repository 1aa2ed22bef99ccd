"""W&B runs that say nothing of this machine: quiet, offline by default, with their files in the results folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

MODES = ("offline", "online", "disabled")


def wandb_mode() -> str:
    """What WANDB_MODE asks for, one of MODES; where it asks for none, `online` under an agent, else `offline`."""
    asked = os.environ.get("WANDB_MODE", "").strip().lower()
    usual = "online" if under_agent() else "offline"
    if asked and asked not in MODES:
        print(f"WANDB_MODE={asked} is none of {', '.join(MODES)}: taken for {usual}", flush=True)
    return asked if asked in MODES else usual


def under_agent() -> bool:
    """Whether an agent of a W&B sweep has started this program: it waits for the figures at W&B."""
    return bool(os.environ.get("WANDB_SWEEP_ID"))


def prepare_wandb(root: Path) -> None:
    """Keep W&B quiet, and out of the home folder; what it refuses to read is set right."""
    os.environ["WANDB_MODE"] = wandb_mode()
    os.environ.setdefault("WANDB_SILENT", "true")
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        os.environ.setdefault(name, str(root / ".wandb"))
        Path(os.environ[name]).mkdir(parents=True, exist_ok=True)


def open_wandb(project: str, folder: Path, *, group: str | None, **options: Any) -> Any:
    """A W&B run without host, user, paths, arguments, packages, console or code of this machine."""
    import wandb  # 0.9 s, and only where it is asked for

    quiet = wandb.Settings(
        init_timeout=20,
        host="",
        console="off",
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
    mode: Any = wandb_mode()
    return wandb.init(
        project=os.environ.get("WANDB_PROJECT", project),
        group=os.environ.get("WANDB_RUN_GROUP", group),
        mode=mode,
        dir=str(folder),  # not WANDB_DIR, where `sync` does not look
        resume="allow" if mode == "online" else None,
        settings=quiet,
        **options,
    )


def close_wandb(run: Any, ok: bool) -> None:
    """End the run and W&B's service, which writes the end of the file after `finish` has returned."""
    import wandb  # 0.9 s, and only where it is asked for

    run.finish(exit_code=0 if ok else 1)
    wandb.teardown()
