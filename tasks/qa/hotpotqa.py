"""HotpotQA, distractor setting (Yang et al., arXiv 1809.09600): hub `hotpotqa/hotpot_qa`, configuration distractor.

Rows of the hub's schema, and of the original JSON (facts and passages as pairs), are both read. The test part of the
original has no answers: its validation part is test/id here, and validation is a tenth of the training part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tasks.hub.files import DataError, Skip
from tasks.hub.passages import Passage, PassagesConfig, PassageTask, Question
from tasks.hub.source import Looks, Source


@dataclass(frozen=True, kw_only=True)
class HotpotQAConfig(PassagesConfig):
    """See `PassagesConfig`."""

    subset: str = "distractor"


def looks_of(name: str, kinds: Sequence[str]) -> Looks:
    """Whether the first rows have one of the question types of a data set."""

    def looks(subset: str, split: str, rows: Sequence[Mapping[str, Any]]) -> str:
        found = {str(row["type"]) for row in rows} - set(kinds)
        shown = ", ".join(sorted(found)[:3])
        return f"its questions have the type {shown:.60}; those of {name} are {', '.join(kinds)}" if found else ""

    return looks


class HotpotQA(PassageTask):
    """The task `qa/hotpotqa`, see the module. Keyword arguments: the fields of `HotpotQAConfig`."""

    name = "hotpotqa"
    Config: ClassVar[type[PassagesConfig]] = HotpotQAConfig
    source = Source(
        hub="hotpotqa/hotpot_qa",
        folder="hotpot_qa",
        columns=("question", "answer", "type", "supporting_facts", "context"),
        splits=("train", "validation"),
        home="https://huggingface.co/datasets/hotpotqa/hotpot_qa",
        stand_in="chain",
        nested=("supporting_facts", "context"),
        others=("distractor", "fullwiki"),
        looks=looks_of("HotpotQA", ("bridge", "comparison")),
    )
    subsets: ClassVar[tuple[str, ...]] = ("distractor",)
    about = {  # noqa: RUF012
        "summary": "Write the answer to a question over Wikipedia passages, two of which it needs: HotpotQA",
        "family": "qa",
        "train": "the official training part less a tenth for validation, by hash",
        "test": "the official validation part (the official test part has no answers)",
        "looping": "may help: the second passage is found through the first",
        "licence": "CC BY-SA 4.0",
        "citation": "Yang et al., HotpotQA, arXiv 1809.09600",
    }

    def question(self, values: dict[str, Any], place: str) -> tuple[Question, str, dict[str, int | float]]:
        """See `PassageTask.question`."""
        for column in ("question", "answer"):
            if not isinstance(values[column], str) or not values[column].strip():
                raise DataError(f"{place}: column '{column}' must be a text, found {values[column]!r:.60}")
        facts = frozenset(fact(*pair, place) for pair in pairs(values["supporting_facts"], "title", "sent_id", place))
        context = [told(*pair, place) for pair in pairs(values["context"], "title", "sentences", place)]
        needed = {title for title, _ in facts}
        passages = [Passage(title.strip(), text.strip(), title in needed) for title, text in context]
        if needed - {title for title, _ in context}:
            raise Skip("with supporting facts outside of their context")
        asked = Question(passages, values["question"], [values["answer"]], facts)
        return asked, values["answer"].strip(), {"facts": len(facts), "passages": len(passages)}


def fact(title: Any, number: Any, place: str) -> tuple[str, int]:
    """A supporting fact: title and number of the sentence. Raises DataError when it is none."""
    if not isinstance(title, str) or not isinstance(number, int):
        raise DataError(f"{place}: a supporting fact must be a title and a number, found {(title, number)!r:.60}")
    return title, number


def told(title: Any, sentences: Any, place: str) -> tuple[str, str]:
    """Title and text of a passage. Raises DataError when the sentences are no list of texts."""
    right = isinstance(sentences, list) and all(isinstance(sentence, str) for sentence in sentences)
    if not isinstance(title, str) or not right:
        raise DataError(f"{place}: a passage must be a title and a list of sentences, found {(title, sentences)!r:.60}")
    return title, "".join(join(sentences))


def join(sentences: list[str]) -> list[str]:
    """Sentences with a blank between those that bring none of their own (the hub's HotpotQA brings them)."""
    return [text if not number or text.startswith(" ") else f" {text}" for number, text in enumerate(sentences)]


def pairs(values: Any, first: str, second: str, place: str) -> list[tuple[Any, Any]]:
    """Pairs out of the hub's dict of two lists, or of the original list of pairs. Raises DataError on another shape."""
    if isinstance(values, dict) and isinstance(values.get(first), list) and isinstance(values.get(second), list):
        if len(values[first]) == len(values[second]):
            return list(zip(values[first], values[second], strict=True))
        raise DataError(f"{place}: the lists {first} and {second} differ in length")
    if isinstance(values, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in values):
        return [(pair[0], pair[1]) for pair in values]
    raise DataError(f"{place}: expected the lists {first} and {second}, or pairs; found {values!r:.60}")
