"""What is printed stops nothing: a terminal that lacks the characters, a reader that leaves; all files are written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy import fill, make_record, make_spec, table_plan

from experiments.planning.plan import Plan
from experiments.planning.settings import TableSettings
from experiments.start import unstoppable
from experiments.store import atomic_files as atomic
from experiments.store.store import Store
from experiments.studies.compare import compared_words
from experiments.studies.named_plan import asked, asked_sweep

ROOT = Path(__file__).parents[3]
SMALL = ["budget.train_flops=4e10", "budget.tolerance_flops=0.1", "task.n_validation=16", "task.n_test=16"]
SMALL += ["allow_small_test=[chain]"]  # what is printed is tested, not what it says
SWEEP = ["model=transformer", "task=chain", "trainer.optim.lr=1e-3,2e-3", *SMALL]
TUNING = ["sweep=lr", "model=transformer", "task=chain", *SMALL]
VARIANTS = ["sweep=shell", "table=smoke", "model=longformer", "task=chain", *SMALL]

# Runs each verb in a process forked from this one, which has paid for the imports, with the given standard output.
DRIVER = """
import io, json, os, sys
from experiments.__main__ import program
from experiments.start import start
import experiments.studies.check_claims, experiments.studies.depth_curves, experiments.studies.report
import experiments.studies.compare, experiments.studies.sweep, experiments.studies.named_plan

def child(words, mode, folder):
    if mode == "closed":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open(os.path.join(folder, "said"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(writer, 1)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8" if mode == "closed" else "ascii")
    start(lambda: program(words))

found = []
for words in json.loads(sys.argv[1]):
    for old in os.scandir(sys.argv[4]):  # what lies there afterwards, this verb has written
        if old.is_file():
            os.remove(old)
    pid = os.fork()
    if pid == 0:
        child(words, sys.argv[2], sys.argv[3])
    found.append([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), sorted(os.listdir(sys.argv[4]))])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a few records."""
    store = Store(tmp_path_factory.mktemp("toy") / "results")
    fill(store, table_plan())
    return store.root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder in which every run that the verbs ask for is done."""
    store = Store(tmp_path_factory.mktemp("out") / "results")
    plan = table_plan()
    fill(store, plan)
    atomic.write_text(store.root / "plans" / "toy-1.json", plan.model_dump_json())
    deep = [make_spec(seed=seed, trainer={"eval_depths": [1]}) for seed in range(3)]
    settings = TableSettings(name="deep", models=["toy"], tasks=["chain"], seeds=[0, 1, 2], budget="toy")
    plan = Plan(table=settings, code_fingerprint="code", runs=deep)
    atomic.write_text(store.root / "plans" / "deep-1.json", plan.model_dump_json())
    here = f"results_dir={store.root}"
    words = compared_words(["longformer", "transformer"], ["table=smoke", here], ["chain"], ["0", "1", "2"])
    planned = [plan, asked(words)[0], *(asked_sweep([*each, here])[0] for each in (SWEEP, TUNING, VARIANTS))]
    for spec in {spec.id: spec for each in planned for spec in each.runs}.values():
        if store.record(spec.id) is None:
            store.write_record(make_record(spec, 0.5 + spec.seed / 10))
    return store.root


def verbs(folder: Path) -> dict[str, tuple[list[str], str]]:
    """Every verb that writes, with its words and a file that it has to leave."""
    toy, here = f"plan={folder}/plans/toy-1.json", f"results_dir={folder}"
    compare = ["a=longformer", "b=transformer", "table=smoke", "tasks=chain", "seeds=0,1,2"]
    return {
        "reproduce": (["reproduce", toy], "toy.csv"),
        "resume": (["resume", toy], "toy-wide.csv"),
        "report": (["report", toy, "figures=false"], "toy.html"),
        "depth-curves": (["depth-curves", f"plan={folder}/plans/deep-1.json"], "deep-iterations.csv"),
        "compare": (["compare", *compare, here], "compare-longformer-transformer.csv"),
        "grid": (["sweep", *SWEEP, here], "sweep-"),
        "tuning": (["sweep", *TUNING, here], "lr"),
        "variants": (["sweep", *VARIANTS, here], "shell-smoke"),
        "export": (["export", here], "runs.csv"),
        "check-claims": (["check-claims", here], "claims.csv"),
        "status": (["status", here], ""),
        "runs": (["runs", here], ""),
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["ascii", "closed"])
def test_every_verb_that_writes(mode: str, folder: Path, tmp_path: Path) -> None:
    exports = folder / "exports"
    exports.mkdir(exist_ok=True)
    cases = verbs(folder)
    words = json.dumps([words for words, _ in cases.values()])
    command = [sys.executable, "-c", DRIVER, words, mode, str(tmp_path), str(exports)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Error" not in done.stderr and "Traceback" not in done.stderr, done.stderr
    for (name, (_, target)), (code, files) in zip(cases.items(), json.loads(done.stdout), strict=True):
        assert code == 0, f"{name}: {done.stderr}"
        if target:
            assert [file for file in files if file.startswith(target)], name
    if mode == "ascii":
        assert (tmp_path / "said").read_text(encoding="ascii")


def test_a_stream_goes_on_without_its_reader() -> None:
    """Also with characters that its encoding lacks."""
    reader, writer = os.pipe()
    with open(writer, "w", encoding="ascii") as plain, unstoppable(plain, "replace") as stream:
        print("é┏", file=stream, flush=True)
        assert os.read(reader, 10) == b"??\n"
        os.close(reader)
        for _ in range(3):
            print("é┏" * 10_000, file=stream, flush=True)


def test_the_program_ends_quietly_when_the_reader_leaves(toy: Path) -> None:
    words = f"{sys.executable} -m experiments runs --csv --results-dir {toy} | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("id,task,model")
