"""Every loader over every kind of file: the same items, the same scores."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from filekinds import BOM, KINDS, Rows
from hubdata import (
    babi,
    books,
    cogs,
    dump,
    hotpot,
    listops,
    musique_row,
    refuses,
    scan,
    stories,
    tables,
    twowiki,
    wikitext,
    write,
)

from tasks.base import Task
from tasks.hub.corpus import Corpus
from tasks.hub.examples import ExampleTask
from tasks.hub.files import kind_of, read_file
from tasks.hub.layout import candidates, files_in, is_data
from tasks.qa.musique import MuSiQue
from tasks.registry import load

DATA = Path(os.environ.get("RESSFORMER_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
BYTES = ["tokenizer=bytes", "length=4000", "answer_tokens=80"]


def odd_musique(folder: Path) -> Path:
    """With aliases in some rows, rows that cannot be answered, paragraphs without a number."""
    rows = [musique_row(str(n)) for n in range(60)]
    for n, row in enumerate(rows):
        row["answer_aliases"] = [] if n % 3 else [row["answer"] + " City", "the town"]
        row["answerable"] = n % 7 != 0
    return write(folder, train=rows[:40], validation=rows[40:])


def odd_tables(folder: Path) -> Path:
    """With empty cells at the edges."""
    tables(folder)
    for path in folder.iterdir():
        rows = pq.read_table(path).to_pylist()
        for n, row in enumerate(rows):
            if n % 2:
                row["table"]["header"][0] = ""
                row["table"]["rows"][-1][-1] = ""
        write(folder, **{path.stem: rows})
    return folder


# Task -> what writes its data as parquet, the folder of the splits below it, settings.
LOADERS: dict[str, tuple[Callable[[Path], Path], str, list[str]]] = {
    "babi_qa": (babi, "en-qa1", []),
    "cogs_real": (cogs, "", ["length=64", "ood_length=80"]),
    "enwik8": (dump, "", ["length=32"]),
    "hotpotqa": (hotpot, "", BYTES),
    "listops_real": (listops, "d20s", []),
    "musique": (odd_musique, "", BYTES),
    "pg19": (books, "", ["length=32"]),
    "scan_real": (scan, "length", []),
    "text": (wikitext, "", ["length=32"]),
    "tinystories": (stories, "", ["length=32"]),
    "twowiki": (twowiki, "", BYTES),
    "wikitablequestions": (odd_tables, "", BYTES),
    "wikitext2": (wikitext, "", ["length=32"]),
    "wikitext103": (lambda folder: wikitext(folder, rare="rare "), "", ["length=32"]),
}
# A cell of a table without quotes has no line end: these texts have.
LINES = {"enwik8", "pg19", "text", "tinystories", "wikitext2", "wikitext103"}
CASES = [(name, kind) for name in LOADERS for kind in KINDS if not (name in LINES and kind.startswith("tsv"))]


def content(task: Task) -> dict[str, Any]:
    """All that a run sees of the data: items, what an answer is compared with, what was left out."""
    if isinstance(task, Corpus):
        return {"fingerprint": task.fingerprint(), **{part: text.raw for part, text in task.texts.items()}}
    assert isinstance(task, ExampleTask)
    found: dict[str, Any] = {"fingerprint": task.fingerprint(), "skipped": dict(task.report.skipped)}
    for part, rows in task.parts.items():
        found[part] = [(d.example.prompt, d.example.answer, d.example.difficulty, d.example.info) for d in rows]
        if hasattr(task, "judge"):
            found[part] += [task.judge(gold, d.example.info) for d in rows for gold in d.example.info.golds[-1:]]
    return found


@cache
def expected(name: str, root: Path) -> tuple[dict[str, Rows], dict[str, Any]]:
    """The rows of the made-up data, and their content read from parquet."""
    make, below, settings = LOADERS[name]
    folder = make(root / name)
    rows = {path.stem: pq.read_table(path).to_pylist() for path in sorted((folder / below).iterdir())}
    return rows, content(load(name, [f"path={folder}", *settings]))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_loader_reads_every_kind_alike(name: str, kind: str, root: Path, tmp_path: Path) -> None:
    _, below, settings = LOADERS[name]
    rows, right = expected(name, root)
    (tmp_path / below).mkdir(exist_ok=True)
    for split, values in rows.items():
        KINDS[kind](tmp_path / below, split, values)
    assert content(load(name, [f"path={tmp_path}", *settings])) == right


def test_columns_that_may_be_absent_count(root: Path) -> None:
    """From parquet, too: aliases are right answers, what cannot be answered is left out."""
    _, right = expected("musique", root)
    assert right["skipped"]["test/id"] == {"not answerable": 3}
    golds = [info.golds for _, _, _, info in (row for row in right["test/id"] if isinstance(row, tuple))]
    assert {len(found) for found in golds} == {1, 3} and sum(len(found) == 3 for found in golds) == 5


@pytest.mark.parametrize("name", ["musique", "hotpotqa", "wikitablequestions", "babi_qa"])
def test_a_cell_that_is_no_json_is_one_line(name: str, root: Path, tmp_path: Path) -> None:
    _, below, settings = LOADERS[name]
    rows, _ = expected(name, root)
    (tmp_path / below).mkdir(exist_ok=True)
    nested = load(name).source.nested[0]  # type: ignore[attr-defined]
    for split, values in rows.items():
        KINDS["csv"](tmp_path / below, split, [row | {nested: "{'a': 1}"} for row in values])
    refuses(load(name, [f"path={tmp_path}", *settings]).fingerprint, "train.csv, row 2", f"'{nested}' must be JSON")


BROKEN: dict[str, tuple[str, bytes, str]] = {
    "gzip of nothing": ("train.jsonl.gz", b"", "is empty"),
    "torn gzip": ("train.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99)[:30], "broken gzip"),
    "no gzip": ("train.csv.gz", b"text\na\n", "broken gzip"),
    "other bytes in gzip": ("train.txt.gz", gzip.compress(b"a")[:12] + b"\x00\x01\x02\x03\x04\x05", "broken gzip"),
    "no parquet in gzip": ("train.parquet.gz", gzip.compress(b"PAR1"), "broken parquet"),
    "no arrow": ("train.arrow", b"abcdefgh" * 4, "broken Arrow"),
    "empty arrow": ("train.arrow", b"", "broken Arrow"),
    "torn arrow": ("train.arrow", b"ARROW1\x00\x00" + b"\xff" * 40, "broken Arrow"),
    "open quote": ("train.csv", b'text\n"a\nb\n', "broken table"),
    "quote inside": ("train.csv", b'text\n"a"b\n', "broken table"),
    "a number": ("train.json", b"3", "must be a list of objects"),
    "data of numbers": ("train.json", b'{"data": [1]}', "must be an object"),
    "two columns of one name": ("train.csv", b"text,text\na,b\n", "two columns of one name"),
    "deep": ("train.json", b"[" * 100_000, "no JSON"),
    "UTF-16": ("train.jsonl", '{"text": "a"}'.encode("utf-16"), "not UTF-8"),
    "Latin-1": ("train.csv", "text\né\n".encode("latin-1"), "line 2: not UTF-8"),
    "half a character": ("train.jsonl", b'{"text": "\\ud800"}', "half a character"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_line(name: str, tmp_path: Path) -> None:
    file, data, words = BROKEN[name]
    (tmp_path / file).write_bytes(data)
    refuses(load("text", [f"path={tmp_path}", "length=8"]).fingerprint, file, words)


PLAIN: Mapping[str, Callable[[bytes], tuple[str, bytes]]] = {
    "gz": lambda data: (".gz", gzip.compress(data)),
    "BOM": lambda data: ("", BOM + data),
    "CRLF": lambda data: ("", data.replace(b"\n", b"\r\n")),
    "BOM, CRLF, gz": lambda data: (".gz", gzip.compress(BOM + data.replace(b"\n", b"\r\n"))),
}


def originals(name: str, rows: dict[str, Rows]) -> dict[str, bytes]:
    """The files of the original release, by name."""
    told = {"train": "train", "validation": "dev", "test": "test", "gen": "gen"}
    if name == "scan_real":
        text = {s: "".join(f"IN: {r['commands']} OUT: {r['actions']}\n" for r in v) for s, v in rows.items()}
        return {f"tasks_{split}_length.txt": body.encode() for split, body in text.items()}
    if name == "cogs_real":
        return {f"{told[s]}.tsv": "".join("\t".join(r.values()) + "\n" for r in v).encode() for s, v in rows.items()}
    if name == "babi_qa":
        return {f"qa1_single-supporting-fact_{s}.txt": "".join(map(_story, v)).encode() for s, v in rows.items()}
    if name == "tinystories":
        text = {s: "\n<|endoftext|>\n".join(r["text"].strip() for r in v) for s, v in rows.items()}
        return {f"TinyStories-{split}.txt": body.encode() for split, body in text.items()}
    if name == "pg19":
        return {f"{s}/{n}.txt": row["text"].encode() for s, v in rows.items() for n, row in enumerate(v)}
    if name == "enwik8":
        return {"enwik8": rows["train"][0]["text"].encode()}
    ending = "tokens" if name == "wikitext2" else "raw"
    text = {s: "".join(row["text"] or " \n" for row in v) for s, v in rows.items()}
    return {f"wiki.{'valid' if s == 'validation' else s}.{ending}": body.encode() for s, body in text.items()}


def _story(row: dict[str, Any]) -> str:
    story = row["story"]
    lines = zip(story["id"], story["type"], story["text"], story["answer"], story["supporting_ids"], strict=True)
    return "".join(
        f"{n} {text}" + (f"\t{answer}\t{' '.join(support)}" if kind else "") + "\n"
        for n, kind, text, answer, support in lines
    )


@pytest.mark.parametrize("kind", [None, *PLAIN])
@pytest.mark.parametrize(
    "name", ["babi_qa", "cogs_real", "enwik8", "pg19", "scan_real", "tinystories", "wikitext2", "wikitext103"]
)
def test_original_files_read_alike(name: str, kind: str | None, root: Path, tmp_path: Path) -> None:
    rows, right = expected(name, root)
    if name == "tinystories":  # the files have no blanks around a story
        stripped = {split: [{"text": row["text"].strip()} for row in values] for split, values in rows.items()}
        right = content(load(name, [f"path={write(tmp_path / 'own', **stripped)}", *LOADERS[name][2]]))
    folder = tmp_path / "files"
    for file, data in originals(name, rows).items():
        ending, made = PLAIN[kind](data) if kind else ("", data)
        if name == "enwik8" and ending:
            file = "train.txt"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / (file + ending)).write_bytes(made)
    assert content(load(name, [f"path={folder}", *LOADERS[name][2]])) == right


# Written by hand from the released files: task -> folder, settings, split, row, prompt (or its end), answer.
BY_HAND = [
    (
        "babi_qa",
        "babi_qa",
        "train",
        0,
        "mary moved to the bathroom . john went to the hallway . where is mary ?",
        "bathroom",
    ),
    ("scan_real", "scan", "train", 5, "turn left", "I_TURN_LEFT"),
    (
        *("cogs_real", "cogs", "train", 0, "A rose was helped by a dog ."),
        "rose ( x _ 1 ) AND help . theme ( x _ 3 , x _ 1 ) AND help . agent ( x _ 3 , x _ 6 ) AND dog ( x _ 6 )",
    ),
    ("listops_real", "listops", "test", 3, "[SM 6 [MED [SM 9 [MIN 7 6 ] ] 3 ] 1 2 ]", "3"),
    (
        *("hotpotqa", "hotpot_qa", "validation", 0),
        "At what school is the individual who was awarded the 2012 Nobel Prize in Physics, jointly with David J. "
        "Wineland, a professor?",
        "Collège de France",
    ),
    (
        *("twowiki", "2wikimultihopqa", "validation", 0),
        "When did Frances Vane, Marchioness Of Londonderry's father die?",
        "1 August 1813",
    ),
    (
        *("wikitablequestions", "wikitablequestions", "test", 15),
        " | 1980 | 1975 | 1975 | 1985 | 1985\n"
        "World | 4,434,682,000 | 4,068,109,000 | 366,573,000 | 4,830,979,000 | 396,297,000\n"
        "Africa | 469,618,000 | 408,160,000 | 61,458,000 | 541,814,000 | 72,196,000\n"
        "Asia | 2,632,335,000 | 2,397,512,000 | 234,823,000 | 2,887,552,000 | 255,217,000\n"
        "Europe | 692,431,000 | 675,542,000 | 16,889,000 | 706,009,000 | 13,578,000\n"
        "Latin-America\\n& Caribbean | 361,401,000 | 321,906,000 | 39,495,000 | 401,469,000 | 40,068,000\n"
        "North\\nAmerica | 256,068,000 | 243,425,000 | 12,643,000 | 269,456,000 | 13,388,000\n"
        "Oceania | 22,828,000 | 21,564,000 | 1,264,000 | 24,678,000 | 1,850,000\n"
        "\n"
        "which continent has the greatest population growth between 1975 and 1985?",
        "Asia",
    ),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", BY_HAND, ids=[case[0] for case in BY_HAND])
def test_released_rows_give_the_items_written_by_hand(case: tuple[Any, ...], kind: str, tmp_path: Path) -> None:
    name, folder, split, number, prompt, answer = case
    if not (DATA / folder).is_dir():
        pytest.skip(f"no released data: {DATA} has no folder {folder}")
    task = load(name)
    below = task.config.subset if (DATA / folder / task.config.subset).is_dir() else ""  # type: ignore[attr-defined]
    (row,) = pq.read_table(DATA / folder / below / f"{split}.parquet").slice(number, 1).to_pylist()
    KINDS[kind](tmp_path, split, [row, row])
    found = candidates(tmp_path, files_in(tmp_path, lambda path: is_data(path, (kind_of(path),)), deep=False))
    rows = [row for path in found[0].paths for row in read_file(path, task.source.schema)]  # type: ignore[attr-defined]
    assert len(found) == 1 and len(rows) == 2 and rows[0].values == rows[1].values
    example = next(task.examples(rows[0]))  # type: ignore[attr-defined]
    assert example.prompt.endswith(prompt) and example.answer == answer


def test_musique_reads_a_row_written_by_hand(tmp_path: Path) -> None:
    text = {"idx": 4, "title": " T ", "paragraph_text": "In T. ", "is_supporting": True}
    row = {"id": "2hop__1_2", "paragraphs": [text], "question": "Where?", "answer": "T", "answer_aliases": ["T City"]}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    (found,) = read_file(tmp_path / "x.jsonl", MuSiQue.source.schema)
    (example,) = MuSiQue().examples(found)
    assert (example.prompt, example.answer) == ("T\nIn T.\n\nWhere?", "T")
    assert example.info.golds == ["T", "T City"] and example.info.facts == {(" T ", 4)}
    assert MuSiQue().judge("t city", example.info) == {"answer_em": 1, "answer_f1": 1}
