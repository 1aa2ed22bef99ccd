"""Greedy decoding through nothing but "the most probable token at each position of a batch".

B batch, n length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from tasks.item import Ints

Predict = Callable[[dict[str, Tensor]], Tensor]


def greedy(
    predict: Predict,
    prompts: Sequence[Ints],
    end: int,
    *,
    room: int,
    length: int,
    batch_size: int = 64,
    pad_id: int = 0,
) -> list[Ints]:
    """What a causal model writes behind each prompt: at most `room` ids, without `end`.

    Batches have the split's `length`, as in training; the mask covers what is written so far. One forward pass a token:
    a model with a cache would be quicker, but no model of the harness must have one.

    Raises ValueError when a prompt leaves no room in `length`.
    """
    longest = max((len(prompt) for prompt in prompts), default=0)
    if longest + room > length:
        raise ValueError(f"a prompt of {longest} ids leaves no room for {room} in {length}")
    written: list[Ints] = []
    for start in range(0, len(prompts), batch_size):
        written += _greedy(predict, prompts[start : start + batch_size], end, room, length, pad_id)
    return written


def _greedy(predict: Predict, prompts: Sequence[Ints], end: int, room: int, length: int, pad_id: int) -> list[Ints]:
    ids_Bn = torch.full((len(prompts), length), pad_id)
    size_B = torch.tensor([len(prompt) for prompt in prompts])
    for row, prompt in enumerate(prompts):
        ids_Bn[row, : len(prompt)] = torch.from_numpy(prompt)
    start_B = size_B.clone()
    open_B = torch.ones(len(prompts), dtype=torch.bool)
    rows_B = torch.arange(len(prompts))
    for _ in range(room):
        mask_Bn = torch.arange(length) < size_B[:, None]
        batch = {"input_ids": ids_Bn, "attention_mask": mask_Bn, "labels": torch.full_like(ids_Bn, -100)}
        next_B = predict(batch).cpu()[rows_B, size_B - 1]
        open_B &= next_B != end
        if not open_B.any():
            break
        ids_Bn[rows_B[open_B], size_B[open_B]] = next_B[open_B]
        size_B += open_B
    return [
        ids_Bn[row, start:stop].numpy().astype(np.int64)
        for row, (start, stop) in enumerate(zip(start_B.tolist(), size_B.tolist(), strict=True))
    ]
