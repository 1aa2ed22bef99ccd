"""The integers of a model that a budget solver may move, and in which order.

A family lists its dials (`ModelConfig.dials`); it knows nothing of budgets. Ranks say who gives way first: rank 0
moves always (a width inside a block, of an expert), `TRIM` is what is small, `EXPERTS` how many experts there are,
`ROUTED` how many read a token, then come `DEPTH`, the model's `WIDTH` and, as `LAST`, what the family is known for (its
window, its top-k). So a variant of a model has the experts of its YAML unless widths and trims cannot meet the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MULTIPLE = 8  # Widths are whole multiples of it: 16 bytes at 16 bits, what matrix hardware wants rows to have.
TRIM, EXPERTS, ROUTED, DEPTH, WIDTH, LAST = range(1, 7)  # Ranks.
NARROW = (
    128  # Below this model width the widths inside a block move in half of it: a step would be over 1 % of a model.
)


@dataclass(frozen=True, kw_only=True)
class Dial:
    """One integer.

    Attributes:
        name: the config's field.
        values: what it may be, ascending.
        rank: 0 moves first, `LAST` last.
        affine: parameters and FLOPs are affine in it while all else is held, which lets a solver compute instead of
            trying; a solver checks it.
        anchors: two values, for an affine dial, at which any value of the other dials is valid; None = its ends.
        at_least: another affine dial that this one must not fall below.
        fills: the affine dial with the finest steps, which takes up what the others leave.
        ordinary: the value to stay near to; 0 = none.
        smooth: the multiple that an ordinary value has; 1 = any.
    """

    name: str
    values: Sequence[int]
    rank: int = 0
    affine: bool = False
    anchors: tuple[int, int] | None = None
    at_least: str = ""
    fills: bool = False
    ordinary: int = 0
    smooth: int = 1

    def words(self) -> str:
        """Its range, for a message: `d_ff 8..4096 in steps of 8`."""
        low, high = self.values[0], self.values[-1]
        step = self.values.step if isinstance(self.values, range) else 1
        return f"{self.name} {low}..{high}" + (f" in steps of {step}" if step > 1 else "")


def around(own: int) -> tuple[int, ...]:
    """The powers of two from a quarter of `own` to four times it, and `own`."""
    return with_own([2**i for i in range(40) if own <= 2**i * 4 <= 16 * own], own)


def with_own(values: Sequence[int], own: int) -> tuple[int, ...]:
    """`values` and the value that the config has already."""
    return tuple(sorted({*values, own}))


def of_experts(n_experts: int, top_e: int) -> tuple[Dial, Dial]:
    """The dials of a mixture whose config has these fields: how many experts there are, how many read a token."""
    counts = (*range(2, 16), *range(16, 32, 2), *range(32, 65, 4))
    routed = Dial(
        name="n_experts",
        values=with_own(counts, n_experts),
        rank=EXPERTS,
        affine=True,
        anchors=(max(4, top_e), 64),
        at_least="top_e",
        ordinary=n_experts,
        smooth=8,
    )
    each = with_own(range(1, 5), top_e)
    return routed, Dial(name="top_e", values=each, rank=ROUTED, affine=True, ordinary=top_e)
