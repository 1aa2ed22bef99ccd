"""What a known set must look like; doubles inside a split; what the card says of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from filekinds import KINDS, parquet
from hubdata import (
    babi,
    cogs,
    dump,
    fill,
    hotpot,
    listops,
    musique_row,
    prose,
    refuses,
    scan,
    stories,
    tables,
    task,
    twowiki,
    wikitext,
    write,
)

LOOKS: dict[str, tuple[str, Callable[[Path], Path], Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    # what is wrong -> task, its good data, what becomes of a row, words of the line
    "enwik8 as numbers": ("enwik8", dump, lambda r: {"text": "60 109 101 100 " * 99}, "numbers, as some preparation"),
    "enwik8 without markup": ("enwik8", dump, lambda r: {"text": "Anarchism is " * 99}, "must begin with <mediawiki"),
    "SCAN of other actions": ("scan_real", scan, lambda r: r | {"actions": "WALK"}, "the actions of"),
    "SCAN of other words": ("scan_real", scan, lambda r: r | {"commands": "fly"}, "no SCAN command"),
    "COGS without variables": ("cogs_real", cogs, lambda r: r | {"logical_form": "rose ( 1 )"}, "variables such as"),
    "COGS of one distribution": (
        *("cogs_real", cogs, lambda r: r | {"distribution": "in_distribution"}),
        "'gen' cannot have the distribution 'in_distribution'",
    ),
    "COGS trained on gen": ("cogs_real", cogs, lambda r: r | {"distribution": "cp_recursion"}, "'train' cannot have"),
    "MuSiQue without hops": (
        "musique",
        lambda f: questions_of(f),
        lambda r: r | {"id": "5a7"},
        "must begin with 2hop",
    ),
    "HotpotQA as 2Wiki": ("twowiki", hotpot, lambda r: r, "those of 2WikiMultihopQA"),
    "2Wiki as HotpotQA": ("hotpotqa", twowiki, lambda r: r, "those of HotpotQA are bridge"),
    "tables of another set": (
        *("wikitablequestions", tables, lambda r: r | {"table": r["table"] | {"name": "table_1"}}),
        "tables must have names such as",
    ),
    "bAbI that begins later": (
        *("babi_qa", babi, lambda r: {"story": r["story"] | {"id": [str(int(n) + 1) for n in r["story"]["id"]]}}),
        "must begin with statement 1",
    ),
    "bAbI without questions": (
        *("babi_qa", babi, lambda r: {"story": r["story"] | {"text": ["It is."] * len(r["story"]["text"])}}),
        "must end in '?'",
    ),
    "WikiText raw": ("wikitext2", lambda f: wikitext(f, rare="rare "), lambda r: r, "looks like wikitext-N-raw-v1"),
    "WikiText not raw": ("wikitext103", wikitext, lambda r: r, "looks like wikitext-N-v1"),
    "WikiText without headings": ("wikitext2", wikitext, lambda r: {"text": "a <unk> b\n"}, "no heading"),
    "PG-19 in lines": ("pg19", wikitext, lambda r: r, "must be a whole book"),
    "PG-19 with its licence": (
        *("pg19", wikitext),
        lambda r: {"text": "*** START OF THE PROJECT GUTENBERG EBOOK ***\n" + "a book " * 400},
        "header of Project Gutenberg",
    ),
    "PG-19 too young": (
        *("pg19", wikitext, lambda r: {"text": "a book " * 400, "publication_date": 1931}),
        "a book of 1931",
    ),
    "stories unseparated": ("tinystories", stories, lambda r: {"text": "Once " * 9000}, "must be one story"),
    "stories in one": ("tinystories", stories, lambda r: {"text": "Once.<|endoftext|>Twice."}, "must be one story"),
    "ListOps of d8": ("listops_real", listops, lambda r: {"Source": "[LAST 1 2 ]", "Target": 2}, "'[LAST' is none of"),
    "ListOps with another value": ("listops_real", listops, lambda r: r | {"Target": 9 - r["Target"]}, "the value of"),
    "ListOps without brackets": ("listops_real", listops, lambda r: r | {"Source": "1 2 3"}, "is no expression"),
}


def questions_of(folder: Path) -> Path:
    return write(folder, **{part: [musique_row(f"{part}{n}") for n in range(40)] for part in ("train", "validation")})


@pytest.mark.parametrize("case", LOOKS)
def test_known_sets_are_what_they_must_be(case: str, tmp_path: Path) -> None:
    name, make, spoil, words = LOOKS[case]
    folder = make(tmp_path / "data")
    for path in folder.rglob("*.parquet"):
        path.write_bytes(parquet([spoil(row) for row in pq.read_table(path).to_pylist()]))
    refuses(task(name, folder).fingerprint, f"task {name}: ", "is not of", words)


def test_a_cut_of_enwik8_is_not_cut_again(tmp_path: Path) -> None:
    text = "<mediawiki>" + prose("dump", 4000)
    fill(tmp_path, train__txt__raw=text, valid__txt__raw=text[:900], test__txt__raw=text[:900])
    refuses(task("enwik8", tmp_path).fingerprint, "test.txt.raw, valid.txt.raw", "this is a cut")
    for part in ("valid", "test"):
        (tmp_path / f"{part}.txt.raw").unlink()
    assert (
        "90 % of enwik8 are 90000000 bytes: not to be set beside published figures"
        in task("enwik8", tmp_path).card.train
    )


def test_doubles_inside_a_split_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = scan(tmp_path / "s")
    rows = pq.read_table(folder / "length" / "test.parquet").to_pylist()
    write(folder / "length", test=[*rows, *rows[:4], rows[0]])
    made = task("scan_real", folder)
    assert made.splits["test/ood_official"] == 14 and made.report.doubles["test/ood_official"] == 5
    assert "5 stand there more than once" in made.card.out_of_distribution["test/ood_official"]
    assert "test/ood_official: 14 items; 9 of 14 also in train; 5 stand there more" in capsys.readouterr().err
    story = [{"text": prose(str(n), 60)} for n in range(60)]
    folder = write(tmp_path / "t", train=[*story, *story[:7]], validation=[*story[:1], *story[:1]], test=story[:2])
    made = task("text", folder)
    assert "7 documents stand there more than once" in made.card.train and "in train, too" in made.card.in_distribution
    assert "task text: validation: 1 documents stand there more than once (kept)" in capsys.readouterr().err
    line = "This line of more than sixty characters stands here again and again.\n"
    (tmp_path / "one.txt").write_text((prose("a", 300) + line) * 20)
    assert "lines of 60 bytes or more stand there more than once" in task("text", tmp_path / "one.txt").card.train


@pytest.mark.parametrize("kind", ["saved folder", "shards", "SPLIT/0000.parquet", "jsonl.gz"])
def test_the_card_names_the_files(kind: str, tmp_path: Path) -> None:
    rows = {path.stem: pq.read_table(path).to_pylist() for path in hotpot(tmp_path / "made").iterdir()}
    (tmp_path / "d").mkdir()
    for split, values in rows.items():
        KINDS[kind](tmp_path / "d", split, values)
    first = {
        "saved folder": "train/data-00000-of-00002.arrow, train/data-00001-of-00002.arrow",
        "shards": "train-00000-of-00002.parquet, train-00001-of-00002.parquet",
        "SPLIT/0000.parquet": "train/0000.parquet",
        "jsonl.gz": "train.jsonl.gz",
    }[kind]
    made = task("hotpotqa", tmp_path / "d")
    assert f"read from train: {first}; validation: " in made.card.train
    assert str(tmp_path) not in made.card.train and made.opened.folder == tmp_path / "d"
