"""The corpus that is one data set of the hub, its text in one column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from tasks.base import require
from tasks.hub.corpus import Corpus
from tasks.hub.files import Row
from tasks.hub.source import Place, Source, open_splits
from tasks.hub.texts import CorpusConfig


@dataclass(frozen=True, kw_only=True)
class SubsetConfig(CorpusConfig):
    """`subset`: the hub's configuration name."""

    subset: str = ""


class HubCorpus(Corpus):
    """Rows of a data set as documents, or as the lines of one (`one_document`)."""

    source: ClassVar[Source]
    subsets: ClassVar[tuple[str, ...]] = ()
    one_document: ClassVar[bool] = False

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        if self.subsets:
            try:
                require(self.subset in self.subsets, f"subset={self.subset!r}: use {', '.join(self.subsets)}")
            except ValueError as error:
                raise ValueError(f"task {self.name}: {error}") from None

    @property
    def subset(self) -> str:
        """The hub's configuration name; empty where it has none."""
        return str(getattr(self.config, "subset", ""))

    def piece(self, row: Row) -> str:
        """The text of a row."""
        return row.need(self.source.columns[0], str)

    def documents(self) -> Mapping[str, Iterable[str]]:
        """See `Corpus.documents`."""
        place = Place(task=self.name, subset=self.subset, path=self.config.path, download=self.config.download)
        rows = open_splits(self.source, place)

        def texts(split: str) -> Iterator[str]:
            pieces = (self.piece(row) for row in rows[split]())
            if self.one_document:
                yield "".join(pieces)
            else:
                yield from pieces

        return {split: texts(split) for split in self.source.splits}


def whole(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Plain text as one row."""
    yield 1, {"text": text}
