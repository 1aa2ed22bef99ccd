"""MuSiQue-Ans (Trivedi et al., arXiv 2108.00573): questions of two to four hops over 20 passages.

The columns are those of the original JSON lines, which the hub's copy `dgslibisey/MuSiQue` keeps. Answers that are also
right (`answer_aliases`) count in exact match and F1; yes and no are ordinary tokens. Rows that say that they cannot be
answered (MuSiQue-Full) are left out and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.hub.files import DataError, Skip
from tasks.hub.passages import Passage, PassagesConfig, PassageTask, Question
from tasks.hub.source import Source


@dataclass(frozen=True, kw_only=True)
class MuSiQueConfig(PassagesConfig):
    """See `PassagesConfig`."""

    length: int = 1024


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
        if values.get("answerable") is False:
            raise Skip("not answerable")
        for column in ("question", "answer"):
            if not isinstance(values[column], str) or not values[column].strip():
                raise DataError(f"{place}: column '{column}' must be a text, found {values[column]!r:.60}")
        passages, facts = [], set()
        for number, paragraph in enumerate(values["paragraphs"]):
            try:
                title, text, needed = (paragraph[key] for key in ("title", "paragraph_text", "is_supporting"))
            except (KeyError, TypeError):
                raise DataError(
                    f"{place}: paragraph {number} needs title, paragraph_text, is_supporting; found {paragraph!r:.60}"
                ) from None
            passages.append(Passage(title, text, bool(needed)))
            if needed:
                facts.add((title, int(paragraph.get("idx", number))))
        golds = [values["answer"], *(values.get("answer_aliases") or [])]
        asked = Question(passages, values["question"], golds, frozenset(facts))
        return asked, values["answer"].strip(), {"hops": len(facts), "passages": len(passages)}
