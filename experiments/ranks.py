"""One run on several devices: data-parallel ranks that give what one process gives for the same global batch.

Every rank draws the whole batch of a step (batches are a function of seed and step) and keeps its share of the
rows; the loss of a share is weighted by its scored positions, so that the mean of the ranks' gradients is the
gradient of the whole batch. What a model computes from the statistics of a batch (the balance loss of experts) is
per share, as everywhere in data parallelism.

Rank 0 is the run's own process: it holds the lease, validates, logs, saves, evaluates. It starts the others of its
machine (`python -m experiments.ranks FOLDER RANK PORT [CHECKPOINT]`): one machine only, so far.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import Tensor

from experiments.errors import UserError
from experiments.provenance import ROOT
from experiments.records import RunSpec
from experiments.settings import TrainerSettings

IGNORE = -100


@dataclass(frozen=True)
class Place:
    """Which rank this process is, and where the ranks meet."""

    rank: int = 0
    world: int = 1
    local: int = 0
    address: str = "127.0.0.1"
    port: int = 0

    @property
    def first(self) -> bool:
        """True for the one that logs and saves."""
        return self.rank == 0


ALONE = Place()


class Given(LightningEnvironment):
    """Ranks that somebody else has started."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    creates_processes_externally = True

    @property
    def main_address(self) -> str:
        return self._place.address

    @property
    def main_port(self) -> int:
        return self._place.port

    def world_size(self) -> int:
        return self._place.world

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self._place.rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self._place.local

    def node_rank(self) -> int:
        return (self._place.rank - self._place.local) // max(1, self._place.world)

    def teardown(self) -> None:
        pass


def strategy(place: Place) -> Strategy | str:
    """Lightning's strategy for the place."""
    if place.world == 1:
        return "auto"
    backend = "nccl" if torch.cuda.is_available() and torch.cuda.device_count() > place.local else "gloo"
    # A share of a batch may leave an expert without a token.
    return DDPStrategy(process_group_backend=backend, find_unused_parameters=True, cluster_environment=Given(place))


@contextlib.contextmanager
def together(settings: TrainerSettings, folder: Path, checkpoint: Path | None) -> Iterator[Place]:
    """The place of this process; the other ranks of this machine live inside the block.

    Raises:
        ChildProcessError: a rank ended with an error.
    """
    if settings.strategy != "ddp" or settings.devices < 2:
        yield ALONE
        return
    port = free_port()
    words = [sys.executable, "-m", "experiments.ranks", str(folder)]
    peers = [
        subprocess.Popen([*words, str(rank), str(port), *([str(checkpoint)] if checkpoint else [])], cwd=ROOT)
        for rank in range(1, settings.devices)
    ]
    over = threading.Event()
    for peer in peers:
        threading.Thread(target=_guard, args=(peer, over), daemon=True).start()
    try:
        yield Place(0, settings.devices, 0, "127.0.0.1", port)
        for peer in peers:
            peer.wait(timeout=60)
    finally:
        over.set()
        for peer in peers:
            peer.kill()
            peer.wait()
        if dist.is_initialized():
            dist.destroy_process_group()


def _guard(peer: subprocess.Popen[bytes], over: threading.Event) -> None:
    """The death of a rank would leave the others waiting for ever: it is the death of the run's process."""
    code = peer.wait()
    if code != 0 and not over.is_set():
        print(f"a rank ended with exit code {code}", flush=True)
        os._exit(1)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def share(batch: dict[str, Tensor], place: Place) -> tuple[dict[str, Tensor], float]:
    """The rows of this rank, and the weight of their mean loss.

    Raises:
        UserError: a rank has no row with a scored position.
    """
    rows = {key: value[place.rank :: place.world] for key, value in batch.items()}
    mine, all_of_them = (int((part["labels"] != IGNORE).sum()) for part in (rows, batch))
    if mine == 0:
        raise UserError(f"batch_size={len(batch['labels'])} leaves a rank of {place.world} without a scored position")
    return rows, mine * place.world / all_of_them


def agree(place: Place, values: list[float]) -> list[float]:
    """The mean over ranks of each value; those of a lone process as they are."""
    if place.world == 1:
        return values
    total = torch.tensor(values, dtype=torch.float64)
    if dist.get_backend() == "nccl":
        total = total.cuda()
    dist.all_reduce(total)
    return [float(value) for value in total / place.world]


class Peer:
    """What `fit` needs of a run, on a rank that neither logs nor saves."""

    def __init__(self, spec: RunSpec, folder: Path) -> None:
        from experiments.signals import StopFlag

        self.spec, self.folder, self.stop = spec, folder, StopFlag()
        self.settings = TrainerSettings.model_validate(spec.config["trainer"])
        self.steps_done, self.train_seconds, self.accelerator = 0, 0.0, "cpu"

    def beat(self, phase: str, step: int, loss: float | None) -> None:
        """Rank 0 beats for all."""

    def mirror(self) -> Any:
        """Rank 0 logs for all."""
        from experiments.mirror import Mirror

        return Mirror()


def entry(words: list[str]) -> int:
    """A rank other than 0: trains along, and ends."""
    import signal

    from experiments.callbacks import Diverged
    from experiments.fit import train
    from experiments.signals import Interrupted, die_with_parent

    die_with_parent(signal.SIGKILL)
    if os.getppid() == 1:  # rank 0 died while this one was loading
        return 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    folder, rank = Path(words[0]), int(words[1])
    spec = RunSpec.model_validate_json((folder / "spec.json").read_bytes())
    peer = Peer(spec, folder)
    place = Place(rank, peer.settings.devices, rank, "127.0.0.1", int(words[2]))
    with contextlib.suppress(Interrupted, Diverged):
        train(peer, place, Path(words[3]) if len(words) > 3 else None)
    return 0


if __name__ == "__main__":
    sys.exit(entry(sys.argv[1:]))
