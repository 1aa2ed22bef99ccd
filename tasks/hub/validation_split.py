"""Splits that a data set does not bring: cut out of its training part, the same way on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

SHARES = 10  # a split that is cut out gets one share
BY_DOCUMENT = 50  # documents from which whole ones are dealt out


def share_of(canonical: str) -> int:
    """One of SHARES buckets, by the hash of a canonical form: equal forms never part."""
    digest = hashlib.sha256(canonical.encode()).digest()
    return int.from_bytes(digest[:4], "big") % SHARES


def owner_of(canonical: str, carved: Sequence[str]) -> str:
    """The split that owns an item of the training part: one share for each of `carved`, the rest is train's."""
    bucket = share_of(canonical)
    return carved[bucket] if bucket < len(carved) else "train"


def carve_documents(documents: Sequence[str], carved: Sequence[str]) -> dict[str, Iterable[str]]:
    """Train and the splits cut out of it: whole documents by hash, or, where there are few, the end of each."""
    parts: dict[str, list[str]] = {part: [] for part in ("train", *carved)}
    if len(documents) >= BY_DOCUMENT:
        for document in documents:
            parts[owner_of(document, carved)].append(document)
        return dict(parts)
    for document in documents:
        start = 0
        kept = SHARES - len(carved)
        for rank, part in enumerate(("train", *carved)):
            end = line_start(document, len(document) * (kept + rank) // SHARES)
            if rank == len(carved):
                end = len(document)
            if end > start:
                parts[part].append(document[start:end])
            start = max(start, end)
    return dict(parts)


def line_start(text: str, place: int) -> int:
    """The first start of a line at or after a place, if one is near, else the place."""
    if place == 0 or text[place - 1 : place] == "\n":
        return place
    found = text.find("\n", place, place + 1000)
    return place if found < 0 else found + 1
