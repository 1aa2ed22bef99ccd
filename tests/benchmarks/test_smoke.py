"""Each benchmark runs, says what it measured and writes it; and its yardstick is the model it stands beside."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmarks import kernels, learnable, measure, mixers, models, profiled, steps
from benchmarks.gpt2 import GPT2
from ressformer.decoder import Decoder
from ressformer.models.transformer import TransformerConfig


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stay in this process, under its environment; a child process takes seconds to import torch."""
    for module in (mixers, models, measure):
        monkeypatch.setattr(module, "enter", lambda *args: None)
    monkeypatch.setattr(models, "in_fresh_process", lambda *args: 2048.0)
    yield
    logging.disable(logging.NOTSET)


def written(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_mixers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--lengths", "256", "1024", "--tokens", "256", "--repeats", "1", "--no-memory"]
    assert mixers.main([*words, "--only", "longformer", "top 32", "--out", str(tmp_path)]) == 0
    rows = written(tmp_path / "mixers.csv")
    assert {row["length"] for row in rows} == {"256", "1024"}
    assert all(float(row["us_per_token"]) > 0 and float(row["flops_per_token"]) > 0 for row in rows)
    core = [row for row in rows if row["level"] == "core"]
    dense, window = ([r for r in core if r["mixer"].startswith(name)] for name in ("dense SDPA", "longformer"))
    # Three products of 2 d per pair and side, causal half: the mean query sees (n + 1) / 2 keys.
    assert [float(row["flops_per_token"]) for row in dense] == [3 * 4 * 128 * (n + 1) / 2 for n in (256, 1024)]
    assert float(window[-1]["dense_flops_over_own"]) > 2
    assert "longformer, window 128" in (tmp_path / "mixers.md").read_text()
    assert "CPU time, us per token" in capsys.readouterr().out


def test_peak_of_a_mixer_is_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--peak", "dense, explicit matrix", "--lengths", "1024", "--tokens", "1024"]
    assert mixers.main(words) == 0
    assert float(capsys.readouterr().out) > 1024 * 4 * 4  # one matrix of scores of four heads


def test_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--tokens", "256", "--repeats", "1", "--gpt2-batch", "1", "--models", "longformer", "--out", str(tmp_path)]
    assert models.main(words) == 0
    rows = written(tmp_path / "models.csv")
    assert [row["model"] for row in rows] == ["transformer", "longformer"]
    assert float(rows[0]["time_per_flop_over_vanilla"]) == 1
    assert all(0 <= float(row["peak_mib"]) < 100 for row in rows)
    gpt2 = written(tmp_path / "gpt2.csv")
    assert [row["model"] for row in gpt2] == ["GPT-2 in plain torch", "vanilla", "vanilla through Lightning"]
    assert "Training step at budget tiny: 1 x 256 tokens" in capsys.readouterr().out


def test_steps_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert steps.main(["--table", "smoke", "--repeats", "1", "--out", str(tmp_path)]) == 0
    rows = written(tmp_path / "steps.csv")
    vanilla = [row for row in rows if row["model"] == "transformer"]
    assert len(vanilla) < len(rows) and all(float(row["time_per_flop_over_vanilla"]) == 1 for row in vanilla)
    assert len(vanilla) == len({row["task"] for row in rows})
    assert all(float(row["step_ms"]) > 0 and float(row["train_flops_per_step"]) > 0 for row in rows)
    assert "tokens, CPU time of one thread" in capsys.readouterr().out
    assert steps.main(["--table", "quickly"]) == 2
    assert "quick" in capsys.readouterr().err


def test_a_profile_of_a_table_is_shares_of_a_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--table", "smoke", "--tasks", "chain", "--profile", "--repeats", "1", "--out", str(tmp_path)]
    assert steps.main(words) == 0
    rows = written(tmp_path / "profile.csv")
    assert {row["task"] for row in rows} == {"chain"} and not (tmp_path / "steps.csv").exists()
    kinds = {*profiled.KINDS, profiled.REST, profiled.OUTSIDE}
    for model in {row["model"] for row in rows}:
        own = [row for row in rows if row["model"] == model]
        assert sum(float(row["share"]) for row in own) == pytest.approx(1, abs=0.01)
        assert {row["kind"] for row in own} <= kinds
        products = sum(float(row["calls"]) for row in own if row["operator"] == "aten::mm")
        assert products > 10
    assert "share of a step's time" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::mm", "products, convolutions"),
        ("C kernel attend_forward", "C kernels"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "dense attention"),
        ("aten::linalg_vector_norm", "optimiser and clipping"),
        ("aten::native_layer_norm", "norms, softmax, GELU, loss"),
        ("aten::index_select", "copies, gathers, sorting"),
        ("aten::t", "views and allocation"),
        ("aten::mul", profiled.REST),
        ("autograd::engine::evaluate_function: MmBackward0", profiled.OUTSIDE),
        ("DispatchBackward", profiled.OUTSIDE),
    ],
)
def test_each_operator_has_its_kind(operator: str, kind: str) -> None:
    assert profiled.kind(operator) == kind


