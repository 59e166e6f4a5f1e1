"""The [1, 3, 3, 1] filter: against a naive one, constants, impulses, gradients of gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_kit.nn import Downsample, Upsample, blur

ROW = [1 / 8, 3 / 8, 3 / 8, 1 / 8]
sizes = pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 1, 2, 2), (1, 5, 4, 16)])


def naive_down(x: Tensor) -> Tensor:
    """Output (i, j) is the filter over rows 2i - 1 .. 2i + 2, edges repeated."""
    b, c, h, w = x.shape
    out = torch.zeros(b, c, h // 2, w // 2, dtype=x.dtype)
    for i in range(h // 2):
        for j in range(w // 2):
            for di, wi in enumerate(ROW):
                for dj, wj in enumerate(ROW):
                    row, col = min(max(2 * i - 1 + di, 0), h - 1), min(max(2 * j - 1 + dj, 0), w - 1)
                    out[:, :, i, j] += wi * wj * x[:, :, row, col]
    return out


def naive_up(x: Tensor) -> Tensor:
    """Each output lies a quarter of a pixel from its nearest input: ¾ of that, ¼ of the next, edges repeated."""
    b, c, h, w = x.shape
    out = torch.zeros(b, c, 2 * h, 2 * w, dtype=x.dtype)
    for i in range(2 * h):
        for j in range(2 * w):
            rows = [(i // 2, 0.75), (min(max(i // 2 + (1 if i % 2 else -1), 0), h - 1), 0.25)]
            cols = [(j // 2, 0.75), (min(max(j // 2 + (1 if j % 2 else -1), 0), w - 1), 0.25)]
            out[:, :, i, j] = sum(wr * wc * x[:, :, r, s] for r, wr in rows for s, wc in cols)  # type: ignore[misc]
    return out


@sizes
def test_down_and_up_are_the_filter(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    assert torch.allclose(Downsample()(x), naive_down(x), atol=1e-12)
    assert torch.allclose(Upsample()(x), naive_up(x), atol=1e-12)


@sizes
def test_a_constant_stays_constant(shape: tuple[int, ...]) -> None:
    x = torch.full(shape, 0.7)
    assert torch.allclose(Downsample()(x), torch.tensor(0.7))
    assert torch.allclose(Upsample()(x), torch.tensor(0.7))
    assert Downsample()(x).shape[2:] == (shape[2] // 2, shape[3] // 2)
    assert Upsample()(x).shape[2:] == (shape[2] * 2, shape[3] * 2)


def test_an_impulse_shows_the_filter() -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 4, 4] = 1
    up = torch.tensor([1.0, 3, 3, 1]) / 4  # twice the filter an axis: the energy spreads over four outputs
    assert torch.allclose(Upsample()(x)[0, 0, 7:11, 7:11], torch.outer(up, up))
    assert Upsample()(x).sum().item() == pytest.approx(4)
    # row 4 has tap 3/8 in the output at 2 (rows 3..6) and 1/8 in the one at 1 (rows 1..4)
    assert torch.allclose(Downsample()(x)[0, 0, 1:3, 1:3], torch.tensor([[1.0, 3], [3, 9]]) / 64)
    assert Downsample()(x).count_nonzero() == 4


def test_channels_do_not_mix() -> None:
    x = torch.randn(1, 3, 8, 8)
    for module in (Downsample(), Upsample()):
        alone = torch.cat([module(x[:, i : i + 1]) for i in range(3)], dim=1)
        assert torch.allclose(module(x), alone)


@pytest.mark.parametrize("module", [Downsample(), Upsample()])
def test_gradients_and_gradients_of_gradients(module: torch.nn.Module) -> None:
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    curved = lambda x: module(x).pow(3)  # noqa: E731
    assert torch.autograd.gradcheck(curved, x)
    assert torch.autograd.gradgradcheck(curved, x)


def test_the_filter_is_not_saved_with_the_weights_and_follows_the_dtype() -> None:
    assert not Downsample().state_dict()
    assert Downsample()(torch.zeros(1, 1, 4, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("pad", [1, 2])
def test_blur_is_the_filter_with_zeros_around(pad: int) -> None:
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    row = torch.tensor(ROW, dtype=torch.float64)
    kernel = torch.outer(row, row).expand(3, 1, 4, 4)
    assert torch.allclose(blur(x, pad, gain=4), 4 * F.conv2d(F.pad(x, [pad] * 4), kernel, groups=3), atol=1e-12)
    x = x[:1, :2].requires_grad_()
    curved = lambda x: blur(x, pad, gain=4).pow(3)  # noqa: E731
    assert torch.autograd.gradcheck(curved, x)
    assert torch.autograd.gradgradcheck(curved, x)
