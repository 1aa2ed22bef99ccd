"""Archives that were damaged on their way: every verb that reads one says so in a line, and hands on nothing wrong."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from toy import fill, table_plan

from experiments.__main__ import program
from experiments.errors import LONGEST_LINE, explain
from experiments.reporting.table import build, write
from experiments.store import atomic_files as atomic
from experiments.store.archive import Archive
from experiments.store.pack import of_archive, write_archive
from experiments.store.store import Store
from experiments.studies.archiving import unpack_folder
from experiments.studies.verify import verify_all

LOG = '{"step": 4, "train/loss": 1.5}\n{"step": 5, "val/accuracy": 0.5}\n'
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half of it": lambda data: data[: len(data) // 2],
    "without its end": lambda data: data[:-9],
    "another magic": lambda data: b"GIF8" + data[4:],
    "another end": lambda data: data[:-4] + b"GIF8",
    "a bit flipped": lambda data: (
        data[: len(data) // 3] + bytes([data[len(data) // 3] ^ 8]) + data[len(data) // 3 + 1 :]
    ),
    "a digit edited": lambda data: data.replace(b"0.5", b"0.7").replace(b"1", b"2"),
    "zeros": lambda data: bytes(len(data)),
    "twice": lambda data: data + data,
    "other text": lambda data: b"[1, 2]\nnull\n\xff\xfe\n",
    "valid but other lines": lambda data: b'{"a": 1}\n{"record": {}, "seal": 3}\n',
}
FILES = (
    "records.jsonl.gz",
    "specs.jsonl.gz",
    "parts.jsonl.gz",
    "plans.jsonl.gz",
    "items.parquet",
    "steps.parquet",
    "graphs.parquet",
)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with an archive and nothing else."""
    store, plan = Store(tmp_path_factory.mktemp("whole") / "results"), table_plan()
    fill(store, plan)
    for spec in plan.runs:
        (store.folder(spec.id) / "metrics.jsonl").write_text(LOG)
    graph = {"split": "test/id", "item": 0, "words": ["a", "b"], "steps": [[[0, 1, 0.5]]]}
    atomic.write_text(store.folder(plan.runs[0].id) / "graph.json", json.dumps(graph))
    name, line = plan.frozen()
    atomic.write_bytes(store.root / "plans" / name, line)
    write(build(plan, store), "toy", store)
    to = tmp_path_factory.mktemp("packed") / "results"
    assert program(["pack", f"results_dir={store.root}", f"--to={to}"]) == 0
    return to


