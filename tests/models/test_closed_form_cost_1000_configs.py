"""The closed forms against torch's count on a thousand random configs; prints the worst relative difference.

python -m pytest -m slow -s tests/models/test_closed_form_cost_1000_configs.py
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from test_closed_form_cost import ressformers, shapes, sparse_stacks, transformers

from ressformer.cost import Shape, model_cost
from ressformer.count import counted_flops
from ressformer.decoder import ModelConfig

CONFIGS = int(os.environ.get("RESSFORMER_CONFIGS", "1000"))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_closed_forms_equal_counts_on_a_thousand_configs() -> None:
    differences: list[float] = []

    @seed(0)
    @settings(max_examples=CONFIGS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(transformers(), ressformers(), sparse_stacks()), shapes)
    def compare(config: ModelConfig, shape: Shape) -> None:
        cost = model_cost(config, shape)
        closed = (cost.flops_forward_executed, cost.flops_train_executed)
        worst = max(abs(a / b - 1) for a, b in zip(closed, counted_flops(config, shape), strict=True))
        differences.append(worst)
        assert worst < 0.005, (config, shape)

    compare()
    print(f"\n{len(differences)} configs, worst relative difference {max(differences):.2e}")
    assert len(differences) >= CONFIGS
