"""How many of each: shares of a total, within bounds, rounded so that they sum to it exactly."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple


class Bounds(NamedTuple):
    """At least and at most how much one may get."""

    least: int
    most: int


def allot(total: int, weights: Sequence[float], bounds: Sequence[Bounds]) -> list[int]:
    """Whole numbers in proportion to the weights that sum to the total; who meets a bound leaves the rest to others.

    Rounded by largest remainders, ties to the first. Exact arithmetic, so the same everywhere. Raises ValueError where
    the bounds do not allow the total.
    """
    if not sum(b.least for b in bounds) <= total <= sum(b.most for b in bounds):
        raise ValueError(f"{total} is not between {sum(b.least for b in bounds)} and {sum(b.most for b in bounds)}")
    exact = _exact(weights)
    fixed: dict[int, int] = {}
    while True:
        free = [i for i in range(len(exact)) if i not in fixed]
        left = total - sum(fixed.values())
        whole = sum(exact[i] for i in free)
        ideal = {i: left * exact[i] / whole if whole else Fraction(left, len(free)) for i in free}
        low = {i: bounds[i].least - ideal[i] for i in free if ideal[i] < bounds[i].least}
        high = {i: ideal[i] - bounds[i].most for i in free if ideal[i] > bounds[i].most}
        if not low and not high:
            break
        # The larger violation is settled first: what it frees, or takes, may cure the others.
        if sum(low.values()) >= sum(high.values()):
            fixed.update((i, bounds[i].least) for i in low)
        else:
            fixed.update((i, bounds[i].most) for i in high)
    result = {**fixed, **{i: int(ideal[i]) for i in free}}
    missing = total - sum(result.values())
    for i in sorted(free, key=lambda i: (int(ideal[i]) - ideal[i], i))[:missing]:
        result[i] += 1
    return [result[i] for i in range(len(exact))]


def largest_total(weights: Sequence[float], most: Sequence[int]) -> int:
    """The largest total at which nobody falls short of its share."""
    exact = _exact(weights)
    return int(min((have / w for have, w in zip(most, exact, strict=True) if w), default=Fraction(0)) * sum(exact))


def _exact(weights: Sequence[float]) -> list[Fraction]:
    """The decimal numbers that people wrote: 0.1 is a tenth, though the float is not."""
    return [Fraction(str(weight)) for weight in weights]
