"""Schedules: where they start, pass and end."""

from __future__ import annotations

import itertools

import pytest

from gan_kit.adversarial import Cosine, Linear, value_at
from gan_kit.types import UserError

both = pytest.mark.parametrize("ramp", [Linear, Cosine])
ends = pytest.mark.parametrize("start, end", [(1.0, 0.1), (0.0, 5e6), (0.9, 0.99), (2.0, 2.0)])


@both
@ends
def test_endpoints_midpoint_and_constant_beyond(ramp: type[Linear], start: float, end: float) -> None:
    schedule = ramp(start, end, 1000, after_samples=300)
    assert schedule(0) == schedule(300) == start
    assert schedule(800) == pytest.approx((start + end) / 2)
    assert schedule(1300) == schedule(1301) == schedule(10**12) == pytest.approx(end)


@both
@ends
def test_monotone(ramp: type[Linear], start: float, end: float) -> None:
    values = [ramp(start, end, 997)(n) for n in range(1200)]
    rises = [b - a for a, b in itertools.pairwise(values)]
    sign = 1 if end > start else -1
    assert all(sign * rise >= 0 for rise in rises)
    assert start == end or all(sign * rise > 0 for rise in rises[:990])


def test_a_quarter_of_the_way() -> None:
    assert Linear(0, 4, 400)(100) == pytest.approx(1)
    assert Cosine(0, 4, 400)(100) == pytest.approx(4 * 0.1464466)  # (1 - cos 45°) / 2


def test_value_at_takes_numbers_and_functions() -> None:
    assert value_at(0.5, 123) == 0.5
    assert value_at(lambda seen: seen / 2, 123) == 61.5


@both
@pytest.mark.parametrize("duration", [0, -1])
def test_a_duration_that_is_not_positive_is_refused(ramp: type[Linear], duration: int) -> None:
    with pytest.raises(UserError, match=f"duration_samples={duration}"):
        ramp(0, 1, duration)
