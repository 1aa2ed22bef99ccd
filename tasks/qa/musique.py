"""MuSiQue-Ans (Trivedi et al., arXiv 2108.00573): questions of two to four hops over 20 passages.

The columns are those of the original JSON lines, which the hub's copy `dgslibisey/MuSiQue` keeps. Answers that are also
right (`answer_aliases`) count in exact match and F1; yes and no are ordinary tokens. Rows that say that they cannot be
answered (MuSiQue-Full) are left out and counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.hub.files import DataError, Skip
from tasks.hub.passages import Passage, PassagesConfig, PassageTask, Question
from tasks.hub.source import Source


@dataclass(frozen=True, kw_only=True)
class MuSiQueConfig(PassagesConfig):
    """See `PassagesConfig`."""

    length: int = 1024


def looks(subset: str, split: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether ids tell the hops: 2hop__..., 3hop1__... ."""
    odd = next((row["id"] for row in rows if not re.match(r"[234]hop", str(row["id"]))), None)
    return "" if odd is None else f"ids must begin with 2hop, 3hop or 4hop, found {odd!r:.40}"


class MuSiQue(PassageTask):
    """The task `qa/musique`, see the module. Keyword arguments: the fields of `MuSiQueConfig`."""

    name = "musique"
    Config = MuSiQueConfig
    closed_answers = False
    source = Source(
        hub="dgslibisey/MuSiQue",
        folder="musique",
        columns=("id", "paragraphs", "question", "answer"),
        splits=("train", "validation"),
        home="https://huggingface.co/datasets/dgslibisey/MuSiQue",
        stand_in="chain",
        optional=("answer_aliases", "answerable"),
        nested=("paragraphs", "answer_aliases", "answerable"),
        looks=looks,
    )
    about = {  # noqa: RUF012
        "summary": "Write the answer to a question of two to four hops over 20 passages: MuSiQue",
        "family": "qa",
        "train": "the official training part less a tenth for validation, by hash",
        "test": "the official validation part (the official test part has no answers)",
        "looping": "may help: each passage is found through the one before, two to four times",
        "licence": "CC BY 4.0",
        "citation": "Trivedi et al., MuSiQue, arXiv 2108.00573",
    }

    def question(self, values: dict[str, Any], place: str) -> tuple[Question, str, dict[str, int | float]]:
        """See `PassageTask.question`. A supporting fact is a whole passage: (title, number of the passage)."""
        if not isinstance(values["answerable"], bool | None):
            raise DataError(f"{place}: column 'answerable' must be true or false, found {values['answerable']!r:.40}")
        if values["answerable"] is False:
            raise Skip("not answerable")
        for column in ("question", "answer"):
            if not isinstance(values[column], str) or not values[column].strip():
                raise DataError(f"{place}: column '{column}' must be a text, found {values[column]!r:.60}")
        if not isinstance(values["paragraphs"], list):
            raise DataError(f"{place}: column 'paragraphs' must be a list, found {values['paragraphs']!r:.60}")
        aliases = values["answer_aliases"] or []
        if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
            raise DataError(f"{place}: column 'answer_aliases' must be a list of texts, found {aliases!r:.60}")
        read = [paragraph_of(value, number, place) for number, value in enumerate(values["paragraphs"])]
        passages = [Passage(title.strip(), text.strip(), needed) for title, text, needed, _ in read]
        facts = {(title, number) for title, _, needed, number in read if needed}
        golds = [values["answer"], *aliases]
        asked = Question(passages, values["question"], golds, frozenset(facts))
        return asked, values["answer"].strip(), {"hops": len(facts), "passages": len(passages)}


def paragraph_of(value: Any, number: int, place: str) -> tuple[str, str, bool, int]:
    """Title, text, whether it is needed, number. Raises DataError when one is missing (the number may be)."""
    keys = {"title": str, "paragraph_text": str, "is_supporting": bool}
    found = value if isinstance(value, dict) else {}
    if not all(isinstance(found.get(key), kind) for key, kind in keys.items()):
        raise DataError(f"{place}: paragraph {number} needs {', '.join(keys)}; found {value!r:.60}")
    own = found.get("idx")
    return found["title"], found["paragraph_text"], found["is_supporting"], own if isinstance(own, int) else number
