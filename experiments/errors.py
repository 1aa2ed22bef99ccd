"""Errors of the user, and the one line that they become: the wrapper of every program.

Exit codes: 0 all went well, 1 a run failed, 2 the input is at fault, 130 interrupted.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from experiments.store.storage_errors import in_words, storage_error

FULL = "HYDRA_FULL_ERROR"
# Hydra's words for a list without brackets, or a range, where there is no multirun.
SEVERAL = re.compile(r"Sweep parameters '(.+?)' requires --multirun|Ambiguous value for argument '(.+?)'\s", re.DOTALL)
# A path that leads nowhere by its form: no storage is to blame, and no program could go on.
NO_PLACE = frozenset((errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR))
LONGEST = 200  # characters of a word, paths included, that a complaint repeats
LONGEST_LINE = 3000


class UserError(Exception):
    """A mistake in the input. The message names the thing at fault and lists what would do."""


class NoData(UserError):
    """A data set that is not on this machine; a table may go on without it."""


def main(body: Callable[[], int | None]) -> None:
    """Run `body` and leave with its exit code; a complaint about the input is one line and 2."""
    full = os.environ.get(FULL, "0") not in ("", "0")
    try:
        code = body() or 0
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        line = explain(error)
        if full or line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        code = 2
    sys.exit(code)


def explain(error: BaseException) -> str | None:
    """One line for an error of the input, fit for a terminal; None for any other error."""
    line = _in_words(error)
    return None if line is None else readable(line)


def _in_words(error: BaseException) -> str | None:
    """What `explain` says, however long and whatever characters it has."""
    if isinstance(error, UserError):
        return one_line(str(error))
    files = sys.modules.get("tasks.hub.files")  # where it is not loaded, no error is of its making
    if files is not None and isinstance(error, files.DataError):
        return one_line(str(error))
    if isinstance(error, OSError) and error.errno in NO_PLACE and error.filename is not None:
        return f"cannot use {error.filename!s}: {error.strerror}; name another file or folder"
    if (storage := storage_error(error)) is not None:
        return one_line(in_words(storage))
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):
        return f"{one_line(str(error.strerror))}; name one that can be written: TMPDIR=FOLDER"
    # Hydra takes 0.3 s to load, and most errors are not its own.
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return unknown(group or "config", name, list(error.options))
    if isinstance(error, OverrideParseException):
        why = one_line(str(error)).split(" See https")[0]
        argument = clipped(str(error.override))
        why = clipped(why, 300)
        return f"cannot read the argument '{argument}': {why}; write KEY=VALUE, and quote lists for the shell"
    if isinstance(error, HydraException) and (several := SEVERAL.search(str(error))):
        key, _, value = several[several.lastindex or 0].partition("=")
        return (
            f"{key}={clipped(value)} asks for several values, which only a sweep takes; for a list write "
            f"{key}=[0,1,2], and quote a value that has a comma: \"{key}='a,b'\""
        )
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _key_error(error) or one_line(str(error))
    return None


def _key_error(error: BaseException) -> str | None:
    """Name the siblings of a key that does not exist."""
    cause: Any = error
    while cause is not None:
        key, parent = getattr(cause, "full_key", None), getattr(cause, "parent_node", None)
        if key and parent is not None and hasattr(parent, "keys") and "not in struct" in str(cause):
            where, _, name = str(key).rpartition(".")
            return unknown(f"key of {where or 'the config'}", name, [str(k) for k in parent])
        cause = cause.__cause__
    return None


def unknown(what: str, name: str, options: list[str]) -> str:
    """The line for a name that does not exist: what would do, and the nearest of it."""
    near = difflib.get_close_matches(name, options, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"unknown {what} '{name}'{hint}; available: {', '.join(sorted(options)) or 'none'}"


def clipped(text: str, limit: int = 80) -> str:
    """The text, cut where it is longer than a line."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def one_line(text: str) -> str:
    """The text with its line breaks folded."""
    return " ".join(text.split())


def readable(line: str) -> str:
    """The line with what no terminal should be sent written as escapes, and no value of the user's at any length."""
    cut = re.sub(rf"[^\s'\"]{{{LONGEST + 1},}}", lambda word: clipped(word[0], LONGEST), line)
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return clipped(shown, LONGEST_LINE)
