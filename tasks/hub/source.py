"""Where a data set lies: a folder in the hub's schema, or the hub itself through `datasets`.

Searched in this order: `task.path`; $RESSFORMER_DATA/FOLDER (without that variable: data/FOLDER); the cache of
`datasets`, or, with `task.download=true`, the network. Without the last the hub is never asked: a missing data
set is one line at once and no wait for a network that may not be there. Relative folders count from where the task
was made, wherever the process goes later.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from tasks.hub import client
from tasks.hub.files import READABLE, TEXT_KINDS, DataError, MissingData, Parser, Row, Schema, declared, read_file
from tasks.hub.layout import Candidate, candidates, choice, files_in, fitting, is_data, refusal

ENTRIES_SHOWN = 12
LOOKED = 200  # first rows of a split that are looked at

Looks = Callable[[str, str, Sequence[Mapping[str, Any]]], str]  # subset, split, first rows -> what is wrong, or ""


def anything(subset: str, split: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """No rows look wrong."""
    return ""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set on the hub.

    Attributes:
        hub: name on the hub; empty where no official copy is there.
        folder: its folder below the data root.
        columns, optional, nested, header, parse: see `tasks.hub.files.Schema`.
        splits: the splits that are read, by the hub's names.
        home: the page to download from.
        stand_in: the task that needs no data and comes nearest.
        looks: says of the first rows of a split why they cannot be of this data set; empty if they may.
        documents: a plain text file is a whole document, and a split's folder may have many.
        named: from the name of a file without an ending to its split.
        file_key: from the subset's name to what the names of its files have in them.
        others: all such keys, this subset's or not.
        noise: words of file names that say nothing.
        folders: from the subset's name to the folders of the original release that hold it.
        siblings: from the subset's name to the subset that carries a split which its own folder lacks.
    """

    hub: str
    folder: str
    columns: tuple[str, ...]
    splits: tuple[str, ...]
    home: str
    stand_in: str
    optional: tuple[str, ...] = ()
    nested: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    parse: Parser | None = None
    looks: Looks = anything
    documents: bool = False
    named: Mapping[str, str] = field(default_factory=dict)
    file_key: Callable[[str], str] = str
    others: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    folders: Callable[[str], tuple[str, ...]] = lambda subset: ()
    siblings: Callable[[str], str] = str

    @property
    def schema(self) -> Schema:
        """How its files are read."""
        return Schema(
            columns=self.columns, optional=self.optional, nested=self.nested, header=self.header, parse=self.parse
        )


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the user says about where the data are: the task's name, its subset, a folder, leave to download.

    path: absolute, or empty. root: the folder whose subfolders hold the data sets. free: any subset may be named.
    """

    task: str
    subset: str = ""
    path: str = ""
    download: bool = False
    root: Path = Path("data")
    free: bool = False


class Opened(NamedTuple):
    """The splits of a source: functions that iterate their rows, the files they come from, the folder of these."""

    rows: dict[str, Callable[[], Iterator[Row]]]
    files: dict[str, list[str]]
    folder: Path | None


def data_root() -> Path:
    """The folder whose subfolders hold the data sets; absolute."""
    return Path(os.environ.get("RESSFORMER_DATA") or "data").expanduser().absolute()


def place_of(task: str, config: Any, free: bool = False) -> Place:
    """The place that a task's settings name, made absolute now."""
    path = str(Path(config.path).expanduser().absolute()) if config.path else ""
    subset = str(getattr(config, "subset", ""))
    return Place(task=task, subset=subset, path=path, download=config.download, root=data_root(), free=free)


def open_splits(source: Source, place: Place) -> Opened:
    """For every split of the source, a function that iterates its rows with the declared columns.

    Raises:
        DataError: there are no data, a split has no file or several; when iterated: a bad file or row, an empty
            split, rows that are not of this data set.
    """
    folder = find_folder(source, place)
    rows: dict[str, Callable[[], Iterator[Row]]] = {}
    names: dict[str, list[str]] = {}
    for split in source.splits:
        if folder is None:
            names[split] = [f"{source.hub} {place.subset} {split}".replace("  ", " ")]
            made = _hub_rows(source, place, split, names[split][0])
        else:
            paths = files_of(source, place, folder, split)
            names[split] = [path.relative_to(folder).as_posix() for path in paths]
            made = _local_rows(source, paths)
        rows[split] = _stream(source, place, split, made, names[split])
    return Opened(rows, names, folder)


def find_folder(source: Source, place: Place) -> Path | None:
    """The local folder, or None where only the hub is left.

    Raises DataError when `path` is given and is no folder.
    """
    if not place.path:
        folder = place.root / source.folder
        return folder if folder.is_dir() else None
    folder = Path(place.path)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f"task {place.task}: path={place.path} {what}; name the folder that holds {source.hub or source.folder}"
        )
    return folder


