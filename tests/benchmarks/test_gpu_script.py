"""benchmarks/gpu.sh: it parses, and refuses bad input in one line before it does anything."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.sh"


def said(*words: str, **settings: str) -> tuple[int, str]:
    done = subprocess.run(["bash", str(SCRIPT), *words], capture_output=True, text=True, env={**os.environ, **settings})
    return done.returncode, done.stderr


def test_the_shell_parses_it() -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        (["--help-me"], {}, "unknown option --help-me"),
        (["wheels"], {}, "wheels takes a folder"),
        (["/dev/null/out"], {}, "cannot write to /dev/null/out"),
        (["out"], {"SLICE": "soon"}, "SLICE takes seconds, got soon"),
    ],
)
def test_bad_input_is_refused(words: list[str], settings: dict[str, str], message: str) -> None:
    code, text = said(*words, **settings)
    assert code == 2 and message in text and text.count("\n") == 1
