"""Any text of the user's own: a file or a folder of plain text, parquet, jsonl, json, tsv or csv.

A plain text file is one document; of the others every row is one, its text in `column`. Files whose names speak of
train, validation (valid, val, dev) or test are those splits; what is missing is cut out of train: whole documents by
the hash of their text where there are many, else the end of each document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.hub.carve import carve_documents
from tasks.hub.corpus import Corpus
from tasks.hub.files import READABLE, DataError, read_file, read_text
from tasks.hub.source import split_of
from tasks.hub.texts import PARTS, CorpusConfig

PLAIN = (".txt", ".md", ".rst", ".tokens", ".text")


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
        files = self._files()
        named: dict[str, list[Path]] = {part: [] for part in PARTS}
        for path in files:
            part = split_of(path.name)
            if part in named:
                named[part].append(path)
        if not named["train"]:
            named = {"train": files, "validation": [], "test": []}
        else:
            stray = [path.name for path in files if split_of(path.name) not in PARTS]
            if stray:
                raise DataError(
                    f"task text: {self.config.path} has files with and without the name of a split; those without: "
                    f"{', '.join(stray[:5])}: rename or remove them"
                )
        found: dict[str, Iterable[str]] = {
            part: self._lazy(paths) for part, paths in named.items() if paths and part != "train"
        }
        wanted = [part for part in ("validation", "test") if part not in found]
        train = self._lazy(named["train"])
        return found | (carve_documents(list(train), wanted) if wanted else {"train": train})

    def _files(self) -> list[Path]:
        where = self.config.path
        if not where:
            raise DataError(
                "task text: no data: name a text, parquet or jsonl file, or a folder of such, with task.path=FILE; "
                "task=pydocs needs no data and stands in for it"
            )
        path = Path(where).expanduser()
        if path.is_file():
            return [path]
        if not path.is_dir():
            raise DataError(f"task text: path={where} does not exist; name a file or a folder")
        known = (*READABLE, *PLAIN)
        inside = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix in known)
        inside = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        if not inside:
            raise DataError(f"task text: path={where} holds no file of a kind that can be read: {', '.join(known)}")
        return inside

    def _lazy(self, paths: list[Path]) -> Iterable[str]:
        return _Lazy(lambda: (text for path in paths for text in self._texts(path)))

    def _texts(self, path: Path) -> Iterator[str]:
        if path.suffix in READABLE and path.suffix not in PLAIN:
            for row in read_file(path, [self.config.column]):
                yield row.need(self.config.column, str)
        else:
            yield read_text(path)


class _Lazy:
    """An iterable that may be read again."""

    def __init__(self, make: Callable[[], Iterator[str]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[str]:
        return self._make()
