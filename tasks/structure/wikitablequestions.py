"""WikiTableQuestions (Pasupat and Liang, arXiv 1508.00305): hub `stanfordnlp/wikitablequestions`.

    col 1 | col 2 \\n a | b \\n ... Question: ... SEP value | value END

A table that does not fit into `length` is left out and counted: which of its rows the answer needs is not known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.hub.files import DataError
from tasks.hub.passages import Passage, PassagesConfig, PassageTask, Question
from tasks.hub.source import Source
from tasks.qa.answers import f1
from tasks.qa.denotation import denotation

BETWEEN = " | "


@dataclass(frozen=True, kw_only=True)
class WikiTableQuestionsConfig(PassagesConfig):
    """See `PassagesConfig`."""

    subset: str = "random-split-1"


def looks(subset: str, split: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether tables have the names of the release: csv/204-csv/590.csv."""
    names = [row["table"].get("name") for row in rows if isinstance(row["table"], dict)]
    odd = next((name for name in names if not re.fullmatch(r"csv/\d+-csv/\d+\.[ct]sv", str(name))), None)
    return "" if odd is None else f"tables must have names such as csv/204-csv/590.csv, found {odd!r:.40}"


class WikiTableQuestions(PassageTask):
    """The task `structure/wikitablequestions`. Keyword arguments: the fields of `WikiTableQuestionsConfig`."""

    name = "wikitablequestions"
    Config = WikiTableQuestionsConfig
    source = Source(
        hub="stanfordnlp/wikitablequestions",
        folder="wikitablequestions",
        columns=("question", "answers", "table"),
        splits=("train", "validation", "test"),
        home="https://huggingface.co/datasets/stanfordnlp/wikitablequestions",
        stand_in="table_qa",
        nested=("answers", "table"),
        others=tuple(f"random-split-{number}" for number in range(1, 6)),
        looks=looks,
    )
    subsets = tuple(f"random-split-{number}" for number in range(1, 6))
    about = {  # noqa: RUF012
        "summary": "Write the answer to a question about a Wikipedia table: WikiTableQuestions",
        "family": "structure",
        "train": "the official training part",
        "test": "the official test part: tables of no training question",
        "looping": "open: look-ups need little depth, comparisons and counts may need more",
        "licence": "CC BY-SA 4.0",
        "citation": "Pasupat and Liang, Compositional Semantic Parsing on Semi-Structured Tables, arXiv 1508.00305",
    }

    @property
    def roles(self) -> dict[str, str]:
        """See `ExampleTask.roles`."""
        return {"train": "train", "validation": "validation", "test/id": "test"}

    def question(self, values: dict[str, Any], place: str) -> tuple[Question, str, dict[str, int | float]]:
        """See `PassageTask.question`."""
        table, answers = values["table"], values["answers"]
        if not isinstance(table, dict) or not isinstance(table.get("rows"), list) or not table.get("header"):
            raise DataError(f"{place}: table must have a header and rows, found {table!r:.60}")
        if not isinstance(values["question"], str) or not values["question"].strip():
            raise DataError(f"{place}: column 'question' must be a text, found {values['question']!r:.60}")
        if not isinstance(answers, list) or not answers or not all(map(is_answer, answers)):
            raise DataError(f"{place}: answers must be a list of texts, found {answers!r:.60}")
        header, rows = table["header"], table["rows"]
        for row in [header, *rows]:
            if not isinstance(row, list) or not all(isinstance(cell, str) for cell in row):
                raise DataError(f"{place}: header and rows of the table must be lists of texts, found {row!r:.60}")
        for number, row in enumerate(rows):
            if len(row) != len(header):
                raise DataError(f"{place}: row {number} of the table has {len(row)} cells, not {len(header)}")
        # As they stand: an empty first or last cell leaves a blank at the edge.
        passage = Passage(BETWEEN.join(header), "\n".join(BETWEEN.join(row) for row in rows), True)
        golds = [str(answer).strip() for answer in answers]
        asked = Question([passage], values["question"], golds, frozenset())
        return asked, BETWEEN.join(golds), {"rows": len(rows), "columns": len(header), "answers": len(golds)}

    def canonical(self, asked: Question) -> str:
        """Question and table: the same question may stand beside several tables."""
        return " ".join([asked.question, asked.passages[0].prompt])

    def judge(self, answer: str, asked: Question) -> dict[str, float]:
        """Denotation accuracy, and F1 of the words of the whole answer."""
        said = [value for value in answer.split(BETWEEN) if value.strip()]
        return {
            # A cell may have the sign between values in it.
            "answer_em": max(denotation(said, asked.golds), float(answer == BETWEEN.join(asked.golds))),
            "answer_f1": f1(" ".join(said), [" ".join(asked.golds)], closed=False),
        }


def is_answer(value: Any) -> bool:
    """A text with something in it, or a number."""
    return bool(value.strip()) if isinstance(value, str) else isinstance(value, int | float)
