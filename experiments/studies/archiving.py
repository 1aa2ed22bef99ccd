"""Packs a results folder into its compact form, with what the records of its tables give, and unpacks it."""

from __future__ import annotations

from pathlib import Path

from experiments.analysis.trials import is_sweep_plan
from experiments.errors import UserError
from experiments.planning.plan import load_plan, plan_files
from experiments.store.archive import Archive
from experiments.store.pack import of_archive, of_folder, size_of, unpack, write_archive
from experiments.store.store import Store
from experiments.studies.evidence import evidence


def pack_folder(store: Store, to: Path) -> int:
    """Write the archive of `to`: what it has, what the archive beside the runs has, and the finished runs.

    Raises:
        UserError: a record, a plan or an archive is damaged, or there is nothing to pack.
    """
    contents = of_archive(Archive.at(to))
    if store.root != to:
        contents.add(of_archive(store.archive))
    contents.add(of_folder(store))
    if not contents.records:
        raise UserError(f"{store.root} has no finished run")
    for path in plan_files(store.root / "plans"):
        plan = load_plan(path)
        if is_sweep_plan(plan, store.export(f"{plan.table.name}.csv") or ""):
            continue  # its trials are no table: what they scored is in the records and in its exports
        for name, text in evidence(plan, store).items():
            contents.texts[f"derived/{path.stem}-{name}.csv"] = text.encode()
    archive = write_archive(contents, to)
    loose = [path for run in contents.records for path in store.folder(run).rglob("*")]
    loose += [path for name in ("plans", "exports", "timings") for path in (store.root / name).rglob("*")]
    files = [path for path in loose if path.is_file()]
    print(f"{len(contents.records)} runs, {len(contents.plans)} plans: {archive.folder}")
    print(f"{len(files)} files, {size_of(files) / 1e6:.2f} MB -> ", end="")
    print(f"{len(archive.files) + 1} files, {size_of(archive.folder.rglob('*')) / 1e6:.2f} MB")
    return 0


def unpack_folder(root: Path, to: Path) -> int:
    """Write the runs, plans, exports and timings of the archive of `root` into the results folder `to`.

    Raises:
        UserError: there is no archive, or it is damaged.
    """
    archive = Archive.at(root)
    if archive is None:
        raise UserError(f"{root} has no archive")
    print(f"{unpack(archive, to)} runs: {to}")
    return 0
