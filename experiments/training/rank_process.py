"""The program of a rank other than 0: it trains along with the run's own process, and ends with it.

    python -m experiments.training.rank_process FOLDER RANK ADDRESS:PORT [CHECKPOINT]

Started by experiments.training.distributed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

from experiments.planning.settings import TrainerSettings
from experiments.start import start
from experiments.store.reader import read_spec
from experiments.store.records import RunSpec
from experiments.training.context import Diverged, TrainingEnded
from experiments.training.distributed import STOPPING, Place
from experiments.training.fit import train
from experiments.training.loggers import Mirror
from experiments.training.signals import Interrupted, StopFlag, die_with_parent


class Peer:
    """The `RunContext` of a rank that neither logs nor saves."""

    def __init__(self, spec: RunSpec, folder: Path) -> None:
        self.spec, self.folder, self.stop = spec, folder, StopFlag()
        self.settings = TrainerSettings.model_validate(spec.config["trainer"])

    def beat(self, phase: str, step: int, loss: float | None) -> None:
        """Rank 0 beats for all."""

    def mirror(self) -> Mirror:
        """Rank 0 logs for all."""
        return Mirror()


def entry(words: list[str]) -> int:
    """Train along; 1 if rank 0 was gone before this one had begun.

    Raises:
        Exception: what ended the training, unless it is the same on every rank.
    """
    die_with_parent(signal.SIGKILL)
    if os.getppid() == 1:  # rank 0 died while this one was loading
        return 1
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)  # rank 0 decides when to stop
    folder, rank = Path(words[0]), int(words[1])
    spec = read_spec(folder)
    peer = Peer(spec, folder)
    devices, nodes = peer.settings.devices, peer.settings.nodes
    address, port = words[2].rsplit(":", 1)
    place = Place(rank, devices * nodes, rank % devices, address, int(port), nodes)
    with contextlib.suppress(Interrupted, Diverged):
        try:
            train(peer, place, Path(words[3]) if len(words) > 3 else None)
        except TrainingEnded as ended:
            raise ended.cause from None
    return 0


if __name__ == "__main__":
    start(lambda: entry(sys.argv[1:]))
