"""Sparse normalisers along the last dimension: exact 1.5-entmax and sparsemax, with closed-form gradients.

1.5-entmax (Peters et al. 2019, arXiv 1905.05702; Correia et al. 2019, 1909.00015) solves
    p_i = relu(z_i - tau)^2 / 4   with tau such that sum p = 1;
sparsemax (Martins & Astudillo 2016, 1602.02068) solves p_i = relu(z_i - tau) with sum p = 1.

No sort: tau is the root of a convex decreasing function of tau, so Newton from below never passes it. For
entmax the function is ||relu(z - tau)||_2 - 2, not its square: nearly linear, so 4-6 steps replace 8-12.

CPU: a C kernel where one can be built (`native.entmax`). Without, rows go through in blocks that stay in cache, in
place, and stop when the steps have become small. Elsewhere (compiled, accelerator, meta): a fixed number of steps
without any look at the data. Cost forward + backward, in units of softmax's: C 1.1-1.5, blocks 4-6, compiled 2-3,
sorting 30-60.

Example: z = (1, 0.6, -1). Entmax starts at tau = max - 2 = -1, where relu(z - tau) = (2, 1.6, 0) has the norm 2.56; one
Newton step leads to -0.6007, the next to the root, -0.6: relu(z - tau) = (1.6, 1.2, 0) has the norm 2, so p is
(1.6, 1.2, 0)^2 / 4. Sparsemax has tau = 0.3. The last entry is below both thresholds: exactly 0.

    >>> z = torch.tensor([1.0, 0.6, -1.0])
    >>> [round(p, 4) for p in entmax15(z).tolist()]
    [0.64, 0.36, 0.0]
    >>> [round(p, 4) for p in sparsemax(z).tolist()]
    [0.7, 0.3, 0.0]

Shapes: R rows, L row length. Any leading dimensions are folded into R.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ressformer.layers.native.entmax import entmax_rows

Activation = Literal["softmax", "sparsemax", "entmax15"]
ACTIVATIONS: tuple[str, ...] = ("softmax", "sparsemax", "entmax15")

# Elements of a block of rows, 0.5 MB in fp32: fewer pay call overhead, more leave the second-level cache.
_BLOCK = 131_072
# Newton converges quadratically: a step below this leaves an error below 1e-7 (entmax) or none (sparsemax).
_SMALL_STEP = {torch.float32: 2e-4, torch.float64: 1e-8}
_SPARSEMAX_STEP = {torch.float32: 1e-6, torch.float64: 1e-13}
_MOST_STEPS = 64
# Steps where the data may not be looked at: enough for 1e-7 on rows of 16384 of any spread.
_FIXED_STEPS = {"entmax15": 9, "sparsemax": 14}
_TINY = 1e-30
_compiled = False
_kernels: dict[str, Callable[[Tensor], Tensor]] = {}


@contextmanager
def use_compiled(on: bool = True) -> Iterator[None]:
    """Runs the normalisers of this block through torch.compile (12 s a shape: for long runs only)."""
    global _compiled
    before, _compiled = _compiled, on
    try:
        yield
    finally:
        _compiled = before


def entmax15(z: Tensor, mask: Tensor | None = None) -> Tensor:
    """Normalises the last dimension by exact 1.5-entmax (1905.05702, eq. 13).

    Args:
        z: scores [..., L], floating; half precisions are computed in fp32. -inf is a masked entry.
        mask: bool, broadcasts to z; False entries get exactly 0. A row without any entry is all zeros.

    Returns:
        Probabilities of z's shape and dtype.
    """
    out: Tensor = _Entmax.apply(z, mask, "entmax15")  # type: ignore[no-untyped-call]
    return out


def sparsemax(z: Tensor, mask: Tensor | None = None) -> Tensor:
    """Normalises the last dimension by exact sparsemax (1602.02068, eq. 2). Arguments as in `entmax15`."""
    out: Tensor = _Entmax.apply(z, mask, "sparsemax")  # type: ignore[no-untyped-call]
    return out


def softmax(z: Tensor, mask: Tensor | None = None) -> Tensor:
    """Normalises the last dimension by softmax, with the same rules for masks as `entmax15`."""
    dtype = torch.float32 if z.dtype in (torch.float16, torch.bfloat16) else z.dtype
    if mask is None:
        return torch.softmax(z, dim=-1, dtype=dtype).to(z.dtype)
    # Not -inf: a fully masked row would be NaN, in the gradient as well.
    z = z.to(dtype).masked_fill(~mask, torch.finfo(dtype).min)
    return torch.softmax(z, dim=-1).masked_fill(~mask, 0.0).to(z.dtype)


def normalise(z: Tensor, activation: str, mask: Tensor | None = None) -> Tensor:
    """Applies `softmax`, `sparsemax` or `entmax15` to the last dimension of z [..., L].

    Raises:
        ValueError: unknown activation.
    """
    if activation == "entmax15":
        return entmax15(z, mask)
    if activation == "sparsemax":
        return sparsemax(z, mask)
    if activation == "softmax":
        return softmax(z, mask)
    raise ValueError(f"unknown activation {activation!r}: one of {', '.join(ACTIVATIONS)}")


class _Entmax(torch.autograd.Function):
    """Does both normalisers: they differ in the threshold and in the weights of the backward pass."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, mask: Tensor | None, kind: str) -> Tensor:
        work = z.float() if z.dtype in (torch.float16, torch.bfloat16) else z
        if mask is not None:
            work = work.masked_fill(~mask, -torch.inf)
        p = forward_rows(work.reshape(_rows(z)), kind).view(z.shape).to(z.dtype)
        ctx.save_for_backward(p)
        ctx.kind = kind
        return p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        (p,) = ctx.saved_tensors
        work = torch.float32 if p.dtype in (torch.float16, torch.bfloat16) else p.dtype
        dz = backward_rows(p.to(work).reshape(_rows(p)), g.to(work).reshape(_rows(p)), ctx.kind)
        return dz.view(p.shape).to(p.dtype), None, None


