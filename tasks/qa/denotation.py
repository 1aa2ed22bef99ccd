"""Answers that are lists of values, as WikiTableQuestions compares them (Pasupat and Liang, arXiv 1508.00305).

Two values match if their normalised texts do, or if both are numbers of the same size. Dates are compared as texts: the
official evaluator reads them, and numbers inside of texts, with a parser that is no part of this project, so figures
here can only be lower.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

QUOTES: dict[str, str | int | None] = {
    "\u2018": "'",
    "\u2019": "'",
    "\u00b4": "'",
    "`": "'",
    "\u201c": '"',
    "\u201d": '"',
}
DASHES: dict[str, str | int | None] = dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
MARKS = r"(?:(?<!^)\[[^\]]*\]|\[\d+\]|[\u2022\u2666\u2020\u2021*#+])*$"  # footnotes at the end


def normalize(value: str) -> str:
    """Lower case, without accents, footnotes, remarks in brackets at the end, outer quotes and a last full stop."""
    text = value.translate(str.maketrans(QUOTES | DASHES))
    text = "".join(char for char in unicodedata.normalize("NFKD", text) if unicodedata.category(char) != "Mn")
    before = None
    while before != text:
        before = text
        text = re.sub(MARKS, "", text.strip())
        text = re.sub(r"(?<!^)(?: \([^)]*\))*$", "", text.strip())
        text = re.sub(r'^"([^"]*)"$', r"\1", text.strip())
    return " ".join(text.removesuffix(".").split()).lower()


def number(value: str) -> float | None:
    """The number that a value is, or None."""
    try:
        found = float(normalize(value))
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def same_value(one: str, other: str) -> bool:
    """True if two values match."""
    if normalize(one) == normalize(other):
        return True
    first, second = number(one), number(other)
    return first is not None and second is not None and abs(first - second) < 1e-6


def denotation(said: Sequence[str], golds: Sequence[str]) -> float:
    """1 if as many different values are said as there are golds, and every gold matches one, else 0."""
    one, other = _different(said), _different(golds)
    return float(len(one) == len(other) and all(any(same_value(a, b) for a in one) for b in other))


def _different(values: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for value in values:
        if not any(same_value(value, known) for known in kept):
            kept.append(value)
    return kept
