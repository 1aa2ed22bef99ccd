"""PG-19 (Rae et al., arXiv 1911.05507): whole books from before 1919, hub name `deepmind/pg19`. A row is a book."""

from __future__ import annotations

from tasks.hub.reader import HubCorpus, whole
from tasks.hub.source import Source
from tasks.hub.texts import CorpusConfig


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
        parse=whole,
    )
    about = {  # noqa: RUF012
        "summary": "Next byte (or token) of whole books from before 1919: PG-19",
        "licence": "Apache-2.0 (the collection); the books are in the public domain in the USA",
        "citation": "Rae et al., Compressive Transformers for Long-Range Sequence Modelling, arXiv 1911.05507",
    }
