"""A SLURM of one node on the loopback interface, for tests: its keys, state and logs all lie in one folder.

    python tools/slurm/node.py start FOLDER     prints the line to put into the shell
    python tools/slurm/node.py stop FOLDER      stops what it started, by process id

Needs root and Debian's packages:

    apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sinfo", "sbatch")
SECONDS = 120.0
# No accounting, no cgroups, nothing that listens on another interface. KillWait: seconds between SIGTERM and SIGKILL.
CONFIG = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={port}
SlurmdPort={next}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=60 State=UP
"""


def start(folder: Path, port: int = 26817) -> dict[str, str]:
    """Start the three daemons and wait for the node to be idle; the environment that finds them."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"no {', '.join(missing)} here; see the head of {Path(__file__).name}")
    for each in (folder, folder / "state", folder / "spool"):
        each.mkdir(parents=True, exist_ok=True)
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    megabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 9 // 10
    names = {"host": platform.node(), "folder": folder, "port": port, "next": port + 1}
    text = CONFIG.format(**names, cores=os.cpu_count(), memory=megabytes)
    config = folder / "slurm.conf"
    config.write_text(text)
    environment = {"SLURM_CONF": str(config)}
    munge = [f"--{key}={folder}/munge.{end}" for key, end in MUNGE.items()]
    daemon("munged", "--force", f"--key-file={key}", *munge)
    daemon("slurmctld", "-f", str(config))
    daemon("slurmd", "-f", str(config), "-N", platform.node())
    wait_for_idle(environment)
    return environment


MUNGE = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}


def daemon(*words: str) -> None:
    """Start a daemon away from this process's terminal and group."""
    done = subprocess.run(words, start_new_session=True, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{words[0]} does not start: {(done.stderr or done.stdout).strip()}")


def wait_for_idle(environment: dict[str, str]) -> None:
    """Wait until the node takes jobs."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        words = ["sinfo", "-h", "-o", "%T"]
        done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
        if "idle" in done.stdout:
            return
        time.sleep(0.2)
    raise SystemExit(f"the node is not idle after {SECONDS:.0f} s: {done.stdout} {done.stderr}")


def stop(folder: Path) -> None:
    """Stop the daemons of a folder, the worker first."""
    for name in ("slurmd", "slurmctld", "munge"):
        with contextlib.suppress(OSError, ValueError):
            end_process(int((folder / f"{name}.pid").read_text()))


def end_process(pid: int) -> None:
    """End a process and wait until it is gone."""
    end = time.monotonic() + SECONDS
    os.kill(pid, signal.SIGTERM)
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)


def main(words: list[str]) -> None:
    """The program."""
    if len(words) != 2 or words[0] not in ("start", "stop"):
        raise SystemExit(__doc__)
    folder = Path(words[1]).absolute()
    if words[0] == "stop":
        stop(folder)
        return
    for key, value in start(folder).items():
        print(f"export {key}={value}")


if __name__ == "__main__":
    main(sys.argv[1:])
