"""Rotary position embedding (Su et al. 2021, 2104.09864, eq. 34): queries and keys turn with their position.

Shapes: B batch, H heads, n length, h head width (even).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Rotates pairs (i, i + h/2) by position * base^(-2i/h), so that q.k depends on distance alone."""

    frequency_h: Tensor

    def __init__(self, head_width: int, base: float = 10_000.0) -> None:
        super().__init__()
        if head_width % 2:
            raise ValueError(f"rotary positions need an even head width, got {head_width}")
        frequency_h = base ** (-torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
        self.register_buffer("frequency_h", frequency_h, persistent=False)
        self._held: tuple[tuple[int, int, torch.device], tuple[Tensor, Tensor]] | None = None

    def forward(self, x_BHnh: Tensor, offset: int = 0) -> Tensor:
        """Returns the rotated [B, H, n, h]; positions start at `offset`."""
        cos_nh, sin_nh = (t.to(x_BHnh.dtype) for t in self._angles(offset, x_BHnh.shape[-2], x_BHnh.device))
        a_BHnh, b_BHnh = x_BHnh.chunk(2, dim=-1)
        return torch.cat([a_BHnh * cos_nh - b_BHnh * sin_nh, a_BHnh * sin_nh + b_BHnh * cos_nh], dim=-1)

    def _angles(self, offset: int, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Returns cosine and sine [n, h/2] in fp32. The last ones are kept: they are the same at every step."""
        key = (offset, n, device)
        if self._held is not None and self._held[0] == key and not torch.compiler.is_compiling():
            return self._held[1]
        with torch.inference_mode(False):
            position_n = torch.arange(offset, offset + n, device=device, dtype=torch.float32)
            angle_nh = position_n.unsqueeze(1) * self.frequency_h
            angles = angle_nh.cos(), angle_nh.sin()
        # Not what a compiler or a fake mode traces: it would outlive the trace.
        if not torch.compiler.is_compiling() and type(angles[0]) is Tensor:
            self._held = key, angles
        return angles
