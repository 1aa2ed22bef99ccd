"""TinyStories (Eldan and Li, arXiv 2305.07759): short stories in few words, hub name `roneneldan/TinyStories`.

The hub has train and validation. Its validation is the test split here, so that nothing is selected on what is
reported; validation is a tenth of the training stories, by the hash of their text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tasks.hub.carve import owner_of
from tasks.hub.files import Row
from tasks.hub.reader import HubCorpus, whole
from tasks.hub.source import Source
from tasks.hub.texts import CorpusConfig


class TinyStories(HubCorpus):
    """The task `language/tinystories`. Keyword arguments: the fields of `CorpusConfig`."""

    name = "tinystories"
    Config = CorpusConfig
    source = Source(
        hub="roneneldan/TinyStories",
        folder="tinystories",
        columns=("text",),
        splits=("train", "validation"),
        home="https://huggingface.co/datasets/roneneldan/TinyStories",
        stand_in="pydocs",
        parse=whole,
    )
    about = {  # noqa: RUF012
        "summary": "Next byte (or token) of short stories in few words: TinyStories",
        "licence": "CDLA-Sharing-1.0",
        "citation": "Eldan and Li, TinyStories, arXiv 2305.07759",
    }

    def piece(self, row: Row) -> str:
        """A story."""
        return row.need("text", str)

    def documents(self) -> Mapping[str, Iterable[str]]:
        """See `Corpus.documents` and the module."""
        found = super().documents()
        dealt: dict[str, list[str]] = {"train": [], "validation": []}
        for story in found["train"]:
            dealt[owner_of(story, ["validation"])].append(story)
        return {**dealt, "test": found["validation"]}
