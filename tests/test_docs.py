"""README and docs/ hold: links lead somewhere, commands are right, blocks run and print what is shown.

Conventions of the pages. A block whose paragraph above ends in a file's name (`my.py`: or `my.py`,) is the content of
that file; so is one whose first line is `# my.py`. All blocks of a page see the page's files. A `text` block right
below a block is what that prints; `...` stands for anything.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pytest
import yaml

import experiments
from experiments.__main__ import VERBS, parser_of
from experiments.planning.hydra_config import composed, composer, options
from experiments.planning.settings import TableSettings

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`([\w./-]+\.(?:py|yaml|jsonl|csv|txt))`[:,]\s*$")
HEAD = re.compile(r"# ([\w./-]+\.(?:py|yaml))\n")
# Words of the command line that are no overrides of a run's config.
OWN = (
    "figures",
    "results_dir",
    "trials",
    "sweep",
    "a",
    "b",
    "tasks",
    "budget",
    "benchmarks",
    "folder",
    "seed",
    "path",
)
OWN += ("sweep.name", "sweep.sampler", "run", "prompt", "item", "tokens", "temperature", "split", "length")
GROUPS = {"model": "model", "task": "task", "budget": "budget", "table": "table", "sweep": "sweep"}
# Trains for minutes: what the quick tests cannot run, they check word by word.
TRAINS = "experiments.compare("
# Reads a table that the reader has made.
NEEDS_RUNS = 'experiments.load("quick")'
# Whose blocks another test runs.
ELSEWHERE = {"docs/add-a-model.md": "tests/test_add_a_model.py"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and text, the file that it is (or empty), and what stands below as its output."""

    page: str
    line: int
    language: str
    text: str
    file: str
    shown: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in order."""
    text = page.read_text()
    found = list(BLOCK.finditer(text))
    made = []
    for here, after in zip_longest(found, found[1:]):
        file = FILE.search(text[: here.start()]) or HEAD.match(here[2])
        below = after is not None and after[1] == "text" and not text[here.end() : after.start()].strip()
        shown = after[2] if after is not None and below else None
        line = text[: here.start()].count("\n") + 2
        made.append(Block(str(page.relative_to(ROOT)), line, here[1], here[2], file[1] if file else "", shown))
    return made


EVERY = [block for page in PAGES for block in blocks(page)]


def commands(block: Block) -> list[str]:
    """The commands of ours in a console block, continued lines joined."""
    lines = block.text.replace("\\\n", " ").splitlines() if block.language == "console" else []
    return [line.strip() for line in lines if line.startswith(("make ", "python -m "))]


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader of the page stands: the page's files, the committed references and the tests' data."""
    page: str = request.param
    for block in EVERY:
        if block.page == page and block.file:
            (tmp_path / block.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.file).write_text(block.text)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "reference").symlink_to(ROOT / "results" / "reference")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def has(kind: str, *, run: bool = False) -> list[str]:
    """The pages with a block of a language; with `run` those whose blocks are run here."""
    pages = dict.fromkeys(block.page for block in EVERY if block.language == kind)
    return [page for page in pages if not run or not (page in ELSEWHERE or NEEDS_RUNS in (ROOT / page).read_text())]


@pytest.mark.parametrize("folder", has("console"), indirect=True)
def test_commands_exist_and_take_their_words(folder: Path, request: pytest.FixtureRequest) -> None:
    page = request.node.callspec.params["folder"]
    with composer():
        for block in EVERY:
            for command in commands(block) if block.page == page else ():
                check(shlex.split(command), f"{block}: {command}")


def check(words: list[str], where: str) -> None:
    """Fail unless the command is one of ours and takes its words."""
    if words[0] == "make":
        # The variables of a Make that runs the tests stay out of it.
        env = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
        line = ["make", "--no-print-directory", "-n", "-o", ".venv/.installed", *words[1:]]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True, env=env)
        words = shlex.split(done.stdout.strip().splitlines()[-1])
        words = words[next(n for n, word in enumerate(words) if word.endswith("python")) :]
    assert words[0].endswith("python") and words[1] == "-m", where
    assert importlib.util.find_spec(words[2]) is not None, where
    given = words[3:]
    if words[2] == "experiments":
        assert given[0] in VERBS, where
        given = parser_of(given[0]).read(given[1:]).overrides
    elif words[2] != "experiments.train":
        return
    for word in given:
        key, _, value = word.partition("=")
        if key in GROUPS:
            assert set(value.strip("[]").split(",")) <= set(options(GROUPS[key])), where
        elif key not in OWN and "," not in value.replace("[", "") and "(" not in value:
            composed(["table=quick", word])


@pytest.mark.parametrize("folder", has("python", run=True), indirect=True)
def test_python_runs_as_it_stands(folder: Path, request: pytest.FixtureRequest) -> None:
    """In one namespace per page, as in a session; what is shown below a block is what it prints."""
    space: dict[str, object] = {"__name__": "__main__"}
    for block in EVERY:
        if block.page == request.node.callspec.params["folder"] and block.language == "python":
            if block.file or TRAINS in block.text:
                continue  # imported by the page's commands; run by a slow test
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
                exec(compile(block.text, str(block), "exec", dont_inherit=True), space)
            if block.shown is not None:
                assert_prints(block, said.getvalue())


