"""Values on their way into Hydra: what is quoted comes back as it was, whatever it holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from toy import frozen_plan, make_spec

from experiments.errors import UserError
from experiments.launching.launch import Launch
from experiments.planning.hydra_config import composed, composer, plain
from experiments.planning.hydra_values import literal, quoted
from experiments.planning.plan import read_request
from experiments.planning.settings import LauncherSettings, TableSettings
from experiments.planning.sweep_request import read_axes, read_sweep
from experiments.store.store import Store
from experiments.studies.named_plan import results_dir

NAMES = [
    *("a,b", "a=b", "é", "a(b", "a)b", "a#b", "a[b", "a]b", "a{b", "a}b", "a b", "a:b", "a;b", "a&b", "a|b", "a?b*"),
    *("a'b", 'a"b', "a\\b", "a\\", "a'", "'", "a$b", "${x}", "\\${x}", "a@b", "~a", "+a", "-a", "a%b", "1e5", "true"),
    *("74940981e1871154", "range(0,3)", "choice(a)", "[a,b]", "{a:b}", "日本", " a", "a ", "null x", "a`b", "a!b"),
]


def read_back(argument: str) -> str:
    """What the config holds after Hydra has read the argument."""
    (override,) = OverridesParser.create().parse_overrides([argument])
    assert not override.is_sweep_override()
    values = OmegaConf.create({"key": override.value()})
    return str(OmegaConf.to_container(values, resolve=True)["key"])


@pytest.mark.parametrize("name", NAMES)
def test_a_quoted_value_comes_back(name: str) -> None:
    assert read_back(f"key={quoted(name)}") == name


@settings(max_examples=500, deadline=None)
@given(st.text(st.one_of(st.sampled_from("\\'\"${}[](),=#: ~ab"), st.characters(exclude_categories=["C", "Z"]))))
def test_any_printable_text_comes_back(text: str) -> None:
    assert read_back(f"key={quoted(text)}") == text


@pytest.mark.parametrize("name", [name for name in NAMES if "${" not in name and name != "'"])
def test_a_results_folder_is_taken_as_it_stands(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tmp_path / name)
    word = f"results_dir={folder}"
    with composer():
        assert plain(composed([word]))["results_dir"] == folder
    assert read_request(["table=smoke", word]).results_dir == folder
    assert str(results_dir([word])) == folder
    axes, fixed = read_axes(["model=a,b", "task=chain", word])
    assert set(axes) == {"model", "task"} and fixed == [literal(word)]
    request = read_sweep(["model=transformer", "task=chain", word])
    assert read_request(request.overrides, request.table).results_dir == folder


@pytest.mark.parametrize("value", ["", "null", "NULL", "None", "~", "a\nb", "a\0b"])
@pytest.mark.parametrize("key", ["results_dir", "plan", "hydra.sweep.dir"])
def test_what_is_no_path_is_refused(key: str, value: str) -> None:
    with pytest.raises(UserError, match=key) as error:
        literal(f"{key}={value}")
    assert "\n" not in str(error.value)


def test_what_is_quoted_or_interpolated_is_left_to_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEWHERE", "a,b")
    for value in ("'a,b'", '"a,b"', "${oc.env:SOMEWHERE}"):
        with composer():
            assert plain(composed([f"results_dir={value}"]))["results_dir"] == "a,b"


def test_an_empty_variable_names_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESSFORMER_RESULTS", "")
    with pytest.raises(UserError, match="results_dir"):
        read_request(["table=smoke"])


def test_a_data_file_that_exists_is_no_list(tmp_path: Path) -> None:
    path = tmp_path / "a,b=c.txt"
    path.write_text("x")
    axes, fixed = read_axes(["model=a", "task=text", f"task.path={path}"])
    assert "task.path" not in axes and fixed == [f"task.path={quoted(path)}"]
    axes, _ = read_axes(["model=a", "task=text", "task.path=one.txt,two.txt"])
    assert axes["task.path"] == ["one.txt", "two.txt"]


@pytest.mark.parametrize("name", ["a,b=c é(#[{ d", "it's", "x${y}"])
def test_a_launch_reads_its_words_back(name: str, tmp_path: Path) -> None:
    store = Store(tmp_path / name)
    plan, path = frozen_plan(store, [make_spec(seed=seed) for seed in (0, 1)])
    command = Launch(plan, path, store, LauncherSettings(name="basic", hydra=["hydra/launcher=basic"])).command(
        plan.runs, 1
    )
    words = dict(word.split("=", 1) for word in command if "=" in word)
    assert read_back(f"plan={words['plan']}") == str(path)
    assert read_back(f"dir={words['hydra.sweep.dir']}").startswith(str(store.root / "launches"))
    (runs,) = OverridesParser.create().parse_overrides([f"run={words['run']}"])
    assert [str(value).strip("'") for value in runs.sweep_string_iterator()] == [spec.id for spec in plan.runs]


def test_a_table_runs_in_a_folder_of_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "a,b=c é(#[{ it's"
    words = ["table=smoke", "table.models=[transformer]", "table.tasks=[chain]", "launcher=basic"]
    words += ["budget.train_flops=8e9", "budget.tolerance_flops=0.9", f"results_dir={folder}"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "reproduce", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list((folder / "exports").glob("smoke++*-aggregate.csv")) and len(list((folder / "runs").iterdir())) == 1
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_table_has_a_name_of_its_own() -> None:
    assert isinstance(read_request(["table=smoke", "table.name=a+b-1.0_c"]).table, TableSettings)
