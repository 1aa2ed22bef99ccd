"""Optional C kernels for CPU, beside this file: built on first use by the system's C compiler.

Each has a PyTorch path that computes the same and serves as its oracle; without a compiler, or with
RESSFORMER_NATIVE=0 in the environment, that path runs. A build takes a second and is kept in the user's cache, keyed
by source, flags and processor, so that machines sharing a home directory do not run each other's code.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

log = logging.getLogger(__name__)

Kernels = ctypes.CDLL

# No -ffast-math: infinities are masks, and a NaN must stay one.
_FLAGS = ["-O3", "-march=native", "-fPIC", "-shared", "-fopenmp-simd", "-fno-math-errno"]
_FLAGS += ["-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-freciprocal-math"]

_enabled = os.environ.get("RESSFORMER_NATIVE", "1") != "0"
_without: frozenset[str] = frozenset()
_handed_out: set[str] = set()


@contextmanager
def use_native(on: bool, without: Iterable[str] = ()) -> Iterator[None]:
    """Allows or forbids the C kernels inside the block, or those named in `without` alone."""
    global _enabled, _without
    before = _enabled, _without
    _enabled, _without = on, frozenset(without)
    try:
        yield
    finally:
        _enabled, _without = before


def library(name: str) -> Kernels | None:
    """Returns the kernels of `<name>.c`, or None where they are switched off or cannot be built."""
    found = _load(name) if _enabled and name not in _without else None
    if found is not None:
        _handed_out.add(name)
    return found


def used() -> list[str]:
    """Returns the kernels that were asked for and there, in this process since `forget_used`, by name."""
    return sorted(_handed_out)


def forget_used() -> None:
    """Begins the list of `used` anew."""
    _handed_out.clear()


def usable(*tensors: Tensor | None) -> bool:
    """Tells whether kernels may read these: plain fp32 CPU tensors (not meta, fake or traced).

    Not under autocast: products of such tensors are in bf16 there, and a kernel would read past their ends.
    """
    return (
        _enabled
        and not torch.is_autocast_enabled("cpu")
        and all(
            t is None
            or (type(t) in (Tensor, torch.nn.Parameter) and t.device.type == "cpu" and t.dtype == torch.float32)
            for t in tensors
        )
    )


def eager(*tensors: Tensor | None) -> bool:
    """Tells whether code that torch cannot see into may run on these: no compiler and no counter is looking."""
    return not torch.compiler.is_compiling() and usable(*tensors) and _get_current_dispatch_mode() is None


def eager_kernels(name: str, *tensors: Tensor | None) -> Kernels | None:
    """Returns the C kernels `name` where eager code may call them, else None."""
    return library(name) if eager(*tensors) else None


def address(x: Tensor | None) -> ctypes.c_void_p:
    """Returns the address of a tensor's first element, NULL for None."""
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def int64(value: int) -> ctypes.c_int64:
    """Returns a size as the kernels take it."""
    return ctypes.c_int64(value)


def in_threads(work: Callable[[int, int], None], items: int, smallest: int = 1) -> None:
    """Calls work(start, stop) over [0, items) in torch's number of threads, `smallest` items at least in each.

    Plain threads do: a call through ctypes releases the interpreter's lock.
    """
    threads = max(1, min(torch.get_num_threads(), items // max(1, smallest)))
    if threads == 1:
        work(0, items)
        return
    step = -(-items // threads)
    starts = range(0, items, step)
    for job in [_pool().submit(work, start, min(items, start + step)) for start in starts]:
        job.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="native")


@cache
def _load(name: str) -> Kernels | None:
    try:
        return _built(name)
    except Exception as error:  # whatever is missing here: a model must run without
        log.info("%s runs in PyTorch, its C kernels do not build: %s: %s", name, type(error).__name__, error)
        return None


def _built(name: str) -> Kernels:
    """Returns the kernels from the cache, built anew if they are not there or cannot be loaded.

    Raises:
        Exception: no compiler, no folder to write, or whatever these two say.
    """
    source = Path(__file__).with_name(f"{name}.c")
    compiler = next((c for c in (os.environ.get("CC"), "cc", "gcc", "clang") if c and shutil.which(c)), None)
    if compiler is None:
        raise FileNotFoundError("no C compiler")
    flags = [*_FLAGS, "-mprefer-vector-width=512"] if platform.machine() in ("x86_64", "AMD64") else [*_FLAGS]
    sources = [part.read_text() for part in (source, *sorted(source.parent.glob("*.h")))]
    key = hashlib.sha256("\n".join([*sources, compiler, *flags, _processor()]).encode()).hexdigest()
    target = _cache() / f"{name}-{key[:16]}.so"
    if target.exists():
        try:
            return ctypes.CDLL(str(target))
        except OSError as error:
            log.info("%s is built again: %s", target.name, error)
    _build(compiler, flags, source, target)
    return ctypes.CDLL(str(target))


def _build(compiler: str, flags: list[str], source: Path, target: Path) -> None:
    """Builds beside the target and renames: processes that start together do not see half a file."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        built = Path(folder) / target.name
        command = [compiler, *flags, str(source), "-o", str(built), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        built.replace(target)


def _cache() -> Path:
    """Returns the user's cache folder, or the system's temporary one where that cannot be written."""
    places: list[Callable[[], Path]] = [
        lambda: Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ressformer",
        lambda: Path(tempfile.gettempdir()) / f"ressformer-{os.getuid()}",
    ]
    for place in places:
        with suppress(OSError, RuntimeError):  # a user without a home is a RuntimeError
            folder = place()
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
                return folder
    raise OSError("no folder to keep built kernels in")


def _processor() -> str:
    """Returns what -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.machine() + platform.processor()
