"""Which files are a split; what is refused by name."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from filekinds import jsonl, parquet, saved
from hubdata import (
    babi,
    cogs,
    dump,
    fill,
    hotpot,
    hotpot_row,
    listops,
    musique,
    musique_row,
    prose,
    refuses,
    scan,
    stories,
    tables,
    task,
    texts,
    twowiki,
    wikitext,
    write,
)

from tasks.hub.layout import is_data, label_of
from tasks.registry import load


def tsv(rows: list[dict[str, Any]]) -> str:
    return "".join("\t".join(row.values()) + "\n" for row in rows)


def cogs_files(folder: Path, name: str = "cogs") -> Path:
    """The release: train.tsv beside train_100.tsv."""
    made = cogs(folder / "made")
    rows = {path.stem: pq.read_table(path).to_pylist() for path in made.iterdir()}
    files = {"train": rows["train"], "train_100": rows["train"][:50], "dev": rows["validation"], "test": rows["test"]}
    return fill(folder / name, **{f"{k}__tsv": tsv(v) for k, v in files.items()}, gen__tsv=tsv(rows["gen"]))


def questions(kind: str, count: int, row: Callable[[str], dict[str, Any]] = hotpot_row) -> str:
    return json.dumps([row(f"{kind}{n}") for n in range(count)])


def test_cogs_as_released_asks_which_train_is_meant(tmp_path: Path) -> None:
    folder = cogs_files(tmp_path)
    line = refuses(task("cogs_real", folder).fingerprint, "2 files of the split 'train'", "train.tsv, train_100.tsv")
    assert "task.subset=train or task.subset=train_100" in line
    sizes = [len(task("cogs_real", folder, f"subset={s}").parts["train"]) for s in ("train", "train_100", "'100'")]
    assert sizes == [300, 50, 50]
    (folder / "train_100.tsv").unlink()
    assert len(task("cogs_real", folder).parts["train"]) == 300


def test_settings_of_one_data_set_are_not_joined(tmp_path: Path) -> None:
    """MuSiQue Ans and Full, HotpotQA distractor and fullwiki."""
    folder = musique(tmp_path / "m")
    full = "".join(json.dumps(musique_row(f"full{n}")) + "\n" for n in range(8))
    for part in ("train", "dev"):
        (folder / f"musique_full_v1.0_{part}.jsonl").write_text(full)
    refuses(task("musique", folder).fingerprint, "musique_ans_v1.0_train.jsonl, musique_full_v1.0_train.jsonl")
    assert task("musique", folder, "subset=ans").splits["test/id"] == 30
    assert task("musique", folder, "subset=musique_full").splits["test/id"] == 8
    folder = tmp_path / "h"
    fill(folder, hotpot_train_v1__1__json=questions("a", 80), hotpot_dev_distractor_v1__json=questions("b", 9))
    fill(folder, hotpot_dev_fullwiki_v1__json=questions("c", 7), hotpot_test_fullwiki_v1__json=questions("d", 7))
    assert task("hotpotqa", folder).splits["test/id"] == 9
    (folder / "hotpot_dev_distractor_v1.json").unlink()
    refuses(task("hotpotqa", folder).fingerprint, "only those of another subset: hotpot_dev_fullwiki_v1.json")


def test_scan_as_released(tmp_path: Path) -> None:
    """`simple` is not its 64 parts; folders are the release's; another subset's file is none of ours."""
    line, other = "IN: walk OUT: I_WALK\n", "IN: run OUT: I_RUN\n"
    folder = tmp_path / "scan"
    for part in ("train", "test"):
        fill(folder, **{f"length_split___tasks_{part}_length__txt": line * 30})
        fill(folder, **{f"simple_split___tasks_{part}_simple__txt": (line + other) * 9})
        for n in (1, 64):
            fill(folder, **{f"simple_split___size_variations___tasks_{part}_simple_p{n}__txt": line})
            fill(folder, **{f"flat___tasks_{part}_simple_p{n}__txt": line})
        for subset in ("around_right", "jump_around_right"):
            fill(folder, **{f"template_split___tasks_{part}_template_{subset}__txt": other * len(subset)})
        fill(folder, **{f"add_prim_split___tasks_{part}_addprim_jump__txt": line * 5})

    def size(subset: str) -> int:
        made = task("scan_real", folder, f"subset={subset}")
        return len(made._read["train"]) + len(made._read["validation"]) + len(made._read["test/id"])

    # All rows of a file fall into one part here, as they are the same.
    assert size("length") == 30 and size("simple") == 36 and size("addprim_jump") == 5
    assert size("template_around_right") == 12 and size("template_jump_around_right") == 17
    refuses(task("scan_real", folder / "flat", "subset=simple").fingerprint, "2 files", "_p1.txt", "_p64.txt")
    where = fill(tmp_path / "one", tasks_train_simple__txt=line, tasks_test_simple__txt=line)
    refuses(task("scan_real", where, "subset=length").fingerprint, "another subset: tasks_train_simple.txt")


TWO: dict[str, tuple[str, Callable[[Path], Path], dict[str, bytes | str], str]] = {
    # name -> task, its good data, a file beside it that the split's name is in, the split
    "a copy": ("babi_qa", babi, {"en-qa1___train_copy__parquet": b""}, "train"),
    "another kind": ("scan_real", scan, {"length___train__jsonl": b""}, "train"),
    "compressed beside plain": ("listops_real", listops, {"d20s___test__jsonl__gz": b""}, "test"),
    "an older one": ("twowiki", twowiki, {"dev_old__json": b""}, "validation"),
    "file and folder": ("tinystories", stories, {"train___0000__parquet": b""}, "train"),
    "folder of another spelling": ("wikitablequestions", tables, {"dev___0000__parquet": b""}, "validation"),
    "in data": ("wikitext2", wikitext, {"data___test-00000-of-00001__parquet": b""}, "test"),
    "two of a folder": ("pg19", lambda f: f, {"train___a__parquet": b"", "train___b__parquet": b""}, "train"),
    "stale shards": ("hotpotqa", hotpot, {"train-00000-of-00001__parquet": b""}, "train"),
    "capitals": ("cogs_real", cogs, {"GEN__TSV": b""}, "gen"),
    "a second arrow": ("enwik8", dump, {"enwik8-train__arrow": b""}, "train"),
    "a sample for text": ("text", wikitext, {"train_100__parquet": b""}, "train"),
    "two tables for text": ("text", lambda f: f, {"a__jsonl": b"", "b__jsonl": b""}, ""),
    "a table among texts": ("text", lambda f: f, {"a__txt": b"", "b__jsonl": b""}, ""),
    "two texts of a split": ("text", lambda f: f, {"train__txt": b"", "train_more__txt": b""}, "train"),
    "folder and file of text": ("text", lambda f: f, {"train___a__txt": b"", "train__txt": b""}, "train"),
}


@pytest.mark.parametrize("case", TWO)
def test_two_files_of_a_split_are_refused_by_name(case: str, tmp_path: Path) -> None:
    name, make, files, split = TWO[case]
    folder = fill(make(tmp_path / "data"), **files)
    whose = f"files of the split '{split}'" if split else "files of no split's name"
    (shown,) = {key.rpartition("___")[2].replace("__", ".") for key in list(files)[-1:]}
    refuses(task(name, folder).fingerprint, f"task {name}: ", whose, shown, "NAME-00000-of-0000N", "keep one there")


TORN = {
    "the last is gone": ["train-00000-of-00002.parquet"],
    "the first is gone": ["train-00001-of-00002.parquet"],
    "one too many": ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "train-00002-of-00002.parquet"],
    "the first number is gone": ["train/0001.parquet"],
    "a number is gone": ["train/0000.parquet", "train/0002.parquet"],
    "twice by hash": ["train-00000-of-00001-aaaaaaaa.parquet", "train-00000-of-00001-bbbbbbbb.parquet"],
}


@pytest.mark.parametrize("case", TORN)
def test_shards_must_be_whole(case: str, tmp_path: Path) -> None:
    folder = tmp_path / "h"
    (folder / "train").mkdir(parents=True)
    write(folder, validation=[hotpot_row(str(n)) for n in range(9)])
    for n, name in enumerate(TORN[case]):
        (folder / name).write_bytes(parquet([hotpot_row(f"{n} {m}") for m in range(9)]))
    refuses(task("hotpotqa", folder).fingerprint, "shards are not whole", "shard")


def test_a_torn_saved_folder_is_refused(tmp_path: Path) -> None:
    rows = [{"text": prose(str(n), 40)} for n in range(60)]
    for split in ("train", "test", "validation"):
        saved(tmp_path / "d", split, rows)
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train", "test", "validation"]}')
    assert texts(task("text", tmp_path / "d")) == dict.fromkeys(("train", "validation", "test"), 60)
    next((tmp_path / "d" / "train").glob("*.arrow")).unlink()
    refuses(task("text", tmp_path / "d").fingerprint, "not whole", "state.json names data-0000")
    (tmp_path / "d" / "train" / "state.json").write_text("{}")
    refuses(task("text", tmp_path / "d").fingerprint, "state.json: broken")
    saved(tmp_path, "alone", rows)
    assert sum(texts(task("text", tmp_path / "alone")).values()) == 60


@pytest.mark.parametrize(
    "folders", [("train", "validation", "test"), ("Train", "valid", "TEST"), ("train", "dev", "tst")]
)
def test_folder_names_are_splits(folders: tuple[str, ...], tmp_path: Path) -> None:
    for folder, count in zip(folders, (3, 2, 1), strict=True):
        for n in range(count):
            fill(tmp_path, **{f"{folder}___deep___The Test of {n}, or the Train__txt": prose(f"{folder}{n}", 80)})
    assert texts(task("text", tmp_path)) == {"train": 3, "validation": 2, "test": 1}
    assert not task("text", tmp_path).overlap[0]


def test_pg19_reads_its_release(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("validation", 2), ("test", 1)):
        for n in range(count):
            fill(tmp_path, **{f"{part}___{n}0__txt": prose(f"{part}{n}", 500)})
    fill(tmp_path, metadata__csv="10,A Book,1900,http\n", README__md="# notes", LICENSE="terms")
    made = task("pg19", tmp_path)
    assert texts(made) == {"train": 3, "validation": 2, "test": 1}
    assert "read from train: train/00.txt, train/10.txt, train/20.txt; validation: validation/00.txt" in made.card.train


@pytest.mark.parametrize(
    "name", ["test.parquet", "test.txt", "dev.jsonl", "test/0000.parquet", "valid/a.txt", "val.md.gz"]
)
def test_nothing_is_trained_on_a_test_split(name: str, tmp_path: Path) -> None:
    rows = [{"text": prose(str(n), 40)} for n in range(60)]
    path = tmp_path / "d" / name
    path.parent.mkdir(parents=True)
    made = {"parquet": parquet(rows), "jsonl": jsonl(rows), "gz": gzip.compress(b"text " * 99)}
    path.write_bytes(made.get(name.rpartition(".")[2], b"text " * 99))
    refuses(task("text", tmp_path / "d").fingerprint, "none of train", name.rpartition("/")[2])
    assert task("text", path).fingerprint()  # who names the file means it


NOTES = [
    *("README.md", "readme.txt", "README", "ReadMe.rst", "README_en.md", "README-zh.md", "LICENSE", "LICENSE.txt"),
    *("LICENCE.md", "LICENSE.pytorch-examples", "license-mit.txt", "SOURCE.md", "CITATION.md", "NOTICE.txt"),
    *("COPYING.txt", "AUTHORS.md", "CHANGELOG.md", "sha256sums.txt", "SHA256SUMS", ".hidden.txt", "dataset_info.json"),
]


@pytest.mark.parametrize("name", NOTES)
def test_notes_are_no_corpus(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(prose("mine", 900))
    before = task("text", tmp_path).fingerprint()
    (tmp_path / name).write_text("these are terms and no data " * 50)
    assert task("text", tmp_path).fingerprint() == before


@pytest.mark.parametrize("name", ["licensed.txt", "my readme.md", "resource.txt", "the source.md", "noticed.txt"])
def test_texts_with_such_words_in_their_names_are_read(name: str) -> None:
    assert is_data(Path(name), (".txt", ".md"))


def test_relative_folders_count_from_where_the_task_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, seed in (("here", 1), ("there", 2)):
        (tmp_path / place).mkdir()
        (tmp_path / place / "mine.txt").write_text(prose(f"{place}{seed}", 900))
        scan(tmp_path / place / "data" / "scan")
    write(tmp_path / "there" / "data" / "scan" / "length", test=[{"commands": "walk", "actions": "I_WALK"}])
    monkeypatch.delenv("RESSFORMER_DATA", raising=False)
    monkeypatch.chdir(tmp_path / "here")
    own = load("text", ["path=mine.txt", "length=32"]).fingerprint()
    made = [load("text", ["path=mine.txt", "length=32"]), load("scan_real"), load("scan_real", ["path=data/scan"])]
    monkeypatch.setenv("RESSFORMER_DATA", "data")
    made.append(load("scan_real"))
    monkeypatch.chdir(tmp_path / "there")
    assert made[0].fingerprint() == own
    assert [one.splits["test/ood_official"] for one in made[1:]] == [9, 9, 9]  # type: ignore[union-attr]


def test_a_link_that_leads_back_is_not_followed(tmp_path: Path) -> None:
    fill(tmp_path, real___a__txt=prose("a", 900))
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "real" / "again").symlink_to(tmp_path / "real")
    assert texts(task("text", tmp_path)) == {"train": 1, "validation": 1, "test": 1}


def test_labels_are_the_other_words_of_a_name() -> None:
    names = {
        "train_100.tsv": ("100",),
        "musique_ans_v1.0_dev.jsonl": ("musique", "ans"),
        "tasks_train_simple_p64.txt": ("tasks", "simple", "p", "64"),
        "train-00000-of-00002.parquet": (),
        "wiki.valid.raw": ("wiki", "raw"),
        "qa10_indefinite-knowledge_test.txt.gz": ("qa", "10", "indefinite", "knowledge"),
    }
    assert {name: label_of(name) for name in names} == names
