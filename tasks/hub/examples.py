"""Tasks whose data are prompts with answers: a prompt, SEP, then the answer.

    one word        prompt SEP           label at SEP: the answer                             (metric accuracy)
    a sequence      prompt SEP a b c     labels from SEP on: a b c END                        (metric exact_match)

An item of the second kind counts as right if every label is the most probable one, given the right ones before it.
That is the same as: greedy decoding gives exactly the answer and then END. For if all are right under the given
prefix, greedy decoding walks along just these prefixes; and if one is wrong, it leaves the answer there.

B batch, n length.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from tasks.base import TaskCard, require
from tasks.hub.decode import Predict, greedy
from tasks.hub.rows import Encoded, ExampleData
from tasks.hub.vocabulary import UNKNOWN, Words
from tasks.item import IGNORE, Ints, Item, mean_where
from tasks.shortcuts import Rule

SEP, END = 0, 1  # offsets behind the vocabulary
NO_DATA = {"batch_size", "path", "download"}  # settings that change no item


class ExampleTask(ExampleData):
    """A task over prompts with answers; a subclass says how a row becomes examples."""

    version = 1
    ordered = True
    trivial: ClassVar[tuple[str, ...]] = ("majority",)
    about: ClassVar[dict[str, str]]  # summary, family, looping, licence, citation
    tokenizers: ClassVar[tuple[str, ...]] = ("words", "bytes", "bpe")
    unit: ClassVar[str] = "share of the items"

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        c = self.config
        try:
            require(
                not self.subsets or c.subset in self.subsets,
                f"subset={c.subset!r} is unknown: use one of {', '.join(self.subsets)}",
            )
            require(
                c.tokenizer in self.tokenizers,
                f"tokenizer={c.tokenizer!r} is unknown: use {' or '.join(self.tokenizers)}",
            )
        except ValueError as error:
            raise ValueError(f"task {self.name}: {error}") from None
        self.max_length = max(self.length, c.ood_length)
        self.causal = not bool(getattr(c, "bidirectional", False))

    @property
    def splits(self) -> dict[str, int]:
        """Items of each evaluation split."""
        return {part: len(self.parts[part]) for part in self._names if part != "train"}

    def generate(self, split: str, seed: int, index: int) -> Item:
        """Evaluation: the row at `index`. Train: every row once in an order of the seed's, then all in a new one."""
        if split not in self._names:
            raise ValueError(f"task {self.name}: unknown split '{split}'; splits: {', '.join(self._names)}")
        rows = self.parts[split]
        if split == "train":
            epoch, place = divmod(index, len(rows))
            return self.encoded_item(rows[_order(self.name, seed, epoch, len(rows))[place]])
        return self.encoded_item(rows[index])

    def encoded_item(self, done: Encoded) -> Item:
        """Inputs and labels [<= length]."""
        prompt, answer, example = done
        sep = self.vocabulary.size + SEP
        if self.one_word:
            inputs, targets = np.append(prompt, sep), answer
        else:
            inputs = np.concatenate([prompt, [sep], answer])
            targets = np.append(answer, self.vocabulary.size + END)
        labels = np.concatenate([np.full(len(prompt), IGNORE), targets])
        return Item(
            input_ids=inputs.astype(np.int64),
            labels=labels.astype(np.int64),
            difficulty={"prompt": len(prompt), "answer": len(answer), **example.difficulty},
            canonical=example.key,
        )

    def read(self, item: Item) -> tuple[str, str]:
        """Prompt and answer of an item as text."""
        size = self.vocabulary.size
        (sep,) = np.nonzero(item.input_ids == size + SEP)
        answer = item.labels[(item.labels != IGNORE) & (item.labels < size)]
        return self.vocabulary.decode(item.input_ids[: sep[0]].tolist()), self.vocabulary.decode(answer.tolist())

    def solve(self, prompt: str) -> set[str]:
        """The right answers to a prompt: here those of the rows with this prompt; better a second method.

        Raises ValueError when there is none.
        """
        if prompt not in self._answers:
            raise ValueError(f"task {self.name}: no row has the prompt {prompt!r:.80}")
        return self._answers[prompt]

    @cached_property
    def _answers(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for rows in self.parts.values():
            for done in rows:
                found.setdefault(self.vocabulary.decode(done.prompt.tolist()), set()).add(
                    self._shown(done.example.answer)
                )
        return found

    def _shown(self, text: str) -> str:
        """The text with its unknown words as such."""
        if not isinstance(self.vocabulary, Words):
            return text
        known = set(self.vocabulary.words)
        return " ".join(word if word in known else UNKNOWN for word in text.split())

    def check(self, item: Item) -> Ints:
        """Labels of the answer that `solve` gives to the text of the inputs."""
        prompt, answer = self.read(item)
        right = self.solve(prompt)
        (ids,) = self.vocabulary.encode([answer if answer in right else min(right)])
        (sep,) = np.nonzero(item.input_ids == self.vocabulary.size + SEP)
        labels = np.full(int(sep[0]), IGNORE)
        closing = [] if self.one_word else [self.vocabulary.size + END]
        return np.concatenate([labels, ids, closing]).astype(np.int64)

    def fingerprint_settings(self) -> Mapping[str, Any]:
        """The settings that decide what the items are."""
        left_out = NO_DATA.union(self.config.places)
        return {key: value for key, value in asdict(self.config).items() if key not in left_out}

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the settings, the vocabulary and every item of every split; no file's name or date."""
        spec = dict(self.fingerprint_settings())
        digest = hashlib.sha256(repr((self.name, self.version, spec, self.vocabulary.name)).encode())
        for part, rows in self.parts.items():
            digest.update(f"{part} {len(rows)}".encode())
            for prompt, answer, _ in rows:
                digest.update(b"%d %d " % (len(prompt), len(answer)))
                digest.update(prompt.astype("<i8").tobytes() + answer.astype("<i8").tobytes())
        return digest.hexdigest()

    @property
    def metric(self) -> str:
        """Name of the primary metric."""
        return "accuracy" if self.one_word else "exact_match"

    def score(
        self, labels_Bn: Tensor, pred_Bn: Tensor, nll_Bn: Tensor, input_ids_Bn: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Whether the whole answer is right [B], and the share of its tokens that are, each after the right ones."""
        scored_Bn = labels_Bn != IGNORE
        right_Bn = pred_Bn == labels_Bn
        if isinstance(self.vocabulary, Words):
            right_Bn &= labels_Bn != 0  # nobody knows what the unknown word was
        found = {self.metric: (right_Bn | ~scored_Bn).all(dim=1).float()}
        if not self.one_word:
            found["token_accuracy"] = mean_where(right_Bn, scored_Bn)
        return found

    @cached_property
    def all_rules(self) -> dict[str, Rule]:
        """The answer that train has most often; and the task's own shortcuts."""
        answers = Counter(done.answer.tobytes() for done in self.parts["train"])
        majority = min(answers, key=lambda answer: (-answers[answer], answer))

        def rule(item: Item) -> float:
            labels = item.labels[item.labels != IGNORE]
            return float((labels if self.one_word else labels[:-1]).tobytes() == majority)

        return {"majority": rule, **self.rules()}

    def describe(self) -> TaskCard:
        """See `Task.describe`; sizes are in `card`, as they need the data."""
        return TaskCard(
            summary=self.about["summary"],
            family=self.about["family"],
            train=self.about.get("train", "the training part"),
            in_distribution=self.about.get("test", "the test part"),
            out_of_distribution=dict(self.outside),
            metric=self.metric,
            higher_is_better=True,
            unit=self.unit,
            looping=self.about["looping"],
            licence=self.about["licence"],
            citation=self.about["citation"],
        )

    @cached_property
    def card(self) -> TaskCard:
        """The card with what was read, what was left out, the overlap and measured levels."""
        card = replace(self.describe(), chance=self.chance, shortcuts=self.levels["test/id"])
        line = self.report.line
        outside = {part: f"{text}; {line(part)}" for part, text in card.out_of_distribution.items()}
        tested = f"{card.in_distribution}; {line('test/id')}; validation: {line('validation')}"
        return replace(
            card,
            train=f"{card.train}; {line('train')}; {self.report.read()}",
            in_distribution=tested,
            out_of_distribution=outside,
        )

    @property
    def end_id(self) -> int | None:
        """See `Task.end_id`."""
        return None if self.one_word else int(self.vocabulary.size) + END

    def prompt(self, text: str) -> list[int]:
        """See `Task.prompt`: the ids of the prompt, and SEP behind them."""
        return [*self.vocabulary.encode([text])[0].tolist(), int(self.vocabulary.size) + SEP]

    def written(self, tokens: Sequence[int]) -> str:
        """See `Task.written`."""
        return self.vocabulary.decode([token for token in tokens if token < self.vocabulary.size])

    def answered(self, split: str, rows: Sequence[Encoded], predict: Predict, room: int) -> list[str]:
        """What greedy decoding writes behind the prompts of rows of a split, at most `room` ids each."""
        size = self.vocabulary.size
        prompts = [np.append(done.prompt, size + SEP) for done in rows]
        found = greedy(predict, prompts, size + END, room=room, length=self.length_of(split))
        return [self.written(ids.tolist()) for ids in found]

    def text(self, item: Item) -> str:
        """Prompt -> answer."""
        return " -> ".join(self.read(item))


@lru_cache(maxsize=8)
def _order(name: str, seed: int, epoch: int, count: int) -> Ints:
    """A permutation of `count` rows, a function of its arguments: the ranks of raw words of a counter generator."""
    key = hashlib.sha256(f"{name}\x1forder\x1f{seed}\x1f{epoch}".encode()).digest()[:16]
    return np.argsort(np.random.Philox(key=np.frombuffer(key, "<u8")).random_raw(count), kind="stable")
