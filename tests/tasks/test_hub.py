"""Data sets from folders: where they are found, what bad ones say, what is left out, how splits are made."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hubdata import HUB, babi, change, hotpot, hotpot_row, listops, refuses, scan, write
from userdata import USER

from experiments.__main__ import program
from experiments.errors import NoData
from tasks.hub import client
from tasks.hub.client import in_cache, reachable
from tasks.hub.files import DataError, Schema, read_file
from tasks.hub.layout import split_of
from tasks.qa.babi_qa import BabiQa
from tasks.qa.hotpotqa import HotpotQA
from tasks.registry import names
from tasks.structure.listops_real import ListOpsReal
from tasks.structure.scan_real import ScanReal

NOBODY = "http:" + "//127.0.0.1:9"  # the port for discarding: nothing listens there


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data but those of the test, and no network."""
    monkeypatch.setenv("RESSFORMER_DATA", str(tmp_path / "root"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", sorted({**HUB, **USER}))
def test_without_data_one_line_says_what_to_do(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    begun = time.monotonic()
    with pytest.raises(NoData) as caught:
        program(["tasks", "show", name])
    assert time.monotonic() - begun < 10
    told = str(caught.value)
    assert not capsys.readouterr().out and "\n" not in told
    words = (
        ["needs no data", "path=F"]
        if name in ("text", "pairs", "choices")
        else ["download ", "http", "root/", "task.path=FOLDER", "stands in"]
    )
    assert all(word in told for word in words)
    (stand_in,) = re.findall(r"task=(\w+) needs no data", told)
    assert stand_in in names() and stand_in not in HUB


def test_the_hub_is_asked_by_its_own_names_and_only_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The code path of the hub, with its client replaced: names, subset, split, fallback, no network unless asked."""
    datasets = pytest.importorskip("datasets")
    asked: list[tuple[Any, ...]] = []
    rows = {part: [hotpot_row(f"{part}{n}") for n in range(40)] for part in ("train", "validation")}

    def load_dataset(name: str, subset: str | None, split: str, **more: str) -> Any:
        asked.append((name, subset, split, os.environ.get("HF_HUB_OFFLINE"), datasets.config.HF_HUB_OFFLINE))
        if not more:
            raise RuntimeError("Dataset scripts are no longer supported, but found x.py")
        assert more == {"revision": "refs/convert/parquet"}
        return datasets.Dataset.from_list(rows[split])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    refuses(HotpotQA().fingerprint, "no data: download hotpotqa/hotpot_qa")
    assert not asked
    (tmp_path / "hub" / "datasets" / "hotpotqa___hotpot_qa").mkdir(parents=True)
    task = HotpotQA(length=160, bpe_vocab=400)
    local = HotpotQA(path=str(hotpot(tmp_path / "local")), length=160, bpe_vocab=400)
    assert len(task.parts["test/id"]) == 40 and local.parts["test/id"][0].example.prompt
    assert {call[:3] for call in asked} == {("hotpotqa/hotpot_qa", "distractor", part) for part in rows}
    assert all(call[3:] == ("1", True) for call in asked)
    assert os.environ.get("HF_HUB_OFFLINE") is None and not datasets.config.HF_HUB_OFFLINE
    monkeypatch.setattr(client, "reachable", lambda endpoint: False)
    refuses(HotpotQA(download=True).fingerprint, "does not answer", "stands in")
    monkeypatch.setattr(client, "reachable", lambda endpoint: True)
    asked.clear()
    assert HotpotQA(download=True, length=160, bpe_vocab=400).fingerprint() and asked[0][3] is None


def test_an_absent_network_is_noticed() -> None:
    begun = time.monotonic()
    assert not reachable(NOBODY, {}) and time.monotonic() - begun < 10
    assert reachable(NOBODY, {"https_proxy": "x"})


def test_caches_of_the_hub_are_found(tmp_path: Path) -> None:
    settings = {"HF_HUB_CACHE": str(tmp_path / "a"), "HF_HOME": str(tmp_path)}
    assert not in_cache("deepmind/pg19", settings)
    for folder in (
        "a/datasets--deepmind--pg19",
        "datasets/Salesforce___wikitext",
        "datasets/roneneldan___tiny_stories",
    ):
        (tmp_path / folder).mkdir(parents=True)
    assert in_cache("deepmind/pg19", settings) and in_cache("Salesforce/wikitext", settings)
    assert in_cache("roneneldan/TinyStories", settings) and not in_cache("scan", settings)


def test_data_below_the_root_need_no_path(tmp_path: Path) -> None:
    babi(tmp_path / "root" / "babi_qa")
    assert BabiQa().fingerprint() == BabiQa(path=str(babi(tmp_path / "elsewhere"))).fingerprint()


def test_file_names_tell_the_split() -> None:
    names = {
        "train-00000-of-00002.parquet": "train",
        "dev.tsv": "validation",
        "basic_val.tsv": "validation",
        "hotpot_dev_distractor_v1.json": "validation",
        "tasks_test_length.txt": "test",
        "gen.tsv": "gen",
        "train_test.parquet": "",
        "README.md": "",
    }
    assert {name: split_of(name) for name in names} == names


def test_bad_files_are_named_with_the_row(tmp_path: Path) -> None:
    where = scan(tmp_path / "scan")
    folder, task = where / "length", lambda: ScanReal(path=str(where)).fingerprint()
    good = [{"commands": "walk", "actions": "I_WALK"}] * 20
    whole = (folder / "train.parquet").read_bytes()
    write(folder, test=[{"commands": "walk"}])
    refuses(task, "test.parquet", "column 'actions' is missing; columns: commands")
    write(folder, test=change(good, 7, actions=None))
    refuses(task, "test.parquet, row 7", "column 'actions' is null")
    write(folder, test=change(good, 3, actions="  "))
    refuses(task, "test.parquet, row 3", "must not be empty")
    write(folder, test=[{"commands": 1, "actions": "I_WALK"}])
    refuses(task, "test.parquet, row 0", "column 'commands' must be str, found int (1)")
    (folder / "test.parquet").write_bytes(whole[: len(whole) // 2])
    refuses(task, "test.parquet", "broken parquet")
    (folder / "test.parquet").write_bytes(whole[:200] + b"\xff" * 400 + whole[600:])
    refuses(task, "test.parquet")
    (folder / "test.parquet").unlink()
    refuses(task, "no file of the split 'test'", "found: length/")
    (folder / "test.jsonl").write_text("")
    refuses(task, "split 'test' is empty", "test.jsonl")
    (folder / "test.jsonl").write_text('{"commands": "walk", "actions": "I_WALK"}\n{"commands": \n')
    refuses(task, "test.jsonl, row 2", "no JSON")
    (folder / "test.jsonl").write_text('{"commands": "walk", "actions": "I_WALK"}\n[1]\n')
    refuses(task, "test.jsonl, row 2", "must be an object")
    (folder / "test.json").write_text("[]")
    refuses(task, "has 2 files of the split 'test' (length/test.json, length/test.jsonl)", "keep one")
    (folder / "test.jsonl").unlink()
    (folder / "test.json").write_text('[{"commands": "walk", "actions": "I_WALK"}, 3]')
    refuses(task, "test.json, row 1", "must be an object")
    (folder / "test.json").unlink()
    (folder / "test.tsv").write_text("commands\tactions\nwalk\tI_WALK\nrun\n")
    refuses(task, "test.tsv, row 3: 1 columns, not 2 (commands, actions)")
    (folder / "test.tsv").write_bytes(b"commands\tactions\nwalk\xff\tI_WALK\n")
    refuses(task, "test.tsv, line 2: not UTF-8")
    (folder / "test.tsv").unlink()
    (folder / "test.txt").write_text("IN: walk OUT: I_WALK\njump\n")
    refuses(task, "test.txt, row 2: column 'commands' is null")
    (folder / "test.txt").write_text("IN: walk OUT: I_WALK\n")
    assert task()


def test_bad_paths_are_one_line(tmp_path: Path) -> None:
    refuses(ScanReal(path=str(tmp_path / "none")).fingerprint, "task scan_real", "does not exist", "folder that holds")
    (tmp_path / "file").write_text("")
    refuses(ScanReal(path=str(tmp_path / "file")).fingerprint, "is a file, not a folder")
    refuses(lambda: ScanReal(subset="lenght"), "subset='lenght' is unknown: use one of simple, length")
    refuses(lambda: ScanReal(tokenizer="bpo"), "tokenizer='bpo' is unknown: use words or bytes or bpe")
    refuses(lambda: HotpotQA(overflow="cut"), "overflow='cut' is unknown: use distractors or skip")
    refuses(
        HotpotQA(path=str(hotpot(tmp_path / "h")), bpe_vocab=20).fingerprint, "task hotpotqa: bpe_vocab=20 is too small"
    )
    for bad in ("n_train", "n_validation", "n_test", "ood_length"):
        refuses(lambda bad=bad: ScanReal(**{bad: -1}), f"{bad}=-1 is negative: use 0 (all) or more")
    (tmp_path / "odd.parquet").write_text("")
    with pytest.raises(DataError, match=r"odd.xyz: cannot be read here; kinds: .parquet"):
        list(read_file(tmp_path / "odd.xyz", Schema()))


def test_what_does_not_fit_is_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = str(scan(tmp_path / "scan"))
    task = ScanReal(path=where, length=14, ood_length=64)
    kept, left = task.report.kept, task.report.skipped
    assert (
        task.fingerprint() and left["train"]["longer than length=14"] > 0 and len(task.parts["train"]) == kept["train"]
    )
    whole = ScanReal(path=where)
    assert len(whole.parts["train"]) == kept["train"] + left["train"].total()
    told = capsys.readouterr().err
    assert f"train: {kept['train']} of {len(whole.parts['train'])} items, left out: " in told
    assert "longer than length=14" in task.card.train and "longer" not in whole.card.train
    refuses(ScanReal(path=where, length=4).fingerprint, "is empty: 0 of", "longer than length=4")


def test_an_answer_that_train_lacks_counts_as_wrong_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = babi(tmp_path / "babi")
    story = {"type": [0, 1], "text": ["Mary moved to the moon.", "Where is Mary?"]}
    story |= {"id": ["1", "2"], "supporting_ids": [[], ["1"]], "answer": ["", "moon"]}
    write(where / "en-qa1", test=[{"story": story}])
    task = BabiQa(path=str(where))
    item = task.generate("test/id", 0, 0)
    assert "1 answers with a word that train lacks (kept: counted as wrong)" in task.card.in_distribution
    assert "answers with a word that train lacks" in capsys.readouterr().err
    import torch

    labels = torch.from_numpy(item.labels)[None]
    assert task.score(labels, labels, labels.float())["accuracy"].tolist() == [0]
    write(where / "en-qa1", test=[{"story": story | {"answer": ["", "the moon"]}}])
    refuses(BabiQa(path=str(where)).fingerprint, "test.parquet, row 0", "must be one word, found 'the moon'")
    write(where / "en-qa1", test=[{"story": story | {"answer": [""]}}])
    refuses(BabiQa(path=str(where)).fingerprint, "test.parquet, row 0", "differ in length")


def test_splits_that_are_cut_out_share_nothing(tmp_path: Path) -> None:
    for task, whole in (
        (ScanReal(path=str(scan(tmp_path / "s"))), None),
        (BabiQa(path=str(babi(tmp_path / "b"))), 240),
        (HotpotQA(path=str(hotpot(tmp_path / "h")), length=160, bpe_vocab=400), 120),
    ):
        keys = {part: {done.example.key for done in rows} for part, rows in task.parts.items()}
        assert not keys["train"] & keys["validation"] and keys["validation"]
        assert task.report.overlap["test/id"][0] == len(
            [done for done in task.parts["test/id"] if done.example.key in keys["train"]]
        )
        if whole:
            assert len(task.parts["train"]) + len(task.parts["validation"]) == whole


def test_overlap_of_train_and_test_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = listops(tmp_path / "l")
    row = {"Source": "( ( ( [MIN 1 ) 2 ) ] )", "Target": 1}
    write(where / "d20s", train=[row] * 30, test=[row, {"Source": "[MAX 1 2 ]", "Target": 2}])
    task = ListOpsReal(path=str(where))
    assert task.fingerprint() and "1 of 2 also in train" in task.card.in_distribution
    assert "1 of 2 also in train" in capsys.readouterr().err


def test_fingerprint_is_the_content_and_not_the_file(tmp_path: Path) -> None:
    one, other = babi(tmp_path / "a"), babi(tmp_path / "b")
    os.utime(other / "en-qa1" / "train.parquet", (1, 1))
    assert BabiQa(path=str(one)).fingerprint() == BabiQa(path=str(other)).fingerprint()
    (other / "en-qa1" / "test.parquet").rename(other / "en-qa1" / "test-00000-of-00001.parquet")
    assert BabiQa(path=str(one)).fingerprint() == BabiQa(path=str(other), batch_size=3).fingerprint()
    assert BabiQa(path=str(one)).fingerprint() != BabiQa(path=str(one), n_test=7).fingerprint()


def test_train_sees_every_row_once_an_epoch(tmp_path: Path) -> None:
    task = ScanReal(path=str(scan(tmp_path / "s")))
    count = len(task.parts["train"])
    epochs = [[task.generate("train", 0, e * count + i).canonical for i in range(count)] for e in range(2)]
    assert epochs[0] != epochs[1] and sorted(epochs[0]) == sorted(epochs[1])


def test_limits_take_rows_by_their_hash(tmp_path: Path) -> None:
    where = str(listops(tmp_path / "l"))
    few, all_of = ListOpsReal(path=where, n_test=10, n_train=50), ListOpsReal(path=where)
    assert few.splits["test/id"] == 10 and len(few.parts["train"]) == 50
    assert {d.example.key for d in few.parts["test/id"]} <= {d.example.key for d in all_of.parts["test/id"]}
    assert [d.example.key for d in few.parts["test/id"]] != [d.example.key for d in all_of.parts["test/id"]][:10]
