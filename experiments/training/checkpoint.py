"""Checkpoints that are whole or absent, with the one before kept, and the state of every random generator.

Lightning writes through TMPDIR and moves the file: a kill between two file systems leaves a truncated target.
Here the temporary file lies beside the target. Files hold tensors and plain containers only and are read as
such. They end in a line with the sha256 of all before it, which is checked before anything is loaded (torch.load does
not look at the check sums inside), and know how much of metrics.jsonl was written by then, with its sha256.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from experiments.store import atomic_files as atomic

LOG = "metrics_log"  # of a checkpoint: the state of metrics.jsonl
TRAILER = len(b"\nsha256:\n") + 64
CHUNK = 1 << 20


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, syncs, keeps the previous checkpoint as `<name>.previous`, renames."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save `checkpoint` at `path` in one step."""
        target = Path(path)

        def fill(file: BinaryIO) -> None:
            torch.save(checkpoint, file)
            file.flush()
            size = file.tell()
            file.write(b"\nsha256:%s\n" % sha256_of(Path(file.name), size).encode())
            file.flush()
            os.fsync(file.fileno())  # before the old one goes aside: a full disk shows here at the latest
            if target.exists():
                os.replace(target, previous(target))

        atomic.write_with(target, fill)

    def load_checkpoint(self, path: Any, *rest: Any, **named: Any) -> dict[str, Any]:
        """Load what `save_checkpoint` wrote.

        Raises:
            ValueError: its bytes are not those that were written.
        """
        require_sound(Path(path))
        return super().load_checkpoint(path, *rest, **named)


def sha256_of(path: Path, size: int) -> str:
    """The sha256 of the first `size` bytes of a file.

    Raises:
        ValueError: it is shorter.
    """
    total, left = hashlib.sha256(), size
    with open(path, "rb") as file:
        while left > 0:
            part = file.read(min(left, CHUNK))
            if not part:
                raise ValueError(f"{path.name} is shorter than {size} bytes")
            total.update(part)
            left -= len(part)
    return total.hexdigest()


def require_sound(path: Path) -> None:
    """Check a checkpoint against the sum at its end.

    Raises:
        ValueError: there is none, or it is another one's.
    """
    size = path.stat().st_size - TRAILER
    with open(path, "rb") as file:
        file.seek(max(size, 0))
        found = re.fullmatch(rb"\nsha256:([0-9a-f]{64})\n", file.read())
    if found is None:
        raise ValueError("it does not end in its check sum")
    if sha256_of(path, size) != found[1].decode():
        raise ValueError("its bytes do not fit its check sum")


def previous(target: Path) -> Path:
    """Where the checkpoint before the last one lies."""
    return target.with_name(f"{target.name}.previous")


def newest(target: Path, log: Path | None = None) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is sound and fits the log, and a line for each that does not and is set aside.

    A log that fits none is set aside, too: the run begins anew.
    """
    lines: list[str] = []
    misfit = False
    for path in (target, previous(target)):
        if not path.exists():
            continue
        try:
            require_sound(path)
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            why = f"corrupt checkpoint ({error if type(error) is ValueError else type(error).__name__})"
        else:
            if log is None or _fits(log, checkpoint.get(LOG)):
                return path, lines
            misfit, why = True, f"{log.name} is not what it was at step {checkpoint.get('global_step')}"
        lines.append(f"{why}; {path.name} set aside as {atomic.set_aside(path).name}")
    if misfit and log is not None and log.exists():
        lines.append(f"{log.name} set aside as {atomic.set_aside(log).name}; the run begins anew")
    return None, lines


def _fits(log: Path, state: dict[str, Any] | None) -> bool:
    """Whether the log begins with what had been logged when a checkpoint was saved; more may have come since."""
    try:
        return state is not None and sha256_of(log, int(state["bytes"])) == state["sha256"]
    except (OSError, ValueError):
        return state is not None and state["bytes"] == 0


def rng_state() -> dict[str, Any]:
    """The state of the generators of Python, numpy and torch, as tensors and plain containers."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [
            str(kind),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            position,
            has_gauss,
            cached,
        ],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_rng(state: dict[str, Any]) -> None:
    """Set the generators to a state of `rng_state`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        # A run may go on where there are fewer devices than it began with.
        for device, each in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
            torch.cuda.set_rng_state(each.cpu(), device)
