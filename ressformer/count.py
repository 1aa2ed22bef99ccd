"""FLOPs counted by torch, as a check on the closed forms of `ressformer.cost`.

`FlopCounterMode` runs on the meta device in train mode: on CPU torch scores scaled-dot-product attention as 0. It also
scores elementwise products as 0, so models must express their arithmetic as matrix products or as operators that
carry a formula; operators that a model brings register theirs beside their definition. Composite attention is charged
for the full n x n matrix, which is what `Cost` calls executed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ressformer.cost import Shape
from ressformer.decoder import Decoder, ModelConfig

# Operators that are known to do no matrix arithmetic: look-ups, moves, reductions, elementwise functions.
FREE_PREFIXES = ("aten.", "prim.", "prims.", "profiler.", "_operator")
# Arithmetic that torch 2.13 has no formula for: meeting one is an error, never a silent 0.
UNCOUNTED = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_grouped_mm",
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


class _Watch(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes every operator that runs, so that arithmetic without a formula is found."""

    def __init__(self, known: set[object]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = known
        self.unknown: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        packet = func._overloadpacket
        name = str(packet)
        free = name.startswith(FREE_PREFIXES) and name.split(".")[-1] not in UNCOUNTED
        if packet not in self.known and not free:
            self.unknown.add(name)
        return func(*args, **(kwargs or {}))


def counted_flops(config: ModelConfig, shape: Shape) -> tuple[float, float]:
    """(forward, training) executed FLOPs per sequence of the real module, by torch's counter on the meta device.

    Raises:
        ValueError: an operator has no FLOP formula; the message names it.
    """
    with torch.device("meta"):
        model = Decoder(
            config,
            vocab_size=shape.vocab,
            length=shape.length,
            max_length=shape.max_length,
            causal=shape.causal,
        ).train()
        input_ids_Bn = torch.zeros(shape.batch, shape.length, dtype=torch.long)
    forward = FlopCounterMode(display=False)
    watch = _Watch(set(forward.flop_registry))
    with watch, forward:
        out = model(input_ids_Bn)
    formulas: dict[Any, Any] = {torch.ops.aten.convolution_backward: _convolution_backward}
    backward = FlopCounterMode(display=False, custom_mapping=formulas)
    with watch, backward:
        loss = out.logits_BnV.sum() + sum(out.aux_losses.values(), out.logits_BnV.new_zeros(()))
        loss.backward()
    if watch.unknown:
        raise ValueError(
            f"no FLOP formula for {', '.join(sorted(watch.unknown))}: register one with "
            "torch.utils.flop_counter.register_flop_formula"
        )
    ahead, back = forward.get_total_flops(), backward.get_total_flops()
    return ahead / shape.batch, (ahead + back) / shape.batch
