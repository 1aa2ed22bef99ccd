"""Hydra's main with our manners: errors reach `experiments.cli.main`, not a traceback and exit code 1."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import hydra

from experiments.cli import FULL
from experiments.compose import CONF, register_resolvers


def hydra_main(config_name: str, job: Callable[[Any], Any], config_dir: str | None = str(CONF)) -> None:
    """Run `job` under Hydra with this process's arguments. In a multirun an error ends its own job only.

    Raises:
        Exception: what composition raised, or the first error of a job.
    """
    register_resolvers()
    errors: list[Exception] = []
    here = os.getpid()

    @functools.wraps(job)
    def kept(config: Any) -> Any:
        try:
            return job(config)
        except Exception as error:
            if os.getpid() != here:  # a launcher's process: only an exception gets back from there
                raise
            errors.append(error)
            return None

    before = os.environ.get(FULL)
    os.environ[FULL] = "1"  # Hydra would print the error and exit with 1 itself
    try:
        hydra.main(version_base="1.3", config_path=config_dir, config_name=config_name)(kept)()
    finally:
        if before is None:
            os.environ.pop(FULL, None)
        else:
            os.environ[FULL] = before
    if errors:
        raise errors[0]
