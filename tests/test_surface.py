"""What the outside relies on: Make verbs, pins, the arrows between the packages, the shape of the tree."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from experiments.__main__ import VERBS as VERBS_OF_THE_PROGRAM

ROOT = Path(__file__).resolve().parent.parent
VERBS = [
    *("install", "test", "test-cluster", "lint"),
    *("reproduce-table", "sweep", "compare", "check-claims", "export", "report", "sync", "clean"),
]
ROOMS = (".ci", "benchmarks", "conf", "docs", "experiments", "ressformer", "tasks", "tests", "tools")
OWN = {"ressformer", "tasks", "experiments"}
ARROWS = {"ressformer": set(), "tasks": set(), "experiments": {"ressformer", "tasks"}}
WRITTEN = (".cfg", ".lock", ".md", ".py", ".sh", ".toml", ".yaml", ".yml")
LONGEST_FILE = 300


def make(*words: str) -> str:
    """What `make` prints for `words`; the variables of a Make that runs the tests stay out of it."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    for name in ("ARGS", "CONFIRM", "FIX", "PYTHON", "SLOW", "TABLE"):
        env.pop(name, None)
    done = subprocess.run(["make", *words], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return done.stdout


def dry(*words: str) -> str:
    """The commands of a verb, with the environment taken as made."""
    return make("-n", "-o", ".venv/.installed", *words)


def sources() -> Iterator[Path]:
    """Every text file of the tree that people write."""
    rooms = [path for room in ROOMS for path in (ROOT / room).rglob("*")]
    for path in (*ROOT.iterdir(), *rooms):
        if path.is_file() and (path.suffix in WRITTEN or path.name in ("Makefile", "run")):
            yield path


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def lock() -> str:
    return (ROOT / "requirements.lock").read_text()


@pytest.fixture(scope="module")
def pinned(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==([^\s\\]+)", lock, flags=re.MULTILINE))


def test_make_alone_prints_the_verbs() -> None:
    assert re.findall(r"^  make ([a-z-]+)", make(), flags=re.MULTILINE) == VERBS
    assert len(VERBS) <= 12


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["reproduce-table"], ".venv/bin/python -m experiments reproduce table=quick"),
        (["reproduce-table", "TABLE=smoke", "ARGS=a=1 b=2"], "experiments reproduce table=smoke 'a=1' 'b=2'"),
        (["reproduce-table", "DRY=1"], "experiments reproduce --dry-run table=quick"),
        (["sweep", "ARGS=seed=range(0,3) x=${oc.env:Y} *"], "experiments sweep 'seed=range(0,3)' 'x=${oc.env:Y}' '*'"),
        (["sweep", "ARGS='results_dir=a b' c=1"], "experiments sweep 'results_dir=a b' c=1"),
        (["compare", "A=x", "B=y", "DRY=1"], "experiments compare --dry-run a=x b=y"),
        (["sweep", "SWEEP=k"], "experiments sweep sweep=k"),
        (["compare", "A=x", "B=y", "BUDGET=tiny"], "experiments compare a=x b=y budget=tiny"),
        (["compare", "TASKS=chain,listops"], "experiments compare tasks=chain,listops"),
        (["export"], "experiments export table=quick"),
        (["report", "TABLE=cpu"], "experiments report table=cpu"),
        (["report", "ARGS=results_dir=x"], "experiments report 'results_dir=x'"),
    ],
)
def test_verb_runs_its_program(words: list[str], command: str) -> None:
    assert " ".join(command.split()) in " ".join(dry(*words).split())


@pytest.mark.parametrize("verb", VERBS_OF_THE_PROGRAM)
def test_program_of_a_verb_exists(verb: str) -> None:
    assert importlib.util.find_spec(f"experiments.commands.{verb.replace('-', '_')}") is not None


def test_the_tests_of_make_test_are_the_quick_ones() -> None:
    assert '-m "not slow and not gpu and not cluster"' in dry("test")
    assert '-m "not gpu and not cluster"' in dry("test", "SLOW=1")


def test_clean_keeps_results_and_environment() -> None:
    removed = [line for line in dry("clean").splitlines() if "rm " in line]
    assert removed and not any("results" in line or "-rf .venv" in line for line in removed)
    assert "find results -mindepth 1 -maxdepth 1 ! -name reference" in dry("clean", "CONFIRM=1")


def test_ci_calls_make_test_and_nothing_else() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "exec make test"
    assert len([line for line in script.read_text().splitlines() if not line.startswith("#")]) == 3


def test_lock_pins_what_must_not_move(pinned: dict[str, str]) -> None:
    assert pinned["torch"] == "2.13.0"  # no local tag: the CPU build and the CUDA build both fit
    assert pinned["numpy"] == "2.4.6"  # the last that Python 3.11 can take
    assert pinned["hydra-core"] == "1.3.8"
    assert Version("2.6.6") <= Version(pinned["lightning"]) < Version("2.7")


def test_lock_has_hashes_but_for_torch_and_names_no_place(lock: str, pinned: dict[str, str]) -> None:
    body = "\n".join(line for line in lock.splitlines() if not line.startswith("#"))
    without = [entry.split("==")[0] for entry in re.split(r"\n(?=\S)", body) if "--hash=sha256:" not in entry]
    assert without == ["torch"]
    assert not re.search(r"://|--(extra-)?index|--find-links| @ |/\w+/", lock)
    assert not [name for name in pinned if name.startswith(("nvidia-", "cuda-", "triton"))]


