"""Rows of the user's own: any file of rows or a folder of such, its columns named by templates in the task's YAML.

A template is text with column names in braces, `Q: {question}`; a dot goes into an object, `{example.question}`. `path`
is a file, or a folder whose file names or folders speak of train, validation and test; `validation` and `test` name
files beside it. What is missing beside train is cut out of it: a tenth each, by the hash of the content, so that rows
that say the same never part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any, ClassVar

from tasks.base import TaskCard, require
from tasks.hub.examples import ExampleTask
from tasks.hub.files import ROW_KINDS, DataError, MissingData, Row, Schema, kind_of, read_file
from tasks.hub.layout import Candidate, candidates, files_in, is_data, refusal
from tasks.hub.rows import ExamplesConfig
from tasks.hub.source import Opened

OUR_NAMES = {"train": "train", "validation": "validation", "test": "test/id"}
WORDS = {True: "yes", False: "no"}  # what truth values are written as


@dataclass(frozen=True, kw_only=True)
class UserConfig(ExamplesConfig):
    """See `ExamplesConfig`. `path`, `validation`, `test`: see the module.

    rows: the name of the list, where a .json is one object that has the rows in a list.
    licence, citation: what the card says of them; they are the user's to state.
    """

    places: ClassVar[tuple[str, ...]] = ("path", "download", "validation", "test")

    length: int = 256
    tokenizer: str = "bytes"
    validation: str = ""
    test: str = ""
    rows: str = ""
    licence: str = "not stated: set task.licence"
    citation: str = "not stated: set task.citation"


def columns_of(template: str) -> list[str]:
    """The columns that a template names. Raises ValueError when its braces do not close or name nothing."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"template {template!r}: {error}; write a brace itself as {{{{ or }}}}") from None
    names = [name for _, name, _, _ in parts if name is not None]
    require(all(names), f"template {template!r}: braces without the name of a column")
    return names


def value_of(row: Row, name: str) -> Any:
    """The value of a column; dots go into objects. Raises DataError when it is not there."""
    first, *inner = name.split(".") if name not in row.values else [name]
    value = row.values.get(first)
    for key in inner:
        if not isinstance(value, dict) or key not in value:
            raise DataError(f"{row.place}: column '{name}': no '{key}' in {value!r:.60}")
        value = value[key]
    return value


def text_of(row: Row, name: str, value: Any) -> str:
    """A value as text. Raises DataError when it is none."""
    if isinstance(value, bool):
        return WORDS[value]
    if not isinstance(value, str | int | float):
        raise DataError(f"{row.place}: column '{name}' must be a text or a number, found {value!r:.60}")
    return str(value).strip()


def filled(template: str, row: Row) -> str:
    """The template with the row's values."""
    pieces = []
    for literal, name, _, _ in Formatter().parse(template):
        pieces += [literal] if name is None else [literal, text_of(row, name, value_of(row, name))]
    return "".join(pieces)