def files_of(source: Source, place: Place, folder: Path, split: str) -> list[Path]:
    """The files of one split: those of the subset's folder, else of the folder itself. See `tasks.hub.layout`.

    Raises DataError when there is none, or when there are several that are no shards of one.
    """
    rejected: list[Candidate] = []
    for subset in dict.fromkeys([place.subset, source.siblings(place.subset)]):
        inside = [folder / subset, folder / subset / "data"] if subset else []
        for tier in ([*inside, *(folder / name for name in source.folders(subset))], [folder, folder / "data"]):
            options = [one for where in tier for one in _options(source, place, folder, where) if one.split == split]
            key = source.file_key(subset)
            fits = fitting(options, key, [other for other in source.others if other != key], source.noise)
            if len(fits) > 1:
                raise refusal(folder, split, fits, _how(place, fits), place.task)
            if fits:
                return list(fits[0].paths)
            rejected += options
    raise _no_file(place, folder, split, rejected)


def _options(source: Source, place: Place, folder: Path, where: Path) -> list[Candidate]:
    if not where.is_dir():
        return []
    try:
        found = files_in(where, lambda path: is_data(path, READABLE, source.named), deep=False)
        found = [one._replace(split=source.named.get(one.path.name, one.split)) for one in found]
        return candidates(folder, [one for one in found if one.split], TEXT_KINDS if source.documents else ())
    except DataError as error:
        raise DataError(f"task {place.task}: {error}") from None


def _how(place: Place, fits: Sequence[Candidate]) -> str:
    if not place.free:
        return "keep one there, or name another folder with task.path=FOLDER"
    choices = " or ".join(dict.fromkeys(f"task.subset={choice(one)}" for one in fits[:ENTRIES_SHOWN]))
    return f"keep one there, or choose with {choices}"


def _no_file(place: Place, folder: Path, split: str, rejected: Sequence[Candidate]) -> DataError:
    if rejected:
        names = ", ".join(dict.fromkeys(one.name for one in rejected[:ENTRIES_SHOWN]))
        return DataError(
            f"task {place.task}: {folder} has no file of the split '{split}' for task.subset={place.subset}, "
            f"only those of another subset: {names}; choose theirs with task.subset, or rename them if they are not"
        )
    subset = f", or of the subset's folder {place.subset}/," if place.subset else ""
    shown = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = ", ..." if len(shown) > ENTRIES_SHOWN else ""
    return DataError(
        f"task {place.task}: {folder} has no file of the split '{split}': the name of one file there{subset} must "
        f"have '{split}' in it, such as {split}.parquet, or lie in {split}/ ({', '.join(READABLE)}, or .gz of these); "
        f"found: {', '.join(shown[:ENTRIES_SHOWN]) or 'nothing'}{more}"
    )


def _stream(
    source: Source, place: Place, split: str, made: Callable[[], Iterable[Row]], names: Sequence[str]
) -> Callable[[], Iterator[Row]]:
    """The rows of a split, the first ones looked at before any is given."""

    def rows() -> Iterator[Row]:
        left = iter(made())
        first = list(islice(left, LOOKED))
        if not first:
            raise DataError(f"task {place.task}: split '{split}' is empty: {', '.join(names[:3])} holds no row")
        wrong = source.looks(place.subset, split, [row.values for row in first])
        if wrong:
            raise DataError(f"task {place.task}: {first[0].file} is not of {source.hub or source.folder}: {wrong}")
        yield from first
        yield from left

    return rows


def _local_rows(source: Source, paths: Sequence[Path]) -> Callable[[], Iterator[Row]]:
    return lambda: (row for path in paths for row in read_file(path, source.schema))


def _hub_rows(source: Source, place: Place, split: str, where: str) -> Callable[[], Iterator[Row]]:
    def rows() -> Iterator[Row]:
        try:
            data = client.load(source.hub, place.subset, split, place.download)
        except client.NoAnswer as error:
            raise missing(source, place, f" ({error})" if str(error) else "") from None
        for number, values in enumerate(data):
            yield declared(Row(where, number, dict(values)), source.schema)

    return rows


def missing(source: Source, place: Place, why: str = "") -> MissingData:
    """The one line that says what to get, where to put it and what stands in for it."""
    subset = f", subset {place.subset}" if place.subset else ""
    fetch = " or let task.download=true fetch it" if source.hub and not place.download else ""
    return MissingData(
        f"task {place.task}: no data{why}: download {source.hub or source.folder}{subset} from {source.home} and put "
        f"it into {place.root / source.folder} or name its folder with task.path=FOLDER{fetch}; "
        f"task={source.stand_in} needs no data and stands in for it"
    )
