"""The model under check: built small in batch, its weights all random, run with the same randomness each time.

Shapes: B batch, n length, d width, V vocabulary.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ressformer.cost import Shape
from ressformer.decoder import Decoder, ModelConfig

TOLERANCE = 1e-12  # Of fp64 results, relative to the largest; sums in another order were seen to differ by 1e-15.
MODES = ("train", "eval")
ROWS = 4
T = TypeVar("T")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Run on CPU in fp32 with gradients; give back random states and settings as they were."""
    states = random.getstate(), np.random.get_state()
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    autocast = torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext()
    # Only where it is needed: the mode slows every call down.
    device = torch.device("cpu") if torch.get_default_device().type != "cpu" else nullcontext()
    try:
        with torch.random.fork_rng(devices), torch.inference_mode(False), torch.enable_grad(), autocast:
            torch.set_default_dtype(torch.float32)
            with device:
                yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_default_dtype(dtype)
        torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def seed_all(seed: int) -> None:
    """Every generator that a dropout or a noise may draw from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def default_lengths(shape: Shape) -> tuple[int, ...]:
    """The longest readable length, the training length and an odd one of two thirds; a third where these agree."""
    n = shape.length
    odd = (2 * n // 3) | 1
    wanted = {n, shape.positions, min(odd, n), *(() if shape.positions > n else ((n // 3) | 1,))}
    return tuple(sorted(length for length in wanted if 1 <= length <= shape.positions))


def randomise(model: nn.Module) -> None:
    """Add noise to every weight, as large as it is, so that no branch is silent because it starts at zero."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.is_floating_point():
                fan = weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.4
                weight.add_(torch.randn_like(weight) * (0.5 * fan))


class Subject:
    """A model with random weights, on CPU.

    Args:
        config: the model's config.
        shape: what it trains on; a batch of 2 to 4 rows stands for the shape's.
        lengths: those it is run at.
        seed: of weights and tokens.
    """

    def __init__(self, config: ModelConfig, shape: Shape, lengths: tuple[int, ...], seed: int) -> None:
        self.config, self.shape, self.lengths, self.seed = config, shape, lengths, seed
        self.rows = max(2, min(shape.batch, ROWS))
        seed_all(seed)
        self.model = build(config, shape)
        randomise(self.model)

    @cached_property
    def wide(self) -> Decoder:
        """The same model in fp64."""
        return copy.deepcopy(self.model).double()

    def generator(self, *salt: int) -> torch.Generator:
        """A generator of tokens, the same for the same salt."""
        number = self.seed
        for part in salt:
            number = (number * 1_000_003 + part) % (2**31)
        return torch.Generator().manual_seed(number)

    def tokens(self, length: int, salt: int = 0, rows: int = 0) -> Tensor:
        """Random ids [B, n]."""
        size = (rows or self.rows, length)
        return torch.randint(0, self.shape.vocab, size, generator=self.generator(length, salt))

    def others(self, ids_Bn: Tensor, salt: int) -> Tensor:
        """Ids that differ everywhere from `ids_Bn` (where the vocabulary has two)."""
        if self.shape.vocab < 2:
            return ids_Bn
        shift = torch.randint(1, self.shape.vocab, ids_Bn.shape, generator=self.generator(ids_Bn.shape[1], salt, 1))
        return (ids_Bn + shift) % self.shape.vocab

    def run(
        self, model: Decoder, ids_Bn: Tensor, mode: str, mask_Bn: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits and losses, the random states the same at each call; no gradient."""
        with torch.no_grad():
            seed_all(self.seed)
            out = model.train(mode == "train")(ids_Bn, mask_Bn)
        return out.logits_BnV, out.aux_losses

    def either(self, compare: Callable[[Decoder], float]) -> float:
        """`compare` on the model as it is; where it is not exactly 0, on the model in fp64."""
        found = compare(self.model)
        return found if found == 0 else compare(self.wide)


def build(config: ModelConfig, shape: Shape) -> Decoder:
    """The model for the shape on the current device."""
    return config.build(vocab_size=shape.vocab, length=shape.length, max_length=shape.max_length, causal=shape.causal)


def difference(before: Tensor, after: Tensor, where: Tensor | None = None) -> float:
    """Largest difference over the largest value, at `where` [B, n]; infinite where only one is finite.

    Values that are not finite in both are equal: whether there are any is the gradients' check.
    """
    if where is not None:
        before, after = before[where], after[where]
    if before.numel() == 0 or torch.equal(before, after):
        return 0.0
    alive = before.isfinite() & after.isfinite()
    if not torch.equal(before.isfinite(), after.isfinite()):
        return float("inf")
    gap = (before - after).abs()[alive]
    return float(gap.max() / before.abs()[alive].max().clamp_min(1e-30)) if gap.numel() else 0.0
