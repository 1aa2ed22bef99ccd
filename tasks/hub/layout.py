"""Which files of a folder are a split.

A file belongs to the split that names a folder above it (`train/`, `validation/`, `test/` ...), else to the one whose
name is a word of its own name. Only the shards of one file are joined (`train-00000-of-00002.parquet` ...,
`train/0000.parquet` ..., what `datasets` saved in a folder), and all of them must be there. Two files of one split
that are no shards are refused, unless the subset says which one is meant. README, LICENSE and their kin are no data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tasks.hub.files import ROW_KINDS, DataError, kind_of

ALIASES = {"valid": "validation", "val": "validation", "dev": "validation", "tst": "test"}
SPLITS = frozenset({"train", "validation", "test", "gen"})
STATE = "state.json"  # beside the shards that `datasets` saved: their names
NO_DATA = frozenset({STATE, "dataset_info.json", "dataset_infos.json", "dataset_dict.json"})
BESIDE = re.compile(
    r"((read.?me|licen[cs]e)([._-].*)?|source(\.(md|rst))?|"
    r"(copying|citation|notice|authors|changelog|contributing|sha\d+sums?|md5sums?)(\.\w+)?)$",
    re.IGNORECASE,
)
SHARD = re.compile(r"^(?P<head>.*?)[-._](?P<number>\d{2,})-of-(?P<total>\d{2,})(?:-[0-9a-f]{6,})?(?P<tail>\..*)$")
NUMBER = re.compile(r"^(?P<number>\d{4,5})(?P<tail>\..*)$")
VERSION = re.compile(r"v\d+(\.\d+)*", re.IGNORECASE)
SHOWN = 6


class Found(NamedTuple):
    """A data file: its split, and the folder that gave it, if one did."""

    path: Path
    split: str
    within: Path | None


class Candidate(NamedTuple):
    """What may be a split: one file, the shards of one, or the documents of a folder.

    label: the other words of its name. name: for an error.
    """

    split: str
    paths: tuple[Path, ...]
    label: tuple[str, ...]
    name: str


def words(name: str) -> list[str]:
    """Words and numbers of a name in lower case."""
    return re.findall(r"[a-z]+|\d+", name.lower())


def split_of(name: str) -> str:
    """The split that a file name speaks of; empty if of none or of several."""
    known = {ALIASES.get(word, word) for word in words(Path(name).stem)} & SPLITS
    return known.pop() if len(known) == 1 else ""


def folder_split(name: str) -> str:
    """The split that a folder is named for; it must be the whole name."""
    split = ALIASES.get(name.lower(), name.lower())
    return split if split in SPLITS else ""


def is_data(path: Path, kinds: Sequence[str], also: Iterable[str] = ()) -> bool:
    """True for a file of one of the kinds that is not a note beside the data."""
    if path.name in also:
        return True
    kind = kind_of(path)
    if path.name.startswith(".") or path.name in NO_DATA or kind not in kinds:
        return False
    return kind in ROW_KINDS or not BESIDE.match(path.name)


def label_of(name: str) -> tuple[str, ...]:
    """The words of a file's name less its split, its version, its shard and its kind (but `raw` and `tokens` stay)."""
    shard = SHARD.match(name)
    plain = (shard["head"] + shard["tail"] if shard else name).lower().removesuffix(".gz")
    for kind in (*ROW_KINDS, ".txt"):
        plain = plain.removesuffix(kind)
    return tuple(word for word in words(VERSION.sub(" ", plain)) if ALIASES.get(word, word) not in SPLITS)


