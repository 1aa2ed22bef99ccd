"""A run through torch.compile: another identity, the same checkpoint keys, resumed and ended like an eager one."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import make_spec

from experiments.store.store import Store
from experiments.training.run import execute
from ressformer.module import SequenceModule


def trained(folder: Path, *, compiled: bool, stop_at: int | None, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The last checkpoint of a run of 6 steps, interrupted after `stop_at`."""
    original = SequenceModule.training_step

    def step(self: SequenceModule, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        if self.trainer.global_step + 1 == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx)

    spec, store = make_spec(steps=6, trainer={"keep_checkpoint": True, "compile": compiled}), Store(folder)
    if stop_at is not None:
        with patch.context() as changed:
            changed.setattr(SequenceModule, "training_step", step)
            assert execute(spec, store) == "interrupted"
    assert execute(spec, store) == "done"
    checkpoint: dict[str, Any] = torch.load(store.folder(spec.id) / "checkpoint.ckpt", weights_only=True)
    return checkpoint


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's tracer trips over its own deprecations
def test_a_compiled_run_is_resumed_and_equals_an_eager_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eager = trained(tmp_path / "eager", compiled=False, stop_at=None, patch=monkeypatch)
    parts = trained(tmp_path / "parts", compiled=True, stop_at=3, patch=monkeypatch)
    assert parts["global_step"] == eager["global_step"] == 6
    assert list(parts["state_dict"]) == list(eager["state_dict"])
    for name, weight in eager["state_dict"].items():
        torch.testing.assert_close(parts["state_dict"][name], weight, rtol=0, atol=1e-4)


def test_compile_is_part_of_the_identity_and_off_by_default() -> None:
    plain, compiled = make_spec(trainer={"compile": False}), make_spec(trainer={"compile": True})
    assert plain.id != compiled.id
    from experiments.planning.settings import TrainerSettings

    assert TrainerSettings().compile is False
