"""bAbI (Weston et al., arXiv 1502.05698), the real files: hub `facebook/babi_qa`.

    mary moved to the bathroom . john went to the hallway . where is mary ? SEP -> bathroom

An item is one question with the statements before it; the answer is one word, as the field counts it (also where a
file lists two things: `n,s`). Stories, and not questions, are what train and validation do not share.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.hub.examples import ExampleTask
from tasks.hub.files import DataError, Row
from tasks.hub.rows import Example, ExamplesConfig
from tasks.hub.source import Source

PER_STORY = 5  # shortcuts look at so many last statements


@dataclass(frozen=True, kw_only=True)
class BabiQaConfig(ExamplesConfig):
    """See `ExamplesConfig`. `bidirectional`: every position sees the whole story."""

    length: int = 128
    subset: str = "en-qa1"
    bidirectional: bool = False


def parse(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Stories of the original files, in the hub's schema: numbered lines, a question has its answer behind a tab.

    A line whose number does not follow gives a row without a story.
    """
    keys = ("id", "type", "text", "supporting_ids", "answer")
    story: dict[str, list[Any]] = {key: [] for key in keys}
    start = 1
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        count, _, rest = line.partition(" ")
        if count == "1" and story["id"]:
            yield start, {"story": story}
            story, start = {key: [] for key in keys}, number
        if count != str(len(story["id"]) + 1) or not rest.strip():
            yield number, {"story": None}
            continue
        said, *more = rest.split("\t")
        values = (
            count,
            int(bool(more)),
            said.strip(),
            more[1].split() if len(more) > 1 else [],
            more[0] if more else "",
        )
        for key, value in zip(keys, values, strict=True):
            story[key].append(value)
    if story["id"]:
        yield start, {"story": story}


def looks(subset: str, split: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether stories begin with statement 1, and questions end in a question mark and name their support."""
    for row in rows:
        story = row["story"] if isinstance(row["story"], dict) else {}
        lists = [story.get(key) for key in ("id", "type", "text", "supporting_ids")]
        if not all(isinstance(values, list) for values in lists) or len({len(values or []) for values in lists}) > 1:
            continue  # the loader says what is wrong
        lines = list(zip(*(values or [] for values in lists), strict=True))
        if not lines or str(lines[0][0]) != "1" or lines[0][1] != 0:
            return f"a story must begin with statement 1, found {lines[:1]!r:.60}"
        for _, kind, text, support in lines:
            if kind not in (0, 1) or (kind == 1 and not (str(text).rstrip().endswith("?") and support)):
                return f"a question must end in '?' and name the statements that it needs, found {text!r:.60}"
    return ""


class BabiQa(ExampleTask):
    """The task `qa/babi_qa`, see the module. Keyword arguments: the fields of `BabiQaConfig`."""

    name = "babi_qa"
    Config = BabiQaConfig
    source = Source(
        hub="facebook/babi_qa",
        folder="babi_qa",
        columns=("story",),
        splits=("train", "test"),
        home="https://huggingface.co/datasets/facebook/babi_qa",
        stand_in="chain",
        parse=parse,
        nested=("story",),
        looks=looks,
        file_key=lambda subset: subset.rpartition("-")[2],
        others=tuple(f"qa{number}" for number in range(1, 21)),
        folders=lambda subset: tuple(f"{above}{subset.rpartition('-')[0]}" for above in ("", "tasks_1-20_v1-2/")),
        # The test files of en-10k are those of en.
        siblings=lambda subset: subset.replace("-10k", ""),
    )
    tokenizers = ("words",)
    one_word = True
    unit = "share of the questions"
    about = {  # noqa: RUF012
        "summary": "Questions about short stories, the real bAbI files",
        "family": "qa",
        "train": "the official training stories less a tenth for validation, by hash",
        "test": "the official test stories",
        "looping": "helps with two and three supporting facts (qa2, qa3): each hop needs the last one's result",
        "licence": "CC BY 3.0",
        "citation": "Weston et al., Towards AI-Complete Question Answering, arXiv 1502.05698",
    }

    @property
    def roles(self) -> dict[str, str]:
        """See `ExampleTask.roles`."""
        return {"train": "train", "test/id": "test"}

    def examples(self, row: Row) -> Iterator[Example]:
        """One example a question."""
        story = row.need("story", dict)
        for key in ("type", "text", "answer", "supporting_ids"):
            if not isinstance(story.get(key), list):
                raise DataError(f"{row.place}: story.{key} is missing or no list")
        kinds, texts, answers = story["type"], story["text"], story["answer"]
        if not len(kinds) == len(texts) == len(answers) == len(story["supporting_ids"]):
            raise DataError(f"{row.place}: the lists of story differ in length")
        key = " ".join(texts)
        told: list[str] = []
        for kind, text, answer, support in zip(kinds, texts, answers, story["supporting_ids"], strict=True):
            if kind == 0:
                told.append(simple(text))
                continue
            if len(answer.split()) != 1:
                raise DataError(f"{row.place}: the answer to {text!r:.60} must be one word, found {answer!r:.40}")
            yield Example(
                prompt=" ".join([*told, simple(text)]),
                answer=answer.lower(),
                key=key,
                place=row.place,
                difficulty={"statements": len(told), "support": len(support)},
            )

    def rules(self) -> dict[str, Callable[..., float]]:
        """The answer that was named last; and the one named last in a statement with a word of the question's end."""
        known = {done.example.answer for done in self.parts["train"]}

        def last(words: list[str]) -> str:
            return next((word for word in reversed(words) if word in known), "")

        def about(prompt: str) -> str:
            *told, question = re.split(r"(?<=[.?]) ", prompt)
            name = question.split()[-2:-1]
            return next((last(s.split()) for s in reversed(told) if name and name[0] in s.split()), "")

        return {
            "last_named": lambda item: float(last(self.read(item)[0].split()) == self.read(item)[1]),
            "last_of_asked": lambda item: float(about(self.read(item)[0]) == self.read(item)[1]),
        }


def simple(text: str) -> str:
    """Lower case, stops as words of their own."""
    return " ".join(re.findall(r"[\w',-]+|[.?]", text.lower()))
