"""Interpolation begins and ends where it says, and keeps to what the prior fills."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gan_kit.latent import lerp, slerp


@pytest.mark.parametrize("way", [lerp, slerp])
@given(seed=st.integers(0, 1000), dims=st.integers(1, 64))
def test_ends_are_bitwise(way, seed, dims):
    a, b = torch.randn(2, 3, dims, generator=torch.Generator().manual_seed(seed))
    assert way(a, b, 0.0).equal(a)
    assert way(a, b, 1.0).equal(b)
    assert way(a, b, torch.tensor([0.0, 1.0, 0.0])).equal(torch.stack([a[0], b[1], a[2]]))


@given(seed=st.integers(0, 1000), dims=st.integers(2, 64), t=st.floats(0, 1))
def test_slerp_keeps_norms_and_turns_evenly(seed, dims, t):
    a, b = torch.randn(2, 4, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    a, b = 3 * a / a.norm(dim=1, keepdim=True), 3 * b / b.norm(dim=1, keepdim=True)
    c = slerp(a, b, t)
    torch.testing.assert_close(c.norm(dim=1), torch.full((4,), 3.0, dtype=torch.float64))

    def angle(u, v):
        return torch.atan2((u / 3 - v / 3).norm(dim=1), (u / 3 + v / 3).norm(dim=1)) * 2  # accurate at any angle

    torch.testing.assert_close(angle(a, c), t * angle(a, b), atol=1e-6, rtol=1e-6)


def test_lengths_between_are_between():
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    torch.testing.assert_close(slerp(a, b, 0.5), torch.full((1, 2), 3 / math.sqrt(2)))


def test_opposite_and_equal_points_have_a_way():
    a = torch.randn(5, 8)
    a /= a.norm(dim=1, keepdim=True)
    for t in (0.25, 0.5, 0.9):
        torch.testing.assert_close(slerp(a, -a, t).norm(dim=1), torch.ones(5))
        torch.testing.assert_close(slerp(a, a, t), a)
    assert slerp(torch.zeros(1, 4), torch.ones(1, 4), 0.5).isfinite().all()


def test_lerp_of_styles_is_straight():
    a, b = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(lerp(a, b, 0.25), 0.75 * a + 0.25 * b)
