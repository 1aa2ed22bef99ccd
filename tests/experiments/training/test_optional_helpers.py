"""What a run can do without: each is taken away in turn, and every family of conf/model runs two steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from toy import make_spec

from experiments.errors import UserError
from experiments.planning import compiler
from experiments.store import wandb_session
from experiments.store.provenance import ROOT
from experiments.training import checkpoint

RUNS = """
import ctypes, logging, os, sys, tempfile
root, taken = sys.argv[1], sys.argv[2]
def mount(what, where, kind, flags, options=None):
    if ctypes.CDLL(None).mount(what, where, kind, flags, options):
        sys.exit(77)
def private():
    if ctypes.CDLL(None).unshare(0x00020000):
        sys.exit(77)
    mount(b"none", b"/", None, 0x44000)
def read_only(place):  # what lies there can still be read: these sources, perhaps; what is mounted below, written
    mount(place, place, None, 0x5000)
    mount(None, place, None, 0x1021)
exec(taken)
logging.basicConfig(level=logging.INFO, format="log: %(message)s")
from experiments.store.records import RunSpec
from experiments.store.store import Store
from experiments.training.run import execute
store = Store(root)
print("temporary files:", os.path.relpath(tempfile.gettempdir(), os.path.dirname(root)))
for line in sys.stdin:
    spec = RunSpec.model_validate_json(line)
    print("end", spec.model, execute(spec, store), flush=True)
    for error in filter(None, [record.error for record in store.records([spec.id]).values()]):
        print(error.traceback)
"""
NOWHERE = "'/proc/nowhere'"
MISSING = "import sys; sys.modules[{!r}] = None"
# What is taken away, and words of the log that show it was missed.
HELPERS: dict[str, tuple[str, str, str]] = {
    "kernel cache": (f"os.environ['XDG_CACHE_HOME'] = {NOWHERE}", "none", ""),
    "kernel cache and temp folder": (
        f"os.environ['XDG_CACHE_HOME'] = os.environ['TMPDIR'] = {NOWHERE}; private(); os.chdir('/proc')\n"
        "os.mkdir(root); mount(b'none', root.encode(), b'tmpfs', 0)\n"
        "for place in filter(os.path.isdir, (b'/tmp', b'/var/tmp', b'/usr/tmp', b'/dev/shm')): read_only(place)\n",
        "none",
        "temporary files: results/.tmp",  # the results folder has one for those who need it
    ),
    "C compiler": (f"os.environ.update(PATH={NOWHERE}, XDG_CACHE_HOME=root + '-cache')", "none", "no C compiler"),
    "a compiler that does nothing": (
        "os.environ.update(CC='true', XDG_CACHE_HOME=root + '-cache')",
        "none",
        "do not build: FileNotFoundError",
    ),
    "a compiler that fails": (
        "os.environ.update(CC='false', XDG_CACHE_HOME=root + '-cache')",
        "none",
        "do not build: CalledProcessError",
    ),
    "git": (f"os.environ['PATH'] = {NOWHERE}", "none", ""),
    "home and name": (
        "[os.environ.pop(name, None) for name in ('HOME', 'USER', 'LOGNAME', 'XDG_CACHE_HOME')]\n"
        "import pwd\n"
        "def nobody(number): raise KeyError(number)\n"
        "pwd.getpwuid = nobody",
        "none",
        "",
    ),
    "W&B": (MISSING.format("wandb"), "wandb", "logger=wandb is off"),
    "TensorBoard": (MISSING.format("tensorboard"), "tensorboard", "logger=tensorboard is off"),
    "WANDB_MODE is empty": ("os.environ['WANDB_MODE'] = ''", "wandb", ""),
    "WANDB_MODE is no mode": ("os.environ['WANDB_MODE'] = 'of fline'", "wandb", "is none of offline, online, disabled"),
    "WANDB_DIR and its cache": (
        f"os.environ.update(WANDB_DIR={NOWHERE}, WANDB_CACHE_DIR={NOWHERE})",
        "wandb",
        "logger=wandb is off",
    ),
}
FEW = ("transformer", "ressformer", "reformer")
# But for those that wait for a class of the user's.
FILES = sorted((ROOT / "conf" / "model").glob("*.yaml"))
ALL = [path.stem for path in FILES if {} not in yaml.safe_load(path.read_text()).values()]


def spec_of(name: str, number: int, logger: str) -> str:
    """A run of two steps of a model of conf/model, as a line."""
    sizes = yaml.safe_load((ROOT / "conf" / "model" / f"{name}.yaml").read_text())
    spec = make_spec(steps=2, model=name, task="chain", logger={"kind": logger})
    changes: dict[str, Any] = {"id": f"{number:016x}", "sizes": sizes}
    return spec.model_copy(update=changes).model_dump_json() + "\n"


def run_without(helper: str, folder: Path, models: list[str]) -> str:
    """The output of a process that runs the models without the helper."""
    taken, logger, _ = HELPERS[helper]
    # Nothing else of ours: a folder, compiler or mode that is set here, or by an earlier test, would be found there.
    environment = {name: os.environ[name] for name in ("HOME", "PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUNS, str(folder / "results"), taken],
        input="".join(spec_of(name, number, logger) for number, name in enumerate(models)),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode == 77:
        pytest.skip(f"no right to take away here: {helper}")
    assert done.returncode == 0, done.stderr
    ends = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("end ")]
    assert ends == [[name, "done"] for name in models], done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("helper", HELPERS)
def test_no_run_fails_without(helper: str, open_folder: Path) -> None:
    assert HELPERS[helper][2] in run_without(helper, open_folder, list(FEW))
    if helper.startswith("WANDB_MODE"):  # a mode that is none still keeps the log
        assert len(list(open_folder.glob("results/runs/*/wandb/offline-run-*/*.wandb"))) == len(FEW)


@pytest.mark.slow
@pytest.mark.parametrize("helper", HELPERS)
def test_no_family_fails_without(helper: str, open_folder: Path) -> None:
    run_without(helper, open_folder, ALL)


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        (None, "offline"), ("", "offline"), ("  ", "offline"), ("bogus", "offline"), ("dryrun", "offline"),
        ("1", "offline"), ("Online", "online"), ("online", "online"), (" disabled ", "disabled"), ("run", "offline"),
    ],
)  # fmt: skip
def test_modes_of_wandb(given: str | None, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if given is not None:
        monkeypatch.setenv("WANDB_MODE", given)
    assert wandb_session.wandb_mode() == mode


@pytest.mark.parametrize(("here", "there"), [(1, 4), (4, 1), (2, 2), (1, 0)])
def test_generators_of_other_gpus_are_left_out(here: int, there: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of `there` devices on a machine with `here` of them."""
    state = checkpoint.rng_state()
    state["cuda"] = [torch.full((16,), number, dtype=torch.uint8) for number in range(there)]
    found: dict[int, int] = {}

    def take(state: torch.Tensor, device: int) -> None:
        assert device < here, "no such device"
        found[device] = int(state[0])

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: here)
    monkeypatch.setattr(torch.cuda, "set_rng_state", take)
    checkpoint.restore_rng(state)
    assert found == {number: number for number in range(min(here, there))}


