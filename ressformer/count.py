"""FLOPs counted by torch, as a check on the closed forms of `ressformer.cost`.

`FlopCounterMode` runs on the meta device in train mode. It scores elementwise products as 0, so models must express
their arithmetic as matrix products or as operators that carry a formula; operators that a model brings register theirs
beside their definition. Attention is charged for the full n x n matrix, which is what `Cost` calls executed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from ressformer.cost import Shape, model_cost
from ressformer.decoder import ModelConfig, ModelOutput

# Operators that are known to do no matrix arithmetic: look-ups, moves, reductions, elementwise functions.
FREE_PREFIXES = ("aten.", "prim.", "prims.", "profiler.", "_operator")
# Arithmetic that torch 2.13 has no formula for: meeting one is an error, never a silent 0.
UNCOUNTED = (
    "_cdist_forward",
    "mv",
    "dot",
    "vdot",
    "lstm",
    "gru",
    "_transformer_encoder_layer_fwd",
    "_native_multi_head_attention",
)


def _convolution_backward(grad: Any, x: Any, weight: Any, *args: Any, **kwargs: Any) -> int:
    """2 products as large as the forward one; torch 2.13 forgets the groups of a depthwise convolution here."""
    mask = args[7]
    return int(2 * sum(mask[:2]) * grad[0] * math.prod(grad[2:]) * math.prod(weight))


def _attention(q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> int:
    """All pairs, masked ones included, as torch counts its other fused attentions."""
    return int(sdpa_flop_count(q, k, v))


def _attention_backward(grad: Any, q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> int:
    return int(sdpa_backward_flop_count(grad, q, k, v))


def _grouped_product(a: Any, b: Any, *args: Any, **kwargs: Any) -> int:
    """Every row (or, of two matrices, every column) belongs to one group; two stacks multiply pair by pair."""
    stacks = a[0] if len(a) == len(b) == 3 else 1
    return int(2 * stacks * a[-2] * a[-1] * b[-1])


# What torch 2.13 counts as 0, or wrongly.
FORMULAS: dict[Any, Any] = {
    torch.ops.aten.convolution_backward: _convolution_backward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    torch.ops.aten._grouped_mm: _grouped_product,
}


class _Watch(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes every operator that runs, so that arithmetic without a formula is found."""

    supports_higher_order_operators = True

    def __init__(self, known: set[object]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = known
        self.unknown: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        packet = getattr(func, "_overloadpacket", func)
        name = str(packet)
        free = name.startswith(FREE_PREFIXES) and name.split(".")[-1] not in UNCOUNTED
        if packet not in self.known and not free:
            self.unknown.add(name)
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Count:
    """What torch counted of one batch.

    Attributes:
        forward: FLOPs of the forward pass.
        train: FLOPs of the forward and the backward pass.
        activations: bytes that the forward pass keeps for the backward pass, weights apart: each storage once.
    """

    forward: float
    train: float
    activations: int


class _Kept:
    """Adds up the storages that autograd saves."""

    def __init__(self, module: nn.Module) -> None:
        self.weights = {p.untyped_storage()._cdata for p in (*module.parameters(), *module.buffers())}
        self.storages: dict[int, Any] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        """Note the storage; holding it keeps its identity from being used again."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self.weights:
            self.storages[storage._cdata] = storage
        return tensor

    @property
    def bytes(self) -> int:
        """All of them."""
        return sum(storage.nbytes() for storage in self.storages.values())


def count(module: nn.Module, *inputs: Any, loss: Callable[[Any], Tensor] | None = None) -> Count:
    """Count any module on inputs of its device, best the meta device: nothing is computed there.

    Args:
        module: in the mode to be counted, as a rule `train()`: some fast paths of evaluation hide their arithmetic.
        inputs: what it is called with.
        loss: a scalar from the module's output; None = the sum of `ModelOutput`'s logits and losses, or of all the
            tensors in it that have a gradient. A frozen module has no backward pass.

    Raises:
        ValueError: an operator has no FLOP formula; the message names it.
    """
    forward = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    watch, kept = _Watch(set(forward.flop_registry)), _Kept(module)
    with watch, forward, torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        scalar = (loss or _scalar)(module(*inputs))
    backward = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    if scalar.requires_grad:
        with watch, backward:
            scalar.backward()
    if watch.unknown:
        raise ValueError(
            f"no FLOP formula for {', '.join(sorted(watch.unknown))}: register one with "
            "torch.utils.flop_counter.register_flop_formula"
        )
    ahead, back = forward.get_total_flops(), backward.get_total_flops()
    return Count(float(ahead), float(ahead + back), kept.bytes)


def _scalar(out: Any) -> Tensor:
    if isinstance(out, ModelOutput):
        return out.logits_BnV.sum() + sum(out.aux_losses.values(), out.logits_BnV.new_zeros(()))
    sums = [leaf.sum() for leaf in tree_leaves(out) if isinstance(leaf, Tensor) and leaf.requires_grad]
    return sum(sums[1:], sums[0]) if sums else torch.zeros(())


def counted(config: ModelConfig, shape: Shape) -> Count:
    """What torch counts of one batch of the real module, on the meta device in train mode.

    A model whose cost is counted by the rules of `ressformer.counted` is not counted again by other rules.

    Raises:
        ValueError: an operator has no FLOP formula; the message names it.
    """
    if config.counted:
        cost, rows = model_cost(config, shape), shape.batch
        forward, train = rows * cost.flops_forward_executed, rows * cost.flops_train_executed
        return Count(forward, train, _activations(config, shape))
    with torch.device("meta"):
        model = config.build(
            vocab_size=shape.vocab,
            length=shape.length,
            max_length=shape.max_length,
            causal=shape.causal,
        ).train()
        input_ids_Bn = torch.zeros(shape.batch, shape.length, dtype=torch.long)
    return count(model, input_ids_Bn)


def _activations(config: ModelConfig, shape: Shape) -> int:
    """Bytes that the forward pass keeps for the backward pass, whatever operators it is made of."""
    sizes = {"vocab_size": shape.vocab, "length": shape.length, "max_length": shape.max_length, "causal": shape.causal}

    def run() -> int:
        model = config.build(**sizes).train()  # type: ignore[arg-type]
        kept = _Kept(model)
        with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
            model(torch.zeros(shape.batch, shape.length, dtype=torch.long))
        return kept.bytes

    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return run()
        except Exception:  # a module that looks at its values
            with torch.device("cpu"):
                return run()


def counted_flops(config: ModelConfig, shape: Shape) -> tuple[float, float]:
    """(forward, training) executed FLOPs per sequence of the real module, by torch's counter.

    Raises:
        ValueError: an operator has no FLOP formula; the message names it.
    """
    found = counted(config, shape)
    return found.forward / shape.batch, found.train / shape.batch
