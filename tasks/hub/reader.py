"""The corpus that is one data set of the hub, its text in one column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from tasks.base import require
from tasks.hub.corpus import Corpus
from tasks.hub.files import Row
from tasks.hub.source import Opened, Source, open_splits
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

    @cached_property
    def opened(self) -> Opened:
        """The splits of the data set, their files and the folder they lie in. Raises DataError."""
        return open_splits(self.source, self.place)

    def piece(self, row: Row) -> str:
        """The text of a row."""
        return row.need(self.source.columns[0], str)

    def documents(self) -> Mapping[str, Iterable[str]]:
        """See `Corpus.documents`."""
        rows = self.opened.rows
        self.files = self.opened.files

        def texts(split: str) -> Iterator[str]:
            pieces = (self.piece(row) for row in rows[split]())
            if self.one_document:
                yield "".join(pieces)
            else:
                yield from pieces

        return {split: texts(split) for split in self.source.splits}
