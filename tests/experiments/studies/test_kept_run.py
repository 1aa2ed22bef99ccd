"""A finished run's model is looked at: its figures come back to the last digit, it reads other items, it writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from toy import make_spec

from experiments.__main__ import program
from experiments.errors import UserError
from experiments.planning.instantiate import build_task
from experiments.planning.task_data import fingerprint
from experiments.store.identity import named
from experiments.store.records import RunSpec
from experiments.store.store import Store
from experiments.training.run import execute

PYDOCS = {"_target_": "tasks.language.pydocs.PyDocs", "length": 16, "batch_size": 2, "n_validation": 2, "n_test": 2}
TRANSLATE = {"_target_": "tasks.structure.scan_like.ScanLike", "batch_size": 4, "n_validation": 4, "n_test": 4}


def spec_on(section: dict[str, object], label: str) -> RunSpec:
    """A run of a few steps on a task, its model with rotary positions."""
    task, base = build_task(section), make_spec(steps=4, trainer={"keep_checkpoint": True})
    card = task.describe()
    info = {"name": task.name, "version": task.version, "metric": card.metric, "length": task.length}
    info |= {"higher_is_better": card.higher_is_better, "batch_size": task.batch_size, "vocab_size": task.vocab_size}
    changes = {
        "task": label,
        "config": {**base.config, "task": section},
        "sizes": {**base.sizes, "positions": "rotary"},
        "task_info": base.task_info.model_copy(update=info),
        "data_fingerprint": fingerprint(task),
    }
    return named(base.model_copy(update=changes))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, dict[str, str]]]:
    """Three runs that kept their checkpoints, and one that did not, by what they were trained on."""
    threads = torch.get_num_threads()
    store = Store(tmp_path_factory.mktemp("kept"))
    specs = {
        "chain": make_spec(trainer={"keep_checkpoint": True}),
        "pydocs": spec_on(PYDOCS, "pydocs"),
        "scan_like": spec_on(TRANSLATE, "scan_like"),
        "gone": make_spec(seed=3, steps=2),
    }
    for spec in specs.values():
        assert execute(spec, store) == "done"
    yield store, {name: spec.id for name, spec in specs.items()}
    torch.set_num_threads(threads)


def said(
    capsys: pytest.CaptureFixture[str], kept: tuple[Store, dict[str, str]], verb: str, run: str, *words: str
) -> str:
    """What a verb prints of one of the runs; it must end well."""
    store, ids = kept
    assert program([verb, f"run={ids[run]}", f"results_dir={store.root}", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("run", "means"), [("chain", 6), ("pydocs", 1), ("scan_like", 2)])
def test_the_figures_of_the_record_come_back(
    run: str, means: int, kept: tuple[Store, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out = said(capsys, kept, "evaluate", run)
    assert "the record's figures to the last digit" in out
    assert int(out.partition("last digit: ")[2].split()[0]) >= means
    assert "validation" in said(capsys, kept, "evaluate", run, "split=validation,test/id")


def test_other_weights_do_not_pass_for_the_record(
    kept: tuple[Store, dict[str, str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ids = kept
    load = torch.nn.Module.load_state_dict
    doubled = lambda self, state: load(self, {key: -value for key, value in state.items()})  # noqa: E731
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", doubled)
    assert program(["evaluate", f"run={ids['pydocs']}", f"results_dir={store.root}"]) == 1
    assert "are not the record's" in capsys.readouterr().out


def test_other_items_and_lengths(kept: tuple[Store, dict[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, kept, "evaluate", "pydocs", "length=64")
    assert "task.length=64" in out and "bits_per_byte" in out and "record" not in out
    assert "accuracy" in said(capsys, kept, "evaluate", "chain", "task=chain", "task.n_test=8", "split=test/id")


def test_the_same_seed_writes_the_same_text(
    kept: tuple[Store, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = ("prompt=The for", "tokens=24", "temperature=2")
    texts = [said(capsys, kept, "sample", "pydocs", *drawn, f"seed={seed}") for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2] and all(text.startswith("The for") for text in texts)
    greedy = [said(capsys, kept, "sample", "pydocs", "prompt=The for", "tokens=24", f"seed={seed}") for seed in (1, 2)]
    assert greedy[0] == greedy[1]


def test_words_are_answered(kept: tuple[Store, dict[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, kept, "sample", "chain", "item=0").splitlines()
    assert shown[-1].endswith("each after the right ones") and shown[-2].startswith("model: ")
    (prompt,) = (line.removeprefix("prompt:  ") for line in shown if line.startswith("prompt:"))
    out = said(capsys, kept, "sample", "chain", f"prompt={prompt}")
    assert len(out.partition(" -> ")[2].split()) == 1
    # The first answer of the item is the one token that is written behind the same words.
    assert out.partition(" -> ")[2].split()[0] == shown[-2].split()[1]
    assert " -> " in said(capsys, kept, "sample", "scan_like", "prompt=walk", "tokens=3")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["evaluate", "run=GONE"],
            "kept no checkpoint; this trains it again and keeps it: python -m experiments train",
        ),
        (["sample", "run=GONE", "item=0"], "trainer.keep_checkpoint=true results_dir=kept"),
        (["evaluate", "run=zzz"], "no run begins with 'zzz'"),
        (["evaluate"], "evaluate takes one run"),
        (["evaluate", "run=CHAIN", "split=test/nowhere"], "unknown split of task chain 'test/nowhere'"),
        (["evaluate", "run=CHAIN", "task=mqar"], "knows the"),
        (["evaluate", "run=CHAIN", "length=512"], "cannot read 512"),
        (["evaluate", "run=CHAIN", "model=x"], "unknown argument of evaluate 'model'"),
        (["sample", "run=CHAIN", "prompt=walk"], "'walk' is no word of it"),
        (["sample", "run=CHAIN", "prompt="], "the prompt is empty"),
        (["sample", "run=CHAIN", "item=99"], "item=0 to item=15"),
        (["sample", "run=CHAIN"], "either a prompt or an item"),
    ],
)
def test_bad_input_gets_one_line(words: list[str], line: str, kept: tuple[Store, dict[str, str]]) -> None:
    store, ids = kept
    named_words = [word.replace("GONE", ids["gone"]).replace("CHAIN", ids["chain"]) for word in words]
    with pytest.raises(UserError) as caught:
        program([*named_words, f"results_dir={store.root}"])
    assert line in str(caught.value)


def test_a_damaged_checkpoint_is_refused(kept: tuple[Store, dict[str, str]], tmp_path: Path) -> None:
    store, ids = kept
    path = store.folder(ids["scan_like"]) / "checkpoint.ckpt"
    data = path.read_bytes()
    try:
        path.write_bytes(data[:-100] + bytes(100))
        with pytest.raises(UserError, match="cannot be read"):
            program(["evaluate", f"run={ids['scan_like']}", f"results_dir={store.root}"])
    finally:
        path.write_bytes(data)


def test_the_record_names_the_kernels_that_ran(kept: tuple[Store, dict[str, str]]) -> None:
    store, ids = kept
    record = store.record(ids["chain"])
    assert record is not None and record.provenance.native_kernels == []  # a Transformer has none
