"""No head start goes undeclared: what changes the initial function at equal shapes is a help or a reasoned switch."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ressformer.decoder import Decoder, ModelConfig

MODELS = Path(__file__).resolve().parents[2] / "conf" / "model"
LENGTH, VOCAB = 48, 13


def family(name: str) -> type[ModelConfig]:
    module, _, kind = name.rpartition(".")
    found: type[ModelConfig] = getattr(importlib.import_module(module), kind)
    return found


def configs() -> dict[str, ModelConfig]:
    """The model of each YAML, small."""
    found = {}
    for path in sorted(MODELS.glob("*.yaml")):
        values: dict[str, Any] = yaml.safe_load(path.read_text())
        if {} in values.values():  # a model that waits for a class of the user's
            continue
        kind = family(values.pop("_target_"))
        small = {"d_model": 16, "d_ff": 16, "d_expert": 16, "block": 4, "window": 4, "d_state": 8}
        known = {field.name for field in dataclasses.fields(kind)}
        found[path.stem] = kind.from_dict({**values, **{k: v for k, v in small.items() if k in known}})
    return found


def others(config: ModelConfig, name: str) -> Iterator[ModelConfig]:
    """The config with other values of a field, as far as it takes them."""
    value = getattr(config, name)
    tried = [not value] if isinstance(value, bool) else [0, 1, 2, 3, value + 1, 2 * value]
    if isinstance(value, float):
        tried = [0.0, 0.5, 2 * value, 1.0]
    for other in tried:
        if other != value:
            try:
                yield dataclasses.replace(config, **{name: other})
            except ValueError:
                continue


def start(config: ModelConfig, causal: bool = True) -> tuple[list[tuple[str, torch.Size]], torch.Tensor]:
    """Names and shapes of the weights, and the logits of the model as it begins."""
    torch.manual_seed(3)
    model = Decoder(config, vocab_size=VOCAB, length=LENGTH, causal=causal).eval()
    ids_Bn = torch.randint(VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(5))
    torch.manual_seed(4)
    with torch.no_grad():
        logits_BnV = model(ids_Bn).logits_BnV
    return [(name, weight.shape) for name, weight in model.named_parameters()], logits_BnV


def undeclared(config: ModelConfig) -> set[str]:
    """Fields that change the initial function at equal shapes and are declared neither a help nor a switch."""
    shapes, logits_BnV = start(config)
    found = set()
    for field in dataclasses.fields(config):
        if not isinstance(getattr(config, field.name), (bool, int, float)):
            continue
        if field.name in config.help_fields or field.name in config.switches:
            continue
        for other in others(config, field.name):
            try:
                their_shapes, theirs_BnV = start(other)
            except (ValueError, RuntimeError, IndexError):
                continue
            same = their_shapes == shapes and torch.allclose(
                logits_BnV, theirs_BnV, rtol=1e-4, atol=1e-5
            )  # but for rounding
            if their_shapes == shapes and not same:
                found.add(field.name)
    return found


@pytest.mark.parametrize("name", sorted(configs()))
def test_no_help_is_undeclared(name: str) -> None:
    assert undeclared(configs()[name]) == set()


@pytest.mark.parametrize("name", ["cache_lean", "edge_similarity", "short_conv"])
def test_a_help_that_is_not_declared_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configs()["ressformer_conv"]
    left = {key: value for key, value in config.help_fields.items() if key != name}
    monkeypatch.setattr(type(config), "help_fields", left)
    found = undeclared(config)
    # A convolution has weights of its own: the shapes tell of it.
    assert found == (set() if name == "short_conv" else {name})


@pytest.mark.parametrize("name", sorted(configs()))
def test_what_is_declared_is_a_field(name: str) -> None:
    config = configs()[name]
    known = {field.name for field in dataclasses.fields(config)}
    assert {*config.help_fields, *config.switches} <= known
    assert all(reason.strip() for reason in config.switches.values())
    assert not set(config.help_fields) & set(config.switches)


def test_the_starts_of_ressformer_are_named_and_the_neutral_arm_has_none() -> None:
    found = configs()
    assert found["ressformer"].helps() == {"cache_lean": 4.0, "edge_similarity": True, "expert_copies": True}
    assert found["ressformer_neutral"].helps() == {}
    assert found["ressformer_neutral_conv"].helps() == {"short_conv": 4}
    assert set(found["ressformer_no_soes"].helps()) == {"cache_lean", "expert_copies"}
    assert found["mamba2"].by_design and not found["transformer"].by_design
