"""The wheel is whole: it plans in an empty folder, finds the user's own configs there, and says what it lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OWN_TABLE = """
name: mine
models: [transformer]
tasks: [chain]
seeds: [0]
budget: tiny
overrides: [task.facts_min=2]
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, in a folder that knows nothing of the checkout."""
    built = tmp_path_factory.mktemp("wheel")
    source = built / "source"  # a copy: building leaves its own folders beside the sources
    for name in ("ressformer", "tasks", "experiments", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    words = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(built),
        str(source),
    ]
    subprocess.run(words, check=True, capture_output=True, cwd=built)
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(built / "site")
    return built / "site"


def run(unpacked: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(unpacked)}
    command = [sys.executable, "-P", "-m", "experiments", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_wheel_has_every_config_and_source(unpacked: Path) -> None:
    for source, target in (("conf", "experiments/conf"), ("ressformer", "ressformer"), ("tasks", "tasks")):
        wanted = {path.relative_to(ROOT / source) for path in (ROOT / source).rglob("*") if path.is_file()}
        wanted = {path for path in wanted if "__pycache__" not in path.parts}
        assert wanted == {p.relative_to(unpacked / target) for p in (unpacked / target).rglob("*") if p.is_file()}
    assert not (unpacked / "conf").exists() and not (unpacked / "tests").exists()
    for name in ("claims.yaml", "reporting/report.html.j2"):
        assert (unpacked / "experiments" / name).read_bytes() == (ROOT / "experiments" / name).read_bytes()


def test_it_plans_in_an_empty_folder_and_finds_the_configs_there(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "conf" / "table").mkdir(parents=True)
    (tmp_path / "conf" / "config.yaml").write_text("somebody: else")  # it is no concern of ours
    (tmp_path / "conf" / "table" / "mine.yaml").write_text(OWN_TABLE)
    done = run(unpacked, tmp_path, "plan", "table=mine", "--no-measure")
    assert done.returncode == 0, done.stderr
    assert "table mine: 1 runs" in done.stdout
    assert [path.name.partition("-")[0] for path in (tmp_path / "results" / "plans").glob("mine-*")] == ["mine"]
    lost = run(unpacked, tmp_path, "plan", "table=mien")
    assert lost.returncode == 2 and "did you mean mine" in lost.stderr and len(lost.stderr.splitlines()) == 1


def test_claims_without_git_cannot_be_dated(unpacked: Path, tmp_path: Path) -> None:
    done = run(unpacked, tmp_path, "check-claims")
    assert done.returncode == 0, done.stderr
    assert "registration cannot be dated" in (tmp_path / "results" / "exports" / "claims.csv").read_text()


@pytest.mark.slow
def test_it_makes_the_smoke_table_in_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    done = run(unpacked, tmp_path, "reproduce", "table=smoke")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "exports" / "smoke.csv").exists()


MIXER = """
from torch import nn


class Mine(nn.Module):
    def __init__(self, d_model):
        super().__init__()
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x):
        return self.out(x.cumsum(1))
"""


def test_a_mixer_in_an_empty_folder_is_a_model(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(MIXER)
    small = ["model.d_model=16", "model.n_heads=2", "model.n_layers=1", "--lengths=5,9"]
    done = run(unpacked, tmp_path, "check", "model=mixer", "model.mixer=my.py:Mine", *small)
    assert done.returncode == 0 and done.stdout.endswith("every check passed\n"), done.stderr
    lost = run(unpacked, tmp_path, "check", "model=mixer", "model.mixer=my.py:Mien", *small)
    assert lost.returncode == 2 and "did you mean Mine" in lost.stderr and len(lost.stderr.splitlines()) == 1
