"""Small made-up data in the schemas of the hub's data sets, so that their tasks are tested without the data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.stream import Stream

Rows = list[dict[str, Any]]
SYLLABLES = ["ka", "lo", "mi", "tu", "ré", "so", "na", "ß", "日本"]


def write(folder: Path, **splits: Rows) -> Path:
    """One parquet file per split."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    return folder


def word(stream: Stream) -> str:
    return "".join(stream.choice(SYLLABLES) for _ in range(stream.between(1, 3)))


def prose(key: str, words: int) -> str:
    """Lines of made-up words, some of more than one byte a character."""
    stream = Stream("prose", key)
    found = [word(stream) + ("\n" if stream.below(9) == 0 else " ") for _ in range(words)]
    return "".join(found)


def wikitext(folder: Path) -> Path:
    rows = {
        part: [
            {"text": text}
            for n in range(30)
            for text in ("", f" = {part} {n} = \n", " " + prose(f"{part}{n}", 40).replace("\n", ".") + "\n")
        ]
        for part in ("train", "validation", "test")
    }
    return write(folder, **rows)


def books(folder: Path) -> Path:
    return write(
        folder,
        **{
            part: [
                {"short_book_title": str(n), "publication_date": 1900, "url": "", "text": prose(f"{part} {n}", 500)}
                for n in range(3)
            ]
            for part in ("train", "validation", "test")
        },
    )


def stories(folder: Path) -> Path:
    train: Rows = [{"text": prose(f"story {n}", 60)} for n in range(200)]
    return write(folder, train=train, validation=[{"text": prose(f"other {n}", 60)} for n in range(20)])


def dump(folder: Path) -> Path:
    return write(folder, train=[{"text": prose("dump", 8000)}])


def plain(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.txt").write_text(prose("mine", 6000), encoding="utf-8")
    return folder


# Name of the task -> what writes its data, and settings that go with so little of it.
HUB: dict[str, tuple[Callable[[Path], Path], Sequence[str]]] = {
    "enwik8": (dump, ["length=64"]),
    "pg19": (books, ["length=64"]),
    "text": (plain, ["length=64"]),
    "tinystories": (stories, ["length=64"]),
    "wikitext103": (wikitext, ["length=64"]),
    "wikitext2": (wikitext, ["length=32", "long_context=true"]),
}
