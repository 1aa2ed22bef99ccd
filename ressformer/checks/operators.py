"""Every operator that a model runs is counted, charged by a rule, free by convention, or refused by name.

- Counted: torch's `FlopCounterMode` has a formula, `ressformer.count.FORMULAS` has one, or the model registered one.
- Charged: `CHARGED`, what torch leaves out though it multiplies and adds: transforms, matrix-vector products,
  distances, triangular solves. A multiplication of two tensors whose result is larger than both (an outer product)
  costs 2 FLOPs an element, and so does a product of two tensors, carried through elementwise operators and moves, that
  is then summed: both are matrix products in other words.
- Scanned: a running sum, product or maximum costs one FLOP an element where a module is counted for want of a closed
  form; a closed form may charge it or leave it out.
- Free: elementwise functions, views and moves, reductions, sorting and choosing, norms, softmax, look-ups. How many
  elements the free multiplications have is counted, so that a share of it can be refused.
- All else is refused.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Self

import torch
from torch import Tensor
from torch._C import DispatchKey
from torch._ops import OpOverload
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

from ressformer.count import FORMULAS

aten = torch.ops.aten


def _transform(size: int, of: int) -> float:
    """The usual charge for a complex fast Fourier transform of `of` points in all, `size` a piece: 5 N log2 N."""
    return 5.0 * of * math.log2(max(2, size))


def _sizes(shape: Any, dims: Any) -> int:
    return math.prod(shape[d] for d in dims)


def _real_to_complex(x: Any, dims: Any, *_: Any, **__: Any) -> int:
    return int(_transform(_sizes(x, dims), math.prod(x)) / 2)


def _complex_to_real(x: Any, dims: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return int(_transform(_sizes(out_shape, dims), math.prod(out_shape)) / 2)


def _complex_to_complex(x: Any, dims: Any, *_: Any, **__: Any) -> int:
    return int(_transform(_sizes(x, dims), math.prod(x)))


def _matrix_vector(a: Any, x: Any, *_: Any, **__: Any) -> int:
    return int(2 * math.prod(a))


def _added_matrix_vector(y: Any, a: Any, x: Any, *_: Any, **__: Any) -> int:
    return int(2 * math.prod(a))


def _inner(x: Any, y: Any, *_: Any, **__: Any) -> int:
    return int(2 * math.prod(x))


def _outer(y: Any, a: Any, b: Any, *_: Any, **__: Any) -> int:
    return int(2 * a[0] * b[0])


def _distances(a: Any, b: Any, *_: Any, **__: Any) -> int:
    """As many as the product of the two, [.., n, d] and [.., m, d]."""
    return int(2 * math.prod(a) * b[-2])


def _distances_backward(grad: Any, a: Any, b: Any, *_: Any, **__: Any) -> int:
    return _distances(a, b)


def _solve(a: Any, b: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """n^2 multiply-adds, half of them masked, for each of the columns."""
    size = a[-1]
    return int(size * math.prod(out_shape))


def _weighted_bags(weight: Any, indices: Any, offsets: Any, *rest: Any, **named: Any) -> int:
    """A weighted sum of rows is a product; a plain one is a reduction."""
    weighted = (len(rest) > 3 and rest[3] is not None) or named.get("per_sample_weights") is not None
    return int(2 * math.prod(indices) * weight[-1]) if weighted else 0


CHARGED: dict[Any, Any] = {
    aten._fft_r2c: _real_to_complex,
    aten._fft_c2r: _complex_to_real,
    aten._fft_c2c: _complex_to_complex,
    aten.mv: _matrix_vector,
    aten.addmv: _added_matrix_vector,
    aten.dot: _inner,
    aten.vdot: _inner,
    aten.addr: _outer,
    aten._cdist_forward: _distances,
    aten._euclidean_dist: _distances,
    aten._cdist_backward: _distances_backward,
    aten.linalg_solve_triangular: _solve,
    aten._embedding_bag: _weighted_bags,
    aten._embedding_bag_forward_only: _weighted_bags,
}

_SUMS = """
    sum mean cumsum nansum index_add scatter_add scatter_reduce index_reduce segment_reduce