def _rows(x: Tensor) -> tuple[int, int]:
    return x.numel() // max(1, x.shape[-1]), x.shape[-1]


def forward_rows(z_RL: Tensor, kind: str) -> Tensor:
    """Normalises rows z_RL (fp32 or fp64; -inf = masked), any activation; a row without entries gives zeros."""
    if z_RL.numel() == 0:
        return torch.zeros_like(z_RL)
    if kind == "softmax":
        p_RL = torch.softmax(z_RL, dim=-1)
        # A row without entries has become NaN, whole: its first column tells.
        if _eager_cpu(z_RL) and not bool(p_RL[:, 0].isnan().any()):
            return p_RL
        return p_RL.masked_fill_(z_RL.amax(-1, keepdim=True) == -torch.inf, 0.0)
    if not _eager_cpu(z_RL):
        return _kernel(kind)(z_RL)
    out_RL = torch.empty_like(z_RL, memory_format=torch.contiguous_format)
    if entmax_rows(f"{kind}_forward", (z_RL, out_RL)):
        return out_RL
    rows = max(1, _BLOCK // z_RL.shape[-1])
    for z, out in zip(z_RL.split(rows), out_RL.split(rows), strict=True):
        normalise_block_(z, out, kind)
    return out_RL


def backward_rows(p_RL: Tensor, g_RL: Tensor, kind: str) -> Tensor:
    """Computes the scores' gradient s (g - <s, g> / sum s), s = sqrt(p) (entmax), p > 0 (sparsemax), p (softmax)."""
    if p_RL.numel() == 0:
        return torch.zeros_like(p_RL)
    if kind == "softmax":
        return torch._softmax_backward_data(g_RL, p_RL, -1, p_RL.dtype)
    if not _eager_cpu(p_RL):
        s_RL = p_RL.sqrt() if kind == "entmax15" else p_RL.sign()
        total_R1 = s_RL.sum(-1, keepdim=True).clamp_min(_TINY)
        return s_RL * (g_RL - (s_RL * g_RL).sum(-1, keepdim=True) / total_R1)
    out_RL = torch.empty_like(p_RL, memory_format=torch.contiguous_format)
    if entmax_rows(f"{kind}_backward", (p_RL, g_RL, out_RL)):
        return out_RL
    rows = max(1, _BLOCK // p_RL.shape[-1])
    for p, g, out in zip(p_RL.split(rows), g_RL.split(rows), out_RL.split(rows), strict=True):
        backward_block_(root_block(p, kind), g, out)
    return out_RL


def normalise_block_(z: Tensor, r: Tensor, kind: str) -> None:
    """Normalises one block of rows: r (may be z itself) receives the probabilities. Looks at the data: eager only.

    A row's result is the same to the bit whatever its neighbours are: else later tokens would move earlier outputs.
    """
    span = 2.0 if kind == "entmax15" else 1.0
    top = z.amax(-1, keepdim=True)
    empty = top == -torch.inf
    some_empty = bool(empty.any())
    torch.sub(z, top.masked_fill_(empty, 0.0), out=r)
    r.add_(span)
    if some_empty:
        r.masked_fill_(empty, span)
    r.relu_()
    if kind == "entmax15":
        _entmax_steps_(r)
    else:
        _sparsemax_steps_(r)
    if some_empty:
        r.masked_fill_(empty, 0.0)


def _entmax_steps_(r: Tensor) -> None:
    """Takes Newton steps on ||r||_2 = 2, r = relu(z - tau); tau only grows: r alone is the state. Ends with r = p."""
    moving: Tensor | None = None
    for step in range(_MOST_STEPS):
        norm = torch.linalg.vector_norm(r, dim=-1, keepdim=True)
        d = norm.sub(2.0).mul_(norm).div_(r.sum(-1, keepdim=True))
        moving = _step_(r, d, moving, _SMALL_STEP[r.dtype])
        if step >= 2 and not moving.any():
            break
    norm = torch.linalg.vector_norm(r, dim=-1, keepdim=True)
    r.mul_(norm.reciprocal_())
    torch.mul(r, r, out=r)


def _sparsemax_steps_(r: Tensor) -> None:
    """Takes Newton steps on sum r = 1, r = relu(z - tau)."""
    moving: Tensor | None = None
    support = torch.empty_like(r)
    for step in range(_MOST_STEPS):
        # sign + sum: a sum of booleans is ten times slower.
        count = torch.sign(r, out=support).sum(-1, keepdim=True)
        d = r.sum(-1, keepdim=True).sub_(1.0).div_(count)
        moving = _step_(r, d, moving, _SPARSEMAX_STEP[r.dtype])
        if step >= 2 and not moving.any():
            break


def _step_(r: Tensor, d: Tensor, moving: Tensor | None, small: float) -> Tensor:
    """Sets r = relu(r - d) in the rows that still move; returns which rows go on: those whose step was not small."""
    # A negative step is rounding: it would lift every zero of r into the support.
    d.clamp_min_(0.0)
    if moving is not None:
        d.mul_(moving)
    r.sub_(d).relu_()
    return d >= small


def root_block(p: Tensor, kind: str) -> Tensor:
    """Computes the weights s of the backward pass. As p * rsqrt(p): sqrt on CPU is ten times slower on zeros."""
    if kind == "sparsemax":
        return p.sign()
    return p.clamp_min(_TINY).rsqrt_().mul_(p)


def backward_block_(s: Tensor, g: Tensor, out: Tensor) -> None:
    """Sets out = s * (g - <s, g> / sum s) for one block of rows; out may not be s, but may be g."""
    torch.mul(s, g, out=out)
    q = out.sum(-1, keepdim=True).div_(s.sum(-1, keepdim=True).clamp_min_(_TINY))
    out.addcmul_(s, q, value=-1.0)


def _eager_cpu(x: Tensor) -> bool:
    """Tells whether the data may be looked at: a plain CPU tensor, outside any compiler or fake mode."""
    plain = type(x) is Tensor or type(x) is torch.nn.Parameter
    return plain and x.device.type == "cpu" and not _compiled and not torch.compiler.is_compiling()


def _kernel(kind: str) -> Callable[[Tensor], Tensor]:
    plain = _entmax15_fixed if kind == "entmax15" else _sparsemax_fixed
    if not _compiled or torch.compiler.is_compiling():
        return plain
    if kind not in _kernels:
        _kernels[kind] = torch.compile(plain, fullgraph=True, dynamic=False)
    return _kernels[kind]


def _entmax15_fixed(z_RL: Tensor) -> Tensor:
    top = z_RL.amax(-1, keepdim=True)
    z_RL = z_RL - top.masked_fill(top == -torch.inf, 0.0)
    tau = torch.full_like(top, -2.0)
    for _ in range(_FIXED_STEPS["entmax15"]):
        r = (z_RL - tau).relu()
        norm = (r * r).sum(-1, keepdim=True).sqrt()
        tau = tau + (norm - 2.0) * norm / r.sum(-1, keepdim=True).clamp_min(_TINY)
    p_RL = (z_RL - tau).relu().square()
    return p_RL / p_RL.sum(-1, keepdim=True).clamp_min(_TINY)


def _sparsemax_fixed(z_RL: Tensor) -> Tensor:
    top = z_RL.amax(-1, keepdim=True)
    z_RL = z_RL - top.masked_fill(top == -torch.inf, 0.0)
    tau = torch.full_like(top, -1.0)
    for _ in range(_FIXED_STEPS["sparsemax"]):
        r = (z_RL - tau).relu()
        # The sign, not a comparison: sums of booleans do not vectorise in the compiler.
        count = r.sign().sum(-1, keepdim=True)
        tau = tau + (r.sum(-1, keepdim=True) - 1.0) / count.clamp_min(1.0)
    return (z_RL - tau).relu()
