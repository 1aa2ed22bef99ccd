"""The LightningModule that trains any model on any task: they meet in a batch and in logits.

A batch is a dict: `input_ids` [B, n], `labels` [B, n] aligned to the logits (-100 = ignored), and `attention_mask`
[B, n] where rows are padded. The loss is the mean cross-entropy over scored positions plus the model's own losses.

Shapes: B batch, n length, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from ressformer.decoder import Decoder, ModelOutput

IGNORE = -100


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW (1711.05101) with linear warm-up, then cosine decay or a constant rate.

    Attributes:
        lr: peak learning rate.
        weight_decay: on matrices only.
        warmup: share of all steps spent warming up.
        beta1, beta2: AdamW's moments.
        grad_clip: largest gradient norm; 0 = off.
        schedule: cosine | constant.
        final: last learning rate over the peak (cosine).
    """

    lr: float = 2e-3
    weight_decay: float = 0.1
    warmup: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.98
    grad_clip: float = 1.0
    schedule: str = "cosine"
    final: float = 0.1

    def __post_init__(self) -> None:
        if self.schedule not in ("cosine", "constant"):
            raise ValueError(f"optim: schedule={self.schedule!r} is unknown; choose from cosine, constant")
        for key in ("warmup", "beta1", "beta2"):
            if not 0 <= getattr(self, key) < 1:
                raise ValueError(f"optim: need 0 <= {key} < 1, got {getattr(self, key)}")
        if not (0 < self.lr < math.inf and 0 <= self.weight_decay < math.inf and 0 <= self.grad_clip < math.inf):
            raise ValueError(
                "optim: need finite lr > 0, weight_decay >= 0 and grad_clip >= 0, got "
                f"lr={self.lr}, weight_decay={self.weight_decay}, grad_clip={self.grad_clip}"
            )
        if not 0 <= self.final <= 1:
            raise ValueError(f"optim: need 0 <= final <= 1, got {self.final}")

    def factor(self, step: int, total: int) -> float:
        """Learning rate of `step` (from 0) over the peak."""
        warm = round(self.warmup * total)
        if step < warm:
            return (step + 1) / warm
        if self.schedule == "constant":
            return 1.0
        progress = min(1.0, (step - warm) / max(1, total - warm))
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class SequenceModule(L.LightningModule):
    """Loss, optimiser and schedule around a `Decoder`.

    It logs nothing by itself (Lightning's per-step logging costs about a millisecond): `last_loss`, `last_aux` and
    `last_diagnostics` are there for whoever writes the log. Set `diagnose` to have the next step fill diagnostics.
    """

    def __init__(self, model: Decoder, optim: OptimConfig, total_steps: int) -> None:
        super().__init__()
        self.model, self.optim, self.total_steps = model, optim, total_steps
        self.diagnose = False
        self.last_loss: Tensor | None = None
        self.last_aux: dict[str, Tensor] = {}
        self.last_diagnostics: dict[str, Tensor] = {}

    def forward(self, batch: dict[str, Tensor]) -> ModelOutput:
        output: ModelOutput = self.model(batch["input_ids"], batch.get("attention_mask"))
        return output

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.model.core.diagnose = self.diagnose
        out = self.forward(batch)
        self.model.core.diagnose = False
        loss = cross_entropy(out.logits_BnV.flatten(0, 1).float(), batch["labels"].flatten(), ignore_index=IGNORE)
        if (weight := batch.get("loss_weight")) is not None:  # a share of a batch, on one of several devices
            loss = loss * weight
        self.last_loss = loss.detach()
        self.last_aux = {key: value.detach() for key, value in out.aux_losses.items()}
        if self.diagnose:
            self.last_diagnostics = out.diagnostics
        return loss + sum(out.aux_losses.values(), loss.new_zeros(()))

    @torch.no_grad()
    def predict(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """What tasks score: `nll_Bn` (nats, 0 where ignored) and `pred_Bn` (the most probable token)."""
        logits_BnV = self.forward(batch).logits_BnV.float()
        labels_Bn = batch["labels"]
        nll = cross_entropy(logits_BnV.flatten(0, 1), labels_Bn.flatten(), ignore_index=IGNORE, reduction="none")
        return {"nll_Bn": nll.view_as(labels_Bn), "pred_Bn": logits_BnV.argmax(dim=-1)}

    def configure_optimizers(self) -> Any:
        optim = self.optim
        matrices = [p for p in self.model.parameters() if p.ndim >= 2]
        vectors = [p for p in self.model.parameters() if p.ndim < 2]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": optim.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=optim.lr,
            betas=(optim.beta1, optim.beta2),
            fused=True,
        )
        schedule = LambdaLR(optimizer, lambda step: optim.factor(step, self.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        if self.optim.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.optim.grad_clip)