PRINTING = [page for page in has("console", run=True) if any(b.shown for b in EVERY if b.page == page and commands(b))]


def assert_prints(block: Block, got: str) -> None:
    """Fail unless the output is what the page shows."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(block.shown or "", got, flags), f"{block} prints\n{got}"


def in_a_shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line as pasted, `python` being the one that runs the tests."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "160"}
    return subprocess.run(["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("folder", PRINTING, indirect=True)
def test_commands_print_what_is_shown(folder: Path, request: pytest.FixtureRequest) -> None:
    for block in EVERY:
        if block.page == request.node.callspec.params["folder"] and block.language == "console" and block.shown:
            done = in_a_shell(block.text, folder)
            assert done.returncode == 0, f"{block}: {done.stderr}"
            assert_prints(block, done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_quickstart_runs_as_pasted_on_the_small_table(tmp_path: Path) -> None:
    """Every command of the page in a checkout, `smoke` in place of `quick`, but for those that train for minutes."""
    for path in ROOT.iterdir():
        if path.name not in ("results", "conf", ".git"):
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    page = ROOT / "docs" / "quickstart.md"
    for block in blocks(page):
        if block.file:
            (tmp_path / block.file).write_text(block.text)
        for line in commands(block):
            if "compare" in line or "reproduce table=mine" in line or "experiments.train" in line:
                continue
            small = line.replace("quick", "smoke")
            if small.startswith("make ") and "TABLE=" not in small and "check-claims" not in small:
                small += " TABLE=smoke"
            done = in_a_shell(small, tmp_path)
            assert done.returncode == 0, f"{block}: {small}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "results" / "exports" / "smoke.html").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not hasattr(experiments, "compare"), reason="experiments.compare is not there")
@pytest.mark.parametrize("folder", ["README.md"], indirect=True)
def test_a_model_of_ones_own_is_compared_as_the_readme_says(folder: Path) -> None:
    (block,) = (block for block in EVERY if block.page == "README.md" and TRAINS in block.text)
    (folder / "run.py").write_text(block.text)
    done = in_a_shell("python run.py", folder)
    assert done.returncode == 0, done.stderr
    if block.shown is not None:
        assert_prints(block, done.stdout)


def test_the_module_of_the_readme_reads_no_later_token() -> None:
    import torch

    (block,) = (block for block in EVERY if block.page == "README.md" and block.file == "my.py")
    space: dict[str, object] = {"__name__": "my"}
    exec(compile(block.text, "my.py", "exec", dont_inherit=True), space)
    mixer = space["MyMixer"](16)
    x_Bnd = torch.randn(2, 12, 16)
    y_Bnd = mixer(x_Bnd)
    x_Bnd[:, 7:] = 0
    assert y_Bnd.shape == x_Bnd.shape
    assert torch.equal(y_Bnd[:, :7], mixer(x_Bnd)[:, :7]) and not torch.equal(y_Bnd[:, 7:], mixer(x_Bnd)[:, 7:])


def test_the_table_of_the_quickstart_is_valid() -> None:
    (block,) = (block for block in EVERY if block.file == "conf/table/mine.yaml")
    table = TableSettings.model_validate(yaml.safe_load(block.text))
    assert table.columns[1].split == "test/ood_near" and list(table.groups) == ["Ours", "Baselines"]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def links() -> Iterator[tuple[str, str]]:
    """Every link of the pages into the checkout."""
    for page in [*PAGES, ROOT / "results" / "reference" / "README.md", ROOT / "benchmarks" / "README.md"]:
        for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text())):
            if "://" not in target:
                yield str(page.relative_to(ROOT)), target


@pytest.mark.parametrize(("page", "target"), sorted(set(links())))
def test_a_link_leads_somewhere(page: str, target: str) -> None:
    name, _, anchor = target.partition("#")
    file = (ROOT / page).parent / name if name else ROOT / page
    assert file.exists(), f"{page} names {name}"
    assert not anchor or anchor in anchors(file), f"{page}: {file.name} has no heading {anchor}"


def test_every_page_is_named_by_another() -> None:
    named = {((ROOT / page).parent / target.partition("#")[0]).resolve() for page, target in links()}
    lost = [page.name for page in PAGES if page.resolve() not in named and page.name != "README.md"]
    assert not lost


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 120 and max(map(len, lines)) <= 120


def test_the_tree_of_the_readme_is_the_tree() -> None:
    (block,) = (block for block in EVERY if block.page == "README.md" and "conf/ " in block.text)
    for name in re.findall(r"(?:^|; | )([a-z]+)/", block.text, flags=re.MULTILINE):
        assert (ROOT / name).is_dir() or (ROOT / "results" / name).is_dir(), name
