"""Iteration curves: the model really runs at the depth that the curve says, and only where it can."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy import make_record, make_spec

from experiments.analysis.curves import depth_rows
from experiments.errors import UserError
from experiments.reporting import depth_figure
from experiments.store.records import DepthPoint
from experiments.store.store import Store
from experiments.studies.depth_curves import depth_curves
from experiments.training.run import execute
from ressformer.cost import Shape, model_cost
from ressformer.decoder import Decoder, ModelConfig
from ressformer.models.looped import LoopedConfig
from ressformer.models.reformer import ReformerConfig
from ressformer.models.ressformer import ReSSFormerConfig
from ressformer.models.transformer import TransformerConfig

SMALL = {"d_model": 16, "n_heads": 2}


@pytest.mark.parametrize(
    ("config", "depth"),
    [
        (LoopedConfig(**SMALL, n_layers=3), 5),
        (LoopedConfig(**SMALL, n_layers=3), 1),
        (TransformerConfig(**SMALL, n_layers=3), 2),
        (ReformerConfig(**SMALL, n_layers=3, reversible=True), 2),
        (ReSSFormerConfig(**SMALL, steps=2), 4),
    ],
    ids=lambda value: getattr(value, "family", str(value)),
)
def test_another_depth_is_the_model_of_that_depth(config: ModelConfig, depth: int) -> None:
    """A model built at that depth, with the weights that both have, gives the same logits."""
    torch.manual_seed(0)
    model = Decoder(config, vocab_size=11, length=12).eval()
    other_config = config.at_depth(depth)
    assert other_config is not None
    other = Decoder(other_config, vocab_size=11, length=12).eval()
    shared = {key: value for key, value in model.state_dict().items() if key in other.state_dict()}
    other.load_state_dict(shared)
    ids_Bn = torch.randint(0, 11, (2, 12))
    with torch.no_grad():
        plain = model(ids_Bn).logits_BnV
        model.core.eval_depth = depth
        turned = model(ids_Bn).logits_BnV
    torch.testing.assert_close(turned, other(ids_Bn).logits_BnV)
    assert not torch.allclose(turned, plain)
    shape = Shape(batch=1, length=12, vocab=11)
    more, less = (model_cost(c, shape).flops_forward for c in (other_config, config))
    assert (more > less) == (depth > config.depth)


def test_a_stack_has_no_more_layers_than_it_has() -> None:
    assert TransformerConfig(n_layers=3).at_depth(4) is None
    assert LoopedConfig(n_layers=3).at_depth(40) == LoopedConfig(n_layers=40)
    assert ReSSFormerConfig(eval_steps=6).eval_depth == 6 and ReSSFormerConfig().eval_depth == 4


def test_a_run_records_its_curve(store: Store) -> None:
    looped = {"_target_": "ressformer.models.looped.LoopedConfig", "d_model": 16, "n_heads": 2, "n_layers": 2}
    spec = make_spec(steps=2, trainer={"eval_depths": [1, 2, 4]})
    spec = spec.model_copy(update={"sizes": looped})
    assert execute(spec, store) == "done"
    record = store.record(spec.id)
    assert record is not None and [point.depth for point in record.depths] == [1, 2, 4]
    assert record.depths[1].metrics == record.metrics  # the trained depth again
    first, second, third = (point.flops_forward for point in record.depths)
    assert third - second == pytest.approx(2 * (second - first))


def test_rows_of_a_curve_are_means_over_seeds() -> None:
    records = []
    for seed, value in enumerate((0.2, 0.4, 0.6)):
        point = DepthPoint(depth=8, flops_forward=6400.0, metrics={"test/id": {"accuracy": value, "loss": 1.0}})
        records.append(make_record(make_spec(seed=seed)).model_copy(update={"depths": [point]}))
    rows = depth_rows(records)
    assert [(row["metric"], row["primary"], row["n"]) for row in rows] == [("accuracy", True, 3), ("loss", False, 3)]
    assert rows[0]["mean"] == pytest.approx(0.4) and rows[0]["low"] < 0.4 < rows[0]["high"]
    assert rows[0]["flops_per_token"] == 6400.0 / records[0].spec.task_info.length


def test_the_curves_are_drawn(tmp_path: Path) -> None:
    record = make_record(make_spec())
    points = [DepthPoint(depth=d, flops_forward=64.0 * d, metrics={"test/id": {"accuracy": d / 9}}) for d in (1, 2, 4)]
    rows = depth_rows([record.model_copy(update={"depths": points})])
    files = depth_figure.draw(rows, tmp_path)
    assert [path.name for path in files] == ["iterations-chain.png", "iterations-chain.pdf"]
    assert all(path.stat().st_size > 1000 for path in files)


def test_a_table_without_depths_is_refused(tmp_path: object) -> None:
    with pytest.raises(UserError, match="eval_depths"):
        depth_curves(["table=smoke", "table.tasks=[chain]", f"results_dir={tmp_path}"])
