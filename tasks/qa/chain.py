"""Multi-hop questions about facts in random order.

    r a b  r c a  s d b  |  Q r r c -> b   Q s d -> b

A fact is three tokens: relation, entity, its value; an (entity, relation) has at most one value. A question
is a marker, 1..h relations and a start entity, read as r(r(c)): the last relation comes first. The label
sits at the question's last position; no answer is fed back. Entities are drawn anew from a pool for each
item, so that nothing can be learned by heart. Sizes are mixed from small to large: with equal sizes only,
recall sits on a long plateau before it is learned. Distractors are facts about further entities, which no question
comes to. With `order_free` each fact, and each question, is one token (`tasks.codec`); a number of hops that training
never asks for then has tokens that training never sees.

This file is longer than 300 lines: a task is one file, and this one has both encodings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.base import TaskCard, require
from tasks.codec import Codec
from tasks.forms import Classes
from tasks.graphs import Fact, Question, canonical_graph
from tasks.item import IGNORE, Ints, Item, mean_where
from tasks.noise import walk_reader
from tasks.probes import ProbeConfig, ProbedTask
from tasks.shortcuts import Floats, Rule, hits
from tasks.stream import Stream

QUESTION, FIRST_RELATION = 1, 2  # 0 pads


@dataclass(frozen=True, kw_only=True)
class ChainConfig(ProbeConfig):
    """Sizes. Out of distribution: to 1.5 facts_max, hops_max + 1 (near), to 2 facts_max, hops_max + 2 (far).

    Raises ValueError when the largest split does not fit into `length`, or a size has no possible graph.
    """

    length: int = 64
    facts_min: int = 1
    facts_max: int = 8
    hops_max: int = 2
    n_entities: int = 16
    n_relations: int = 2
    n_questions: int = 16
    distractors_max: int = 0
    bidirectional: bool = False
    order_free: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("facts_min", "hops_max", "n_relations", "n_questions"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} is too small: use 1 or more")
        require(
            self.facts_max >= self.facts_min,
            f"facts_max={self.facts_max} is below facts_min={self.facts_min}: use {self.facts_min} or more",
        )
        require(self.distractors_max >= 0, f"distractors_max={self.distractors_max} is negative: use 0 or more")
        facts, hops, more = 2 * self.facts_max, self.hops_max + 2, self.distractors_max
        need = 3 * (facts + more) + hops + 2
        most = (self.length - hops - 2 - 3 * more) // 6
        require(
            self.length >= need,
            f"length={self.length} is too small for {facts + more} facts and a question of {hops} hops (split "
            f"test/ood_far): use length >= {need}" + (f" or facts_max <= {most}" if most > 0 else ""),
        )
        nodes = max(2, -(-facts // self.n_relations)) + -(-more // self.n_relations)
        require(
            self.n_entities >= nodes,
            f"n_entities={self.n_entities} is too small for {facts + more} facts with {self.n_relations} relations: "
            f"use n_entities >= {nodes}",
        )


class Chain(ProbedTask):
    """The task `qa/chain`; see the module's docstring. Fields of `ChainConfig` are keyword arguments."""

    name = "chain"
    version = 2
    same_item = "entities and relations, the order of facts and that of questions"
    Config = ChainConfig
    config: ChainConfig
    ordered = False
    ood_splits = ("ood_near", "ood_far")
    probes = ("permute", "rename", "noise", "size")
    buckets = ("facts", "distractors")
    trivial = ("majority", "position", "bag", "random_value", "common_value", "last_value")

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        c = self.config
        self.first_entity = FIRST_RELATION + c.n_relations
        self.n_words = self.vocab_size = self.first_entity + c.n_entities
        if self.order_free:
            asks = {f"ask{hops}": ("relation",) * hops + ("entity",) for hops in range(1, c.hops_max + 3)}
            kinds = {"fact": ("relation", "entity", "entity"), **asks}
            try:
                self.codec = Codec({"relation": c.n_relations, "entity": c.n_entities}, kinds, order_free=True)
            except ValueError as error:
                raise ValueError(f"task chain: {error}") from None
            self.vocab_size = self.codec.size

    def ranges(self, split: str) -> tuple[int, int, int, int]:
        """Smallest and largest number of facts, smallest and largest number of hops of a split."""
        c = self.config
        near = -(-3 * c.facts_max // 2)
        known = {
            "test/ood_near": (c.facts_max + 1, near, 1, c.hops_max + 1),
            "test/ood_far": (min(near + 1, 2 * c.facts_max), 2 * c.facts_max, c.hops_max + 1, c.hops_max + 2),
        }
        if split not in known and split not in ("train", "validation", "test/id"):
            raise ValueError(f"task chain: unknown split '{split}'; splits: train, {', '.join(self.splits)}")
        return known.get(split, (c.facts_min, c.facts_max, 1, c.hops_max))

    def generate(self, split: str, seed: int, index: int) -> Item:
        """See `Task.generate`. Inputs and labels [<= length]."""
        facts_min, facts_max, hops_min, hops_max = self.ranges(split)
        stream = Stream(self.name, self.version, split, seed, index)
        attempts = count()
        n_facts = hops = 0

        def propose() -> Item | None:
            nonlocal n_facts, hops
            # Sizes outlive refusals, so that every split has the same mix of them; but not for ever, as tiny
            # graphs have few forms and some split may own none of them.
            if next(attempts) % 64 == 0:
                n_facts = stream.between(facts_min, facts_max)
                hops = stream.between(hops_min, hops_max)
            facts = self._graph(stream, n_facts)
            more = self._distractors(stream, facts) if self.config.distractors_max else []
            questions = self._ask(stream, facts, hops_min, hops, len(more))
            return self._item(stream, facts, more, questions) if questions else None

        item = self.draw(split, propose)
        return self._to_set(item) if self.order_free else item

    def _distractors(self, stream: Stream, facts: list[Fact]) -> list[Fact]:
        """Facts about nodes that no fact is about; their values may be any node."""
        c = self.config
        first = 1 + max(max(head, tail) for head, _, tail in facts)
        wanted = stream.between(0, c.distractors_max)
        heads = min(c.n_entities - first, max(1, wanted))
        slots = [(first + node, relation) for node in range(heads) for relation in range(c.n_relations)]
        chosen = stream.sample(slots, min(wanted, len(slots)))
        last = max((head for head, _ in chosen), default=first)
        return [(head, relation, (head + stream.between(1, last)) % (last + 1)) for head, relation in chosen]

    def _graph(self, stream: Stream, n_facts: int) -> list[Fact]:
        """Facts with different (head, relation), no self-loops, and tails as even as that allows."""
        c = self.config
        low = max(2, -(-n_facts // c.n_relations), min(-(-2 * n_facts // 3), c.n_entities))
        n_nodes = stream.between(low, max(low, min(n_facts + 1, c.n_entities)))
        slots = [(node, relation) for node in range(n_nodes) for relation in range(c.n_relations)]
        pool: list[int] = []
        facts: list[Fact] = []
        for head, relation in stream.sample(slots, n_facts):
            if not pool or pool == [head]:
                pool += stream.shuffled(range(n_nodes))
            tail = pool.pop(-1 if pool[-1] != head else -2)
            facts.append((head, relation, tail))
        return facts

    def _ask(self, stream: Stream, facts: list[Fact], hops_min: int, hops_max: int, more: int) -> list[Question]:
        """Different questions, hops in equal shares, until the length is filled or none is left."""
        out: dict[int, list[tuple[int, int]]] = {}
        for head, relation, tail in facts:
            out.setdefault(head, []).append((relation, tail))
        walks: list[Question] = [(head, (), head) for head in out]
        left: dict[int, list[Question]] = {}
        for hops in range(1, hops_max + 1):
            walks = [(s, (*rs, r), t) for s, rs, node in walks for r, t in out.get(node, ())]
            if hops >= hops_min and walks:
                left[hops] = walks
        room = self.config.length - 3 * (len(facts) + more)
        asked: list[Question] = []
        while len(asked) < self.config.n_questions:
            sizes = [hops for hops, rest in left.items() if rest and hops + 2 <= room]
            if not sizes:
                break
            hops = stream.choice(sizes)
            asked.append(stream.pop(left[hops]))
            room -= hops + 2
        return asked

    def _item(self, stream: Stream, facts: list[Fact], more: list[Fact], questions: list[Question]) -> Item:
        told = stream.shuffled([*facts, *more]) if more else facts
        entities = stream.sample(range(self.first_entity, self.n_words), 1 + max(max(h, t) for h, _, t in told))
        tokens: list[int] = []
        for head, relation, tail in told:
            tokens += (FIRST_RELATION + relation, entities[head], entities[tail])
        labels = [IGNORE] * len(tokens)
        for start, relations, answer in questions:
            tokens += (QUESTION, *(FIRST_RELATION + r for r in reversed(relations)), entities[start])
            labels += [IGNORE] * (len(relations) + 1) + [entities[answer]]
        return Item(
            input_ids=np.array(tokens, dtype=np.int64),
            labels=np.array(labels, dtype=np.int64),
            difficulty={
                "facts": len(facts),
                "distractors": len(more),
                "hops": max(len(relations) for _, relations, _ in questions),
                "questions": len(questions),
            },
            canonical=canonical_graph(told, questions),
        )

    def _to_set(self, item: Item) -> Item:
        """The item as one token per fact and question."""
        c, scored = self.codec, item.labels != IGNORE
        tokens = c.write(
            ("fact", (r - FIRST_RELATION, h - self.first_entity, t - self.first_entity)) for r, h, t in _facts(item)
        )
        answers = item.labels[scored] - self.first_entity + c.first["entity"]
        labels = np.concatenate([np.full(len(tokens), IGNORE), answers])
        for question in _questions(item):
            *relations, start = question[1:].tolist()
            path = [relation - FIRST_RELATION for relation in relations]
            tokens += c.write([(f"ask{len(path)}", (*path, start - self.first_entity))])
        return replace(item, input_ids=np.array(tokens, dtype=np.int64), labels=labels)

    def _to_sequence(self, item: Item) -> Item:
        """Undo `_to_set`."""
        tokens: list[int] = []
        labels: list[int] = []
        for (kind, arguments), label in zip(self.codec.read(item.input_ids.tolist()), item.labels, strict=True):
            *relations, last = arguments
            if kind == "fact":
                relations, last = [arguments[0]], arguments[1]
            words = [FIRST_RELATION + relation for relation in relations] + [self.first_entity + last]
            words = [*words, self.first_entity + arguments[2]] if kind == "fact" else [QUESTION, *words]
            tokens += words
            answer = IGNORE if label == IGNORE else int(label) - self.codec.first["entity"] + self.first_entity
            labels += [IGNORE] * (len(words) - 1) + [answer]
        return replace(item, input_ids=np.array(tokens), labels=np.array(labels))

    def _words(self, item: Item) -> Item:
        """The item as a sequence of words."""
        return self._to_sequence(item) if self.order_free else item

    def exchangeable(self) -> Classes:
        """See `ProbedTask.exchangeable`: relations and entities; a set's tokens are products of them."""
        if self.order_free:
            return []
        firsts = (FIRST_RELATION, self.first_entity, self.n_words)
        return [[(token,) for token in range(low, high)] for low, high in pairwise(firsts)]

    def form(self, item: Item) -> str:
        """See `ProbedTask.form`."""
        words = self._words(item)
        facts = [(head, relation, tail) for relation, head, tail in _facts(words).tolist()]
        questions = [question[1:].tolist() for question in _questions(words)]
        return canonical_graph(facts, [(start, tuple(path[::-1]), -1) for *path, start in questions])

    def check(self, item: Item) -> Ints:
        """Answers by products of one-hot rows and 0/1 matrices. Raises ValueError unless each has one."""
        ids = self._words(item).input_ids
        (marks,) = np.nonzero(ids == QUESTION)
        relation_F, head_F, tail_F = ids[: marks[0]].reshape(-1, 3).T
        values_RVV = np.zeros((self.config.n_relations, self.n_words, self.n_words), dtype=np.int64)
        np.add.at(values_RVV, (relation_F - FIRST_RELATION, head_F, tail_F), 1)
        labels = np.full(len(ids), IGNORE, dtype=np.int64)
        for mark, after in pairwise([*marks.tolist(), len(ids)]):
            reached_V = np.eye(self.n_words, dtype=np.int64)[ids[after - 1]]
            for relation in ids[after - 2 : mark : -1] - FIRST_RELATION:
                reached_V = reached_V @ values_RVV[relation]
            if reached_V.sum() != 1:
                raise ValueError(f"task chain: the question at {mark} has {reached_V.sum()} answers, not 1")
            labels[after - 1] = reached_V.argmax()
        found = replace(item, input_ids=ids, labels=labels)
        return self._to_set(found).labels if self.order_free else labels

    def score(
        self, labels_Bn: Tensor, pred_Bn: Tensor, nll_Bn: Tensor, input_ids_Bn: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Accuracy [B], the mean over an item's questions; given `input_ids_Bn` also per number of hops."""
        scored_Bn = labels_Bn != IGNORE
        right_Bn = pred_Bn == labels_Bn
        scores = {"accuracy": mean_where(right_Bn, scored_Bn)}
        if input_ids_Bn is not None:
            if self.order_free:
                firsts = [self.codec.kind_first[f"ask{hops}"] for hops in range(1, self.config.hops_max + 3)]
                hops_Bn = torch.stack([input_ids_Bn >= first for first in firsts]).sum(0)
            else:
                positions_n = torch.arange(labels_Bn.shape[1], device=labels_Bn.device)
                marks_Bn = torch.where(input_ids_Bn == QUESTION, positions_n, 0).cummax(dim=1).values
                hops_Bn = positions_n - marks_Bn - 1
            for hops in range(1, self.config.hops_max + 3):
                scores[f"accuracy/hops{hops}"] = mean_where(right_Bn, scored_Bn & (hops_Bn == hops))
        return scores

    def _refacted(self, item: Item, facts: Ints) -> Item:
        told = _facts(item).size
        changed = replace(item, input_ids=np.concatenate([facts.reshape(-1), item.input_ids[told:]]))
        return self._to_set(changed) if self.order_free else changed

    def permute(self, item: Item, stream: Stream) -> Item:
        """Probe: the facts in another order."""
        words = self._words(item)
        facts = _facts(words)
        return self._refacted(words, facts[stream.shuffled(range(len(facts)))])

    def rename(self, item: Item, stream: Stream) -> Item:
        """Probe: other names for the entities."""
        words = self._words(item)
        forth = np.arange(self.n_words)
        forth[self.first_entity :] = stream.shuffled(range(self.first_entity, self.n_words))
        labels = np.where(words.labels == IGNORE, IGNORE, forth[words.labels.clip(0)])
        renamed = replace(words, input_ids=forth[words.input_ids], labels=labels)
        back = np.arange(self.vocab_size)
        first = self.codec.first["entity"] if self.order_free else self.first_entity
        back[forth[self.first_entity :] - self.first_entity + first] = np.arange(first, first + self.config.n_entities)
        return replace(self._to_set(renamed) if self.order_free else renamed, back=back)

    def context(self, item: Item) -> Ints:
        """See `ProbedTask.context`: the facts."""
        told = _facts(self._words(item)).size
        return np.arange(told // 3 if self.order_free else told)

    def read_noised(self, clean: Item, noised: Item) -> Floats:
        """See `tasks.noise.walk_reader`."""
        words, told = self._words(clean), noised.input_ids[: _facts(clean).size]
        if self.order_free:
            told = self._to_sequence(replace(noised, labels=np.full(len(noised.input_ids), IGNORE))).input_ids
        facts_F3 = _facts(words)
        paths = [question[:0:-1].tolist() for question in _questions(words)]
        return walk_reader(facts_F3, told[: facts_F3.size].reshape(-1, 3), paths, words.labels[words.labels != IGNORE])

    def rules(self) -> dict[str, Rule]:
        """Values named anywhere; and, reading some structure, those beside the start, and what one hop leaves open."""
        found = self._rules()
        return {name: partial(self._on_words, rule) for name, rule in found.items()}

    def _on_words(self, rule: Rule, item: Item) -> float | Floats:
        return rule(self._words(item))

    def _rules(self) -> dict[str, Rule]:
        return {
            "random_value": lambda item: _hits(item, lambda facts, _: np.unique(facts[:, 2])),
            "common_value": lambda item: _hits(item, lambda facts, _: [np.bincount(facts[:, 2]).argmax()]),
            "last_value": lambda item: _hits(item, lambda facts, _: facts[-1:, 2]),
            "value_of_start": lambda item: _hits(item, lambda facts, q: facts[facts[:, 1] == q[-1], 2]),
            "first_hop": lambda item: _hits(item, _first_hop),
            "start_again": lambda item: _hits(item, lambda facts, q: q[-1:] if len(q) > 3 else _first_hop(facts, q)),
            "exclusion": lambda item: _hits(item, _excluded),
        }

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        low, high, _, hops = self.ranges("train")
        outside = {}
        for split in ("test/ood_near", "test/ood_far"):
            r = self.ranges(split)
            outside[split] = f"{r[0]} to {r[1]} facts, questions of {r[2]} to {r[3]} hops"
        return TaskCard(
            summary="Follow 1 to h relations through facts in random order; the answer is an entity",
            family="qa",
            train=f"{low} to {high} facts, 0 to {self.config.distractors_max} distractors, questions of 1 to {hops} "
            "hops, all sizes mixed",
            in_distribution="as train; graphs and questions of no training item, up to renaming and order",
            out_of_distribution=outside,
            metric="accuracy",
            higher_is_better=True,
            unit="share of an item's questions",
            looping="helps: every hop needs the last one's result, so depth-bound as hops grow",
            licence="Apache-2.0 (generated)",
            citation="own generator; in the spirit of bAbI (Weston et al., arXiv 1502.05698) and CLUTRR "
            "(Sinha et al., arXiv 1908.06177)",
        )

    def text(self, item: Item) -> str:
        """Facts, then questions, with the answers after an arrow."""
        item = self._words(item)
        words = [self.word(token) for token in item.input_ids.tolist()]
        start = words.index("Q")
        lines = ["; ".join(" ".join(words[i : i + 3]) for i in range(0, start, 3))]
        for end in np.nonzero(item.labels != IGNORE)[0].tolist():
            lines.append(" ".join(words[start : end + 1]) + f" -> {self.word(int(item.labels[end]))}")
            start = end + 1
        return "\n".join(lines)

    def word(self, token: int) -> str:
        """See `Task.word`."""
        if token >= self.first_entity:
            return f"e{token - self.first_entity:02d}"
        return "Q" if token == QUESTION else f"r{token - FIRST_RELATION}"


def _facts(item: Item) -> Ints:
    """Facts [F, 3] of an item as tokens: relation, entity, value."""
    return item.input_ids[: int((item.input_ids == QUESTION).argmax())].reshape(-1, 3)


def _hits(item: Item, guesses: Callable[[Ints, Ints], Ints | list[Any]]) -> Floats:
    """For each question the chance that a guess drawn from those for (facts, question) is the answer."""
    answers = item.labels[item.labels != IGNORE]
    facts, pairs = _facts(item), zip(_questions(item), answers, strict=True)
    drawn = [np.asarray(guesses(facts, question)) == answer for question, answer in pairs]
    return hits(np.mean(some) if len(some) else 0.0 for some in drawn)


def _first_hop(facts: Ints, question: Ints) -> Ints:
    """The value of the start under the relation that is followed first."""
    found: Ints = facts[(facts[:, :2] == question[-2:]).all(1), 2]
    return found


def _excluded(facts: Ints, question: Ints) -> Ints:
    """One hop: read. More: any value that is told but the start and what one hop gives."""
    if len(question) == 3:
        return _first_hop(facts, question)
    values = np.unique(facts[:, 2])
    left: Ints = values[(values != question[-1]) & ~np.isin(values, _first_hop(facts, question))]
    return left if len(left) else values


def _questions(item: Item) -> list[Ints]:
    """Each question's tokens, its mark first."""
    (marks,) = np.nonzero(item.input_ids == QUESTION)
    return [item.input_ids[mark:after] for mark, after in pairwise([*marks.tolist(), len(item.input_ids)])]
