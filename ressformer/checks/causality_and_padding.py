"""What a model may not see: later tokens, padding, other rows, earlier calls.

Shapes: B batch, n length, d width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import torch
from torch import Tensor

from ressformer.checks.report import Finding, Number
from ressformer.checks.subject import MODES, TOLERANCE, Subject, difference, seed_all
from ressformer.decoder import Decoder

EXHAUSTIVE = 64  # Up to this length every position is tried at the shortest length.


class Worst:
    """Keeps the largest difference and where it was found."""

    def __init__(self) -> None:
        self.value, self.where, self.tried, self.exact = 0.0, dict[str, Number](), 0, True

    def see(self, value: float, **where: Number) -> None:
        self.tried += 1
        self.exact &= value == 0
        if value > self.value or value != value:
            self.value, self.where = value, where

    def finding(self, good: str, bad: str) -> Finding:
        """The finding; `bad` is a sentence's beginning."""
        numbers: dict[str, Number] = {"difference": self.value, "tried": self.tried, **self.where}
        if self.value <= TOLERANCE:
            how = "bit for bit" if self.exact else f"to {self.value:.0e} in fp64"
            return Finding(True, f"{good}, {how} in {self.tried} trials", numbers)
        place = ", ".join(f"{key} {value}" for key, value in self.where.items())
        return Finding(False, f"{bad} by {self.value:.1e} of the largest ({place})", numbers)


def future(subject: Subject) -> Finding:
    """Logits before a cut are the same whatever stands from the cut on, and have no gradient there."""
    if not subject.shape.causal:
        return Finding(True, "not causal: every position may read all", {})
    worst = Worst()
    lengths = [length for length in subject.lengths if length > 1]
    for length, mode in product(lengths, MODES):
        _by_tokens(subject, length, mode, worst)
        _by_gradient(subject, length, mode, worst)
    if lengths and lengths[0] <= EXHAUSTIVE:
        for mode in MODES:
            _every_cut(subject, lengths[0], mode, worst)
    return worst.finding("no later token changes an earlier logit", "a later token changes earlier logits")


def _cuts(subject: Subject, length: int, salt: int) -> Tensor:
    """A cut in [1, n) a row, [B]: anywhere, the last one among them."""
    cuts_B = torch.randint(1, length, (subject.rows,), generator=subject.generator(length, salt, 2))
    cuts_B[salt % subject.rows] = length - 1
    return cuts_B


def _by_tokens(subject: Subject, length: int, mode: str, worst: Worst) -> None:
    place = torch.arange(length)
    ids_Bn = subject.tokens(length)
    for salt, kind in enumerate(("all later", "one later", "same later")):
        cuts_B1 = _cuts(subject, length, 2 * salt + (mode == "eval")).unsqueeze(1)
        later_Bn = place >= cuts_B1 if kind != "one later" else place == cuts_B1
        new_Bn = subject.others(ids_Bn, salt) if kind != "same later" else torch.full_like(ids_Bn, salt)
        _compare(subject, ids_Bn, torch.where(later_Bn, new_Bn, ids_Bn), mode, cuts_B1, worst, kind)


def _every_cut(subject: Subject, length: int, mode: str, worst: Worst) -> None:
    cuts_B1 = torch.arange(1, length).unsqueeze(1)
    ids_Bn = subject.tokens(length, 3, rows=1).repeat(length - 1, 1)
    other_Bn = torch.where(torch.arange(length) >= cuts_B1, subject.others(ids_Bn, 4), ids_Bn)
    _compare(subject, ids_Bn, other_Bn, mode, cuts_B1, worst, "each cut")


def _compare(
    subject: Subject, ids_Bn: Tensor, other_Bn: Tensor, mode: str, cuts_B1: Tensor, worst: Worst, kind: str
) -> None:
    earlier_Bn = torch.arange(ids_Bn.shape[1]) < cuts_B1
    first: list[int] = []

    def gap(model: Decoder) -> float:
        before, after = (subject.run(model, ids, mode)[0] for ids in (ids_Bn, other_Bn))
        changed_Bn = (before != after).any(-1) & earlier_Bn
        first[:] = changed_Bn.nonzero()[0].tolist() if changed_Bn.any() else [0, 0]
        return difference(before, after, earlier_Bn)

    value = subject.either(gap)
    cut = int(cuts_B1[first[0]])
    worst.see(value, length=ids_Bn.shape[1], mode=mode, position=first[1], cut=cut, change=kind)


@contextmanager
def _embedded(model: Decoder, kept: list[Tensor]) -> Iterator[None]:
    """Keeps the embeddings of the calls inside the block, as leaves that gradients can be asked for."""

    def keep(module: object, args: object, out: Tensor) -> Tensor:
        kept.append(out.detach().requires_grad_())
        return kept[-1]

    handle = model.embedding.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()


def _slopes(subject: Subject, model: Decoder, ids_Bn: Tensor, mode: str, where_Bn: Tensor) -> Tensor:
    """|d (random sum of logits at `where`) / d embedding|, the largest of each position [B, n]."""
    kept: list[Tensor] = []
    with _embedded(model, kept):
        seed_all(subject.seed)
        logits_BnV = model.train(mode == "train")(ids_Bn).logits_BnV
    draw = torch.randn(logits_BnV.shape, generator=subject.generator(5)).to(logits_BnV.dtype)
    (logits_BnV * draw)[where_Bn].sum().backward()
    model.zero_grad(set_to_none=True)
    grad_Bnd = kept[0].grad
    return torch.zeros(ids_Bn.shape) if grad_Bnd is None else grad_Bnd.abs().amax(-1)