def answer(body: Callable[[], int]) -> tuple[int, list[str]]:
    """What a program says and its exit code; a traceback fails the test."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = body()
        except Exception as error:
            line = explain(error)
            assert line is not None, f"a traceback: {error!r}"
            assert line.isprintable() and len(line) < LONGEST_LINE
            return 2, [line]
    return code, said.getvalue().splitlines()


def damaged(packed: Path, root: Path, name: str, change: Callable[[bytes], bytes] | None, fits: bool = False) -> Path:
    """A copy whose file `name` is changed (None: removed); `fits`: with a sum in the list of files that fits it.

    What fits is a zip of changed lines, since any change of a zip itself is one that does not.
    """
    shutil.copytree(packed, root)
    path, index = root / "archive" / name, root / "archive" / "archive.json"
    if change is None:
        path.unlink()
    elif fits and name.endswith(".gz"):
        path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))
    else:
        path.write_bytes(change(path.read_bytes()))
    if fits:
        files = json.loads(index.read_text())
        files["files"][name] = hashlib.sha256(path.read_bytes()).hexdigest()
        index.write_text(json.dumps(files))
    return root


def unpacked(root: Path, to: Path) -> tuple[int, list[str]]:
    """What `unpack` says."""
    return answer(lambda: unpack_folder(root, to))


def verified(root: Path) -> tuple[int, list[str]]:
    """What `verify` says."""
    return answer(lambda: verify_all(Store(root, write=False)))


@pytest.mark.parametrize("how", [*DAMAGE, "missing"])
def test_a_damaged_file_is_told_in_a_line(packed: Path, tmp_path: Path, how: str) -> None:
    """`unpack` writes nothing, `verify` names what is wrong; nobody shows a traceback."""
    for name in FILES:
        change, before = DAMAGE.get(how), (packed / "archive" / name).read_bytes()
        if change is not None and change(before) == before:
            continue
        root, to = damaged(packed, tmp_path / name, name, change), tmp_path / f"{name} unpacked"
        code, said = unpacked(root, to)
        assert code == 2 and len(said) == 1 and name in said[0] and not to.exists(), (name, said)
        code, said = verified(root)
        assert code == 1 and any(name in line for line in said) and said[-1].endswith(" faults"), (name, said)


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_whose_sum_was_made_to_fit(packed: Path, tmp_path: Path, how: str) -> None:
    """Records are sealed one by one: those that come out are those that were packed."""
    whole = {path.parent.name: path.read_bytes() for path in unpacked_records(packed, tmp_path / "whole")}
    for name in FILES:
        root, to = damaged(packed, tmp_path / name, name, DAMAGE[how], fits=True), tmp_path / f"{name} unpacked"
        code, said = unpacked(root, to)
        assert code in (0, 2) and len(said) == 1, (name, said)
        assert all(whole[path.parent.name] == path.read_bytes() for path in to.glob("runs/*/record.json"))
        verified(root)


def unpacked_records(root: Path, to: Path) -> list[Path]:
    assert unpacked(root, to)[0] == 0
    return list(to.glob("runs/*/record.json"))


@pytest.mark.parametrize("how", ["half of it", "missing"])
@pytest.mark.parametrize("verb", ["unpack", "verify", "status", "runs", "export", "pack"])
def test_the_command_line(packed: Path, tmp_path: Path, verb: str, how: str) -> None:
    root = damaged(packed, tmp_path / "results", "items.parquet", DAMAGE.get(how))
    code, said = answer(lambda: program([verb, f"results_dir={root}"]))
    assert code == (0 if verb == "status" else 1 if verb == "verify" else 2), said
    assert verb == "status" or any("items.parquet" in line for line in said)


@pytest.mark.parametrize(
    "index",
    [b"", b"{", b"[]", b"3", b"null", b'{"files": []}', b'{"files": {}, "schema_version": 99}', b"\xff\xfe",
     b'{"files": {"../../etc/passwd": "0"}, "schema_version": 1}',
     b'{"files": {"a\\u0000b": "0"}, "schema_version": 1}'],
)  # fmt: skip
def test_a_damaged_list_of_files(packed: Path, tmp_path: Path, index: bytes) -> None:
    root = damaged(packed, tmp_path / "results", "archive.json", lambda _: index)
    code, said = unpacked(root, tmp_path / "to")
    assert code == 2 and len(said) == 1 and not (tmp_path / "to").exists(), said
    assert verified(root)[0] != 0


def test_no_list_of_files(packed: Path, tmp_path: Path) -> None:
    root = damaged(packed, tmp_path / "results", "archive.json", None)
    for verb in ("unpack", "verify", "status", "runs"):
        code, said = answer(lambda verb=verb: program([verb, f"results_dir={root}"]))
        assert code == 2 and "archive.json cannot be read" in said[0]


@pytest.mark.parametrize(("schema", "plain"), [(2, ""), (3, "records.jsonl"), (4, "plans.jsonl")])
def test_an_archive_of_before_with_less_zipped_is_read(packed: Path, tmp_path: Path, schema: int, plain: str) -> None:
    old, now = tmp_path / "old", Archive.at(packed)
    shutil.copytree(packed, old)
    index = json.loads((old / "archive" / "archive.json").read_text())
    zipped = [name for name in index["files"] if name.endswith(".gz")]
    lines = {f"{name}.jsonl.gz" for name in ("records", "specs", "parts", "plans")}
    assert {name.partition("/")[0] for name in zipped} == {"derived", *lines}
    for name in (name for name in zipped if name.startswith(plain)):
        data = gzip.decompress((old / "archive" / name).read_bytes())
        (old / "archive" / name).unlink()
        (old / "archive" / name.removesuffix(".gz")).write_bytes(data)
        del index["files"][name]
        index["files"][name.removesuffix(".gz")] = hashlib.sha256(data).hexdigest()
    (old / "archive" / "archive.json").write_text(json.dumps({**index, "schema_version": schema}))
    before = Archive.at(old)
    assert before is not None and now is not None and now.ids
    (stem,) = (Path(name).stem for name in now.plans)
    assert before.derived(stem) == now.derived(stem) != {}
    assert all(before.record(run) == now.record(run) for run in now.ids)
    code, said = verified(old)
    assert code == 0 and any("cells: 4 rows derived again" in line for line in said)
    assert write_archive(of_archive(before), tmp_path / "again").files == now.files
