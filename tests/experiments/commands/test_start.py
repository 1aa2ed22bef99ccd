"""The program's own modules win over a stranger's in the working folder; the user's are found there all the same."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from toy import make_spec

from experiments.planning.plan import Plan
from experiments.planning.settings import TableSettings
from experiments.start import FOLDER
from experiments.store import atomic_files as atomic
from experiments.store.store import Store

ROOT = Path(__file__).parents[3]
COST = ["cost", "model=transformer", "task=chain", "--csv"]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder whose modules have the names of ours."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in ("tasks", "ressformer", "experiments"):
        (folder / f"{name}.py").write_text("raise SystemExit('a stranger was imported')\n")
    return folder


def call(words: list[str], folder: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key not in (FOLDER, "PYTHONPATH")}
    env |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} if path else {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_console_script(hostile: Path, tmp_path: Path) -> None:
    """As pip writes it: the folder of the script, and not the working folder, is searched first."""
    target = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["ressformer"]
    module, _, name = target.partition(":")
    script = tmp_path / "bin" / "ressformer"
    script.parent.mkdir()
    script.write_text(f"import sys\nfrom {module} import {name}\nsys.exit({name}())\n")
    done = call([str(script), *COST], hostile)
    assert done.returncode == 0 and done.stdout.startswith("depth,module"), done.stderr


@pytest.mark.parametrize("program", ["experiments", "experiments.train"])
def test_python_m(hostile: Path, program: str) -> None:
    """A stranger's `experiments` would be run instead of ours before we could say a word; the others would not."""
    (hostile / "experiments.py").unlink()
    words = COST if program == "experiments" else ["--cfg", "job", "model=transformer"]
    done = call(["-m", program, *words], hostile, path=str(ROOT))
    assert done.returncode == 0 and "stranger" not in done.stdout + done.stderr and done.stdout, done.stderr


def test_launched_runs_find_ours_and_the_users_model(hostile: Path, tmp_path: Path) -> None:
    """The model's class lies in the working folder, beside a stranger's `tasks.py`; a child process trains it."""
    (hostile / "experiments.py").unlink()
    source = (
        "from ressformer.models.transformer import TransformerConfig\n\n\nclass Mine(TransformerConfig):\n    pass\n"
    )
    (hostile / "my_model.py").write_text(source)
    spec = make_spec(steps=2)
    model = {**spec.sizes, "_target_": "my_model.Mine"}
    changes = {"config": {**spec.config, "model": model}, "sizes": model, "allow_targets": ["my_model"]}
    changes["foreign_sources"] = {"my_model": hashlib.sha256(source.encode()).hexdigest()[:16]}
    spec, store = spec.model_copy(update=changes), Store(tmp_path / "results")
    settings = TableSettings(name="toy", models=["toy"], tasks=["chain"], seeds=[0], budget="toy")
    plan = Plan(table=settings, code_fingerprint="code", runs=[spec])
    path = store.root / "plans" / plan.file_name
    atomic.write_text(path, plan.model_dump_json())
    done = call(["-m", "experiments", "reproduce", f"plan={path}", "launcher=basic"], hostile, path=str(ROOT))
    record = store.record(spec.id)
    assert record is not None, done.stderr
    assert record.status == "done", record.error
    assert done.returncode == 0