def saved_files(folder: Path) -> tuple[list[Path], str]:
    """The files of a folder that `datasets` saved, and its split if it says so. Raises DataError on a torn one."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8-sig"))
        paths = [folder / entry["filename"] for entry in state["_data_files"]]
        if state.get("_indices_data_files"):
            raise DataError(f"{folder}: saved with an index by an old release of datasets: load and save it again")
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{folder / STATE}: broken: it must name the files that were saved") from None
    gone = [path.name for path in paths if not path.is_file()]
    if gone or not paths:
        raise DataError(f"{folder}: not whole: {STATE} names {', '.join(gone[:SHOWN]) or 'no file'}, not there")
    return paths, folder_split(str(state.get("_split") or ""))


def files_in(folder: Path, is_file: Callable[[Path], bool], deep: bool) -> list[Found]:
    """The data files of a folder and of the folders below that are named for a split (`deep`: of all below)."""
    found: list[Found] = []
    seen: set[Path] = set()  # a link may lead back

    def visit(where: Path, split: str, within: Path | None) -> None:
        if where.resolve() in seen:
            return
        seen.add(where.resolve())
        if (where / STATE).is_file():
            paths, own = saved_files(where)
            found.extend(Found(path, split or own, within or where) for path in paths)
            return
        for path in sorted(where.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                named = split or folder_split(path.name)
                if deep or named:
                    visit(path, named, within or (path if named else None))
            elif path.is_file() and is_file(path):
                found.append(Found(path, split or split_of(path.name), within))

    visit(folder, "", None)
    return found


def candidates(folder: Path, found: Sequence[Found], text_kinds: Sequence[str] = ()) -> list[Candidate]:
    """The files of a folder as wholes. Of `text_kinds` every file is a document; all in a split's folder are joined.

    Raises DataError when a shard is not there, or a file's name and its folder speak of two splits.
    """
    groups: dict[tuple[str, ...], list[Found]] = {}
    for one in found:
        path, place = one.path, str(one.path.parent)
        inside = str(one.within or "")
        shard = SHARD.match(path.name)
        number = NUMBER.match(path.name) if one.within else None
        if (one.within or not one.split) and kind_of(path) in text_kinds:
            key: tuple[str, ...] = (one.split, inside, "documents")
        elif shard:
            key = (one.split, place, "shard", shard["head"], shard["total"], shard["tail"])
        elif number:
            key = (one.split, place, "number", number["tail"])
        else:
            key = (one.split, place, "file", path.name)
        if one.within and key[2] != "documents" and split_of(path.name) not in ("", one.split):
            raise DataError(f"{path} lies in a folder of the split '{one.split}' and is named for another: move it")
        groups.setdefault(key, []).append(one)
    for key, members in groups.items():
        if key[2] in ("shard", "number"):
            _whole(members, key)
    return [_candidate(folder, key, members) for key, members in groups.items()]


def _candidate(folder: Path, key: tuple[str, ...], members: Sequence[Found]) -> Candidate:
    paths = tuple(one.path for one in members)
    names = [path.relative_to(folder).as_posix() for path in paths]
    name = names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]}"
    label = () if key[2] == "documents" or members[0].within else label_of(paths[0].name)
    return Candidate(key[0], paths, label, name)


def _whole(members: Sequence[Found], key: tuple[str, ...]) -> None:
    """Raises DataError unless every shard is there once."""
    pattern = SHARD if key[2] == "shard" else NUMBER
    numbers = [int(match["number"]) for one in members if (match := pattern.match(one.path.name))]
    total = int(key[4]) if key[2] == "shard" else max(numbers) + 1
    gone = sorted(set(range(total)) - set(numbers))
    twice = len(numbers) != len(set(numbers))
    if gone or twice or max(numbers) >= total:
        what = f"shard {gone[0]} of {total} is not there" if gone else "a shard is there twice"
        raise DataError(f"{members[0].path.parent}: {members[0].path.name} and its shards are not whole: {what}")


def choice(one: Candidate) -> str:
    """What to set `subset` to for a file among others; it has letters, since `subset=100` would be read as a number."""
    label = "_".join(one.label)
    return label if label.strip("_0123456789") else one.paths[0].name.lower().split(".")[0]


def fitting(options: Sequence[Candidate], key: str, others: Sequence[str], noise: Sequence[str]) -> list[Candidate]:
    """Those that a subset's key means: named for it alone, else also for it, else not for another subset."""
    wanted = label_of(key)
    stems = [one for one in options if key and choice(one) == key.lower()]
    exact = [one for one in options if wanted and tuple(w for w in one.label if w not in noise) == wanted]
    holding = [one for one in options if wanted and _holds(one.label, wanted)]
    free = [one for one in options if not any(_holds(one.label, tuple(words(other))) for other in others)]
    return stems or exact or holding or free


def _holds(label: tuple[str, ...], part: tuple[str, ...]) -> bool:
    return any(label[at : at + len(part)] == part for at in range(len(label) - len(part) + 1))


def refusal(where: Path, split: str, options: Sequence[Candidate], how: str, task: str) -> DataError:
    """The line for two files of one split."""
    shown = ", ".join(one.name for one in options[:SHOWN]) + (", ..." if len(options) > SHOWN else "")
    whose = f"the split '{split}'" if split else "no split's name"
    return DataError(
        f"task {task}: {where} has {len(options)} files of {whose} ({shown}): only the shards of one file, "
        f"NAME-00000-of-0000N, are joined; {how}"
    )
