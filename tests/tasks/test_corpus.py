"""Real text: bits per byte whatever the tokenizer, windows that cover the text once, splits, the cache."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hubdata import prose, stories, wikitext, write

from tasks.hub import cache
from tasks.hub.corpus import LONG, Corpus
from tasks.hub.texts import CLOSED
from tasks.hub.validation_split import carve_documents, line_start
from tasks.hub.vocabulary import BPE, BYTE_OF, Bytes, train_bpe
from tasks.item import IGNORE
from tasks.language.enwik8 import Enwik8
from tasks.language.text import Text
from tasks.language.tinystories import TinyStories
from tasks.language.wikitext import WikiText2
from tasks.loaders import EvalLoader
from tasks.registry import load

ODD = ["Zoë ate 3\u00a0crêpes.\r\n", "日本語\tжд 🙂\n\n", "  <|endoftext|> \x00 \u2028 e\u0301", "a" * 50]


def bits(task: Corpus, split: str, nll: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
    """The split's metrics for a model with the given loss (nats) of each label."""
    collected: dict[str, list[torch.Tensor]] = {}
    for batch in EvalLoader(task, split, 8):
        labels = batch["labels"]
        loss = torch.where(labels == IGNORE, 0.0, nll(labels.clamp(min=0)))
        for key, values in task.score(labels, labels, loss, batch["input_ids"]).items():
            collected.setdefault(key, []).append(values)
    return task.aggregate({key: torch.cat(parts) for key, parts in collected.items()})


def test_tokenizers_give_every_byte_back(tmp_path: Path) -> None:
    train = [prose(str(n), 200) for n in range(8)]
    bpe = BPE(train_bpe(train, 400, "made up") / "tokenizer.json")
    assert bpe.size == 400 and sorted(BYTE_OF.values()) == list(range(256))
    for vocabulary in (Bytes(), bpe):
        for text, ids in zip([*ODD, *train], vocabulary.encode([*ODD, *train]), strict=True):
            assert vocabulary.raw(ids.tolist()) == text.encode() and vocabulary.decode(ids.tolist()) == text
            assert vocabulary.lengths[ids].sum() == len(text.encode())
    assert len(bpe.encode(train[:1])[0]) < 0.6 * len(train[0].encode())


@pytest.mark.parametrize(("tokenizer", "length"), [("bytes", 31), ("bpe", 31), ("bytes", 2)])
def test_bits_are_those_of_the_whole_text_over_its_bytes(tmp_path: Path, tokenizer: str, length: int) -> None:
    """By hand: the loss of every token, ends of documents included, over the bytes of the original documents."""
    told = [prose(f"test {n}", 70) + ODD[n % len(ODD)] for n in range(7)]
    splits = {part: [{"text": prose(part, 900)}] for part in ("train", "validation")}
    folder = write(tmp_path / "data", **splits, test=[{"text": text} for text in told])
    task = Text(path=str(folder), tokenizer=tokenizer, bpe_vocab=300, length=length)
    price = torch.from_numpy(np.random.default_rng(0).uniform(1, 3, task.vocab_size))
    tokens = [token for ids in task.vocabulary.encode(told) for token in (*ids, task.vocabulary.size)]
    expected = float(price[tokens].sum()) / math.log(2) / sum(len(text.encode()) for text in told)
    found = bits(task, "test/id", lambda labels: price[labels])
    assert found["bits_per_byte"] == pytest.approx(expected, rel=1e-6)
    assert all(key.startswith("bits_per_byte") for key in found) and len(found) == (6 if length == 31 else 3)


def test_a_fair_model_scores_the_same_with_either_tokenizer(tmp_path: Path) -> None:
    """A loss of c nats per byte, however the bytes are cut into tokens, is c / ln 2 bits per byte."""
    folder = wikitext(tmp_path / "data")
    for tokenizer in ("bytes", "bpe"):
        task = WikiText2(path=str(folder), tokenizer=tokenizer, bpe_vocab=300, length=64)
        sizes = torch.from_numpy(task.byte_lengths)
        found = bits(task, "test/id", lambda labels, sizes=sizes: 0.5 * sizes[labels].float())
        assert {round(value, 5) for value in found.values()} == {round(0.5 / math.log(2), 5)}


def test_every_length_is_scored_on_the_same_text(tmp_path: Path) -> None:
    folder = wikitext(tmp_path / "data")
    for n_test in (0, 8):
        task = WikiText2(path=str(folder), length=32, long_context=True, n_test=n_test)
        assert task.max_length == 128 and {task.length_of(split) for split in LONG} == {4, 8, 16, 32, 64, 128}
        texts = set()
        for split in LONG:
            windows = [bytes(label for label in item.labels if label < 256) for item in task.eval_items(split)]
            texts.add(b"".join(windows))
        assert len(texts) == 1
        whole = task.texts["test"].raw[:-1]
        assert texts == {whole} if n_test == 0 else len(texts.pop()) == 8 * 32


def test_wikitext_is_the_text_of_the_original_file(tmp_path: Path) -> None:
    rows = ["", " = A = \n", "", " One <unk> line .\n"]
    folder = write(tmp_path / "data", **{part: [{"text": t} for t in rows] for part in ("train", "validation", "test")})
    task = WikiText2(path=str(folder), length=8)
    assert task.texts["test"].raw == b" \n = A = \n \n One <unk> line .\n" + CLOSED
    (tmp_path / "plain").mkdir()
    for part in ("train", "valid", "test"):
        (tmp_path / "plain" / f"wiki.{part}.tokens").write_text(" \n = A = \n \n One <unk> line .\n")
    plain = WikiText2(path=str(tmp_path / "plain"), length=8)
    assert plain.fingerprint() == task.fingerprint()


