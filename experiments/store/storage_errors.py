"""What an error of the storage means, and so what is to be done: the one place where error numbers are named.

`transient` comes and goes (a server that does not answer, too many open files): what was being done is tried again.
`permission` and `space` are the user's to mend: one line, exit code 2. Any other error is none of the storage's.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Literal, TypeVar

Kind = Literal["transient", "permission", "space"]
T = TypeVar("T")

# A system lacks some of these numbers.
TRANSIENT, PERMISSION, SPACE, NO_LINKS = (
    frozenset(getattr(errno, name) for name in names.split() if hasattr(errno, name))
    for names in (
        "ESTALE EIO ETIMEDOUT EAGAIN EINTR ENOTCONN EBUSY EREMOTEIO ECOMM ENOLINK ENOLCK EHOSTDOWN EHOSTUNREACH "
        "ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ESHUTDOWN ENOMEDIUM ENODATA EMFILE ENFILE ENOBUFS",
        "EACCES EPERM",
        "ENOSPC EDQUOT EROFS EFBIG",
        "EPERM EACCES ENOTSUP EOPNOTSUPP ENOSYS EMLINK EXDEV EINVAL ENOTTY",
    )
)
# EBADFD is not among them: a closed file of ours is a fault of the program.

READS = 4  # of a file, until an error that comes and goes is believed
PAUSE_SECONDS = 0.05

REMEDY: dict[Kind, str] = {
    "transient": "the storage does not answer as it should; give the same command again, which goes on from there",
    "permission": "this user may not do that: have the owner open it for the group (chmod -R g+rwX, and g+s on the "
    "folders), or choose another folder with results_dir=FOLDER",
    "space": "free the disk and give the same command again, which goes on from there, or choose another folder with "
    "results_dir=FOLDER",
}


def kind_of(error: OSError) -> Kind | None:
    """What the error means; None: the storage is not to blame."""
    if error.errno in TRANSIENT:
        return "transient"
    if error.errno in PERMISSION:
        return "permission"
    return "space" if error.errno in SPACE else None


def storage_error(error: BaseException | None) -> OSError | None:
    """The error of the storage behind an error, if there is one: itself, or what caused it.

    torch says that a file cannot be written in a RuntimeError, raised while the error of the storage is handled. Any
    other error that is raised in such a moment is one of its own.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and kind_of(error) is not None:
            return error
        seen.add(id(error))
        within = type(error) in (RuntimeError, OSError) and not error.__suppress_context__
        error = error.__cause__ or (error.__context__ if within else None)
    return None


def in_words(error: OSError) -> str:
    """One line: what, where, and what would do."""
    kind = kind_of(error)
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or type(error).__name__}{where}: {REMEDY[kind] if kind else ''}"


def patiently(read: Callable[[], T]) -> T:
    """What `read` returns, called again some times while the storage fails for a moment.

    Raises:
        OSError: what `read` raised last.
    """
    for number in range(READS):
        try:
            return read()
        except OSError as error:
            if kind_of(error) != "transient" or number == READS - 1:
                raise
            time.sleep(PAUSE_SECONDS * 2**number)
    raise AssertionError("unreachable")
