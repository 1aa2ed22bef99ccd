"""One run on several devices: data-parallel ranks that give what one process gives for the same global batch.

Every rank draws the whole batch of a step (batches are a function of seed and step) and keeps its share of the
rows; the loss of a share is weighted by its scored positions, so that the mean of the ranks' gradients is the
gradient of the whole batch. What a model computes from the statistics of a batch (the balance loss of experts) is
per share, as everywhere in data parallelism.

Rank 0 is the run's own process: it holds the lease, validates, logs, saves, evaluates. It starts the others of its
machine (experiments.training.rank_process). On several machines (`trainer.nodes`)
the same command is given on each; those after the first wait for the first one's invitation, a file in the run's
folder, and start their ranks.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import Tensor

from experiments.errors import UserError
from experiments.planning.settings import TrainerSettings
from experiments.store import atomic_files as atomic
from experiments.store import lease
from experiments.store.provenance import ROOT

IGNORE = -100
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


@dataclass(frozen=True)
class Place:
    """Which rank this process is, and where the ranks meet."""

    rank: int = 0
    world: int = 1
    local: int = 0
    address: str = "127.0.0.1"
    port: int = 0
    nodes: int = 1

    @property
    def first(self) -> bool:
        """True for the one that logs and saves."""
        return self.rank == 0

    @property
    def devices(self) -> int:
        """Ranks of this machine."""
        return self.world // self.nodes


ALONE = Place()


def own_place(settings: TrainerSettings) -> Place:
    """The place of the process that the user or a scheduler has started on this machine.

    Several machines are told apart by the variables that torchrun, Lightning and SLURM set: MASTER_ADDR, MASTER_PORT
    and NODE_RANK (GROUP_RANK, SLURM_NODEID).

    Raises:
        UserError: such a variable is missing or makes no sense.
    """
    world = settings.devices * settings.nodes
    if settings.strategy != "ddp" or world < 2:
        return ALONE
    if settings.nodes == 1:
        return Place(0, world, 0, "127.0.0.1", free_port())
    values = [os.environ.get(key, "") for key in ("MASTER_ADDR", "MASTER_PORT")]
    values.append(
        next((os.environ[key] for key in ("NODE_RANK", "GROUP_RANK", "SLURM_NODEID") if key in os.environ), "")
    )
    address, port, node = values
    if not (address and port.isdigit() and node.isdigit() and int(node) < settings.nodes):
        raise UserError(
            f"trainer.nodes={settings.nodes} needs MASTER_ADDR, MASTER_PORT and NODE_RANK (0 to {settings.nodes - 1}) "
            f"in the environment of each machine, got '{address}', '{port}' and '{node}'; see docs/clusters.md"
        )
    return Place(int(node) * settings.devices, world, 0, address, int(port), settings.nodes)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


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
        return self._place.rank // self._place.devices

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
    place = own_place(settings)
    if place.world == 1:
        yield place
        return
    peers, over = start_ranks(folder, place, checkpoint), threading.Event()
    for peer in peers:
        threading.Thread(target=_guard, args=(peer, over), daemon=True).start()
    try:
        with invitation(folder, checkpoint):
            yield place
        for peer in peers:
            peer.wait(timeout=60)
    except RuntimeError as error:
        if not lost_contact(error):
            raise
        _die(f"a rank is gone: {error}")
    finally:
        over.set()
        for peer in peers:
            peer.kill()
            peer.wait()
        if dist.is_initialized():
            dist.destroy_process_group()


def start_ranks(folder: Path, place: Place, checkpoint: Path | None) -> list[subprocess.Popen[bytes]]:
    """The ranks of this machine, but for rank 0, which is the run's own process."""
    words = [sys.executable, "-m", "experiments.training.rank_process", str(folder)]
    rest = [f"{place.address}:{place.port}", *([str(checkpoint)] if checkpoint else [])]
    ranks = range(max(place.rank, 1), place.rank + place.devices)
    return [subprocess.Popen([*words, str(rank), *rest], cwd=ROOT) for rank in ranks]


def lost_contact(error: RuntimeError) -> bool:
    """True if the ranks cannot reach each other any more."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


INVITATION = "ranks.json"
WAIT_SECONDS = 600.0


@contextlib.contextmanager
def invitation(folder: Path, checkpoint: Path | None) -> Iterator[None]:
    """Tells the other machines that the run goes on, and from where; good as long as the lease of now is held."""
    held = lease.held(folder)
    path = folder / INVITATION
    token = held.says.get("token") if held else None
    atomic.write_json(path, {"token": token, "checkpoint": checkpoint.name if checkpoint else None})
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def invited(folder: Path) -> Path | None:
    """Wait for the invitation; the checkpoint to go on from.

    Raises:
        UserError: none comes.
    """
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        held = lease.held(folder)
        with contextlib.suppress(OSError, ValueError):
            found = json.loads((folder / INVITATION).read_text())
            if held is not None and held.alive() and found["token"] == held.says.get("token"):
                return folder / found["checkpoint"] if found["checkpoint"] else None
        time.sleep(0.2)
    raise UserError(f"the first machine (NODE_RANK=0) has not begun run {folder.name} within {WAIT_SECONDS:.0f} s")


def join(folder: Path, place: Place) -> bool:
    """Take part in a run that another machine leads; False if a rank of this one ended with an error."""
    ranks = start_ranks(folder, place, invited(folder))
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)  # rank 0 decides when to stop
    return not any([rank.wait() for rank in ranks])


def _guard(peer: subprocess.Popen[bytes], over: threading.Event) -> None:
    """The death of a rank would leave the others waiting for ever: it is the death of the run's process."""
    code = peer.wait()
    if code != 0 and not over.is_set():
        _die(f"a rank ended with exit code {code}")


def _die(why: str) -> NoReturn:
    print(f"{why}; the same command goes on from the checkpoint", flush=True)
    os._exit(1)


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
