"""Labels of rows and columns: what a CSV gives back as it was."""

from __future__ import annotations

MISSING = frozenset(  # what pandas reads as a missing value: such a label would come back from a CSV as NaN
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"}
    | {"NULL", "NaN", "None", "n/a", "nan", "null"}
)


def label(text: str) -> str:
    """A label that a CSV gives back as it is, or ValueError."""
    if text in MISSING or text.lower() in ("true", "false") or _is_number(text):
        raise ValueError(f"{text!r} would be read as a number or a missing value; choose another label")
    if text != text.strip() or not text.isprintable():
        raise ValueError(f"{text!r} has blanks at its ends or characters that cannot be printed")
    return text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
