"""`language/pycode`: what is read of installed packages, what is not, and that no copy of a file spans two splits."""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from fakesite import VERSIONS, module, site
from hubdata import refuses

from tasks.hub.files import MissingData
from tasks.hub.installed import installed, licence_of
from tasks.hub.near_duplicates import near_duplicates
from tasks.language.pycode import LOCKED, PURE, TEXT, WIDE, PyCode
from tasks.size import split_sizes, too_small


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = site(tmp_path / "site")
    monkeypatch.setattr(sys, "path", [str(folder)])
    return folder


@pytest.fixture(scope="module")
def real() -> PyCode:
    task = PyCode(length=128)
    if task.versions != {name: LOCKED[name] for name in PURE}:
        pytest.skip(f"other packages than the lock pins: {task.versions}")
    return task


def runs(text: str) -> set[tuple[str, ...]]:
    """Four lines in a row, without blanks: by zip and not by hashes."""
    lines = ["".join(line.split()) for line in text.split("\n") if line.strip()]
    return {four for four in zip(lines, lines[1:], lines[2:], lines[3:], strict=False) if sum(map(len, four)) > 100}


def spanning(task: PyCode) -> list[tuple[str, str]]:
    """Held-out files with files of another split of which the smaller one stands to a fifth in the other."""
    owner = {name: part for part, groups in task.owners.items() for names in groups for name in names}
    sizes: dict[str, int] = {}
    holders: dict[tuple[str, ...], list[str]] = {}
    for source in task.sources:
        if owner[source.file] != "train":
            for run in runs(source.text):
                holders.setdefault(run, []).append(source.file)
    shared: Counter[tuple[str, str]] = Counter()
    for source in task.sources:
        found = runs(source.text)
        sizes[source.file] = len(found)
        held = (name for run in found & holders.keys() for name in holders[run])
        shared.update((name, source.file) for name in held if owner[name] != owner[source.file])
    return [pair for pair, count in shared.items() if count > max(4, min(sizes[name] for name in pair) / 5)]


def test_only_prose_of_programmers_is_read_and_nothing_imported(packages: Path) -> None:
    files = [source.file for source in installed("sympy")]
    assert files == sorted(["sympy/__init__.py", *(f"sympy/part{n % 5}/module{n}.py" for n in range(60))])
    assert {(s.version, s.licence) for s in installed("networkx")} == {("3.6.1", "BSD-3-Clause")}
    (packages / "sympy" / "bad.py").write_bytes(b"x = '\xff'\n" * 100)
    refuses(lambda: PyCode().sources, "task pycode", "bad.py", "UTF-8")


def test_no_copy_spans_two_splits(packages: Path) -> None:
    task = PyCode(length=64)
    owner = {name: part for part, groups in task.owners.items() for names in groups for name in names}
    for n in range(0, 60, 5):
        assert owner[f"networkx/copy{n}.py"] == owner[f"sympy/part{n % 5}/module{n}.py"]
    assert spanning(task) == [] and all(len(task.owners[part]) > 3 for part in ("validation", "test"))
    everything = "".join(text.raw.decode("latin-1") for text in task.texts.values())
    assert all(source.text.encode().decode("latin-1") in everything for source in task.sources)


def test_groups_are_chains_and_the_smallest_copies() -> None:
    one, other, small = (
        module("one"),
        module("other"),
        "x = 'a line of code that is long enough to count as a run'\n" * 4,
    )
    texts = {"a": one, "b": one + other, "c": other, "d": module("d"), "e": small, "f": small, "g": "x\n", "h": "x\n"}
    assert near_duplicates(texts) == [["a", "b", "c"], ["d"], ["e", "f"], ["g", "h"]]
    head = "\n".join(f"# a licence that everybody has, line {n} of its words" for n in range(9)) + "\n"
    assert len(near_duplicates({f"{n:03}": head + module(str(n)) for n in range(120)})) == 120


