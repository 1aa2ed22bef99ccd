"""PG-19 (Rae et al., arXiv 1911.05507): whole books from before 1919, hub name `deepmind/pg19`. A row is a book.

The original release has a folder a split and a file a book: train/ID.txt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.hub.files import whole
from tasks.hub.reader import HubCorpus
from tasks.hub.source import Source
from tasks.hub.texts import CorpusConfig

SHORTEST = 1000  # characters of a book, on average: lines and paragraphs have less


def looks(subset: str, split: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether texts are whole books from before 1919, without the licence of Project Gutenberg."""
    texts = [str(row["text"]) for row in rows]
    average = sum(map(len, texts)) // len(texts)
    if average < SHORTEST:
        return f"a row must be a whole book, found {texts[0]!r:.40}, on average {average} characters"
    if any("START OF THIS PROJECT GUTENBERG" in text or "START OF THE PROJECT GUTENBERG" in text for text in texts):
        return "its books have the header of Project Gutenberg, which PG-19 has not"
    years = [row["publication_date"] for row in rows if isinstance(row["publication_date"], int)]
    return f"a book of {max(years)}; PG-19 ends before 1919" if years and max(years) >= 1919 else ""


class PG19(HubCorpus):
    """The task `language/pg19`. Keyword arguments: the fields of `CorpusConfig`."""

    name = "pg19"
    Config = CorpusConfig
    source = Source(
        hub="deepmind/pg19",
        folder="pg19",
        columns=("text",),
        splits=("train", "validation", "test"),
        home="https://huggingface.co/datasets/deepmind/pg19",
        stand_in="pydocs",
        optional=("publication_date",),
        nested=("publication_date",),
        parse=whole,
        documents=True,
        looks=looks,
    )
    about = {  # noqa: RUF012
        "summary": "Next byte (or token) of whole books from before 1919: PG-19",
        "licence": "Apache-2.0 (the collection); the books are in the public domain in the USA",
        "citation": "Rae et al., Compressive Transformers for Long-Range Sequence Modelling, arXiv 1911.05507",
    }
