"""A temporary folder for libraries that cannot even be imported without one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def provide_temp(root: Path) -> None:
    """Where this machine has no temporary folder that can be written, have this process and its children use one here.

    Raises:
        OSError: this one cannot be written, either.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        folder = root / ".tmp"
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
