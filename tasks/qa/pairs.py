"""Prompts with answers of the user's own: `task=pairs task.path=FILE`, columns by name. See `tasks.hub.user_rows`.

    prompt: "{question} Answer yes or no."      answer: "{answer}"

The primary metric is exact match; what greedy decoding writes has the official F1 over words, too. A column of the
answer may hold a list: the first one is trained on, and any of them counts as right when it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tasks.base import require
from tasks.hub.files import DataError, Row
from tasks.hub.rows import Encoded, Example
from tasks.hub.user_rows import UserConfig, UserRows, columns_of, filled, text_of, value_of
from tasks.item import Ints
from tasks.qa.answers import exact_match, f1


@dataclass(frozen=True, kw_only=True)
class PairsConfig(UserConfig):
    """See `UserConfig`. `prompt`, `answer`: templates.

    answer_tokens: room that every prompt leaves; longer answers are left out. n_decoded: items whose answer is written.
    """

    prompt: str = "{prompt}"
    answer: str = "{answer}"
    answer_tokens: int = 32
    n_decoded: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.answer_tokens >= 1, f"answer_tokens={self.answer_tokens} is too small: use 1 or more")
        require(self.n_decoded >= 0, f"n_decoded={self.n_decoded} is negative: use 0 (all) or more")


class Pairs(UserRows):
    """The task `qa/pairs`, see the module. Keyword arguments: the fields of `PairsConfig`."""

    name = "pairs"
    Config = PairsConfig
    config: PairsConfig
    templates = ("prompt", "answer")
    about = {  # noqa: RUF012
        "summary": "Write the answer to a prompt, rows of your own: task.path=FILE",
        "family": "qa",
        "looping": "depends on the data",
        "licence": "the user's to state",
        "citation": "the user's to state",
    }

    def examples(self, row: Row) -> Iterator[Example]:
        """One example a row."""
        prompt, answers = filled(self.config.prompt, row), self._answers_of(row)
        if not all(answer.strip() for answer in answers) or not answers:
            raise DataError(f"{row.place}: the answer is empty")
        key = " ".join(prompt.split())
        yield Example(prompt=prompt, answer=answers[0], key=key, place=row.place, info=answers)

    def _answers_of(self, row: Row) -> list[str]:
        names = columns_of(self.config.answer)
        value = value_of(row, names[0]) if len(names) == 1 else None
        if not isinstance(value, list):
            return [filled(self.config.answer, row)]
        return [self.config.answer.replace(f"{{{names[0]}}}", text_of(row, names[0], one)) for one in value]

    def fitted(self, part: str, example: Example, prompt: Ints, answer: Ints) -> Encoded | None:
        """See `ExampleTask.fitted`; a prompt leaves room for an answer of `answer_tokens`."""
        if len(answer) > self.config.answer_tokens:
            self.report.skip(part, f"with an answer longer than answer_tokens={self.config.answer_tokens}")
            return None
        if len(prompt) + 1 + self.config.answer_tokens > self.length_of(part):
            self.report.skip(part, f"longer than length={self.length_of(part)}")
            return None
        return super().fitted(part, example, prompt, answer)

    def decoded(self, split: str, predict: Callable[[dict[str, Tensor]], Tensor]) -> dict[str, float]:
        """answer_em and answer_f1 of what greedy decoding writes, up to `answer_tokens` ids."""
        rows: Sequence[Encoded] = self.parts[split][: self.config.n_decoded or None]
        said = self.answered(split, rows, predict, self.config.answer_tokens)
        pairs = list(zip(said, (done.example.info for done in rows), strict=True))
        return {
            "answer_em": float(np.mean([exact_match(text, golds) for text, golds in pairs])),
            "answer_f1": float(np.mean([f1(text, golds) for text, golds in pairs])),
        }
