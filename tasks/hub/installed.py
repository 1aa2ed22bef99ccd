"""Python sources of installed packages, read where they lie and without importing any of them.

Tests and benchmarks are left out: they repeat the names and results of the modules that they test. So is what is no
prose of a programmer: files that a program wrote (versions, configurations, parsers), tables of numbers, and files
of fewer than SMALLEST bytes, which only import.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from tasks.hub.files import DataError, MissingData, Schema, read_file
from tasks.hub.kinds import read_text

SMALLEST = 512  # bytes
NUMBERS = 0.2  # share of digits from which a file is a table
FOLDERS_OUT = frozenset({"tests", "benchmarks", "_antlr", "__pycache__"})
NAMES_OUT = re.compile(r"(test_.*|.*_test|conftest|__config__|_?version|_version_meson)\.py")
WRITTEN = re.compile(
    r"(?im)^#.*(generated (by|from)|generated automatically|auto(matically)?[- ]?generated|do not edit)"
)
HEAD = 1000  # characters in which a file says who wrote it
COLUMNS = ("package", "version", "licence", "file", "text")
LONGEST_LICENCE = 60  # characters of a licence's name; some packages give its whole text


class Source(NamedTuple):
    """One file of a package: `file` is its path below the package's parent, `text` has LF as line ends."""

    package: str
    version: str
    licence: str
    file: str
    text: str


def installed(package: str) -> list[Source]:
    """The sources of a package on `sys.path`, in the order of their names.

    Raises:
        MissingData: it is not installed.
        DataError: a file cannot be read.
    """
    found = PathFinder.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise MissingData(f"{package} is not installed")
    try:
        about = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        raise MissingData(f"{package} is installed without the metadata that tell its version") from None
    root = Path(next(iter(found.submodule_search_locations)))
    files = {path.relative_to(root.parent).as_posix(): path for path in root.rglob("*.py")}
    kept = ((name, read_text(files[name])) for name in sorted(files) if not _left_out(name))
    version, licence = about.version, licence_of(about.metadata)  # once: each look parses all of the metadata
    return [Source(package, version, licence, name, text) for name, text in kept if not _no_prose(text)]


def _left_out(name: str) -> bool:
    *folders, last = name.split("/")
    return not FOLDERS_OUT.isdisjoint(folders) or NAMES_OUT.fullmatch(last) is not None


def _no_prose(text: str) -> bool:
    data = text.encode()
    digits = len(data) - len(data.translate(None, b"0123456789"))
    return len(data) < SMALLEST or digits > NUMBERS * len(data) or WRITTEN.search(text[:HEAD]) is not None


def licence_of(about: metadata.PackageMetadata) -> str:
    """The name of the licence in a package's metadata: its expression, its short name or its classifier."""
    values = {key: about.get_all(key) or [] for key in ("License-Expression", "Classifier", "License")}
    classifiers = [entry.rpartition(" :: ")[2] for entry in values["Classifier"] if entry.startswith("License ::")]
    named = (*values["License-Expression"], *classifiers, *values["License"])
    short = [name for name in named if name and len(name) <= LONGEST_LICENCE]
    return short[0] if short else "not named in its metadata"


def licence_texts(package: str) -> list[str]:
    """The texts of the licence that came with an installed package."""
    files = metadata.distribution(package).files or []
    names = sorted(str(file) for file in files if re.match(r"(LICEN[CS]E|COPYING)", file.name))
    return [Path(str(metadata.distribution(package).locate_file(name))).read_text("utf-8", "replace") for name in names]


def pack(sources: Iterable[Source], licences: Iterable[Source]) -> bytes:
    """Sources as lines of JSON, behind the licences under which they may be passed on."""
    rows = [dict(zip(COLUMNS, source, strict=True)) for source in (*licences, *sources)]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def unpack(path: Path, packages: Sequence[str]) -> list[Source]:
    """The sources of these packages in a file that `pack` made. Raises DataError when one is not there."""
    rows = read_file(path, Schema(columns=COLUMNS))
    found = [Source(*(row.need(column, str) for column in COLUMNS)) for row in rows]
    kept = [source for source in found if source.file.endswith(".py")]
    gone = [package for package in packages if package not in {source.package for source in kept}]
    if gone:
        have = ", ".join(dict.fromkeys(source.package for source in kept)) or "nothing"
        raise DataError(f"{path} has no sources of {', '.join(gone)}, only of {have}")
    order = {package: rank for rank, package in enumerate(packages)}
    wanted = (source for source in kept if source.package in order)
    return sorted(wanted, key=lambda source: (order[source.package], source.file))


def digest_of(sources: Iterable[Source]) -> str:
    """SHA-256 (hex) of the names and the texts; versions and licences do not enter."""
    digest = hashlib.sha256()
    for source in sources:
        data = source.text.encode()
        digest.update(f"{source.file} {len(data)}\n".encode() + data)
    return digest.hexdigest()
