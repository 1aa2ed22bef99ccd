"""Dials as arrays: where an affine one is measured, how its values mix these, how odd a value is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ressformer.dials import Dial

Array = NDArray[np.float64]


def ends(dial: Dial) -> tuple[int, ...]:
    """The values at which an affine dial is measured."""
    if dial.anchors is not None:
        return dial.anchors
    return (dial.values[0], dial.values[-1]) if len(dial.values) > 1 else (dial.values[0],)


def weights(dial: Dial) -> Array:
    """How much each anchor counts at each of the dial's values, [values, anchors]."""
    at, v = ends(dial), np.asarray(dial.values, dtype=float)
    if len(at) == 1:
        return np.ones((len(v), 1))
    share = (v - at[0]) / (at[1] - at[0])
    return np.stack([1 - share, share], axis=1)


def strangeness(dial: Dial, values: Array) -> Array:
    """0 at the ordinary value; 1 per doubling away from it, and a tenth per factor of two that roundness lacks."""
    far = np.abs(np.log2(np.maximum(values, 1e-9) / dial.ordinary)) if dial.ordinary else np.zeros_like(values)
    rough = dial.smooth / np.gcd(np.round(values).astype(np.int64), dial.smooth)
    return np.asarray(far + 0.1 * np.log2(rough))


def limits(dials: Sequence[Dial], values: Mapping[str, int]) -> list[str]:
    """Dials that stand at an end of their range, in words."""
    found = [(d.name, values[d.name], d.values[0], d.values[-1]) for d in dials if d.name in values]
    return [
        f"{name} is at its {'lowest' if value == low else 'highest'}, {value}"
        for name, value, low, high in found
        if value in (low, high) and low != high
    ]


def lowest_maximum(offs: Sequence[Array], rises: Sequence[Array]) -> Array:
    """The least over s in [0, 1] of max_k |off_k + rise_k s|, elementwise.

    The maximum is convex and made of straight pieces, so it is lowest at an end, at a zero of one of them, or where
    two are equal in size.
    """
    tried = [np.zeros_like(offs[0]), np.ones_like(offs[0])]
    lines = list(zip(offs, rises, strict=True))
    crossings = [(off, rise) for off, rise in lines]
    for (off, rise), (other, climb) in itertools.combinations(lines, 2):
        crossings += [(off - other, rise - climb), (off + other, rise + climb)]
    for off, rise in crossings:
        moves = np.abs(rise) > 0
        tried.append(np.clip(np.where(moves, -off / np.where(moves, rise, 1.0), 0.0), 0.0, 1.0))
    peaks = [np.max([np.abs(off + rise * s) for off, rise in lines], axis=0) for s in tried]
    return np.asarray(np.min(peaks, axis=0))
