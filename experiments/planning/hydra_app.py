"""Hydra's main with our manners: errors reach `experiments.command_line.main`, not a traceback and exit code 1."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import hydra

from experiments.command_line import FULL
from experiments.errors import UserError
from experiments.planning.hydra_config import CONF, opened, register_resolvers


def hydra_main(config_name: str, job: Callable[[Any], Any], config_dir: str | None = str(CONF)) -> None:
    """Run `job` under Hydra with this process's arguments. In a multirun an error ends its own job only.

    Raises:
        UserError: Hydra cannot write its own folder.
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
    arguments, sys.argv[1:] = sys.argv[1:], [opened(argument) for argument in sys.argv[1:]]
    try:
        hydra.main(version_base="1.3", config_path=config_dir, config_name=config_name)(kept)()
    except OSError as error:  # a job's own are in `errors`; some of Hydra's complaints are OSErrors without a number
        if error.errno is None:
            raise
        where = error.filename or "its folder"
        raise UserError(
            f"{where} cannot be written ({error.strerror}); choose another with results_dir=FOLDER"
        ) from None
    finally:
        sys.argv[1:] = arguments
        if before is None:
            os.environ.pop(FULL, None)
        else:
            os.environ[FULL] = before
    if errors:
        raise errors[0]
