"""SCAN (Lake and Baroni, arXiv 1711.00350), the real files: hub `scan`, columns commands and actions.

    jump twice and walk SEP I_JUMP I_JUMP I_WALK END

The official test part of every subset but `simple` is out of distribution: it is test/ood_official, while validation
and test/id are cut out of the training part by hash.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.hub.examples import ExampleTask
from tasks.hub.files import DataError, Row
from tasks.hub.rows import Example, ExamplesConfig
from tasks.hub.source import Source

ACTIONS = ("walk", "look", "run", "jump")
TIMES = {"twice": 2, "thrice": 3}
SUBSETS = (
    *("simple", "length", "addprim_jump", "addprim_turn_left", "template_around_right", "template_jump_around_right"),
    *("template_opposite_right", "template_right", *(f"filler_num{n}" for n in range(4))),
)


@dataclass(frozen=True, kw_only=True)
class ScanRealConfig(ExamplesConfig):
    """See `ExamplesConfig`."""

    length: int = 64
    subset: str = "length"


def parse(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of the original files: `IN: ... OUT: ...`. Raises ValueError on another line."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            found = re.fullmatch(r"IN: (.*) OUT: (.*?)\s*", line)
            commands, actions = found.groups() if found else (None, None)
            yield number, {"commands": commands, "actions": actions}


def looks(subset: str, split: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether the actions are those that the grammar gives to the command."""
    for row in rows:
        commands, actions = row["commands"], row["actions"]
        if isinstance(commands, str) and isinstance(actions, str) and commands.split() and actions.split():
            try:
                right = [f"I_{action}" for action in interpret(commands.split())]
            except ValueError as error:
                return str(error)
            if actions.split() != right:
                return f"the actions of {commands!r:.60} must be {' '.join(right):.60}, found {actions!r:.60}"
    return ""


def release(subset: str) -> tuple[str, ...]:
    """The folder of the original release that holds a subset."""
    first = subset.partition("_")[0]
    return (f"{ {'addprim': 'add_prim'}.get(first, first) }_split",)


class ScanReal(ExampleTask):
    """The task `structure/scan_real`, see the module. Keyword arguments: the fields of `ScanRealConfig`."""

    name = "scan_real"
    Config = ScanRealConfig
    source = Source(
        hub="scan",
        folder="scan",
        columns=("commands", "actions"),
        splits=("train", "test"),
        home="https://github.com/brendenlake/SCAN",
        stand_in="listops",
        parse=parse,
        looks=looks,
        others=SUBSETS,
        noise=("tasks",),
        folders=release,
    )
    subsets = SUBSETS
    outside = {"test/ood_official": "the official test part of the subset"}  # noqa: RUF012
    about = {  # noqa: RUF012
        "summary": "Commands to actions, the real SCAN files",
        "family": "structure",
        "train": "the official training part less a tenth each for validation and test/id",
        "test": "a tenth of the official training part, by hash (subset simple: the official test part)",
        "looping": "open: the answer is as long as the actions, and each is found with few steps of depth",
        "licence": "BSD",
        "citation": "Lake and Baroni, Generalization without Systematicity, arXiv 1711.00350",
    }

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if self.config.subset == "simple":
            self.outside = {}  # type: ignore[misc]

    @property
    def roles(self) -> dict[str, str]:
        """See `ExampleTask.roles`."""
        return {"train": "train", "test/id" if self.config.subset == "simple" else "test/ood_official": "test"}

    def examples(self, row: Row) -> Iterator[Example]:
        """One example a row."""
        commands, actions = row.need("commands", str), row.need("actions", str)
        if not commands.split() or not actions.split():
            raise DataError(f"{row.place}: commands and actions must not be empty")
        yield Example(
            prompt=commands,
            answer=actions,
            key=" ".join(commands.split()),
            place=row.place,
            difficulty={"actions": len(actions.split())},
        )

    def solve(self, prompt: str) -> set[str]:
        """The actions by SCAN's grammar. Raises ValueError when the prompt is no command."""
        return {" ".join(f"I_{action}" for action in interpret(prompt.split()))}


def interpret(words: list[str]) -> list[str]:
    """Actions of a command (Lake and Baroni, figure 6). Raises ValueError when it is none."""
    for joint, back in (("and", False), ("after", True)):
        if joint in words:
            place = words.index(joint)
            first, second = interpret(words[:place]), interpret(words[place + 1 :])
            return second + first if back else first + second
    if words and words[-1] in TIMES:
        return interpret(words[:-1]) * TIMES[words[-1]]
    if not words or words[0] not in (*ACTIONS, "turn") or len(words) > 3:
        raise ValueError(f"no SCAN command: {' '.join(words)!r}")
    action = [] if words[0] == "turn" else [words[0].upper()]
    if len(words) == 1 and action:
        return action
    manner, side = (words[1:-1] or [""])[0], words[-1]
    if side not in ("left", "right") or manner not in ("", "opposite", "around"):
        raise ValueError(f"no SCAN command: {' '.join(words)!r}")
    turn = [f"TURN_{side.upper()}"]
    if manner == "around":
        return (turn + action) * 4
    return turn * (2 if manner else 1) + action