def test_text_is_the_same_whatever_the_file_system_says(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = PyCode(length=64).fingerprint()
    found = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: reversed(sorted(found(self, pattern))))
    for path in (packages / "networkx").glob("*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert PyCode(length=64).fingerprint() == before
    (packages / "sympy" / "part0" / "module0.py").write_text(module("new"))
    assert PyCode(length=64).fingerprint() != before


def test_another_text_than_the_locks_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = site(tmp_path, VERSIONS | {"sympy": "1.15"})
    monkeypatch.setattr(sys, "path", [str(folder)])
    task = PyCode(length=64)
    assert task.texts
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "sympy 1.15, not 1.14.0" in told and "do not compare" in told
    monkeypatch.setitem(TEXT, PURE, task.digest)
    same = PyCode(length=64)
    assert same.texts and same.fingerprint() == task.fingerprint() and not capsys.readouterr().err


def test_a_packed_file_is_the_same_data(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = PyCode(length=64)
    data, fingerprint = here.packed(), here.fingerprint()
    path = tmp_path / "packed.jsonl.gz"
    path.write_bytes(data)
    rows = [json.loads(line) for line in gzip.decompress(data).decode().splitlines()]
    assert [row["text"] for row in rows[:2]] == [f"Copyright the authors of {name}\n" for name in PURE]
    monkeypatch.setattr(sys, "path", [])
    there = PyCode(length=64, path=str(path))
    assert there.fingerprint() == fingerprint and "packed.jsonl.gz" in there.card.train
    assert "sympy 1.14.0: BSD-3-Clause" in there.card.licence
    refuses(lambda: PyCode(wide=True, path=str(path)).sources, "task pycode", "pandas, scipy, statsmodels")
    refuses(lambda: PyCode(path=str(tmp_path / "none.jsonl")).sources, "task pycode", "pack-text")
    with pytest.raises(MissingData, match=r"sympy is not installed: make install .* task=pydocs"):
        print(PyCode().sources)


def test_groups_are_remembered_and_a_full_disk_is_no_failure(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESSFORMER_CACHE", str(tmp_path / "file"))
    alone = PyCode().groups
    monkeypatch.setenv("RESSFORMER_CACHE", str(tmp_path / "cache"))
    assert PyCode().groups == alone
    monkeypatch.setattr("tasks.language.pycode.near_duplicates", None)
    assert PyCode().groups == alone


def test_licences_have_short_names() -> None:
    from email.message import Message

    def about(**fields: str) -> Message:
        message = Message()
        for key, value in fields.items():
            message[key.replace("_", "-")] = value
        return message

    whole = about(License="Copyright (c) 2001\n" * 30, Classifier="License :: OSI Approved :: BSD License")
    assert licence_of(whole) == "BSD License"  # type: ignore[arg-type]
    assert licence_of(about(License="BSD")) == "BSD"  # type: ignore[arg-type]
    assert "not named" in licence_of(about())  # type: ignore[arg-type]


def test_the_locked_text_is_the_stated_one(real: PyCode) -> None:
    assert real.digest == TEXT[PURE] and real.difference == ""
    sizes = {part: len(text.raw) for part, text in real.texts.items()}
    assert sizes == {"train": 15986203, "validation": 1229167, "test": 2459338}
    assert spanning(real) == []


def test_the_locked_text_carries_a_verdict_at_every_length(real: PyCode) -> None:
    assert len(real.owners["test"]) >= 100 and len(real.owners["validation"]) >= 50
    for length, more in product((128, 256, 512, 1024, 2048), (False, True)):
        task = PyCode(length=length, batch_size=8, long_context=more)
        task.__dict__.update(texts=real.texts, streams=real.streams)
        assert too_small(split_sizes(task, splits=("validation", "test/id"))) == []


@pytest.mark.slow
def test_the_wide_text_is_the_stated_one() -> None:
    task = PyCode(wide=True)
    if task.versions != {name: LOCKED[name] for name in WIDE}:
        pytest.skip(f"other packages than the lock pins: {task.versions}")
    assert task.digest == TEXT[WIDE] and spanning(task) == []
