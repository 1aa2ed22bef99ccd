"""Sentences into logical forms, with new roles of a noun and deeper nesting out of distribution.

    the cat gave emma a cake on the mat => give agent * cat theme cake on * mat recipient emma .

A grammar of its own with the questions of COGS (Kim and Linzen, arXiv 2010.05465): a definite noun is marked *, roles
come in a fixed order whatever the sentence's (active or passive, "gave her it" or "gave it to her"), prepositional
phrases and "said that" nest to the right. Training has one noun as a subject only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from tasks.base import TaskCard, require
from tasks.probes import ProbeConfig
from tasks.stream import Stream
from tasks.translate import Translation

PROPER = ("emma", "liam", "olivia", "noah", "ava", "mia")
COMMON = ("cat", "dog", "girl", "boy", "cake", "book", "box", "mat", "table", "hedgehog")
HELD_OUT = "hedgehog"  # in training a subject only
PREPOSITIONS = ("on", "in", "beside")
INTRANSITIVE = {"slept": "sleep", "ran": "run", "smiled": "smile"}
TRANSITIVE = {"saw": "see", "liked": "like", "found": "find", "drew": "draw"}
PASSIVE = {"seen": "see", "liked": "like", "found": "find", "drawn": "draw"}
DATIVE = {"gave": "give", "sent": "send", "lent": "lend"}
SAYING = {"said": "say", "knew": "know"}
VERBS = INTRANSITIVE | TRANSITIVE | DATIVE | SAYING


@dataclass(frozen=True, kw_only=True)
class CogsConfig(ProbeConfig):
    """Prepositional phrases and clauses nest to depth_max; test/ood_depth to depth_max + 2.

    Raises ValueError when the sizes leave no room.
    """

    length: int = 48
    ood_length: int = 80
    depth_max: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.depth_max >= 1, f"depth_max={self.depth_max} is too small: use 1 or more")
        need = 32 + 8 * self.depth_max
        require(self.length >= need, f"length={self.length} is too small: use length >= {need}")
        require(
            self.ood_length >= need + 24, f"ood_length={self.ood_length} is too small: use ood_length >= {need + 24}"
        )


class CogsLike(Translation):
    """The task `structure/cogs_like`, see the module. Keyword arguments: the fields of `CogsConfig`."""

    name = "cogs_like"
    version = 1
    Config = CogsConfig
    config: CogsConfig
    same_item = "names, nouns, prepositions, and verbs of a kind, each among themselves"
    classes: ClassVar[dict[str, dict[str, str]]] = {
        "name": dict(zip(PROPER, PROPER, strict=True)),
        "noun": {noun: noun for noun in COMMON if noun != HELD_OUT},
        "preposition": dict(zip(PREPOSITIONS, PREPOSITIONS, strict=True)),
        "intransitive": INTRANSITIVE,
        "transitive": TRANSITIVE | PASSIVE,
        "dative": DATIVE,
        "saying": SAYING,
    }
    buckets = ("depth",)
    ood_splits = ("ood_role", "ood_depth")
    words_in = tuple(
        dict.fromkeys(("the", "a", "to", "by", "was", "that", *PREPOSITIONS, *PROPER, *COMMON, *VERBS, *PASSIVE))
    )
    words_out = (
        *("*", "agent", "theme", "recipient", "content", *PREPOSITIONS, *PROPER, *COMMON),
        *dict.fromkeys(VERBS.values()),
    )

    def pair(self, stream: Stream, split: str) -> tuple[str, str, dict[str, int | float]] | None:
        """See `Translation.pair`."""
        deepest = self.config.depth_max
        deep = split == "test/ood_depth"
        depth = stream.between(deepest + 1, deepest + 2) if deep else stream.between(0, deepest)
        clauses = stream.between(0, depth) if depth else 0
        source, target = self._sentence(stream, clauses, depth if clauses < depth or not depth else 0)
        found = max(clauses, _nesting(target))
        elsewhere = HELD_OUT in source.split() and not _subjects_only(target)
        if (found > deepest and not deep) or (deep and found <= deepest) or elsewhere != (split == "test/ood_role"):
            return None
        return source, target, {"depth": found}

    def _sentence(self, stream: Stream, clauses: int, nesting: int) -> tuple[str, str]:
        """A sentence with `clauses` levels of "that" and noun phrases nested up to `nesting`."""
        agent = self._noun(stream, 0)
        if clauses:
            verb = stream.choice(tuple(SAYING))
            inner = self._sentence(stream, clauses - 1, nesting)
            return f"{agent[0]} {verb} that {inner[0]}", f"{SAYING[verb]} agent {agent[1]} content {inner[1]}"
        kind = stream.below(5)
        theme = self._noun(stream, stream.between(0, nesting))
        if kind == 0:
            verb = stream.choice(tuple(INTRANSITIVE))
            return f"{agent[0]} {verb}", f"{INTRANSITIVE[verb]} agent {agent[1]}"
        if kind == 1:
            verb = stream.choice(tuple(PASSIVE))
            return f"{theme[0]} was {verb} by {agent[0]}", f"{PASSIVE[verb]} agent {agent[1]} theme {theme[1]}"
        if kind == 2:
            verb = stream.choice(tuple(TRANSITIVE))
            return f"{agent[0]} {verb} {theme[0]}", f"{TRANSITIVE[verb]} agent {agent[1]} theme {theme[1]}"
        verb, other = stream.choice(tuple(DATIVE)), self._noun(stream, 0)
        meaning = f"{DATIVE[verb]} agent {agent[1]} theme {theme[1]} recipient {other[1]}"
        if kind == 3:
            return f"{agent[0]} {verb} {theme[0]} to {other[0]}", meaning
        return f"{agent[0]} {verb} {other[0]} {theme[0]}", meaning

    def _noun(self, stream: Stream, nesting: int) -> tuple[str, str]:
        """A noun phrase with `nesting` prepositional phrases, each within the last."""
        if not nesting and stream.uniform() < 0.4:
            name = stream.choice(PROPER)
            return name, name
        noun, definite = stream.choice(COMMON), stream.below(2)
        words, meaning = ("the " if definite else "a ") + noun, ("* " if definite else "") + noun
        if nesting:
            preposition, inner = stream.choice(PREPOSITIONS), self._noun(stream, nesting - 1)
            return f"{words} {preposition} {inner[0]}", f"{meaning} {preposition} {inner[1]}"
        return words, meaning

    def translate(self, source: Sequence[str]) -> list[str]:
        """See `Translation.translate`: by cutting the sentence at its verb and reading what is left and right."""
        words = list(source)
        if "that" in words:
            cut = words.index("that")
            return [
                SAYING[words[cut - 1]],
                "agent",
                *_read(words[: cut - 1]),
                "content",
                *self.translate(words[cut + 1 :]),
            ]
        if "was" in words:
            cut = words.index("was")
            by = words.index("by")
            return [PASSIVE[words[cut + 1]], "agent", *_read(words[by + 1 :]), "theme", *_read(words[:cut])]
        cut = next((place for place, word in enumerate(words) if word in VERBS), len(words))
        if cut == len(words):
            raise ValueError("task cogs_like: a sentence has no verb")
        head, rest = [VERBS[words[cut]], "agent", *_read(words[:cut])], words[cut + 1 :]
        if words[cut] in INTRANSITIVE:
            return head
        if words[cut] in TRANSITIVE:
            return [*head, "theme", *_read(rest)]
        if "to" in rest:
            to = rest.index("to")
            return [*head, "theme", *_read(rest[:to]), "recipient", *_read(rest[to + 1 :])]
        first = 1 if rest[0] in PROPER else 2  # a recipient that stands first is a bare noun phrase
        return [*head, "theme", *_read(rest[first:]), "recipient", *_read(rest[:first])]

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        deepest = self.config.depth_max
        return TaskCard(
            summary="Translate sentences into logical forms",
            family="structure",
            train=f"phrases and clauses nested up to {deepest} deep; '{HELD_OUT}' as a subject only",
            in_distribution="as train; sentences of no training item",
            out_of_distribution={
                "test/ood_role": f"'{HELD_OUT}' in other roles, same depth",
                "test/ood_depth": f"nested {deepest + 1} to {deepest + 2} deep",
            },
            metric="accuracy",
            higher_is_better=True,
            unit="share of outputs right in full",
            looping="helps: nested parts are translated within each other",
            licence="Apache-2.0 (generated)",
            citation="own grammar; task: Kim and Linzen, arXiv 2010.05465",
        )


def _read(words: Sequence[str]) -> list[str]:
    """A noun phrase's meaning, word by word."""
    return ["*" if word == "the" else word for word in words if word != "a"]


def _nesting(target: str) -> int:
    """Prepositions of a form: they are all in one noun phrase."""
    return sum(word in PREPOSITIONS for word in target.split())


def _subjects_only(target: str) -> bool:
    """Whether the held-out noun is an agent wherever it stands."""
    words = [word for word in target.split() if word != "*"]
    return all(before == "agent" for before, word in pairwise(words) if word == HELD_OUT)
