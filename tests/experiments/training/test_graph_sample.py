"""The graph that a run keeps: whose edges they are, and what becomes of a model without one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from experiments.planning.instantiate import build_decoder, build_model_config, build_task
from experiments.reporting.model_figures import graphs
from experiments.reporting.plot_style import Pen
from experiments.store.graph_file import read_graph
from experiments.training.graph_sample import STRONGEST, WINDOW, induced, keep_graph, strongest
from ressformer.layers.sparse.graph import Graph
from ressformer.module import OptimConfig, SequenceModule
from tasks.base import Task

TASK = {"_target_": "tasks.structure.listops.ListOps", "n_test": 4, "n_validation": 4}
SIZES: dict[str, Any] = {"d_model": 16, "n_heads": 2}


def fitted(family: str, **dials: Any) -> tuple[Any, Task]:
    task = build_task(TASK)
    torch.manual_seed(0)
    config = build_model_config({"_target_": f"ressformer.models.{family}", **SIZES, **dials})
    module = SequenceModule(build_decoder(config, task), OptimConfig(), 1)
    return SimpleNamespace(module=module, evaluate=SimpleNamespace(task=task)), task


@pytest.mark.parametrize("selection", ["token", "block"])
def test_edges_of_every_step_lead_back(selection: str, tmp_path: Path) -> None:
    dials = {"selection": selection, "steps": 3, "top_k": 4, "block": 4, "blocks": 2, "graph": "edges"}
    run, task = fitted("ressformer.ReSSFormerConfig", **dials)
    run.module.train()
    keep_graph(run, tmp_path)
    assert run.module.training and not run.module.model.core.diagnose
    found = read_graph(tmp_path)
    assert found is not None and len(found.steps) == 3 and any(found.steps)
    item = task.eval_items("test/id")[0]
    assert found.words == [task.word(token) for token in item.input_ids[:WINDOW].tolist()]
    assert " ".join(found.words) == task.text(item).split(" -> ")[0]
    for edges in found.steps:
        assert all(0 <= j <= i < len(found.words) and 0 < weight <= 1 for i, j, weight in edges)
        assert max(sum(edge[0] == i for edge in edges) for i in range(WINDOW)) <= STRONGEST
    panel = graphs(Pen(["a"]), {("a", "listops"): found})[0]
    assert panel.wide and "of the last step's edges are there at the first" in panel.caption


def test_the_strongest_edges_by_hand() -> None:
    # Row 2 has its edges to 0 and 1, and one that is no edge (index n = 3).
    idx_Bnk = torch.tensor([[[0, 3, 3], [0, 1, 3], [0, 1, 3]]])
    weight_Bnk = torch.tensor([[[1.0, 0, 0], [0.99, 0.01, 0], [0.3, 0.7, 0]]])
    edges = strongest(Graph(idx_Bnk, weight_Bnk, ascending=True), 3)
    assert edges == [(0, 0, 1.0), (1, 0, pytest.approx(0.99)), (2, 1, pytest.approx(0.7)), (2, 0, pytest.approx(0.3))]


def test_a_failure_of_it_is_said_and_harms_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = fitted("ressformer.ReSSFormerConfig")
    run.module.predict = None
    keep_graph(run, tmp_path)
    assert "no graph kept: TypeError" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_a_model_without_a_graph_leaves_no_file(tmp_path: Path) -> None:
    run, _ = fitted("transformer.TransformerConfig", n_layers=1)
    keep_graph(run, tmp_path)
    assert list(tmp_path.iterdir()) == [] and read_graph(tmp_path) is None
    assert induced(run.module, {k: torch.zeros(1, 4, dtype=torch.long) for k in ("input_ids", "labels")}, 4) == []


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"split": "s", "item": 0, "words": [], "steps": [[[1]]]})])
def test_a_broken_file_is_no_graph(text: str, tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text(text)
    assert read_graph(tmp_path) is None