@pytest.mark.parametrize("error", [RuntimeError("No working C++ compiler found"), FileNotFoundError(2, "g++")])
def test_compiling_without_a_compiler_is_refused_before_planning(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.cpp_builder as builder

    def search() -> str:
        raise error

    monkeypatch.setattr(builder, "get_cpp_compiler", search)
    compiler.require_compiler.cache_clear()
    with pytest.raises(UserError, match=r"trainer.compile=true needs a C\+\+ compiler.*trainer.compile=false"):
        compiler.require_compiler("cpu")
    compiler.require_compiler.cache_clear()


def test_the_command_says_that_there_is_no_compiler(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "reproduce", "table=smoke", "trainer.compile=true",
         "trainer.accelerator=cpu", f"results_dir={tmp_path / 'r'}"],
        capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "CXX": "/nonexistent/c++", "PATH": "/nonexistent"},
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "needs a C++ compiler" in done.stderr
    assert not list((tmp_path / "r").glob("plans/*"))


def test_broken_kernels_in_the_cache_are_built_again(tmp_path: Path) -> None:
    code = (
        "from ressformer.layers.native.loader import library; import json;"
        "print(json.dumps([library(name) is not None for name in ('entmax', 'topk')]))"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}

    def loaded() -> list[bool]:
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT)
        found: list[bool] = json.loads(done.stdout)
        return found

    if not all(loaded()):
        pytest.skip("no C compiler here")
    for text in (b"", b"garbage", b"\x7fELF" + bytes(100)):
        built = list(tmp_path.rglob("*.so"))
        assert len(built) == 2
        for path in built:
            path.write_bytes(text)
        assert loaded() == [True, True]