def test_fingerprint_is_the_content_and_not_the_file(tmp_path: Path) -> None:
    first, other = wikitext(tmp_path / "a"), wikitext(tmp_path / "b")
    os.utime(other / "train.parquet", (1, 1))
    (other / "train.parquet").rename(other / "train-00000-of-00001.parquet")
    same = [WikiText2(path=str(folder), length=32).fingerprint() for folder in (first, other)]
    assert same[0] == same[1]
    bpe = WikiText2(path=str(first), length=32, tokenizer="bpe", bpe_vocab=300)
    assert bpe.fingerprint() not in same
    (tmp_path / "c").mkdir()
    changed = wikitext(tmp_path / "c")
    write(changed, test=[{"text": " = New = \n <unk> " + prose("new", 400)}])
    assert WikiText2(path=str(changed), length=32).fingerprint() not in same


def test_stories_leave_validation_to_the_test(tmp_path: Path) -> None:
    task = TinyStories(path=str(stories(tmp_path / "data")), length=32)
    parts = {part: text.raw.split(CLOSED)[:-1] for part, text in task.texts.items()}
    assert len(parts["test"]) == 20 and len(parts["train"]) + len(parts["validation"]) == 200
    assert 8 < len(parts["validation"]) < 40 and not set(parts["train"]) & set(parts["validation"])


def test_enwik8_is_cut_by_bytes_where_characters_begin(tmp_path: Path) -> None:
    text = "<mediawiki>\n" + "é日" * 4001
    (tmp_path / "train.txt").write_text(text, encoding="utf-8")
    parts = [part.raw[:-1] for part in Enwik8(path=str(tmp_path), length=32).texts.values()]
    assert b"".join(parts).decode() == text and all(part.decode() for part in parts)
    assert [len(part) / len(text.encode()) for part in parts] == pytest.approx([0.9, 0.05, 0.05], abs=1e-3)


def test_carving_keeps_every_byte_once() -> None:
    few, many = [prose(str(n), 500) for n in range(3)], [prose(f"d{n}", 5) + str(n) for n in range(200)]
    for documents in (few, many):
        parts = {part: list(texts) for part, texts in carve_documents(documents, ["validation", "test"]).items()}
        size = {part: sum(map(len, texts)) for part, texts in parts.items()}
        assert sum(size.values()) == sum(map(len, documents)) and min(size.values()) > 0.03 * sum(size.values())
    first = [next(iter(texts)) for texts in carve_documents(few, ["test"]).values()]
    assert "".join(first) == few[0]
    assert [line_start("ab\ncd", place) for place in (0, 1, 3, 4)] == [0, 3, 3, 4]


def test_text_reads_files_of_many_kinds(tmp_path: Path) -> None:
    lines = [prose(f"l{n}", 30) for n in range(80)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"body": line}) for line in lines))
    task = load("text", [f"path={tmp_path / 'a.jsonl'}", "column=body", "length=32"])
    assert sum(text.documents for text in task.texts.values()) == 80
    limited = load("text", [f"path={tmp_path / 'a.jsonl'}", "column=body", "length=32", "train_bytes=1000"])
    assert len(limited.texts["train"].raw.replace(CLOSED, b"")) in range(997, 1001)
    assert "the first 1000 bytes" in limited.card.train
    (tmp_path / "x").mkdir()
    for part in ("train", "dev", "test"):
        (tmp_path / "x" / f"{part}.md").write_text(prose(part, 300))
    assert load("text", [f"path={tmp_path / 'x'}"]).texts["validation"].raw == prose("dev", 300).encode() + CLOSED
    (tmp_path / "x" / "more.txt").write_text("stray")
    with pytest.raises(ValueError, match=r"without: more.txt"):
        load("text", [f"path={tmp_path / 'x'}"]).fingerprint()


def test_overlap_of_train_and_test_is_counted(tmp_path: Path) -> None:
    line = "\nThis sentence of more than sixty characters is in both of the two parts.\n"
    parts = {part: [{"text": prose(part, 300) + line}] for part in ("train", "test")}
    folder = write(tmp_path / "data", **parts, validation=[{"text": prose("v", 200)}])
    task = Text(path=str(folder), length=32)
    assert task.overlap[0] == 1 and f"1 of {task.overlap[1]} different test lines" in task.card.in_distribution


def test_a_torn_cache_entry_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: object) -> None:
    monkeypatch.setenv("RESSFORMER_CACHE", str(tmp_path / "cache"))
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        assert not (folder / cache.MANIFEST).exists(), "the manifest comes last"
        (folder / "a.txt").write_text("whole")

    folder = cache.cached({"k": 1}, make)
    assert cache.cached({"k": 1}, make) == folder and len(made) == 1
    for tear in (lambda: (folder / "a.txt").write_text("torn"), (folder / cache.MANIFEST).unlink):
        tear()
        assert cache.cached({"k": 1}, make) == folder and (folder / "a.txt").read_text() == "whole"
    assert len(made) == 3 and [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]

    def fail(folder: Path) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.cached({"k": 2}, fail)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESSFORMER_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"cannot be written .* RESSFORMER_CACHE"):
        cache.cached({"k": 1}, make)
