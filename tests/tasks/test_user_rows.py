"""`pairs` and `choices`: the user's own files, columns by name; items and likelihoods against a count by hand."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hubdata import refuses
from torch import Tensor
from userdata import prompts, quizzes

from experiments.training.evaluate import Evaluator
from tasks.base import Task
from tasks.item import IGNORE
from tasks.qa.choices import Choices
from tasks.qa.pairs import Pairs
from tasks.registry import load

DATA = Path(os.environ.get("RESSFORMER_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")


def lines(path: Path, *rows: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return str(path)


def three(folder: Path, row: dict[str, Any]) -> str:
    """A folder with the same row in all three splits."""
    for split in ("train", "validation", "test"):
        lines(folder / f"{split}.jsonl", row)
    return str(folder)


class Counting:
    """A stand-in for a model: it pays label % 7 nats for a byte, 2 for an end, and predicts the right one."""

    device = torch.device("cpu")
    training = False

    def predict(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        labels = batch["labels"]
        nll = torch.where(labels == IGNORE, 0, torch.where(labels > 255, 2, labels % 7)).float()
        return {"pred_Bn": labels.clamp(min=0), "nll_Bn": nll}

    def eval(self) -> None: ...

    def train(self, mode: bool) -> None: ...


def evaluated(task: Task, split: str = "test/id") -> Any:
    return Evaluator(task, task.describe().metric, 3, lambda: None)(Counting(), split)  # type: ignore[arg-type]


def nats(text: str) -> int:
    return sum(byte % 7 for byte in text.encode()) + 2


def test_a_pair_is_prompt_sep_answer_end(tmp_path: Path) -> None:
    path = three(tmp_path, {"q": "ab", "info": {"a": "c"}, "unused": None})
    task = Pairs(path=path, length=16, answer_tokens=4, prompt="{q}?", answer="{info.a}")
    item = task.generate("test/id", 0, 0)
    assert item.input_ids.tolist() == [97, 98, 63, 256, 99]
    assert item.labels.tolist() == [-100, -100, -100, 99, 257]
    assert task.text(item) == "ab? -> c" and task.vocab_size == 258


def test_what_is_written_is_scored_by_words(tmp_path: Path) -> None:
    path = three(tmp_path, {"prompt": "who?", "answer": ["the red cat", "a tom"]})
    task = Pairs(path=path, length=48, answer_tokens=12)
    told = [*b"red dog", 257]

    def predict(batch: dict[str, Tensor]) -> Tensor:
        pred = torch.zeros_like(batch["input_ids"])
        pred[0, 4 : 4 + len(told)] = torch.tensor(told)
        return pred

    assert task.decoded("test/id", predict) == {"answer_em": 0.0, "answer_f1": pytest.approx(0.5)}  # "the" is no word
    assert [task.generate("test/id", 0, 0).labels[-1]] == [257]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet", "json", "arrow"])
def test_all_kinds_of_files_are_the_same_data(kind: str, tmp_path: Path) -> None:
    rows = [{"prompt": f"say {n}", "answer": f"word {n % 5}"} for n in range(60)]
    path = tmp_path / f"mine.{kind}"
    if kind == "jsonl":
        lines(path, *rows)
    elif kind == "json":
        path.write_text(json.dumps({"all": rows}))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "arrow":
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        mark = "," if kind == "csv" else "\t"
        path.write_text("".join(mark.join(cells) + "\n" for cells in [rows[0].keys(), *(row.values() for row in rows)]))
    task = Pairs(path=str(path), length=64, rows="all" if kind == "json" else "")
    found = {done.example.prompt: part for part, rows in task.parts.items() for done in rows}
    digests = {row["prompt"]: hashlib.sha256(row["prompt"].encode()).digest() for row in rows}
    cut = {0: "validation", 1: "test/id"}
    assert found == {text: cut.get(int.from_bytes(made[:4], "big") % 10, "train") for text, made in digests.items()}


def test_doubles_never_part_and_files_beside_are_taken(tmp_path: Path) -> None:
    rows = [{"prompt": f"say  {n % 50}", "answer": str(n)} for n in range(200)]
    path = lines(tmp_path / "mine.jsonl", *rows)
    held = lines(tmp_path / "held.jsonl", {"prompt": "say 1", "answer": "1"}, {"prompt": "new", "answer": "1"})
    task = Pairs(path=path, length=64)
    owner = {done.example.key: part for part, found in task.parts.items() for done in found}
    assert all(owner[done.example.key] == part for part, found in task.parts.items() for done in found)
    beside = Pairs(path=path, test=held, length=64)
    assert beside.splits["test/id"] == 2 and beside.report.overlap["test/id"] == (1, 2)
    assert beside.report.files == {"train": ["mine.jsonl"], "test": ["held.jsonl"]}
    assert beside.fingerprint() != task.fingerprint() == Pairs(path=path, length=64, licence="MIT").fingerprint()


def test_likelihood_of_choices_is_that_of_a_count_by_hand(tmp_path: Path) -> None:
    task = load("choices", [f"path={quizzes(tmp_path)}", "length=64"])
    found = evaluated(task)
    hits, per_byte = [], []
    for done in task.parts["test/id"]:  # type: ignore[attr-defined]
        choices, gold = done.example.info
        paid = [nats(text) for text in choices]
        hits.append(paid[gold] < min(paid[:gold] + paid[gold + 1 :]))
        rates = [nats(text) / len(text) for text in choices]
        per_byte.append(rates[gold] < min(rates[:gold] + rates[gold + 1 :]))
    assert found.metrics == pytest.approx(
        {"accuracy": sum(hits) / len(hits), "accuracy_per_byte": sum(per_byte) / len(hits)}
    )
    assert [value for value in found.items if value is not None] == hits and 0 < sum(hits) < len(hits)
    assert len(found.items) == task.splits["test/id"] > len(hits) and found.items[0] is not None
    other = evaluated(load("pairs", [f"path={prompts(tmp_path)}", "length=64", "n_decoded=2"]))
    assert other.metrics["exact_match"] == 1 and "answer_f1" in other.metrics


def test_pairs_of_sentences_need_no_prompt(tmp_path: Path) -> None:
    rows = [{"good": f"cat {n}", "bad": f"cats {n}"} for n in range(100)]
    task = Choices(path=lines(tmp_path / "s.jsonl", *rows), length=32, prompt="", choices="{good}|{bad}", gold="0")
    item = task.generate("test/id", 0, 1)
    assert item.input_ids.tolist()[0] == 256 and bytes(item.labels[:-1].tolist()).startswith(b"cats ")
    assert all(task.text(task.generate("train", 0, n)).startswith(" -> cat ") for n in range(20))
    levels = task.levels["test/id"]
    assert levels == {"majority": 1, "random": 0.5, "longest": 0, "shortest": 1}


def test_gold_is_an_index_a_letter_or_a_text(tmp_path: Path) -> None:
    for gold, place in ((1, 1), ("B", 1), ("(b)", 1), ("two", 1), ("0", 0), ("one", 0), ("1", 1)):
        path = three(tmp_path, {"prompt": "p", "choices": ["one", "two"], "answer": gold})
        assert Choices(path=path, length=16).parts["train"][0].example.info.gold == place, gold
    path = three(tmp_path, {"prompt": "p", "choices": {"text": ["2", "1"], "label": ["A", "B"]}, "answer": "1"})
    assert Choices(path=path, length=16).parts["train"][0].example.info.gold == 1


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    def pairs(row: dict[str, Any], **values: Any) -> Any:
        return Pairs(path=three(tmp_path / "one", row), length=16, answer_tokens=4, **values).parts

    def choices(**row: Any) -> Any:
        values = {"prompt": "p", "choices": ["a", "b"], "answer": 0} | row
        return Choices(path=three(tmp_path / "two", values), length=16).parts

    refuses(lambda: pairs({"prompt": "p", "reply": "r"}), "row 1", "'answer' is missing", "prompt, reply")
    refuses(lambda: pairs({"prompt": "p", "answer": None}), "row 1", "'answer' is null")
    refuses(lambda: pairs({"prompt": ["p"], "answer": "r"}), "row 1", "'prompt' must be a text")
    refuses(lambda: pairs({"prompt": "p", "answer": " "}), "row 1", "empty")
    refuses(lambda: pairs({"prompt": "p", "answer": "long answer"}), "task pairs", "answer_tokens=4")
    refuses(lambda: pairs({"prompt": "p", "answer": "r"}, prompt="{q"), "task pairs", "template '{q'")
    refuses(lambda: pairs({"prompt": "p", "answer": "r"}, prompt="{}"), "task pairs", "name of a column")
    refuses(lambda: pairs({"prompt": "p", "answer": "r"}, answer="{answer.x}"), "row 1", "no 'x'")
    refuses(lambda: choices(answer=2), "row 1", "from 0 to 1", "'2'")
    refuses(lambda: choices(choices=["a", "a"]), "row 1", "different choices")
    refuses(lambda: choices(choices=["a"]), "row 1", "two or more")
    refuses(lambda: Pairs().parts, "task pairs", "task.path=FILE")
    refuses(lambda: Pairs(path=str(tmp_path / "gone")).parts, "task pairs", "does not exist")
    (tmp_path / "a.txt").write_text("text")
    refuses(lambda: Pairs(path=str(tmp_path / "a.txt")).parts, "no file of rows", ".jsonl")
    lines(tmp_path / "test_only" / "test.jsonl", {"prompt": "p", "answer": "a"})
    refuses(lambda: Pairs(path=str(tmp_path / "test_only")).parts, "files of test and none of train")
    lines(tmp_path / "many" / "a.jsonl", {})
    lines(tmp_path / "many" / "b.jsonl", {})
    refuses(lambda: Pairs(path=str(tmp_path / "many")).parts, "2 files", "task.path=FILE")


def real(name: str) -> tuple[str, list[dict[str, Any]]]:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"no {path}: set RESSFORMER_DATA")
    return str(path), pq.read_table(path).to_pylist()


def test_blimp_loads_from_settings_alone() -> None:
    path, rows = real("blimp/anaphor_gender_agreement/train.parquet")
    task = Choices(path=path, length=96, prompt="", choices="{sentence_good}|{sentence_bad}", gold="0", n_validation=0)
    pairs = {(row["sentence_good"].strip(), row["sentence_bad"].strip()) for row in rows}
    shown = [bytes(item.labels[:-1].tolist()).decode() for item in task.eval_items("test/id")]
    assert set(zip(shown[::2], shown[1::2], strict=True)) <= pairs and len(shown) > 20
    assert sum(len(found) for found in task.parts.values()) == len(rows)
    paid = [nats(good) < nats(bad) for good, bad in zip(shown[::2], shown[1::2], strict=True)]
    assert evaluated(task).metrics["accuracy"] == pytest.approx(sum(paid) / len(paid))


def test_bbh_loads_from_settings_alone() -> None:
    path, rows = real("bbh/navigate/test.parquet")
    task = Pairs(path=path, length=1024, prompt="{input}", answer="{target}", licence="MIT", citation="2210.09261")
    known = {(row["input"].strip(), row["target"].strip()) for row in rows}
    found = {tuple(task.read(item)) for item in task.eval_items("test/id")}
    assert found <= known and len(found) > 5 and task.describe().licence == "MIT"
    choices = Choices(path=path, length=1024, prompt="{input}", choices="Yes|No", gold="{target}")
    assert math.isclose(choices.levels["test/id"]["random"], 0.5)
    assert {done.example.answer for done in choices.parts["train"]} == {"Yes", "No"}
