"""Lock files: they say when they are stale, and stale they are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from experiments.commands import budget
from experiments.errors import UserError
from experiments.planning.hydra_config import composer, options
from experiments.studies import budget_locks as lock


@pytest.fixture
def composing() -> Iterator[None]:
    with composer():
        yield


@pytest.mark.parametrize("name", ["tiny", "mini", "small", "base"])
@pytest.mark.usefixtures("composing")
def test_one_task_of_every_lock_file_is_up_to_date(name: str) -> None:
    assert list(lock.stale(name, count=False, only=["chain"])) == [], "make budgets"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["tiny", "mini", "small", "base"])
@pytest.mark.usefixtures("composing")
def test_every_lock_file_is_up_to_date_and_complete(name: str) -> None:
    assert list(lock.stale(name)) == [], "make budgets"


@pytest.mark.usefixtures("composing")
def test_the_presets_are_these_and_lock_files_are_no_options() -> None:
    assert lock.presets() == ["tiny", "mini", "small", "base"]
    assert sorted(options("budget")) == ["base", "mini", "off", "small", "tiny"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(solver=0), "tiny: solver is not what it was"),
        (lambda c: c["budget"].update(params=1), "tiny: budget is not what it was"),
        (lambda c: c["models"]["looped"]["chain"].update(steps=1, params=2), "tiny: looped on chain: params, steps"),
        (lambda c: c["models"].pop("looped"), None),
    ],
)
def test_a_stale_lock_file_is_found_out(
    change: object, words: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_text = lock.path_of("tiny").read_text()
    content = yaml.safe_load(lock_text)
    change(content)  # type: ignore[operator]
    path = tmp_path / "tiny.lock.yaml"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.setattr(lock, "path_of", lambda name: path)
    now = yaml.safe_load(lock_text)
    now["models"] = {model: {"chain": by_task["chain"]} for model, by_task in now["models"].items()}
    for by_task in now["models"].values():
        by_task["chain"] = {key: value for key, value in by_task["chain"].items() if key not in lock.COUNTED}
    monkeypatch.setattr(lock, "lock_of", lambda name, **options: now)
    found = list(lock.stale("tiny", count=False, only=["chain"]))
    assert found == ([words] if words else [])
    path.unlink()
    assert list(lock.stale("tiny")) == ["tiny: there is no lock file"]


@pytest.mark.usefixtures("composing")
def test_what_is_missing_is_added_and_the_rest_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = yaml.safe_load(lock.path_of("tiny").read_text())
    content["models"] = {key: {"listops": by_task["listops"]} for key, by_task in content["models"].items()}
    kept = content["models"]["reformer"]["listops"] = {"kept": True}
    lost = content["models"].pop("transformer_conv")["listops"]
    monkeypatch.setattr(lock, "path_of", lambda name: tmp_path / f"{name}.lock.yaml")
    monkeypatch.setattr(lock, "tasks", lambda only=(), whole=lock.tasks: whole(["listops"]))
    lock.write("tiny", content)
    found = lock.completed("tiny")
    assert found["models"]["transformer_conv"]["listops"] == lost and found["models"]["reformer"]["listops"] == kept
    lock.write("tiny", {**content, "solver": 0})
    with pytest.raises(UserError, match=r"tiny\.lock\.yaml is not of this solver and budget: make budgets"):
        lock.completed("tiny")


def test_unknown_words_are_refused() -> None:
    with pytest.raises(UserError, match="verb"):
        budget.run(["knock"])
    with pytest.raises(UserError, match="tinny"):
        budget.run(["check", "tinny"])
