from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.select.allot import Bounds, allot, largest_total

WEIGHTS = st.lists(st.floats(0.001, 1000), min_size=1, max_size=8)


@given(WEIGHTS, st.integers(0, 10_000))
def test_without_bounds_each_gets_its_share_rounded(weights, total):
    found = allot(total, weights, [Bounds(0, total)] * len(weights))
    assert sum(found) == total
    whole = sum(Fraction(str(weight)) for weight in weights)
    for share, weight in zip(found, weights, strict=True):
        assert abs(share - total * Fraction(str(weight)) / whole) < 1


@given(st.data())
def test_bounds_hold_and_the_total_is_exact(data):
    weights = data.draw(WEIGHTS)
    pairs = [sorted((data.draw(st.integers(0, 99)), data.draw(st.integers(0, 99)))) for _ in weights]
    bounds = [Bounds(*pair) for pair in pairs]
    total = data.draw(st.integers(sum(b.least for b in bounds), sum(b.most for b in bounds)))
    found = allot(total, weights, bounds)
    assert sum(found) == total
    assert all(b.least <= share <= b.most for share, b in zip(found, bounds, strict=True))
    # Nobody who could have more is poorer, for his weight, than one who could have less: by more than rounding.
    scale = [(share, weight, b) for share, weight, b in zip(found, weights, bounds, strict=True)]
    for have, weight, bound in scale:
        for other, heavy, limit in scale:
            if have < bound.most and other > limit.least:
                assert (have + 1) / weight >= (other - 1) / heavy * (1 - 1e-9)


def test_a_total_out_of_reach():
    with pytest.raises(ValueError, match="7 is not between 0 and 6"):
        allot(7, [1, 2], [Bounds(0, 3), Bounds(0, 3)])


def test_ties_go_to_the_first():
    assert allot(4, [1, 1, 1], [Bounds(0, 9)] * 3) == [2, 1, 1]


@given(WEIGHTS, st.integers(1, 500))
def test_the_largest_total_leaves_nobody_short(weights, size):
    most = [size * (1 + i) for i in range(len(weights))]
    total = largest_total(weights, most)
    whole = sum(Fraction(str(weight)) for weight in weights)
    assert all(total * Fraction(str(w)) / whole <= m for w, m in zip(weights, most, strict=True))
    assert any((total + 1) * Fraction(str(w)) / whole > m for w, m in zip(weights, most, strict=True))


def test_decimal_weights_are_what_was_written():
    assert largest_total([0.5, 0.3, 0.1, 0.1], [1000, 300, 50, 40]) == 400
    assert largest_total([0.7, 0.3], [70, 30]) == 100
    assert largest_total([0.0, 1.0], [0, 30]) == 30
