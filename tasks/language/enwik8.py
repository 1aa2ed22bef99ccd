"""enwik8: the first 10^8 bytes of an English Wikipedia dump (Mahoney, Large Text Compression Benchmark).

The hub has one row with all of it (`LTCB/enwik8`, configuration `enwik8-raw`). The cut is the field's: the first 90 %
of the bytes train, then 5 % validation and 5 % test (Al-Rfou et al., arXiv 1808.04444).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tasks.hub.files import READABLE, DataError, whole
from tasks.hub.layout import files_in, is_data
from tasks.hub.reader import HubCorpus, SubsetConfig
from tasks.hub.source import Source

SIZE = 100_000_000  # bytes
CUTS = (0, 90, 95, 100)  # percent of the bytes


@dataclass(frozen=True, kw_only=True)
class Enwik8Config(SubsetConfig):
    """See `SubsetConfig`."""

    subset: str = "enwik8-raw"


def looks(subset: str, split: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether the text is the XML of the dump."""
    start = str(rows[0]["text"])[:200]
    if len(rows) > 1:
        return f"the dump is one text, found {len(rows)} rows or more"
    if start.startswith("<mediawiki"):
        return ""
    numbers = re.fullmatch(r"[\d\s]+", start)
    hint = " (numbers, as some preparation scripts write the bytes: bring the dump itself)" if numbers else ""
    return f"it must begin with <mediawiki, found {start!r:.40}{hint}"


class Enwik8(HubCorpus):
    """The task `language/enwik8`. Keyword arguments: the fields of `Enwik8Config`."""

    name = "enwik8"
    Config = Enwik8Config
    source = Source(
        hub="LTCB/enwik8",
        folder="enwik8",
        columns=("text",),
        splits=("train",),
        home="http://mattmahoney.net/dc/enwik8.zip (unpacked: the file enwik8)",
        stand_in="pydocs",
        parse=whole,
        file_key=lambda subset: "",
        looks=looks,
        named={"enwik8": "train"},
    )
    subsets = ("enwik8-raw",)
    one_document = True
    about = {  # noqa: RUF012
        "summary": "Next byte (or token) of a Wikipedia dump with its markup: enwik8",
        "licence": "CC BY-SA 3.0 and GFDL (Wikipedia text)",
        "citation": "Mahoney, Large Text Compression Benchmark; cut as in Al-Rfou et al., arXiv 1808.04444",
    }

    def documents(self) -> Mapping[str, Iterable[str]]:
        """See `Corpus.documents` and the module. A cut falls where a character begins."""
        (text,) = super().documents()["train"]
        self.refuse_parts()
        data = text.encode()
        edges = [len(data) * percent // 100 for percent in CUTS]
        for number, edge in enumerate(edges):
            while edge < len(data) and data[edge] & 0xC0 == 0x80:
                edge -= 1
            edges[number] = edge
        parts = [data[low:high].decode() for low, high in pairwise(edges)]
        return {part: [text] for part, text in zip(("train", "validation", "test"), parts, strict=True)}

    def refuse_parts(self) -> None:
        """Raises DataError when the folder has a validation or test part: its training part is not the whole dump."""
        if self.opened.folder is None:
            return
        found = files_in(self.opened.folder, lambda path: is_data(path, READABLE), deep=False)
        parts = [one.path.name for one in found if one.split in ("validation", "test")]
        if parts:
            raise DataError(
                f"task enwik8: {self.opened.folder} has {', '.join(parts[:3])} beside the training part: "
                "this is a cut, and the task makes its own of the whole dump; bring the file enwik8 alone"
            )

    def remarks(self, part: str, raw: bytes) -> tuple[str, ...]:
        """A dump of another size is another text."""
        if part != "train" or abs(len(raw) - 1 - SIZE * CUTS[1] // 100) < 4:  # less the byte that closes it
            return ()
        return (f"90 % of enwik8 are {SIZE * CUTS[1] // 100} bytes: not to be set beside published figures",)
