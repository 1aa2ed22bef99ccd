"""Real data sets one by one: their original files, and rows that are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hubdata import (
    babi,
    change,
    cogs,
    hotpot,
    hotpot_row,
    listops,
    musique,
    musique_row,
    refuses,
    scan,
    table_row,
    wikitext,
    write,
)

from tasks.hub.files import read_file
from tasks.qa.babi_qa import BabiQa, parse
from tasks.qa.hotpotqa import HotpotQA
from tasks.qa.musique import MuSiQue
from tasks.registry import load
from tasks.structure.cogs_real import CogsReal
from tasks.structure.listops_real import ListOpsReal
from tasks.structure.scan_real import ScanReal, interpret
from tasks.structure.wikitablequestions import WikiTableQuestions


def test_babi_test_files_of_10k_are_those_of_en(tmp_path: Path) -> None:
    where = babi(tmp_path / "babi")
    (where / "en-10k-qa1").mkdir()
    (where / "en-qa1" / "train.parquet").rename(where / "en-10k-qa1" / "train.parquet")
    assert BabiQa(path=str(where), subset="en-10k-qa1").splits["test/id"] == 60


def test_cogs_generalisation_is_two_splits(tmp_path: Path) -> None:
    task = CogsReal(path=str(cogs(tmp_path / "cogs")), length=64, ood_length=80)
    assert task.splits["test/ood_lexical"] == task.splits["test/ood_structural"] == 20
    assert task.length_of("test/ood_lexical") == 80 == task.max_length and task.length_of("test/id") == 64


def test_listops_refuses_what_is_no_digit(tmp_path: Path) -> None:
    where = listops(tmp_path / "l")
    write(where / "d20s", test=[{"Source": "[MIN 1 2 ]", "Target": 12}])
    refuses(ListOpsReal(path=str(where)).fingerprint, "test.parquet, row 0", "Target must be a digit, found '12'")
    for text in ("[MIN 1", "1 2", "[POW 1 2 ]", "]"):
        refuses(lambda text=text: ListOpsReal(path=str(where)).solve(text), "no expression")
    assert ListOpsReal().solve("[MED 1 4 [SM 9 8 ] 2 ]") == {"3"}
    assert ListOpsReal().solve("[LAST 1 [FIRST 7 9 ] ]") == {"7"}


def test_needed_passages_stay_and_the_rest_keeps_its_order(tmp_path: Path) -> None:
    where = str(hotpot(tmp_path / "h"))
    whole = HotpotQA(path=where, length=300, bpe_vocab=400)
    short = HotpotQA(path=where, length=104, bpe_vocab=400)
    assert "left out" not in whole.card.in_distribution and "the answer does not need" in short.card.in_distribution
    for done in short.parts["test/id"]:
        prompt, passages = short.read(short.encoded_item(done))[0], done.example.info.passages
        places = [prompt.find(passage.prompt) for passage in passages]
        assert all(place >= 0 for place, passage in zip(places, passages, strict=True) if passage.needed)
        kept = [place for place in places if place >= 0]
        assert kept == sorted(kept) and len(done.prompt) + 17 <= 104
    strict = HotpotQA(path=where, length=114, bpe_vocab=400, overflow="skip")
    assert len(strict.parts["train"]) < len(short.parts["train"])
    assert {len(d.example.info.facts) for d in whole.parts["test/id"]} == {2}


def test_questions_with_bad_rows(tmp_path: Path) -> None:
    good = [hotpot_row(str(n)) for n in range(40)]
    bad = {
        "answer must be": change(good, 5, answer=" "),
        "expected the lists title and sentences": change(good, 5, context={"title": None, "sentences": None}),
        "differ in length": change(good, 5, context={"title": ["a"], "sentences": []}),
    }
    for words, rows in bad.items():
        folder = hotpot(tmp_path / words.replace(" ", ""))
        write(folder, validation=rows)
        refuses(HotpotQA(path=str(folder)).fingerprint, "validation.parquet, row 5", words.removeprefix("answer "))
    folder = hotpot(tmp_path / "lost")
    write(folder, validation=change(good, 5, supporting_facts={"title": ["nowhere"], "sent_id": [0]}))
    task = HotpotQA(path=str(folder), length=300, bpe_vocab=400)
    assert "1 with supporting facts outside of their context" in task.card.in_distribution

    folder = musique(tmp_path / "m")
    rows = [musique_row(str(n)) for n in range(40)]
    path = folder / "musique_ans_v1.0_dev.jsonl"
    path.write_text("\n".join(map(json.dumps, change(rows, 5, answerable=False))))
    task2 = MuSiQue(path=str(folder), length=256, bpe_vocab=400)
    assert task2.fingerprint() and "39 of 40 items, left out: 1 not answerable" in task2.card.in_distribution
    path.write_text("\n".join(map(json.dumps, change(rows, 5, paragraphs=[{"title": "a"}]))))
    refuses(MuSiQue(path=str(folder)).fingerprint, "dev.jsonl, row 6: paragraph 0 needs title")


def test_tables_with_bad_rows(tmp_path: Path) -> None:
    good = [table_row(str(n)) for n in range(40)]
    table = good[5]["table"]
    for words, values in {
        "row 0 of the table has 1 cells, not 2": {"table": table | {"rows": [["a"]]}},
        "table must have a header and rows": {"table": table | {"header": []}},
        "answers must be a list": {"answers": []},
        "answers must be a list of texts": {"answers": [None]},
        "must be lists of texts": {"table": table | {"rows": [["a", None]]}},
    }.items():
        folder = write(tmp_path / words.replace(" ", ""), train=good, validation=good, test=change(good, 5, **values))
        refuses(WikiTableQuestions(path=str(folder)).fingerprint, "test.parquet, row 5", words)


def test_text_says_what_is_wrong(tmp_path: Path) -> None:
    def text(name: str, *more: str) -> Callable[[], str]:
        return load("text", [f"path={tmp_path / name}", "length=8", *more]).fingerprint

    (tmp_path / "bad.txt").write_bytes(b"one\ntwo \xff\n")
    refuses(text("bad.txt"), "bad.txt, line 2: not UTF-8")
    refuses(text("none.txt"), "does not exist")
    (tmp_path / "empty.txt").write_text("")
    refuses(text("empty.txt"), "split 'train' is empty")
    (tmp_path / "short.txt").write_text("ab\n" * 9)
    refuses(text("short.txt"), "tokens, less than length=8; lower task.length")
    (tmp_path / "rows.jsonl").write_text('{"body": "abc"}\n')
    refuses(text("rows.jsonl"), "rows.jsonl, row 1: column 'text' is missing; columns: body")
    (tmp_path / "rows.jsonl").write_text('{"text": 3}\n')
    refuses(text("rows.jsonl"), "rows.jsonl, row 1: column 'text' must be str, found int")
    (tmp_path / "empty").mkdir()
    refuses(text("empty"), "holds no file of a kind that can be read")
    folder = wikitext(tmp_path / "w")
    refuses(text("w", "tokenizer=bpe", "bpe_vocab=10"), "task text: bpe_vocab=10 is too small: use 256")
    write(folder, test=[{"text": ""}])
    refuses(text("w"), "split 'test' is empty: 1 documents, no text")
    refuses(lambda: load("wikitext2", ["subset=wikitext-3"]), "subset='wikitext-3': use wikitext-2-v1")
    refuses(lambda: load("text", ["long_context=true", "length=7"]), "length=7: use a multiple of 8")


def test_original_files_read_as_the_hub_does(tmp_path: Path) -> None:
    """SCAN's IN: OUT: lines, bAbI's numbered lines, COGS without a header, HotpotQA's pairs."""
    rows = scan(tmp_path / "scan")
    (tmp_path / "raw").mkdir()
    for part in ("train", "test"):
        lines = [row.values for row in read_file(rows / "length" / f"{part}.parquet", ScanReal.source.schema)]
        text = "".join(f"IN: {v['commands']} OUT: {v['actions']}\n" for v in lines)
        (tmp_path / "raw" / f"tasks_{part}_length.txt").write_text(text)
        (tmp_path / "raw" / f"tasks_{part}_simple.txt").write_text("IN: run OUT: I_RUN\n")
    assert ScanReal(path=str(tmp_path / "raw")).fingerprint() == ScanReal(path=str(rows)).fingerprint()

    told = "1 Mary moved to the hall.\n2 Where is Mary? \thall\t1\n1 John went out.\n2 Where is John?\tout\t1\n"
    stories = [values["story"] for _, values in parse(told)]
    assert [story["answer"] for story in stories] == [["", "hall"], ["", "out"]]
    assert stories[0]["text"] == ["Mary moved to the hall.", "Where is Mary?"] and stories[0]["type"] == [0, 1]
    assert stories[0]["supporting_ids"] == [[], ["1"]]

    wrong = ["x\n", "1 A.\n3 B.\n", "2 A.\n", "1\n", "1 A.\n1 B.\n3 C.\n"]
    assert all(any(row["story"] is None for _, row in parse(text)) for text in wrong)

    table = cogs(tmp_path / "cogs")
    (tmp_path / "tsv").mkdir()
    columns = ("sentence", "logical_form", "distribution")
    for part, name in (("train", "train"), ("validation", "dev"), ("test", "test"), ("gen", "gen")):
        found = read_file(table / f"{part}.parquet", CogsReal.source.schema)
        lines = ["\t".join(row.values[column] for column in columns) for row in found]
        (tmp_path / "tsv" / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    short = {"length": 64, "ood_length": 80}
    assert (
        CogsReal(path=str(tmp_path / "tsv"), **short).fingerprint() == CogsReal(path=str(table), **short).fingerprint()
    )

    folder = hotpot(tmp_path / "hotpot")
    (tmp_path / "json").mkdir()
    for part, name in (("train", "train_v1.1"), ("validation", "dev_distractor_v1")):
        found = []
        for row in read_file(folder / f"{part}.parquet", HotpotQA.source.schema):
            values = dict(row.values)
            for column, (a, b) in {"supporting_facts": ("title", "sent_id"), "context": ("title", "sentences")}.items():
                values[column] = list(zip(values[column][a], values[column][b], strict=True))
            found.append(values)
        (tmp_path / "json" / f"hotpot_{name}.json").write_text(json.dumps(found))
    settings = {"length": 160, "bpe_vocab": 400}
    pair = [HotpotQA(path=str(where), **settings).fingerprint() for where in (folder, tmp_path / "json")]
    assert pair[0] == pair[1]


@pytest.mark.parametrize(
    ("command", "actions"),
    [
        ("turn left", "TURN_LEFT"),
        ("jump around right", "TURN_RIGHT JUMP TURN_RIGHT JUMP TURN_RIGHT JUMP TURN_RIGHT JUMP"),
        ("walk opposite left after run twice", "RUN RUN TURN_LEFT TURN_LEFT WALK"),
        ("look thrice and turn opposite right", "LOOK LOOK LOOK TURN_RIGHT TURN_RIGHT"),
    ],
)
def test_scan_is_interpreted(command: str, actions: str) -> None:
    assert " ".join(interpret(command.split())) == actions


@pytest.mark.parametrize("command", ["", "turn", "fly", "walk up", "jump left right up", "walk and"])
def test_what_is_no_scan_command_is_refused(command: str) -> None:
    with pytest.raises(ValueError, match="no SCAN command"):
        interpret(command.split())
