"""TinyStories (Eldan and Li, arXiv 2305.07759): short stories in few words, hub name `roneneldan/TinyStories`.

The hub has train and validation. Its validation is the test split here, so that nothing is selected on what is
reported; validation is a tenth of the training stories, by the hash of their text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tasks.hub.files import Row
from tasks.hub.reader import HubCorpus
from tasks.hub.source import Source
from tasks.hub.texts import CorpusConfig
from tasks.hub.validation_split import owner_of

BETWEEN = "<|endoftext|>"  # between the stories of the plain files
LONGEST = 20_000  # characters of a story, on average: more is a file of many


def parse(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Stories of the plain files, with the line where each begins."""
    line = 1
    for piece in text.split(BETWEEN):
        if piece.strip():
            yield line + piece[: len(piece) - len(piece.lstrip())].count("\n"), {"text": piece.strip()}
        line += piece.count("\n")


def looks(subset: str, split: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether rows are single stories."""
    texts = [str(row["text"]) for row in rows]
    if any(BETWEEN in text for text in texts):
        return f"a row must be one story, found {BETWEEN} inside"
    if sum(map(len, texts)) > LONGEST * len(texts):
        return f"a row must be one story, found {len(texts[0])} characters without {BETWEEN}"
    return ""


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
        parse=parse,
        looks=looks,
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
