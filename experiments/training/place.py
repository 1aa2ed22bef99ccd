"""Where a process stands among those that share a run: its rank, its machine, and where they meet."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from experiments.errors import UserError
from experiments.planning.settings import TrainerSettings


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
