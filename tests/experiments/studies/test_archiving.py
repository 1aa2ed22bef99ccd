"""What is packed beside the records: of tables what they give, of sweeps nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import make_record, table_plan

from experiments.planning.settings import Entry
from experiments.store import atomic_files as atomic
from experiments.store.archive import Archive
from experiments.store.store import Store
from experiments.studies.archiving import pack_folder
from experiments.studies.verify import _evidence_faults


@pytest.mark.parametrize("sweep", [False, True])
def test_a_sweep_is_packed_without_cells(sweep: bool, store: Store, tmp_path: Path) -> None:
    plan = table_plan()
    if sweep:  # trials of two models
        entries = [Entry(label=f"{label} #{n}", model="transformer") for label in "ab" for n in range(2)]
        runs = [spec.model_copy(update={"model": f"{spec.model} #0"}) for spec in plan.runs]
        changed = plan.table.model_copy(update={"models": entries})
        plan = plan.model_copy(update={"table": changed, "runs": runs})
    atomic.write_text(store.root / "plans" / plan.file_name, plan.model_dump_json())
    for spec in plan.runs:
        store.write_record(make_record(spec))
    assert pack_folder(store, tmp_path / "to") == 0
    archive = Archive.at(tmp_path / "to")
    assert archive is not None and len(archive.ids) == len(plan.runs)
    assert bool(archive.derived(Path(plan.file_name).stem)) is not sweep
    assert not list(_evidence_faults(plan, Path(plan.file_name), Store(tmp_path / "to", write=False)))