"""
_REDUCTIONS = """
    logsumexp logcumsumexp amax amin aminmax max min argmax argmin all any std var var_mean norm std_mean prod
    cumprod cummax cummin linalg_vector_norm count_nonzero median nanmedian mode
"""
_MOVES = """
    transpose t squeeze unsqueeze
    cat stack copy gather scatter index index_put index_copy index_select index_fill masked_select masked_scatter
    masked_scatter_backward embedding embedding_dense_backward select_backward slice_backward select_scatter
    slice_scatter repeat repeat_interleave roll flip constant_pad_nd tril triu unfold_backward im2col col2im take
    put clone contiguous fill zero where diag_embed as_strided resize lift_fresh _unsafe_view _reshape_copy _to_copy
    _unsafe_index _unsafe_index_put rot90 diagonal_scatter reflection_pad1d pixel_shuffle split unsafe_split
    unsafe_split_with_sizes unsafe_chunk
"""
_MAKES = """
    arange empty empty_like empty_strided full full_like zeros zeros_like ones ones_like scalar_tensor eye
    floor_divide linspace new_empty new_empty_strided new_full new_ones new_zeros rand rand_like randn randn_like
    randint randint_like randperm bernoulli normal uniform exponential multinomial tril_indices triu_indices
    _local_scalar_dense set equal is_same_size promote_types result_type
"""
_CHOICES = """
    sort argsort topk kthvalue searchsorted bucketize bincount histc nonzero unique_dim _unique2 unique_consecutive
    isin one_hot
"""
_NORMS = """
    _softmax _softmax_backward_data _log_softmax _log_softmax_backward_data _safe_softmax native_layer_norm
    native_layer_norm_backward native_batch_norm native_batch_norm_backward _native_batch_norm_legit
    _native_batch_norm_legit_no_training batch_norm_backward native_group_norm native_group_norm_backward
    _fused_rms_norm _fused_rms_norm_backward native_dropout nll_loss_forward nll_loss_backward glu glu_backward
    nll_loss2d_forward nll_loss2d_backward logit_backward hardtanh_backward elu_backward leaky_relu_backward
    softplus_backward hardswish hardswish_backward hardsigmoid_backward mish_backward log_sigmoid_forward
    log_sigmoid_backward _prelu_kernel _prelu_kernel_backward rrelu_with_noise polar complex _weight_norm_interface
    _weight_norm_interface_backward
"""
_POOLS = """
    avg_pool2d avg_pool2d_backward max_pool2d_with_indices max_pool2d_with_indices_backward _adaptive_avg_pool2d
    _adaptive_avg_pool2d_backward
"""
# What asks a tensor for its form; none of it is arithmetic, and none may be taken apart.
_ASKS = frozenset(
    getattr(getattr(aten, name), overload)
    for name in ("is_contiguous", "size", "stride", "storage_offset", "numel", "dim", "is_strides_like_format")
    for overload in getattr(aten, name).overloads()
)
SUMS = frozenset(_SUMS.split())
ADDS = frozenset(("add", "sub", "rsub"))
SCANS = frozenset(("cumsum", "nancumsum", "cumprod", "cummax", "cummin", "logcumsumexp"))
FREE = frozenset(" ".join((_SUMS, _REDUCTIONS, _MOVES, _MAKES, _CHOICES, _NORMS, _POOLS)).split())
MULTIPLIES = frozenset(("mul", "div", "addcmul", "addcdiv", "lerp", "multiply", "true_divide", "ldexp"))


@cache
def _base(packet: Any) -> str:
    """The operator's name without its namespace and the mark of writing in place."""
    name = str(packet).rsplit(".", 1)[-1]
    return name[:-1] if name.endswith("_") and not name.startswith("__") else name


