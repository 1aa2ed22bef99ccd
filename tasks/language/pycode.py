"""Language modelling of Python: sources of packages that requirements.lock pins, read from where they are installed.

A document is a file. `sympy` and `networkx` are pure Python and come with torch; `wide=true` adds `pandas`, `scipy` and
`statsmodels`. What is left out, tests among it, says `tasks.hub.installed`. Groups of near-duplicates are dealt to test
(an eighth of the bytes), validation (a sixteenth) and train by the hash of their first name: no copy spans two splits.

The lock pins the versions and with them the bytes: their hash is checked against TEXT. Other versions are another text,
with a fingerprint of its own, and one line says so. `path` is a file that `experiments tasks pack-text` wrote.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tasks.base import TaskCard
from tasks.hub.cache import cached
from tasks.hub.corpus import Corpus
from tasks.hub.files import DataError, MissingData
from tasks.hub.installed import Source, digest_of, installed, licence_texts, pack, unpack
from tasks.hub.near_duplicates import near_duplicates
from tasks.hub.texts import PARTS, CorpusConfig

PURE = ("sympy", "networkx")
WIDE = (*PURE, "pandas", "scipy", "statsmodels")
LOCKED = {"sympy": "1.14.0", "networkx": "3.6.1", "pandas": "3.1.1", "scipy": "1.17.1", "statsmodels": "0.15.0"}
TEXT = {  # `digest_of` the sources of the locked versions
    PURE: "77c6f3dc7922bd4dbb98b1405ea8111a37020b17cf0f1953be6b835be65bff1f",
    WIDE: "3e7054d8612db2051d16029194f3b507c1a9d7878d4a867095aa24151f4147c3",
}
SHARES = {"test": 8, "validation": 16}  # each gets one part of so many


@dataclass(frozen=True, kw_only=True)
class PyCodeConfig(CorpusConfig):
    """See `CorpusConfig`. `wide`: five packages instead of two. `path`: a packed file; empty: what is installed."""

    n_test: int = 512
    wide: bool = False


class PyCode(Corpus):
    """The task `language/pycode`, see the module. Keyword arguments: the fields of `PyCodeConfig`."""

    name = "pycode"
    Config = PyCodeConfig
    config: PyCodeConfig
    about = {  # noqa: RUF012
        "summary": "Next byte (or token) of the Python sources of installed packages",
        "licence": "that of each package: BSD-3-Clause and its kin",
        "citation": "the authors of sympy and networkx, with wide=true of pandas, scipy and statsmodels, too",
    }

    @property
    def packages(self) -> tuple[str, ...]:
        """Names of the packages that are read."""
        return WIDE if self.config.wide else PURE

    @cached_property
    def sources(self) -> list[Source]:
        """The files in a fixed order. Raises DataError when a package is missing or a file is broken."""
        path = Path(self.place.path)
        if self.place.path and not path.is_file():
            raise DataError(f"task pycode: path={self.config.path} is no file; name one that tasks pack-text wrote")
        try:
            found = unpack(path, self.packages) if self.place.path else [s for p in self.packages for s in installed(p)]
        except MissingData as error:
            raise MissingData(
                f"task pycode: {error}: make install brings what requirements.lock pins; or name a file that "
                "python -m experiments tasks pack-text wrote elsewhere with task.path=FILE; "
                "task=pydocs needs no package and stands in for it"
            ) from None
        except DataError as error:
            raise DataError(f"task pycode: {error}") from None
        return found

    @cached_property
    def digest(self) -> str:
        """The hash of the sources."""
        return digest_of(self.sources)

    @cached_property
    def difference(self) -> str:
        """How the text differs from that of the locked versions; empty if it does not."""
        if self.digest == TEXT[self.packages]:
            return ""
        other = [
            f"{name} {found}, not {LOCKED[name]}" for name, found in self.versions.items() if found != LOCKED[name]
        ]
        what = "; ".join(other) or "files of the locked versions that were changed, added or removed"
        return f"this is another text than that of the lock ({what}): its figures do not compare with others"

    @property
    def versions(self) -> dict[str, str]:
        """Version of each package that was read."""
        return {source.package: source.version for source in self.sources}

    @property
    def licences(self) -> str:
        """Packages, versions and licences as their metadata name them."""
        return "; ".join(dict.fromkeys(f"{one.package} {one.version}: {one.licence}" for one in self.sources))

    @cached_property
    def groups(self) -> list[list[str]]:
        """Names of files in groups of near-duplicates; from the cache where it can be written."""
        texts = {source.file: source.text for source in self.sources}
        made: list[list[list[str]]] = []

        def make(folder: Path) -> None:
            made.append(near_duplicates(texts))
            (folder / "groups.json").write_text(json.dumps(made[0]))

        try:
            folder = cached({"kind": "near-duplicates 1", "content": self.digest}, make)
        except DataError:
            return made[0] if made else near_duplicates(texts)
        found: list[list[str]] = json.loads((folder / "groups.json").read_text())
        return found

    @cached_property
    def owners(self) -> dict[str, list[list[str]]]:
        """The groups of each part: by the hash of their first names to test, then to validation, while they fit."""
        sizes = {source.file: len(source.text.encode()) for source in self.sources}
        room = {part: sum(sizes.values()) // share for part, share in SHARES.items()}
        parts: dict[str, list[list[str]]] = {part: [] for part in PARTS}
        for names in sorted(self.groups, key=lambda names: hashlib.sha256(names[0].encode()).digest()):
            size = sum(sizes[name] for name in names)
            owner = next((part for part in room if size <= room[part]), "train")
            if owner in room:
                room[owner] -= size
            parts[owner].append(names)
        return parts

    def documents(self) -> Mapping[str, Iterable[str]]:
        """See `Corpus.documents`: the files of each part, in a fixed order."""
        if self.difference:
            print(f"task pycode: {self.difference}", file=sys.stderr)
        place = {"a packed file": [Path(self.place.path).name]} if self.place.path else {}
        self.files = place | {"packages": [f"{name} {version}" for name, version in self.versions.items()]}
        owner = {name: part for part, groups in self.owners.items() for names in groups for name in names}
        found: dict[str, list[str]] = {part: [] for part in PARTS}
        for source in self.sources:
            found[owner[source.file]].append(source.text)
        return found

    @cached_property
    def card(self) -> TaskCard:
        """The card with what was read, the packages' licences, and how many files are independent of the others."""
        card = super().card
        groups = {part: f"{len(self.owners[part])} groups of files without near-duplicates across" for part in PARTS}
        return replace(
            card,
            train=f"{card.train}; {groups['train']}; {self.difference or 'the text of the lock'}",
            in_distribution=f"{card.in_distribution}; {groups['test']} (validation: {len(self.owners['validation'])})",
            licence=self.licences,
        )

    def packed(self) -> bytes:
        """The sources with their licences as one gzipped file, the same bytes for the same text. Raises DataError."""
        licences = (
            []
            if self.place.path
            else [
                Source(package, self.versions[package], "", f"LICENSE {number}", text)
                for package in self.packages
                for number, text in enumerate(licence_texts(package))
            ]
        )
        return gzip.compress(pack(self.sources, licences), mtime=0)