def test_kernels_of_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "KERNELS", kernels.KERNELS[:1])  # each is an arm that takes seconds
    assert kernels.main(["--table", "smoke", "--repeats", "1", "--out", str(tmp_path)]) == 0
    rows = written(tmp_path / "kernels.csv")
    assert {row["kernels"] for row in rows} == {"all", "none", *(f"without {name}" for name in kernels.KERNELS)}
    assert {row["shape"] for row in rows} >= {"8 x 256"} and "8 x 256 tokens" in capsys.readouterr().out
    assert kernels.main(["--table", "quickly"]) == 2


def test_models_refuses_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert models.main(["--models", "mamba", "--no-gpt2"]) == 2
    assert "unknown model mamba; choose from bigbird, " in capsys.readouterr().err


def test_the_yardstick_computes_what_the_vanilla_model_does() -> None:
    torch.manual_seed(0)
    config = TransformerConfig(d_model=16, n_heads=2, n_layers=2, d_ff=24, tie_embeddings=True)
    ours = Decoder(config, vocab_size=11, length=9)
    plain = GPT2(vocab=11, length=9, d=16, heads=2, layers=2, d_ff=24)
    weights: dict[str, Any] = ours.state_dict()
    names = {"tokens": "embedding", "positions": "core.positions", "norm": "norm"}
    inner = {"norm_1": "mixer_norm", "norm_2": "ff_norm", "qkv": "mixer.qkv", "out": "mixer.out"}
    inner |= {"up": "feed_forward.up", "down": "feed_forward.down"}
    names |= {f"layers.{i}.{a}": f"core.layers.{i}.{b}" for i in (0, 1) for a, b in inner.items()}
    plain.load_state_dict({f"{a}.weight": weights[f"{b}.weight"] for a, b in names.items()})
    tokens, labels = torch.randint(0, 11, (2, 3, 9))
    expected = cross_entropy(ours(tokens).logits_BnV.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(plain(tokens, labels), expected, rtol=0, atol=1e-6)


def test_exponent_and_interleaving() -> None:
    assert measure.exponent({n: 3.0 * n for n in (256, 1024, 4096, 16384)}) == pytest.approx(2)
    assert measure.exponent({256: 1.0, 1024: 1.0}) is None
    turns: list[str] = []
    measure.interleaved({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, 2)
    assert turns == ["a", "b"] * 3


def test_learnable_is_made_in_pieces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cells.jsonl"
    words = ["--tasks", "table_lookup", "--seconds", "0.2", "--out", str(out)]
    threads = torch.get_num_threads()
    try:
        assert learnable.main([*words, "--models", "suited"]) == 0
        assert learnable.main([*words, "--models", "transformer_rope"]) == 0  # the same cell: not run again
        assert learnable.main([*words, "--models", "perceptron"]) == 2
    finally:
        torch.set_num_threads(threads)
    (line,) = out.read_text().splitlines()
    assert json.loads(line)["steps"] > 0
    capsys.readouterr()
    assert learnable.main(["--show", "--out", str(out)]) == 0
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .startswith("| `table_lookup` | transformer_rope | 0.002 | 0 s | accuracy |")
    )
