"""A cache on disk whose entries are whole or absent: files first, then a manifest, then one rename.

An entry is a folder named by the hash of all that went into it. It counts only if its manifest is there and every
file has the size and the hash that the manifest gives; otherwise it is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.hub.files import DataError

MANIFEST = "manifest.json"


def cache_root() -> Path:
    """$RESSFORMER_CACHE, or `ressformer` in the user's cache folder."""
    chosen = os.environ.get("RESSFORMER_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ressformer"


def cached(settings: dict[str, Any], make: Callable[[Path], None]) -> Path:
    """The folder of the entry that `settings` names, filled by `make(folder)` unless it is there and sound.

    Raises DataError when nothing can be written.
    """
    try:
        return _cached(settings, make)
    except OSError as error:
        raise DataError(
            f"cache folder {cache_root()} cannot be written ({error.strerror}); choose another with RESSFORMER_CACHE"
        ) from None


def _cached(settings: dict[str, Any], make: Callable[[Path], None]) -> Path:
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    folder = cache_root() / key[:32]
    if sound(folder):
        return folder
    if folder.exists():
        print(f"cache entry {folder.name} is not whole and is made anew", file=sys.stderr)
        shutil.rmtree(folder)
    draft = cache_root() / f"{folder.name}.draft-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        make(draft)
        files = {path.name: _state(path) for path in sorted(draft.iterdir())}
        (draft / MANIFEST).write_text(json.dumps({"settings": settings, "files": files}, indent=1))
        try:
            draft.rename(folder)
        except OSError:
            if not sound(folder):  # another process may have been first
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def sound(folder: Path) -> bool:
    """True if the manifest is there and every file is as it says."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        return all(_state(folder / name) == state for name, state in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _state(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}
