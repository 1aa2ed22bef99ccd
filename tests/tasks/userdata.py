"""Small made-up files of a user's own rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from hubdata import prose


def prompts(folder: Path) -> Path:
    """Prompts with answers in one file of lines."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"prompt": f"say {prose(str(n), 2).split()[0]} {n}", "answer": f"{n % 7} {n % 3}"} for n in range(200)]
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def quizzes(folder: Path) -> Path:
    """Prompts with two to four choices."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"prompt": f"what is {n}", "choices": [f"it {'is' * m} {n}" for m in range(2 + n % 3)], "answer": n % 2}
        for n in range(200)
    ]
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# Name of the task -> what writes its data, and settings that go with so little of it.
USER: dict[str, tuple[Callable[[Path], Path], Sequence[str]]] = {
    "choices": (quizzes, ["length=64"]),
    "pairs": (prompts, ["length=64", "answer_tokens=8"]),
}
