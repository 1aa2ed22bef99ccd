"""Where a data set lies: a folder in the hub's schema, or the hub itself through `datasets`.

Searched in this order: `task.path`; $RESSFORMER_DATA/FOLDER (without that variable: data/FOLDER); the cache of
`datasets`, or, with `task.download=true`, the network. Without the last the hub is never asked: a missing data
set is one line at once and no wait for a network that may not be there.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks.hub.files import READABLE, DataError, MissingData, Parser, Row, checked, read_file

ALIASES = {"valid": "validation", "val": "validation", "dev": "validation", "tst": "test"}
REACH_SECONDS = 8.0  # until a network that the user asked for counts as absent
CONVERTED = "refs/convert/parquet"  # the hub's own parquet copy of a set that was published as a script
ENTRIES_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set on the hub.

    Attributes:
        hub: name on the hub; empty where no official copy is there.
        folder: its folder below the data root.
        columns: what its rows must have.
        splits: the splits that are read, by the hub's names.
        home: the page to download from.
        stand_in: the task that needs no data and comes nearest.
        header: columns of its .tsv files, where those have no header line.
        parse: reads its plain text files.
        file_key: from the subset's name to what the names of its plain files have in them.
        siblings: from (subset, split) to the subset that carries the split where the subset's own folder lacks it.
    """

    hub: str
    folder: str
    columns: tuple[str, ...]
    splits: tuple[str, ...]
    home: str
    stand_in: str
    header: tuple[str, ...] = ()
    parse: Parser | None = None
    file_key: Callable[[str], str] = str
    siblings: Callable[[str], str] = str


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the user says about where the data are: the task's name, its subset, a folder, leave to download."""

    task: str
    subset: str = ""
    path: str = ""
    download: bool = False


def data_root() -> Path:
    """The folder whose subfolders hold the data sets."""
    return Path(os.environ.get("RESSFORMER_DATA") or "data")


def open_splits(source: Source, place: Place) -> dict[str, Callable[[], Iterator[Row]]]:
    """For every split of the source, a function that iterates its rows with the needed columns checked.

    Raises:
        DataError: there are no data, or a split has no file; when iterated: a bad file or row, an empty split.
    """
    folder = find_folder(source, place)
    if folder is None:
        return {split: _hub_rows(source, place, split) for split in source.splits}
    files = {split: files_of(source, place, folder, split) for split in source.splits}
    return {split: _local_rows(source, paths, place.task, split) for split, paths in files.items()}


def find_folder(source: Source, place: Place) -> Path | None:
    """The local folder, or None where only the hub is left.

    Raises DataError when `path` is given and is no folder.
    """
    if not place.path:
        folder = data_root() / source.folder
        return folder if folder.is_dir() else None
    folder = Path(place.path).expanduser()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f"task {place.task}: path={place.path} {what}; name the folder that holds {source.hub or source.folder}"
        )
    return folder


def files_of(source: Source, place: Place, folder: Path, split: str) -> list[Path]:
    """The files of one split: those of the subset's folder whose name has the split's name in it.

    Raises DataError when there is none, or when kinds are mixed.
    """
    for subset in dict.fromkeys([place.subset, source.siblings(place.subset)]):
        inside = [folder / subset, folder / subset / "data"] if subset else []
        for where in [*inside, folder, folder / "data"]:
            found = _matching(source, place, where, split)
            if found:
                return found
    subset = f", or of the subset's folder {place.subset}/," if place.subset else ""
    shown = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = ", ..." if len(shown) > ENTRIES_SHOWN else ""
    raise DataError(
        f"task {place.task}: {folder} has no file of the split '{split}': the name of one file there{subset} must "
        f"have '{split}' in it, such as {split}.parquet ({', '.join(READABLE)}); found: "
        f"{', '.join(shown[:ENTRIES_SHOWN]) or 'nothing'}{more}"
    )


def _matching(source: Source, place: Place, where: Path, split: str) -> list[Path]:
    if not where.is_dir():
        return []
    found = [path for path in sorted(where.iterdir()) if path.is_file() and split_of(path.name) == split]
    found = [path for path in found if path.suffix in READABLE]
    key = source.file_key(place.subset)
    if key and where.name != place.subset:
        found = [path for path in found if key in path.name] or (found if len(found) == 1 else [])
    kinds = sorted({path.suffix for path in found})
    if len(kinds) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"task {place.task}: {where} holds the split '{split}' in several kinds ({names}): keep one")
    return found


def split_of(name: str) -> str:
    """The split that a file name speaks of; empty if of none or of several."""
    words = re.findall(r"[a-z]+", Path(name).stem.lower())
    known = {ALIASES.get(word, word) for word in words} & {"train", "validation", "test", "gen"}
    return known.pop() if len(known) == 1 else ""


