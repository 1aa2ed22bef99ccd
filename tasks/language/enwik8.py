"""enwik8: the first 10^8 bytes of an English Wikipedia dump (Mahoney, Large Text Compression Benchmark).

The hub has one row with all of it (`LTCB/enwik8`, configuration `enwik8-raw`). The cut is the field's: the first 90 %
of the bytes train, then 5 % validation and 5 % test (Al-Rfou et al., arXiv 1808.04444).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from tasks.hub.reader import HubCorpus, SubsetConfig, whole
from tasks.hub.source import Source

CUTS = (0, 90, 95, 100)  # percent of the bytes


@dataclass(frozen=True, kw_only=True)
class Enwik8Config(SubsetConfig):
    """See `SubsetConfig`."""

    subset: str = "enwik8-raw"


class Enwik8(HubCorpus):
    """The task `language/enwik8`. Keyword arguments: the fields of `Enwik8Config`."""

    name = "enwik8"
    Config = Enwik8Config
    source = Source(
        hub="LTCB/enwik8",
        folder="enwik8",
        columns=("text",),
        splits=("train",),
        home="http://mattmahoney.net/dc/enwik8.zip (name the file train.txt)",
        stand_in="pydocs",
        parse=whole,
        file_key=lambda subset: "",
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
        data = text.encode()
        edges = [len(data) * percent // 100 for percent in CUTS]
        for number, edge in enumerate(edges):
            while edge < len(data) and data[edge] & 0xC0 == 0x80:
                edge -= 1
            edges[number] = edge
        parts = [data[low:high].decode() for low, high in pairwise(edges)]
        return {part: [text] for part, text in zip(("train", "validation", "test"), parts, strict=True)}
