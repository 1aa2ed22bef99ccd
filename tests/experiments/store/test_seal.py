"""Records and plans are checked whenever they are read: no byte of them can change unseen."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import make_record, make_spec, table_plan

from experiments.errors import UserError
from experiments.planning.plan import load_plan
from experiments.store import seal
from experiments.store.reader import read_spec
from experiments.store.store import Store


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_byte_is_never_taken_for_the_record(data: st.DataObject) -> None:
    """Unless it says the same (a blank more), the record is refused wherever the byte stands."""
    record = make_record(make_spec(), 0.5)
    line = bytearray(seal.record_line(record))
    at = data.draw(st.integers(0, len(line) - 2))
    line[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != line[at]))
    try:
        body = seal.record_in(bytes(line))
    except ValueError:
        return
    found = json.loads(body)
    found.pop("seal", None)
    assert found == record.sealed().model_dump(mode="json")


def test_a_record_may_be_laid_out_otherwise(store: Store) -> None:
    record = make_record(make_spec(), 0.5)
    store.write_record(record)
    path = store.folder(record.id) / "record.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=2, sort_keys=True))
    assert store.record(record.id) == record.sealed() and store.status(record.id) == "done"


def test_an_edited_record_is_set_aside_and_its_run_is_to_do(store: Store) -> None:
    record = make_record(make_spec(), 0.5)
    store.write_record(record)
    path = store.folder(record.id) / "record.json"
    path.write_bytes(path.read_bytes().replace(b'"accuracy":0.5', b'"accuracy":0.9876'))
    assert store.state(record.id) == "planned"
    assert store.record(record.id) is None and "does not fit its hash" in store.corrupt[0]
    assert path.with_name("record.json.corrupt-1").exists() and not path.exists()


def test_a_plan_is_checked_against_its_name(store: Store) -> None:
    plan = table_plan()
    name, line = plan.frozen()
    path = store.root / "plans" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(line)
    assert load_plan(path) == plan
    path.write_text(plan.model_dump_json(indent=1))  # laid out otherwise
    assert load_plan(path) == plan
    for changed in (line.replace(b'"steps":12', b'"steps":13', 1), plan.model_dump_json().replace("12", "13").encode()):
        path.write_bytes(changed)
        with pytest.raises(UserError, match="not as it was frozen"):
            load_plan(path)
    other = path.with_name(f"other-{name.rpartition('-')[2]}")
    other.write_bytes(line)
    with pytest.raises(UserError, match="not as it was frozen"):
        load_plan(other)
    mine = path.with_name("mine.json")  # a name that promises nothing
    mine.write_text(plan.model_dump_json())
    assert load_plan(mine) == plan


def test_the_spec_of_a_run_is_that_of_its_folder(store: Store) -> None:
    one, other = make_spec(), make_spec(seed=1)
    for spec in (one, other):
        store.write_spec(spec)
        assert read_spec(store.folder(spec.id)) == spec
    path = store.folder(one.id) / "spec.json"
    line = path.read_bytes()
    for changed in (
        line.replace(b'"steps":12', b'"steps":13'),
        (store.folder(other.id) / "spec.json").read_bytes(),
        b"",
    ):
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="not as it was written"):
            read_spec(store.folder(one.id))


def test_a_log_that_the_record_did_not_seal_is_no_curve(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    log = b'{"step": 1, "val/accuracy": 0.5}\n'
    record = make_record(make_spec(), 0.5, log_hash=seal.short_hash(log))
    store.write_record(record)
    path = store.folder(record.id) / "metrics.jsonl"
    path.write_bytes(log)
    assert store.log(record.id) == log
    path.write_bytes(log.replace(b"0.5", b"0.9"))
    assert list(store.log_faults(record.id, store.raw(record.id) or b"")) == [
        "metrics.jsonl is not what the record sealed"
    ]
    assert store.log(record.id) == b"" and "set aside as metrics.jsonl.corrupt-1" in capsys.readouterr().err
    assert not path.exists()


def test_the_order_of_splits_and_metrics_is_kept(store: Store) -> None:
    metrics = {"test/ood_near": {"loss": 1.0, "accuracy": 0.5}, "test/id": {"accuracy": 0.25}}
    record = make_record(make_spec(), 0.5, metrics=metrics)
    store.write_record(record)
    found = store.record(record.id)
    assert found is not None and json.dumps(found.metrics) == json.dumps(metrics)
