"""Where a number comes from: sources, versions, hardware. No host name, no path, no user."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from experiments.store.records import Provenance

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "lightning", "hydra-core", "omegaconf", "numpy", "pydantic")


def source_fingerprint(folders: tuple[str, ...] = ("ressformer", "tasks"), root: Path = ROOT) -> str:
    """Hash of all sources and data files of `folders`: path and content, in the order of names."""
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                total.update(f"{path.relative_to(root).as_posix()}\0".encode())
                total.update(hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).digest())
    return total.hexdigest()[:16]


def git_state(root: Path = ROOT) -> tuple[str | None, bool | None]:
    """(commit, dirty) of the sources; (None, None) where there is no repository or no git."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("rev-parse", "--show-toplevel") != str(root):
        return None, None
    commit = git("rev-parse", "HEAD")
    status = git("status", "--porcelain")
    return commit, None if status is None else bool(status)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu_model() -> str:
    """The processor's model name, or the machine type where the system does not tell."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def provenance(*, threads: int, accelerator: str) -> Provenance:
    """The provenance of a run made now, by these sources, on this machine."""
    commit, dirty = git_state()
    return Provenance(
        git_commit=commit,
        git_dirty=dirty,
        code_fingerprint=source_fingerprint(),
        versions=versions(),
        cpu=cpu_model(),
        cores=os.cpu_count() or 1,
        threads=threads,
        accelerator=accelerator,
    )
