"""What is packed says what the data were, and not where they lay."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
from toy import TASK, make_record, make_spec, table_plan

from experiments.__main__ import program
from experiments.planning.plan import Plan, load_plan, plan_files
from experiments.store import atomic_files as atomic
from experiments.store.identity import named
from experiments.store.portable import last_part
from experiments.store.store import Store
from experiments.studies.verify import verify_all

HOME = "/" + "home/jane.doe"


def placed(store: Store, path: str) -> Plan:
    """A finished plan of runs whose data lie at the path."""
    runs = []
    for seed in range(2):
        task = {**TASK, "path": path, "file": f"{path}/train.txt"}
        spec = make_spec(seed=seed)
        changes = {"places": ["path", "file"], "config": {**spec.config, "task": task}}
        runs.append(named(spec.model_copy(update=changes)))
        assert store.write_record(make_record(runs[-1], 0.5 + seed / 10))
    plan = table_plan().model_copy(update={"runs": runs})
    name, line = plan.frozen()
    atomic.write_bytes(store.root / "plans" / name, line)
    return plan


def test_the_archive_names_no_home_and_is_sound(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, to, back = placed(store, f"{HOME}/data/books"), tmp_path / "to", tmp_path / "back"
    assert HOME.encode() in b"".join(path.read_bytes() for path in store.root.rglob("*.json"))
    assert program(["pack", f"results_dir={store.root}", f"--to={to}"]) == 0
    assert program(["unpack", f"results_dir={to}", f"--to={back}"]) == 0
    for root in (to, back):
        packed = b"".join(
            gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        )
        assert b"jane" not in packed and b"books" in packed
        found = Store(root, write=False)
        assert found.ids() == sorted(spec.id for spec in plan.runs)
        for spec in plan.runs:
            ours, theirs = store.record(spec.id), found.record(spec.id)
            assert ours is not None and theirs is not None
            assert theirs.result_hash == ours.result_hash and theirs.spec.id == named(theirs.spec).id == spec.id
            assert theirs.spec.config["task"]["path"] == "books"
            assert theirs.spec.config["task"]["file"] == "train.txt"
        (path,) = plan_files(root / "plans")
        assert path.name == plan.file_name and load_plan(path).unique()[0].config["task"]["path"] == "books"
        capsys.readouterr()
        verify_all(found)
        said = capsys.readouterr().out
        assert said.endswith("sound\n") and "2 records of 2 runs hashed again" in said, said
    assert program(["pack", f"results_dir={back}"]) == 0  # and packed again it is the same
    assert (back / "archive" / "records.jsonl.gz").read_bytes() == (to / "archive" / "records.jsonl.gz").read_bytes()


def test_a_changed_place_is_still_found(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The hashes were taken again when it was packed, over what is in the archive now."""
    placed(store, f"{HOME}/data/books")
    program(["pack", f"results_dir={store.root}"])
    shutil.rmtree(store.root / "runs")
    path = store.root / "archive" / "specs.jsonl.gz"
    lines = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(lines.replace(b'"path":"books"', b'"path":"other"')))
    assert verify_all(Store(store.root, write=False)) == 1 and "specs.jsonl" in capsys.readouterr().out


def test_what_has_no_place_keeps_its_bytes(store: Store, tmp_path: Path) -> None:
    record = make_record(make_spec(), 0.5)
    store.write_record(record)
    program(["pack", f"results_dir={store.root}", f"--to={tmp_path / 'to'}"])
    found = Store(tmp_path / "to", write=False).record(record.id)
    assert found == record.sealed() and json.loads(record.model_dump_json())["spec"]["places"] == []


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        (f"{HOME}/data/books", "books"), (f"{HOME}/data/books/", "books"), (f"{HOME}/books", "books"), (HOME, ""),
        (f"/{'home'}", ""), ("/", ""), ("", ""), ("books", "books"), ("a/b", "a/b"), (f"/{'Users'}/jane", ""),
        (f"/{'root'}", ""),
    ],
)  # fmt: skip
def test_the_last_part(path: str, kept: str) -> None:
    """Of a path so short that its last part may be a user's name nothing is kept."""
    assert last_part(path) == kept
