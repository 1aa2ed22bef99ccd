"""Commands in the docs: each fenced one names a verb or a program that exists and composes with what it is given."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from experiments.__main__ import VERBS
from experiments.planning.hydra_config import composed, composer, options
from experiments.planning.settings import TableSettings

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("quickstart", "fair-comparison", "add-a-model", "add-a-task", "report", "footguns", "exports")
OWN = ("figures", "results_dir", "trials", "sweep", "a", "b", "tasks", "budget")


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```console\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text(), flags=re.DOTALL):
            found += [(page, line.strip()) for line in block.splitlines() if line.strip()]
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_the_command_exists_and_composes(page: str, command: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        words = ["make", "--no-print-directory", "-n", "-o", ".venv/.installed", *words[1:]]
        # The variables of a Make that runs the tests stay out of it.
        env = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, env=env)
        words = shlex.split(done.stdout.strip().splitlines()[-1])
    assert words[0].endswith("python") and words[1] == "-m"
    if words[2] == "experiments":
        assert words.pop(3) in VERBS, command
    assert importlib.util.find_spec(words[2]) is not None
    with composer():
        for word in (word for word in words[3:] if "=" in word):
            key, _, value = word.partition("=")
            if key in ("model", "task", "budget", "table", "a", "b", "tasks"):
                group = {"a": "model", "b": "model", "tasks": "task"}.get(key, key)
                assert set(value.strip("[]").split(",")) <= set(options(group)), word
            elif key not in OWN and "," not in value.replace("[", ""):
                composed(["table=quick", word])


def test_every_page_has_commands_or_code() -> None:
    assert {page for page, _ in commands()} == set(PAGES)


def test_the_table_of_the_quickstart_is_valid() -> None:
    block = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "quickstart.md").read_text(), flags=re.DOTALL)
    assert block is not None
    table = TableSettings.model_validate(yaml.safe_load(block[1]))
    assert table.columns[1].split == "test/ood_near" and list(table.groups) == ["Ours", "Baselines"]


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for name in re.findall(r"`docs/([\w-]+\.md)`", (ROOT / "docs" / f"{page}.md").read_text()):
            assert (ROOT / "docs" / name).exists(), f"{page}.md names docs/{name}"