def _share(slope_Bn: Tensor, where_Bn: Tensor) -> float:
    """The largest slope at `where` over the largest of all."""
    slope_Bn = slope_Bn.nan_to_num(0.0, 0.0)
    top = float(slope_Bn.max())
    return float(slope_Bn[where_Bn].max()) / top if top and where_Bn.any() else 0.0


def _by_gradient(subject: Subject, length: int, mode: str, worst: Worst) -> None:
    ids_Bn = subject.tokens(length, 1)
    later_Bn = torch.arange(length) >= _cuts(subject, length, 7 + (mode == "eval")).unsqueeze(1)
    value = subject.either(lambda model: _share(_slopes(subject, model, ids_Bn, mode, ~later_Bn), later_Bn))
    worst.see(value, length=length, mode=mode, change="gradient")


def padding(subject: Subject) -> Finding:
    """Logits at real tokens, and the losses, are the same whatever stands in the padding (on the right)."""
    worst = Worst()
    for length, mode in product(subject.lengths, MODES):
        if length < 2:
            continue
        ids_Bn, mask_Bn = subject.tokens(length), padded(subject, length)
        other_Bn = torch.where(mask_Bn, ids_Bn, subject.others(ids_Bn, 6))

        def gap(model: Decoder, ids=ids_Bn, other=other_Bn, mask=mask_Bn, mode=mode) -> float:  # type: ignore[no-untyped-def]
            (before, losses), (after, again) = (subject.run(model, x, mode, mask) for x in (ids, other))
            return max(difference(before, after, mask), *(difference(losses[k], again[k]) for k in losses), 0.0)

        worst.see(subject.either(gap), length=length, mode=mode)
    return worst.finding("the contents of padding change nothing", "the contents of padding change logits or losses")


def padded(subject: Subject, length: int) -> Tensor:
    """A mask [B, n]: the first row whole, the others with less and less."""
    kept_B = [length - row * max(1, length // (subject.rows + 1)) for row in range(subject.rows)]
    return torch.arange(length) < torch.tensor([max(1, kept) for kept in kept_B]).unsqueeze(1)


def batch(subject: Subject) -> Finding:
    """Logits of a row are the same whatever the other rows hold, their padding included."""
    worst = Worst()
    for length, mode in product(subject.lengths, MODES):
        ids_Bn = subject.tokens(length)
        whole_Bn = torch.ones_like(ids_Bn, dtype=torch.bool)
        for row, masked in ((0, False), (subject.rows - 1, True)):
            own_B = torch.arange(subject.rows) == row
            other_Bn = torch.where(own_B.unsqueeze(1), ids_Bn, subject.others(ids_Bn, 8 + row))
            masks: tuple[Tensor | None, Tensor | None] = (None, None)
            if masked:
                masks = (whole_Bn, torch.where(own_B.unsqueeze(1), whole_Bn, padded(subject, length).flip(0)))

            def gap(model: Decoder, ids=(ids_Bn, other_Bn), masks=masks, own=own_B, mode=mode) -> float:  # type: ignore[no-untyped-def]
                before, after = (subject.run(model, x, mode, mask)[0] for x, mask in zip(ids, masks, strict=True))
                return difference(before[own], after[own])

            worst.see(subject.either(gap), length=length, mode=mode, row=row)
    own_Bn = torch.zeros(subject.rows, subject.lengths[0], dtype=torch.bool)
    own_Bn[0] = True
    for mode in MODES:
        ids_Bn = subject.tokens(subject.lengths[0], 1)
        share = subject.either(lambda m, ids=ids_Bn, mode=mode: _share(_slopes(subject, m, ids, mode, own_Bn), ~own_Bn))  # type: ignore[misc]
        worst.see(share, length=subject.lengths[0], mode=mode, change="gradient")
    return worst.finding("rows of a batch do not see one another", "other rows of the batch change a row's logits")


def state(subject: Subject) -> Finding:
    """A call leaves nothing behind: the same input gives the same bits after others, no buffer or weight changed."""
    model, ids_Bn = subject.model, subject.tokens(subject.lengths[-1])
    held = {name: tensor.detach().clone() for name, tensor in _tensors(model).items()}
    before = {mode: subject.run(model, ids_Bn, mode)[0] for mode in ("eval", "train")}
    for salt, (length, mode) in enumerate(product(subject.lengths, MODES)):
        subject.run(model, subject.tokens(length, 20 + salt), mode)
    seed_all(subject.seed)
    model.train()(subject.tokens(subject.lengths[0], 30)).logits_BnV.square().mean().backward()
    model.zero_grad(set_to_none=True)
    worst = Worst()
    for mode in ("eval", "train"):
        worst.see(difference(before[mode], subject.run(model, ids_Bn, mode)[0]), mode=mode, length=ids_Bn.shape[1])
    after = _tensors(model)
    changed = [name for name, was in held.items() if name in after and not _same(was, after[name])]
    if changed:
        names = ", ".join(changed[:3])
        return Finding(False, f"a forward pass changes {names}", {"changed": names, "difference": worst.value})
    return worst.finding("a call leaves nothing behind", "earlier calls change logits")


def _tensors(model: Decoder) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape != b.shape or torch.equal(a, b) or (torch.equal(a.isnan(), b.isnan()) and not difference(a, b))
