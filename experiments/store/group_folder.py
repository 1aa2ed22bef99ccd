"""A results folder that a group of users works in: what is written there can be written by the group, as git does it.

    chgrp GROUP results; chmod g+rwxs results

The sign is the folder's setgid bit, which hands the group on to what is made inside; where it and the group's right to
write are set, files of this process are made with the group's rights, whatever its umask says.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

SHARED = stat.S_ISGID | stat.S_IWGRP


def is_shared(folder: Path) -> bool:
    """True if the folder, or the nearest one above it that exists, is open to a group."""
    for path in (folder, *folder.parents):
        if path.exists():
            return path.stat().st_mode & SHARED == SHARED
    return False


def join_group(folder: Path) -> None:
    """Have this process, and those it starts, write for the group if `folder` is open to one."""
    if is_shared(folder):
        os.umask(os.umask(0) & ~stat.S_IRWXG)
