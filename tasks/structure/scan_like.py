"""Commands of a small language into actions, with a new verb and longer outputs out of distribution.

    jump around left after walk twice => WALK WALK LEFT JUMP LEFT JUMP LEFT JUMP LEFT JUMP .

A grammar of its own with the meanings of SCAN (Lake and Baroni, arXiv 1711.00350): a verb, perhaps with a direction
("left", "opposite left": two turns first, "around left": a turn before each of four times), perhaps repeated, and one
or two such phrases joined by "and" or "after". Training sees the verb "jump" alone only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tasks.base import TaskCard, require
from tasks.probes import ProbeConfig
from tasks.stream import Stream
from tasks.translate import Translation

VERBS = ("walk", "look", "run", "jump")
HELD_OUT = "jump"
TIMES = {"": 1, " twice": 2, " thrice": 3}
ALONE = 0.1  # share of training items that are the held-out verb alone


@dataclass(frozen=True, kw_only=True)
class ScanConfig(ProbeConfig):
    """Outputs of at most actions_max actions; test/ood_length has longer ones. Raises ValueError where none fits.

    Commands have phrases_min to 2 phrases: single ones are few and repeat.
    """

    length: int = 32
    ood_length: int = 64
    actions_max: int = 16
    phrases_min: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.phrases_min <= 2, f"phrases_min={self.phrases_min} does not fit: use 1 or 2")
        require(4 <= self.actions_max <= 40, f"actions_max={self.actions_max} does not fit: use 4 to 40")
        for field, need in (("length", self.actions_max + 10), ("ood_length", 58)):
            require(getattr(self, field) >= need, f"{field}={getattr(self, field)} is too small: use {need} or more")


class ScanLike(Translation):
    """The task `structure/scan_like`, see the module. Keyword arguments: the fields of `ScanConfig`."""

    name = "scan_like"
    version = 1
    Config = ScanConfig
    config: ScanConfig
    same_item = f"the verbs but '{HELD_OUT}', and left and right"
    classes: ClassVar[dict[str, dict[str, str]]] = {
        "verb": {verb: verb.upper() for verb in VERBS if verb != HELD_OUT},
        "side": {"left": "LEFT", "right": "RIGHT"},
    }
    buckets = ("actions",)
    ood_splits = ("ood_verb", "ood_length")
    words_in = (*VERBS, "turn", "left", "right", "opposite", "around", "twice", "thrice", "and", "after")
    words_out = (*(verb.upper() for verb in VERBS), "LEFT", "RIGHT")

    def pair(self, stream: Stream, split: str) -> tuple[str, str, dict[str, int | float]] | None:
        """See `Translation.pair`."""
        if split == "train" and stream.uniform() < ALONE:
            return HELD_OUT, HELD_OUT.upper(), {"actions": 1}
        verbs = ("turn", *VERBS) if split == "test/ood_verb" else ("turn", *(v for v in VERBS if v != HELD_OUT))
        phrases = [_phrase(stream, verbs) for _ in range(stream.between(self.config.phrases_min, 2))]
        source, actions = phrases[0]
        if len(phrases) == 2:
            joint = stream.choice(("and", "after"))
            source = f"{source} {joint} {phrases[1][0]}"
            actions = actions + phrases[1][1] if joint == "and" else phrases[1][1] + actions
        new = HELD_OUT in source and source != HELD_OUT
        long = len(actions) > self.config.actions_max
        if new != (split == "test/ood_verb") or long != (split == "test/ood_length"):
            return None
        return source, " ".join(actions), {"actions": len(actions)}

    def always_train(self, source: str) -> bool:
        """See `Translation.always_train`: the only way to learn the verb."""
        return source == HELD_OUT

    def translate(self, source: Sequence[str]) -> list[str]:
        """See `Translation.translate`: by rewriting the text of the command with patterns."""
        text = " ".join(source)
        first, joint, second = re.fullmatch(r"(.*?)(?: (and|after) (.*))?", text).groups()  # type: ignore[union-attr]
        parts = [first] if joint is None else ([first, second] if joint == "and" else [second, first])
        return " ".join(_rewrite(part) for part in parts).split()

    def describe(self) -> TaskCard:
        """See `Task.describe`."""
        phrases = "one or two" if self.config.phrases_min == 1 else "two"
        return TaskCard(
            summary="Translate commands into actions, word by word right to the end",
            family="structure",
            train=f"{phrases} phrases, up to {self.config.actions_max} actions; '{HELD_OUT}' alone only",
            in_distribution="as train without the single verb; commands of no training item",
            out_of_distribution={
                "test/ood_verb": f"'{HELD_OUT}' in phrases, up to {self.config.actions_max} actions",
                "test/ood_length": f"{self.config.actions_max + 1} to 48 actions",
            },
            metric="accuracy",
            higher_is_better=True,
            unit="share of outputs right in full",
            looping="helps: phrases nest, and outputs grow",
            licence="Apache-2.0 (generated)",
            citation="own grammar; task: Lake and Baroni, arXiv 1711.00350",
        )


def _phrase(stream: Stream, verbs: Sequence[str]) -> tuple[str, list[str]]:
    """A phrase and its actions."""
    verb = stream.choice(verbs)
    way = stream.choice(("plain", "opposite", "around") if verb == "turn" else ("none", "plain", "opposite", "around"))
    side, times = stream.choice(("left", "right")), stream.choice(tuple(TIMES))
    act = [] if verb == "turn" else [verb.upper()]
    turn = side.upper()
    if way == "none":
        return verb + times, act * TIMES[times]
    done = {"plain": [turn, *act], "opposite": [turn, turn, *act], "around": [turn, *act] * 4}[way]
    words = f"{verb} {side}" if way == "plain" else f"{verb} {way} {side}"
    return words + times, done * TIMES[times]


def _rewrite(phrase: str) -> str:
    """Actions of one phrase."""
    text = re.sub(r"(\w+) around (\w+)", r"\2 \1 \2 \1 \2 \1 \2 \1", phrase)
    text = re.sub(r"(\w+) opposite (\w+)", r"\2 \2 \1", text)
    text = re.sub(r"^(\w+) (left|right)\b(?! \w+ \2)", r"\2 \1", text)
    text = re.sub(r"^(.*) twice$", r"\1 \1", text)
    text = re.sub(r"^(.*) thrice$", r"\1 \1 \1", text)
    return re.sub(r"\bturn\b", "", text).upper()