class UserRows(ExampleTask):
    """A task over rows of the user's own; a subclass says which settings are templates and makes examples."""

    config: UserConfig
    templates: ClassVar[tuple[str, ...]]  # settings that are templates
    lists: ClassVar[tuple[str, ...]] = ()  # those of them whose column may hold a list

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        try:
            self.columns = [name for setting in self.templates for name in columns_of(getattr(self.config, setting))]
        except ValueError as error:
            raise ValueError(f"task {self.name}: {error}") from None
        beside = {"validation": self.config.validation, "test": self.config.test}
        self._beside = {split: Path(path).expanduser().absolute() for split, path in beside.items() if path}

    @property
    def roles(self) -> dict[str, str]:
        """See `ExampleTask.roles`: the splits that have files."""
        return {OUR_NAMES[split]: split for split in self._files}

    @cached_property
    def opened(self) -> Opened:
        """The rows of each split that has files. Raises DataError."""
        rows: dict[str, Callable[[], Iterator[Row]]] = {}
        for split, paths in self._files.items():
            rows[split] = lambda paths=paths: (row for path in paths for row in self._rows(path))  # type: ignore[misc]
        names = {split: [path.name for path in paths] for split, paths in self._files.items()}
        return Opened(rows, names, None)

    @cached_property
    def _files(self) -> dict[str, tuple[Path, ...]]:
        """The files of each split; one without the name of a split is train."""
        if not self.place.path:
            raise MissingData(
                f"task {self.name}: no data: name a file of rows ({', '.join(ROW_KINDS)}) or a folder of such with "
                "task.path=FILE; task=chain needs no data and stands in for it"
            )
        where = Path(self.place.path)
        found = {"train": (where,)} if where.is_file() else self._in_folder(where)
        found |= {split: (path,) for split, path in self._beside.items()}
        for path in (path for paths in found.values() for path in paths):
            if not path.is_file():
                raise DataError(f"task {self.name}: {path} does not exist; name a file of rows")
            if kind_of(path) not in ROW_KINDS:
                raise DataError(f"task {self.name}: {path} is no file of rows: {', '.join(ROW_KINDS)}, or .gz of these")
        return {split: found[split] for split in OUR_NAMES if split in found}

    def _in_folder(self, where: Path) -> dict[str, tuple[Path, ...]]:
        if not where.is_dir():
            raise DataError(f"task {self.name}: path={self.config.path} does not exist; name a file or a folder")
        try:
            options = candidates(where, files_in(where, lambda path: is_data(path, ROW_KINDS), deep=True))
        except DataError as error:
            raise DataError(f"task {self.name}: {error}") from None
        found: dict[str, list[Candidate]] = {}
        for one in options:
            found.setdefault(one.split, []).append(one)
        for split, some in found.items():
            if len(some) > 1:
                raise refusal(where, split, some, "name one file with task.path=FILE", self.name)
        if "" in found and len(found) == 1:
            return {"train": found[""][0].paths}
        if "train" not in found:
            what = f"has files of {', '.join(filter(None, found))} and" if any(found) else "has"
            raise DataError(f"task {self.name}: {where} {what} none of train; name one file with task.path=FILE")
        return {split: some[0].paths for split, some in found.items() if split in OUR_NAMES}

    def _rows(self, path: Path) -> Iterator[Row]:
        needed = tuple(dict.fromkeys(name if "." not in name else name.split(".")[0] for name in self.columns))
        lists = [name for setting in self.lists for name in columns_of(getattr(self.config, setting))]
        nested = [name.split(".")[0] for name in self.columns if "." in name]
        if self.config.rows:
            yield from self._listed(path, needed)
        elif kind_of(path) in (".tsv", ".csv"):
            quoted = [name for name in lists if len(lists) == 1]
            yield from read_file(path, Schema(columns=needed, nested=(*nested, *quoted)))
        else:
            yield from read_file(path, Schema(columns=needed))

    def _listed(self, path: Path, needed: Iterable[str]) -> Iterator[Row]:
        """The rows in the list that `rows` names."""
        for outer in read_file(path, Schema(columns=(self.config.rows,))):
            for number, values in enumerate(outer.need(self.config.rows, list)):
                row = Row(str(path), number, values if isinstance(values, dict) else {})
                for column in needed:
                    if row.values.get(column) is None:
                        raise DataError(f"{row.place}: column '{column}' is missing; columns: {', '.join(row.values)}")
                yield row

    def fingerprint_settings(self) -> Mapping[str, Any]:
        """See `ExampleTask.fingerprint_settings`; licence and citation change no item."""
        left_out = ("licence", "citation")
        return {key: value for key, value in super().fingerprint_settings().items() if key not in left_out}

    def fingerprint(self) -> str:
        """See `ExampleTask.fingerprint`; all that a row has beside its answer enters, too."""
        digest = hashlib.sha256(super().fingerprint().encode())
        for rows in self.parts.values():
            for done in rows:
                digest.update(repr(done.example.info).encode())
        return digest.hexdigest()

    def describe(self) -> TaskCard:
        """See `Task.describe`; licence and citation are the user's."""
        return replace(super().describe(), licence=self.config.licence, citation=self.config.citation)
