"""Values on their way into Hydra's grammar: quoted in one place, so that a path may hold `,` `=` `(` `#` or a blank.

A path on the command line is taken as it stands: nobody who writes `results_dir=a,b` means two folders. Only `${...}`
is left to Hydra, and a value that is quoted already.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from experiments.errors import UserError

FOLDERS = ("results_dir", "plan", "hydra.sweep.dir", "hydra.run.dir")  # their values are always paths
# A sweep may list several: a path where there is such a file or folder.
FILES = ("task.path", "model.mixer.file", "model.decoder.file")
EMPTY = ("", "null", "none", "~")


def quoted(value: str | Path) -> str:
    """The text as one value: quoted, a quote in it escaped, `${` no interpolation."""
    # A backslash is itself but before what is escaped with one.
    text = re.sub(r"(\\+)(?=\$\{|'|$)", lambda found: found[0] * 2, str(value))
    text = text.replace("'", "\\'").replace("${", "\\${")
    return f"'{text}'"


def literal(argument: str) -> str:
    """The argument with its value quoted, if its key is that of a path; others are handed back as they are.

    Raises:
        UserError: a path that is empty, null or holds characters that cannot be printed.
    """
    key, sign, value = argument.partition("=")
    bare = key.lstrip("+")
    if not sign or bare not in (*FOLDERS, *FILES):
        return argument
    if bare in FOLDERS:
        require_path(bare, value)
    elif not (value and Path(value).expanduser().exists()):
        return argument
    return argument if is_quoted(value) or "${" in value else f"{key}={quoted(value)}"


def is_quoted(value: str) -> bool:
    """Whether the text is a quoted value from its first character to its last."""
    return re.fullmatch(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", value, flags=re.DOTALL) is not None


def require_path(key: str, value: Any) -> str:
    """The value, if it can be a path.

    Raises:
        UserError: it is not, with the form that would do.
    """
    if not isinstance(value, str) or value.strip().lower() in EMPTY or not value.isprintable():
        shown = "null" if value is None else value if isinstance(value, str) and value.isprintable() else repr(value)
        raise UserError(f"{key}={shown} names no file or folder; write {key}=FOLDER, or leave it out for the default")
    return value


def override_key(override: str) -> str:
    """The key of an override: `+trainer.x=1` -> `trainer.x`."""
    return override.lstrip("+~").split("=", 1)[0].split("@", 1)[0]
