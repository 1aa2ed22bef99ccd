"""Checkpoints that are whole or absent, with the one before kept, and the state of every random generator.

Lightning writes through TMPDIR and moves the file: a kill between two file systems leaves a truncated target.
Here the temporary file lies beside the target. Files hold tensors and plain containers only and are read as
such.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from experiments.store import atomic_files as atomic


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, syncs, keeps the previous checkpoint as `<name>.previous`, renames."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save `checkpoint` at `path` in one step."""
        target = Path(path)

        def fill(file: BinaryIO) -> None:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())  # before the old one goes aside: a full disk shows here at the latest
            if target.exists():
                os.replace(target, previous(target))

        atomic.write_with(target, fill)


def previous(target: Path) -> Path:
    """Where the checkpoint before the last one lies."""
    return target.with_name(f"{target.name}.previous")


def newest(target: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that can be read, and a line for each corrupt one, which is set aside."""
    lines: list[str] = []
    for path in (target, previous(target)):
        if not path.exists():
            continue
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            aside = atomic.set_aside(path)
            lines.append(f"corrupt checkpoint ({type(error).__name__}); set aside as {aside.name}")
            continue
        return path, lines
    return None, lines


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
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])