@cache
def is_free(func: Any) -> bool:
    """Whether the operator does no matrix arithmetic by convention."""
    if getattr(func, "namespace", "") != "aten":
        return getattr(func, "namespace", "") in ("prim", "prims", "profiler")
    return bool(func.is_view or _base(func._overloadpacket) in FREE or _pointwise(func._overloadpacket))


@cache
def _pointwise(packet: Any) -> bool:
    """By torch's own tag, which writing in place (`mul_`) does not always carry."""
    same = getattr(aten, _base(packet), packet)
    return any(torch.Tag.pointwise in getattr(one, name).tags for one in {packet, same} for name in one.overloads())


def _distinct(x: Tensor) -> int:
    """Elements of a tensor, those repeated by `expand` once."""
    return math.prod(size for size, stride in zip(x.shape, x.stride(), strict=True) if stride != 0)


@cache
def _composite(func: Any) -> bool:
    """Whether torch defines the operator by others; those are then seen instead."""
    return func not in _ASKS and bool(func.has_kernel_for_dispatch_key(DispatchKey.CompositeImplicitAutograd))


def _registry() -> dict[Any, Any]:
    """Operators to formulas, as torch's counter wraps them: torch's, those of `count`, our rules."""
    return FlopCounterMode(display=False, custom_mapping={**CHARGED, **FORMULAS}).flop_registry


@contextmanager
def counting() -> Iterator[None]:
    """Attention as the products it is made of, and recurrent layers step by step: fused ones hide what they do."""
    fused = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)  # torch's own context manager warns
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch._C._set_mkldnn_enabled(fused)


class Operators(TorchDispatchMode):
    """Sees every operator and keeps account.

    Attributes:
        flops: what formulas charge.
        disguised: FLOPs of products written as multiplications and sums.
        multiplied: elements of elementwise multiplications, those among them.
        scanned: elements of running sums, products and maxima.
        added: elements of sums and differences of two tensors.
        refused: names of operators that nothing is known of.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.formulas = _registry()
        self.flops = self.disguised = self.multiplied = self.scanned = self.added = 0.0
        self.refused: set[str] = set()
        # Elements of the product that a tensor's values still hold unsummed.
        self._products: Any = WeakIdKeyDictionary()

    def copy(self) -> Self:
        """The account as it stands now."""
        twin = copy.copy(self)
        twin.refused = set(self.refused)
        return twin

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if not isinstance(func, OpOverload):
            self.refused.add(str(func))
            return func(*args, **kwargs)
        if _composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        out = func(*args, **kwargs)
        packet = func._overloadpacket
        if (formula := self.formulas.get(packet)) is not None:
            self.flops += float(formula(*args, **kwargs, out_val=out))
        elif not is_free(func):
            self.refused.add(str(packet))
        else:
            name = _base(packet)
            if name in SCANS:
                self.scanned += max((x.numel() for x in tree_leaves(out) if isinstance(x, Tensor)), default=0)
            if name in ADDS and sum(isinstance(x, Tensor) for x in args) > 1:
                self.added += out.numel()
            if name in MULTIPLIES or name in SUMS or self._products:
                self._follow(name, out, [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)])
        return out

    def _follow(self, name: str, results: Any, inputs: list[Tensor]) -> None:
        """Charge outer products at once; others where they are summed, after whatever happened to them."""
        held = max((self._products.get(x, 0) for x in inputs), default=0)
        two = len({id(x) for x in inputs}) > 1  # a square is no product of two
        for out in tree_leaves(results):
            if not isinstance(out, Tensor) or not (out.is_floating_point() or out.is_complex()):
                continue
            carried = held
            if name in MULTIPLIES:
                self.multiplied += out.numel()
                if two and out.numel() > max(_distinct(x) for x in inputs):
                    self.disguised += 2 * out.numel()
                    carried = 0
                elif two:
                    carried = max(held, out.numel())
            elif name in SUMS and held:
                self.disguised += 2 * held
                carried = 0
            if carried:
                self._products[out] = carried
