"""One item of a task, and a batch of them: what tasks, their shortcuts and their loaders share.

B batch, n length. Labels are aligned already: the logits at position t must predict `labels[t]`, whatever the
task is; IGNORE marks the positions that are not scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IGNORE = -100
EVAL_SEED = 0  # every evaluation split is drawn with this seed, so that items are paired across models and seeds

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One sequence: `input_ids` and `labels` int64 [<= n]; `canonical` names it up to what its task lets be renamed.

    `split_key` decides which split owns it, where that is finer than `canonical`; empty: `canonical` does.

    `back` [vocab_size] is set by a probe that renames: the token of the unprobed item that each token stands for.
    """

    input_ids: Ints
    labels: Ints
    difficulty: dict[str, int | float]
    canonical: str
    split_key: str = ""
    back: Ints | None = None


def item_bytes(item: Item) -> bytes:
    """Little-endian int64 bytes of an item's inputs, then its labels: the same on every platform."""
    return item.input_ids.astype("<i8").tobytes() + item.labels.astype("<i8").tobytes()


def mean_where(values_Bn: Tensor, mask_Bn: Tensor) -> Tensor:
    """Mean [B] (float32) of each row over its mask; NaN for a row without any."""
    count_B = mask_Bn.sum(dim=1)
    total_B = torch.where(mask_Bn, values_Bn.float(), 0.0).sum(dim=1)
    return torch.where(count_B > 0, total_B / count_B.clamp(min=1), float("nan"))


def collate(items: Sequence[Item], indices: Sequence[int], length: int, pad_id: int = 0) -> dict[str, Tensor]:
    """A batch: input_ids, labels [B, n], index [B]; attention_mask [B, n] if a row is padded (right)."""
    inputs_Bn = np.full((len(items), length), pad_id, dtype=np.int64)
    labels_Bn = np.full((len(items), length), IGNORE, dtype=np.int64)
    sizes_B = np.array([len(item.input_ids) for item in items])
    for row, item in enumerate(items):
        inputs_Bn[row, : sizes_B[row]] = item.input_ids
        labels_Bn[row, : sizes_B[row]] = item.labels
    batch = {
        "input_ids": torch.from_numpy(inputs_Bn),
        "labels": torch.from_numpy(labels_Bn),
        "index": torch.tensor(list(indices), dtype=torch.long),
    }
    if (sizes_B < length).any():
        batch["attention_mask"] = torch.from_numpy(np.arange(length)[None, :] < sizes_B[:, None])
    return batch
