"""nanoGPT's laptop run: our model at its sizes, its text, its cut; the benchmark trains and says both figures."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch

from benchmarks import nanogpt

DATA = Path(os.environ.get("RESSFORMER_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
TEXT = DATA / "tiny_shakespeare"


def test_the_sizes_are_those_of_nanogpt() -> None:
    module = nanogpt.build(65, nanogpt.STEPS, 0)
    # 4 layers of 12 d^2 + 2 d, a last norm, tokens (tied) and positions: "number of parameters: 0.80M".
    d = 128
    assert module.model.parameter_counts()[0] == 4 * (12 * d * d + 2 * d) + d + 65 * d + 64 * d
    rates = [module.optim.lr * module.optim.factor(step, 2000) for step in (0, 99, 100, 2000)]
    assert rates == pytest.approx([1e-5, 1e-3, 1e-3, 1e-4])


def test_it_trains_and_says_both_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nanogpt, "enter", lambda *args: None)
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question\n" * 400)
    threads = torch.get_num_threads()
    try:
        words = ["--text", str(tmp_path / "text.txt"), "--steps", "25", "--out", str(tmp_path)]
        assert nanogpt.main(words) in (0, 1)
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().out
    assert "1.88" in said and "14,760 characters to train on" in said
    row = (tmp_path / "nanogpt.csv").read_text().splitlines()[1].split(",")
    assert float(row[-1]) < math.log(16)  # of 16 characters, it knows more than nothing
    assert nanogpt.main(["--text", str(tmp_path / "nothing.txt")]) == 2
    assert "nothing.txt" in capsys.readouterr().err


def test_the_text_is_the_one_that_was_published() -> None:
    if not TEXT.is_dir():
        pytest.skip(f"no tiny_shakespeare in {DATA}")
    seen, held, vocab = nanogpt.cut(nanogpt.read_all(TEXT))
    assert (len(seen), len(held), vocab) == (1_003_854, 111_540, 65)
