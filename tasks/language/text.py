"""Any text of the user's own: a file or a folder of plain text, parquet, Arrow, jsonl, json, tsv or csv.

A plain text file is one document; of the others every row is one, its text in `column`. A folder named for train,
validation (valid, val, dev) or test holds the files of that split; where there is no such folder, a file whose name
speaks of a split is that split; where no name does, all plain text files are the corpus. What is missing beside train
is cut out of it: whole documents by the hash of their text where there are many, else the end of each document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.hub.corpus import Corpus
from tasks.hub.files import READABLE, ROW_KINDS, DataError, MissingData, Schema, kind_of, read_file
from tasks.hub.kinds import read_text
from tasks.hub.layout import Candidate, candidates, files_in, is_data, refusal
from tasks.hub.texts import PARTS, CorpusConfig
from tasks.hub.validation_split import carve_documents

PLAIN = (".txt", ".md", ".rst", ".tokens", ".raw", ".text")
KNOWN = tuple(dict.fromkeys((*READABLE, *PLAIN)))


@dataclass(frozen=True, kw_only=True)
class TextConfig(CorpusConfig):
    """`path`: a file or a folder; `column`: where the text of a row is."""

    column: str = "text"


class Text(Corpus):
    """The task `language/text`, see the module. Keyword arguments: the fields of `TextConfig`."""

    name = "text"
    Config = TextConfig
    config: TextConfig
    about = {  # noqa: RUF012
        "summary": "Next byte (or token) of any text file or folder: task.path=FILE",
        "licence": "that of the text",
        "citation": "the user's own text",
    }

    def documents(self) -> Mapping[str, Iterable[str]]:
        """See `Corpus.documents`."""
        found = self._parts()
        root = self._root
        self.files = {
            split or "train": [str(path.relative_to(root)) for path in paths] for split, paths in found.items()
        }
        if "" in found:
            return carve_documents(list(self._lazy(found[""])), ["validation", "test"])
        texts: dict[str, Iterable[str]] = {part: self._lazy(paths) for part, paths in found.items() if part != "train"}
        wanted = [part for part in ("validation", "test") if part not in found]
        train = self._lazy(found["train"])
        return texts | (carve_documents(list(train), wanted) if wanted else {"train": train})

    @property
    def _root(self) -> Path:
        where = Path(self.place.path)
        return where.parent if where.is_file() else where

    def _parts(self) -> dict[str, tuple[Path, ...]]:
        """The files of each split that is named, or all files under the empty name. Raises DataError."""
        where, root = self.config.path, self._root
        found: dict[str, list[Candidate]] = {}
        for one in self._candidates():
            found.setdefault(one.split, []).append(one)
        named = [split for split in PARTS if split in found]
        if named and "" in found:
            stray = [path.relative_to(root).as_posix() for one in found[""] for path in one.paths]
            raise DataError(
                f"task text: {where} has files with and without the name of a split; those without: "
                f"{', '.join(stray[:5])}: rename or remove them"
            )
        for split, options in found.items():
            if len(options) > 1:
                how = "keep one there, or name one file with task.path=FILE"
                raise refusal(Path(where), split, options, how, self.name)
        if named and "train" not in named:
            raise DataError(
                f"task text: {where} has files of {' and '.join(named)} ({found[named[0]][0].name}) and none of train; "
                "bring train, or name the file to be trained on with task.path=FILE"
            )
        return {split: options[0].paths for split, options in found.items()}

    def _candidates(self) -> list[Candidate]:
        where = self.config.path
        if not where:
            raise MissingData(
                "task text: no data: name a text, parquet or jsonl file, or a folder of such, with task.path=FILE; "
                "task=pydocs needs no data and stands in for it"
            )
        path = Path(self.place.path)
        if path.is_file():
            return [Candidate("", (path,), (), path.name)]
        if not path.is_dir():
            raise DataError(f"task text: path={where} does not exist; name a file or a folder")
        try:
            found = files_in(path, lambda file: is_data(file, KNOWN), deep=True)
            found = [one if one.split in PARTS else one._replace(split="") for one in found]
            options = candidates(path, found, PLAIN)
        except DataError as error:
            raise DataError(f"task text: {error}") from None
        if not options:
            raise DataError(
                f"task text: path={where} holds no file of a kind that can be read: {', '.join(KNOWN)}, or .gz of "
                "these; notes such as README and LICENSE are not read unless task.path=FILE names them"
            )
        return options

    def _lazy(self, paths: Sequence[Path]) -> Iterable[str]:
        return _Lazy(lambda: (text for path in paths for text in self._texts(path)))

    def _texts(self, path: Path) -> Iterator[str]:
        if kind_of(path) in ROW_KINDS:
            for row in read_file(path, Schema(columns=(self.config.column,))):
                yield row.need(self.config.column, str)
        else:
            yield read_text(path)


class _Lazy:
    """An iterable that may be read again."""

    def __init__(self, make: Callable[[], Iterator[str]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[str]:
        return self._make()
