"""WikiText-2 and WikiText-103 (Merity et al., arXiv 1609.07843) with the hub's names: `Salesforce/wikitext`.

The hub's rows are lines, with an empty string where the files have a line of one blank; those lines are put back, so
that a byte here is a byte of the original files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tasks.hub.files import Row, whole
from tasks.hub.reader import HubCorpus, SubsetConfig
from tasks.hub.source import Source

BLANK = " \n"


UNKNOWN = "<unk>"
FIRST = 200_000  # characters that are looked at
HEADING = re.compile(r"^ = [^=].* = $", re.MULTILINE)


def looks(subset: str, split: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether articles have headings, and rare words are `<unk>` in the subsets that are not raw and only there."""
    text = "".join(str(row["text"])[:FIRST] for row in rows)[:FIRST]
    if not HEADING.search(text):
        return "no heading such as ' = Title = ' in its first lines"
    raw = "raw" in subset
    if raw is (UNKNOWN in text):
        other = "wikitext-N-v1" if raw else "wikitext-N-raw-v1"
        return f"{UNKNOWN} {'stands' if raw else 'does not stand'} in its first lines, so it looks like {other}"
    return ""


def _source(number: int) -> Source:
    return Source(
        hub="Salesforce/wikitext",
        folder=f"wikitext-{number}",
        columns=("text",),
        splits=("train", "validation", "test"),
        home="https://huggingface.co/datasets/Salesforce/wikitext",
        stand_in="pydocs",
        parse=whole,
        file_key=lambda subset: "raw" if "raw" in subset else "tokens",
        others=("raw", "tokens"),
        looks=looks,
    )


@dataclass(frozen=True, kw_only=True)
class WikiText2Config(SubsetConfig):
    """See `SubsetConfig`."""

    subset: str = "wikitext-2-v1"


@dataclass(frozen=True, kw_only=True)
class WikiText103Config(SubsetConfig):
    """See `SubsetConfig`."""

    subset: str = "wikitext-103-raw-v1"


class WikiText2(HubCorpus):
    """The task `language/wikitext2`. Keyword arguments: the fields of `WikiText2Config`."""

    name = "wikitext2"
    Config: ClassVar[type[SubsetConfig]] = WikiText2Config
    source = _source(2)
    subsets = ("wikitext-2-v1", "wikitext-2-raw-v1")
    one_document = True
    about = {  # noqa: RUF012
        "summary": "Next byte (or token) of Wikipedia articles: WikiText-2",
        "licence": "CC BY-SA 3.0 and GFDL (Wikipedia text)",
        "citation": "Merity et al., Pointer Sentinel Mixture Models, arXiv 1609.07843",
    }

    def piece(self, row: Row) -> str:
        """A line, the empty ones as in the original files."""
        return row.need("text", str) or BLANK


class WikiText103(WikiText2):
    """The task `language/wikitext103`. Keyword arguments: the fields of `WikiText103Config`."""

    name = "wikitext103"
    Config = WikiText103Config
    source = _source(103)
    subsets = ("wikitext-103-v1", "wikitext-103-raw-v1")
    about = WikiText2.about | {"summary": "Next byte (or token) of Wikipedia articles: WikiText-103"}