def test_lock_satisfies_the_project(project: dict[str, object], pinned: dict[str, str]) -> None:
    extras = project["optional-dependencies"]
    wanted = [Requirement(text) for text in (*project["dependencies"], *extras["dev"], *extras["slurm"])]
    for requirement in wanted:
        assert requirement.name in pinned, f"{requirement.name} is not in the lock: make lock"
        assert requirement.specifier.contains(pinned[requirement.name], prereleases=True), str(requirement)


@pytest.mark.parametrize("bad", ["2.6.2", "2.6.3", "2.6.5", "2.7.0"])
def test_no_unsafe_lightning(project: dict[str, object], bad: str) -> None:
    (lightning,) = (r for r in map(Requirement, project["dependencies"]) if r.name == "lightning")
    assert not lightning.specifier.contains(bad)


@pytest.mark.parametrize("package", sorted(ARROWS))
def test_arrows(package: str) -> None:
    wrong = []
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            hit = {name.split(".")[0] for name in names} & OWN - ARROWS[package] - {package}
            wrong += [f"{path.relative_to(ROOT)}:{node.lineno} imports {name}" for name in sorted(hit)]
    assert not wrong


FLAT = {"__init__", "__main__", "errors", "start", "train"}  # of experiments/; all else lies in a room
BELOW = {  # room -> the rooms that it may import
    "store": set(),
    "planning": {"store"},
    "training": {"store", "planning"},
    "launching": {"store", "planning", "training"},
    "analysis": {"store", "planning"},
    "reporting": {"store", "planning", "analysis"},
    "studies": {"store", "planning", "training", "launching", "analysis", "reporting"},
}
BELOW["commands"] = {*BELOW, "studies"}


def imports(path: Path) -> Iterator[tuple[ast.stmt, bool, list[str]]]:
    """The imports of a file: the node, whether it runs when the file is loaded, the modules that it may mean."""
    tree = ast.parse(path.read_text())
    typing = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    seen = {id(node) for block in typing for node in ast.walk(block)} | {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield node, id(node) in seen, [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node, id(node) in seen, [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]


def modules() -> dict[str, Path]:
    """The modules of experiments/ by name; a package is named by its `__init__`."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / "experiments").rglob("*.py")
    }


def test_rooms_import_only_what_is_below_them() -> None:
    assert {path.stem for path in (ROOT / "experiments").glob("*.py")} == FLAT
    wrong = []
    for name, path in modules().items():
        room = name.split(".")[1]
        for node, _, targets in imports(path):
            rooms = {
                found.split(".")[1] for found in targets if found.startswith("experiments.") and found in modules()
            }
            if room in BELOW and (bad := rooms & set(BELOW) - BELOW[room] - {room}):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} imports {', '.join(bad)}")
            if path.name == "__init__.py" and room in BELOW:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} hands names on")
    assert not wrong


def test_no_file_imports_itself_by_way_of_others() -> None:
    """Imports inside functions count: what is hidden is a circle all the same."""
    known = modules()
    graph = {
        name: {t for _, _, ts in imports(path) for t in ts if t in known and t != name} for name, path in known.items()
    }
    done: set[str] = set()
    while ready := {name for name, targets in graph.items() if name not in done and targets <= done}:
        done |= ready
    assert not set(graph) - done


def test_imports_inside_functions_are_few_and_say_why() -> None:
    """Each says in a comment, in its line or above, which slow or missing library makes it wait."""
    hidden = silent = 0
    for path in modules().values():
        lines = path.read_text().splitlines()
        ends = 0
        for node, loaded, _ in imports(path):
            if not loaded:
                hidden += 1
                said = "#" in lines[node.lineno - 1] or lines[node.lineno - 2].lstrip().startswith("#")
                silent += not said and node.lineno != ends + 1  # a comment holds for the lines that follow it
                ends = node.lineno
    assert hidden <= 40 and silent == 0


def test_no_file_is_long_without_a_reason() -> None:
    """The head of a longer file says why in a sentence that has 'longer than 300 lines' in it."""
    long = []
    for path in (path for path in sources() if path.suffix == ".py"):
        lines = path.read_text().splitlines()
        excused = f"longer than {LONGEST_FILE} lines" in " ".join(" ".join(lines[:20]).split())
        if len(lines) > LONGEST_FILE and not excused:
            long.append(f"{path.relative_to(ROOT)}: {len(lines)} lines")
    assert not long


def test_nothing_names_a_place_on_one_machine() -> None:
    places = re.compile(
        r"(?<![\w.~$}/-])/(?:home|root|work|opt|mnt|tmp|Users)/\w"
        r"|://(?:localhost|\d+\.|[\w-]+[:/]|[\w.-]+\.(?:local|internal|corp|lan)\b)"
    )
    found = []
    for path in sources():
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if places.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found


@pytest.fixture
def installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("installer", ROOT / "tools" / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_old_python_gets_one_line(tmp_path: Path) -> None:
    old = tmp_path / "python-old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1\nexit 1\n')
    old.chmod(0o755)
    command = ["make", "-B", ".venv/.installed", f"PYTHON={old}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode == 2
    assert len(said) == 1 and "Python 3.9.1" in said[0] and "PYTHON=python3.11" in said[0]


def test_settings_of_pip_reach_the_installer(
    installer: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The environment beats the file, a subcommand's section beats the global one, lists become words."""
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nfind-links = a\ntimeout = 1\nextra-index-url =\n  b\n  c\n[install]\ntimeout = 2\n")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_FIND_LINKS", "d e")
    monkeypatch.setattr(installer, "PYTHON", Path(sys.executable))
    settings = installer.pip_settings()
    assert settings["find-links"] == "d e"
    assert settings["timeout"] == "2"
    assert settings["extra-index-url"] == "b c"
