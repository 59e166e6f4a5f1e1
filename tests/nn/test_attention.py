"""SAGAN's attention against its formula, position by position."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gan_kit.nn import SelfAttention2d
from gan_kit.types import UserError


@pytest.mark.parametrize("spectral", [False, True])
def test_it_begins_as_the_identity(spectral: bool) -> None:
    x = torch.randn(2, 16, 4, 6)
    attention = SelfAttention2d(16, spectral)
    assert torch.equal(attention(x), x)
    attention(x).sum().backward()
    assert attention.gamma.grad.abs() > 0


def test_it_is_the_papers_formula() -> None:
    attention = SelfAttention2d(16)
    nn.init.constant_(attention.gamma, 0.7)
    x = torch.randn(2, 16, 4, 6)
    expected = torch.empty_like(x)
    for b in range(2):
        q = attention.query(x)[b].flatten(1)  # (2, 24)
        k = F.max_pool2d(attention.key(x), 2)[b].flatten(1)  # (2, 6)
        v = F.max_pool2d(attention.value(x), 2)[b].flatten(1)  # (8, 6)
        mixed = torch.stack([v @ torch.softmax(k.T @ q[:, i], 0) for i in range(24)], 1).view(1, 8, 4, 6)
        expected[b] = x[b] + 0.7 * attention.out(mixed)[0]
    assert torch.allclose(attention(x), expected, atol=1e-5)


def test_positions_are_a_set_up_to_the_pooling() -> None:
    attention = SelfAttention2d(8)
    nn.init.ones_(attention.gamma)
    x = torch.randn(1, 8, 4, 4)
    swapped = x.roll(2, dims=3)  # whole 2x2 cells change places
    assert torch.allclose(attention(swapped), attention(x).roll(2, dims=3), atol=1e-5)


def test_first_and_second_derivatives() -> None:
    attention = SelfAttention2d(8).double()
    nn.init.ones_(attention.gamma)
    x = torch.randn(1, 8, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attention, x)
    assert torch.autograd.gradgradcheck(attention, x)


def test_parameters_by_hand() -> None:
    # C·C/8 for query and key, C·C/2 for value and out, and γ
    assert sum(p.numel() for p in SelfAttention2d(64).parameters()) == 2 * 64 * 8 + 2 * 64 * 32 + 1


def test_channels_that_eight_does_not_divide_are_refused() -> None:
    with pytest.raises(UserError, match="12 channels"):
        SelfAttention2d(12)
