"""Preflight: cheats are caught, honest models pass, every YAML of conf/model is checked, nothing is disturbed."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sabotage import HONEST, SABOTAGES, spoiled

from ressformer.checks import CHECKS, Report, preflight
from ressformer.cost import Cost, Shape
from ressformer.decoder import ModelConfig
from ressformer.models.ressformer import ReSSFormerConfig
from ressformer.models.transformer import TransformerConfig

FILES = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))
MODELS = [path for path in FILES if {} not in yaml.safe_load(path.read_text()).values()]  # others wait for a class
TINY = TransformerConfig(d_model=16, n_heads=2, n_layers=1, d_ff=16)


def built(path: Path) -> ModelConfig:
    """The model that a YAML describes."""
    import importlib

    values = yaml.safe_load(path.read_text())
    module, _, name = values.pop("_target_").rpartition(".")
    config: ModelConfig = getattr(importlib.import_module(module), name).from_dict(values)
    return config


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both-ways"])
def test_every_model_of_the_configs_passes(path: Path, causal: bool) -> None:
    report = preflight(built(path), Shape(batch=2, length=40, vocab=17, causal=causal))
    assert report.passed, str(report)


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_cheat_is_caught(name: str) -> None:
    config, shape, caught_by = SABOTAGES[name]
    report = preflight(config, shape)
    assert caught_by <= {check.name for check in report.failures}, str(report)
    assert all("\n" not in check.sentence for check in report.checks)


@pytest.mark.parametrize("name", HONEST)
def test_no_false_alarm(name: str) -> None:
    report = preflight(*HONEST[name])
    assert report.passed, str(report)


def test_same_result_twice_and_nothing_disturbed() -> None:
    shape = Shape(batch=2, length=12, vocab=7)

    def states() -> tuple[object, ...]:
        numpy_state = np.random.get_state()
        return torch.get_rng_state().tolist(), random.getstate(), numpy_state[1].tolist(), torch.get_default_dtype()

    before = states()
    first = preflight(TINY, shape)
    assert states() == before
    with torch.no_grad():
        second = preflight(TINY, shape)
        assert not torch.is_grad_enabled()
    assert [(c.name, c.passed, c.numbers) for c in first.checks] == [
        (c.name, c.passed, c.numbers) for c in second.checks
    ]
    assert Report.from_dict(json.loads(json.dumps(first.to_dict()))) == first
    assert [check.name for check in first.checks] == ["build", *CHECKS]


def test_a_model_that_cannot_be_built_is_a_failed_check() -> None:
    class Broken(TransformerConfig):
        def build_core(self, **kwargs):  # type: ignore[no-untyped-def]
            raise OSError("no kernel\nfor this machine")

    report = preflight(Broken(), Shape(batch=2, length=12, vocab=7))
    assert [check.sentence for check in report.failures] == ["raised OSError: no kernel"]


def test_a_family_without_closed_form_is_counted() -> None:
    class Silent(TransformerConfig):
        def core_cost(self, shape: Shape) -> Cost:
            raise NotImplementedError

    report = preflight(Silent(d_model=16, n_heads=2, n_layers=1, d_ff=16), Shape(batch=2, length=12, vocab=7))
    assert report.passed and report["cost"].numbers["basis"] == report["weights"].numbers["basis"] == "counted"


@pytest.mark.parametrize("lengths", [(0,), (13,)])
def test_lengths_are_bounded(lengths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"1\.\.12"):
        preflight(TINY, Shape(batch=2, length=12, vocab=7), lengths=lengths)


def test_an_unknown_operator_is_named() -> None:
    def exponential(self, x, h, mask):  # type: ignore[no-untyped-def]
        return h + torch.linalg.matrix_exp(h.transpose(1, 2) @ h * 0).sum() * 0

    report = preflight(spoiled(exponential), Shape(batch=2, length=12, vocab=7))
    assert "linalg_matrix_exp" in report["cost"].sentence


SWITCHES = {
    "activation": ["softmax", "sparsemax", "entmax15"],
    "selection": ["token", "block", "all"],
    "memory_pool": ["attention", "mean", "topk"],
    "graph": ["edges", "attention", "none"],
    "ffn": ["experts", "dense"],
    "shared": [True, False],
    "edge_similarity": [True, False],
    "expert_copies": [True, False],
    "input_injection": [True, False],
    "step_embedding": [True, False],
    "tie_embeddings": [True, False],
    "cache": [0, 5],
    "memory_slots": [0, 3],
    "structure": [0.0, 0.01],
    "short_conv": [0, 3],
    "top_k_per_head": [False, True],
    "cache_step": ["current", "previous"],
}


def drawn(seed: int) -> tuple[ModelConfig, Shape]:
    """A small ReSSFormer with every switch thrown at random, and a shape for it."""
    draw = random.Random(seed)
    values = {key: draw.choice(options) for key, options in SWITCHES.items()}
    if values["selection"] != "token":
        values["top_k_per_head"] = False
    if not values["shared"] or not values["cache"]:
        values["cache_step"] = "current"
    sizes = {"steps": draw.choice([2, 3]), "top_k": draw.choice([2, 4]), "block": 8, "blocks": draw.choice([2, 3])}
    experts = {"n_experts": draw.choice([1, 4]), "d_expert": 24, "memory_segment": 6, "edge_rank": 8}
    config = ReSSFormerConfig(d_model=32, n_heads=2, **sizes, **experts, **values)  # type: ignore[arg-type]
    return config, Shape(batch=2, length=draw.choice([20, 25]), vocab=11, causal=draw.random() < 0.6)


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, options in SWITCHES.items() for v in options], ids=str)
def test_every_switch_alone_passes(key: str, value: object) -> None:
    config = ReSSFormerConfig(d_model=32, n_heads=2, steps=2, d_expert=24, memory_segment=6, **{key: value})  # type: ignore[arg-type]
    report = preflight(config, Shape(batch=2, length=20, vocab=11))
    assert report.passed, str(report)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_random_switches_pass() -> None:
    for seed in range(120):
        config, shape = drawn(seed)
        report = preflight(config, shape)
        assert report.passed, f"{seed}: {config} {shape}\n{report}"


def test_the_draws_throw_every_switch() -> None:
    configs = [drawn(seed)[0] for seed in range(120)]
    for key, value in ((key, value) for key, options in SWITCHES.items() for value in options):
        assert any(getattr(config, key) == value for config in configs)
    assert {shape.causal for _, shape in map(drawn, range(120))} == {True, False}


@pytest.mark.parametrize("length", [13, 16])
def test_memory_is_read_at_short_lengths_where_its_segments_are_short(length: int) -> None:
    config = ReSSFormerConfig(d_model=32, n_heads=2, steps=2, d_expert=24)
    shape = Shape(batch=2, length=length, vocab=11)
    assert {check.name for check in preflight(config, shape).failures} == {"gradients"}
    report = preflight(replace(config, memory_segment=4), shape)
    assert report.passed, str(report)


def test_a_part_that_only_longer_inputs_use_is_named_with_its_settings() -> None:
    """A token reads memory of segments that ended before it; an input of one segment has none."""
    config = ReSSFormerConfig(d_model=16, n_heads=2, steps=2, n_experts=2, d_expert=8, memory_segment=8)
    (failed,) = preflight(config, Shape(batch=2, length=8, vocab=7)).failures
    assert failed.name == "gradients" and "5, 8 tokens" in failed.sentence
    assert "take a longer task" in failed.sentence and "model.memory_segment" in failed.sentence
    longer = preflight(config, Shape(batch=2, length=17, vocab=7)).failures
    assert "gradients" not in {check.name for check in longer}
    assert preflight(replace(config, memory_slots=0), Shape(batch=2, length=8, vocab=7)).passed