def _local_rows(source: Source, paths: list[Path], task: str, split: str) -> Callable[[], Iterator[Row]]:
    def rows() -> Iterator[Row]:
        empty = True
        for path in paths:
            for row in read_file(path, source.columns, source.header, source.parse):
                empty = False
                yield row
        if empty:
            raise DataError(f"task {task}: split '{split}' is empty: {', '.join(map(str, paths))} holds no row")

    return rows


def _hub_rows(source: Source, place: Place, split: str) -> Callable[[], Iterator[Row]]:
    where = f"{source.hub} {place.subset} {split}".replace("  ", " ")

    def rows() -> Iterator[Row]:
        data = load_hub(source, place, split)
        if len(data) == 0:
            raise DataError(f"task {place.task}: split '{split}' of {source.hub} is empty")
        for number, values in enumerate(data):
            yield checked(Row(where, number, dict(values)), source.columns)

    return rows


def missing(source: Source, place: Place, why: str = "") -> MissingData:
    """The one line that says what to get, where to put it and what stands in for it."""
    subset = f", subset {place.subset}" if place.subset else ""
    fetch = " or let task.download=true fetch it" if source.hub and not place.download else ""
    return MissingData(
        f"task {place.task}: no data{why}: download {source.hub or source.folder}{subset} from {source.home} and put "
        f"it into {data_root() / source.folder} or name its folder with task.path=FOLDER{fetch}; "
        f"task={source.stand_in} needs no data and stands in for it"
    )


def load_hub(source: Source, place: Place, split: str) -> Any:
    """One split of the hub's data set, from the cache of `datasets` or, if allowed, from the network.

    Raises DataError when it cannot be had.
    """
    if not source.hub or not (place.download or in_cache(source.hub)):
        raise missing(source, place)
    if place.download and not reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")):
        raise missing(source, place, " (the hub does not answer)")
    with hub_offline(not place.download):
        import datasets

        def load(**more: str) -> Any:
            return datasets.load_dataset(source.hub, place.subset or None, split=split, **more)

        try:
            try:
                return load()
            except RuntimeError as error:
                if "scripts are no longer supported" not in str(error):
                    raise
                return load(revision=CONVERTED)
        except Exception as error:  # whatever the hub's client raises: names of its errors move between releases
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise missing(source, place, f" ({first})" if place.download else "") from None


def in_cache(hub: str, environment: Mapping[str, str] = os.environ) -> bool:
    """True if a cache of the hub's client has a folder of the data set: importing `datasets` to ask it takes longer."""
    home = Path(environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    places = {
        environment.get("HF_HUB_CACHE") or home / "hub": "datasets--" + hub.replace("/", "--"),
        environment.get("HF_DATASETS_CACHE") or home / "datasets": hub.replace("/", "___"),
    }
    # Folders of the second are in lower or snake case, by release.
    plain = {name.replace("_", "").lower() for name in places.values()}
    return any(
        entry.name.replace("_", "").lower() in plain
        for place in places
        for entry in (Path(place).expanduser().iterdir() if Path(place).expanduser().is_dir() else ())
    )


@contextmanager
def hub_offline(offline: bool) -> Iterator[None]:
    """Keep the hub's client off the network. It reads the variable at import only, hence the constants."""
    if not offline:
        yield
        return
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets.config
    import huggingface_hub.constants

    holders: list[Any] = [datasets.config, huggingface_hub.constants]
    known = [holder.HF_HUB_OFFLINE for holder in holders]
    try:
        for holder in holders:
            holder.HF_HUB_OFFLINE = True
        yield
    finally:
        for holder, value in zip(holders, known, strict=True):
            holder.HF_HUB_OFFLINE = value if before is not None else False
        os.environ.pop("HF_HUB_OFFLINE")
        if before is not None:
            os.environ["HF_HUB_OFFLINE"] = before


def reachable(endpoint: str, environment: Mapping[str, str] = os.environ) -> bool:
    """True if the endpoint takes a connection within REACH_SECONDS; with a proxy there is no telling: True.

    `datasets` itself waits for minutes where packets are dropped.
    """
    if any(environment.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")):
        return True
    address = urlsplit(endpoint)
    answered = threading.Event()

    def connect() -> None:
        try:
            port = address.port or (443 if address.scheme == "https" else 80)
            socket.create_connection((address.hostname or "", port), timeout=REACH_SECONDS).close()
        except OSError:
            return
        answered.set()

    # A thread, since the look-up of a name knows no timeout.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    return answered.is_set()
