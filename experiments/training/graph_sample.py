"""The graph that a trained model induces over one sample, kept beside the record as runs/<id>/graph.json.

Weights are not kept by default, so the graph is taken while they are there: item 0 of test/id, its first `WINDOW`
tokens, the strongest edges of each at every inner step. A model without a graph leaves no file. The record knows
nothing of it.

Shapes: n length, k keys a row; b block, N blocks, m chosen blocks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.store.graph_file import Edge, write_graph
from experiments.training.evaluate import evaluating
from experiments.training.fit import Fitted
from ressformer.module import SequenceModule
from tasks.loaders import EvalLoader

WINDOW = 64  # tokens that are kept
STRONGEST = 4  # edges of a token that are kept
FAINT = 0.02  # weight below which an edge is left out


def keep_graph(fitted: Fitted, folder: Path) -> None:
    """Write the graph of the run's model into its folder, if the model has one. No failure of it harms the run."""
    try:
        _keep(fitted, folder)
    except Exception as error:
        print(f"no graph kept: {type(error).__name__}: {error}; the run goes on", flush=True)


def _keep(fitted: Fitted, folder: Path) -> None:
    task = fitted.evaluate.task
    batch = next(iter(EvalLoader(task, "test/id", 1)))
    words = [task.word(token) for token in task.eval_items("test/id")[0].input_ids[:WINDOW].tolist()]
    steps = induced(fitted.module, batch, len(words))
    if not steps:
        return
    write_graph(folder, {"split": "test/id", "item": 0, "words": words, "steps": steps})


def induced(module: SequenceModule, batch: dict[str, Tensor], tokens: int) -> list[list[Edge]]:
    """Per inner step the edges over the first tokens of the batch's one item, padding apart.

    Empty if no block hands a graph on to the next.
    """
    core, steps = module.model.core, []

    def catch(_module: Any, _given: Any, out: Any) -> None:
        graph = getattr(out[1], "graph", None) if isinstance(out, tuple) and len(out) == 2 else None
        if graph is not None:
            steps.append(strongest(graph, tokens))

    handles = [part.register_forward_hook(catch) for part in core.modules() if part is not core]
    before, core.diagnose = core.diagnose, True
    try:
        with evaluating(module), torch.compiler.set_stance("force_eager"):
            module.predict({key: value.to(module.device) for key, value in batch.items()})
    finally:
        core.diagnose = before
        for handle in handles:
            handle.remove()
    return steps


def strongest(graph: Any, tokens: int) -> list[Edge]:
    """The strongest edges of each of the first tokens, in the order of the tokens."""
    rows = block_rows(graph) if hasattr(graph, "chosen_BNm") else token_rows(graph)
    edges: list[Edge] = []
    for i, row in enumerate(rows[:tokens]):
        kept = sorted(((w, j) for j, w in row.items() if w >= FAINT and j < tokens), reverse=True)[:STRONGEST]
        edges += [(i, j, round(weight, 4)) for weight, j in kept]
    return edges


def token_rows(graph: Any) -> list[dict[int, float]]:
    """Per token the weights on others, of a `ressformer.layers.sparse.graph.Graph`."""
    idx_nk, weight_nk = graph.idx_Bnk[0].tolist(), graph.weight_Bnk[0].tolist()
    return [dict(zip(idx_k, weight_k, strict=True)) for idx_k, weight_k in zip(idx_nk, weight_nk, strict=True)]


def block_rows(graph: Any) -> list[dict[int, float]]:
    """The same of a `BlockGraph`, whose rows have weights on all keys of the blocks that theirs chose."""
    chosen_Nm, weight_Nbmb = graph.chosen_BNm[0].tolist(), graph.weight_BNbmb[0].tolist()
    rows = []
    for chosen_m, weight_bmb in zip(chosen_Nm, weight_Nbmb, strict=True):
        for weight_mb in weight_bmb:
            pairs = zip(chosen_m, weight_mb, strict=True)
            rows.append({block * len(w_b) + at: weight for block, w_b in pairs for at, weight in enumerate(w_b)})
    return rows[: graph.n]
