"""The warp and the frequency bands: the wavelets' laws, a naive reference, ramps, derivatives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gan_kit.image.warp import BANDS, MARGIN, PHASE, SYM2, SYM6, amplify, bands, doubling, halving, mirrored, warp

CPU = torch.device("cpu")
F64 = torch.float64


def turn(angle: float, n: int = 1) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, s], [-s, c]], dtype=F64).expand(n, 2, 2)


@pytest.mark.parametrize("taps, moments", [(SYM2, 2), (SYM6, 6)])
def test_the_filters_are_orthogonal_wavelets_of_their_order(taps: tuple[float, ...], moments: int) -> None:
    h = torch.tensor(taps, dtype=F64)
    for shift in range(0, len(h), 2):
        assert (h[shift:] @ h[: len(h) - shift]).item() == pytest.approx(float(shift == 0), abs=1e-9)
    assert h.sum().item() == pytest.approx(math.sqrt(2), abs=1e-9)
    t = torch.arange(len(h), dtype=F64)
    sign = 1 - 2 * (t % 2)
    for k in range(moments):  # the high-pass filter does not see polynomials below the order
        assert (h * sign * t**k).sum().item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("size", [1, 3, 5, 8])
def test_mirrored_is_the_endless_line_of_pictures_and_their_mirror_images(size: int) -> None:
    line = [*range(size), *reversed(range(size))] * 6
    assert mirrored(torch.arange(-6 * size, 6 * size), size).tolist() == line


@pytest.mark.parametrize("size", [1, 4, 9, 32])
def test_halving_undoes_doubling(size: int) -> None:
    fine = doubling(size, F64, CPU)[2 : 2 + 2 * size + len(SYM6) - 2]
    assert torch.allclose(halving(size, F64, CPU) @ fine, torch.eye(size, dtype=F64), atol=1e-8)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 24), (4, 5, 7)])
def test_the_warp_that_moves_nothing_is_the_identity_up_to_the_edges(shape: tuple[int, ...]) -> None:
    x = torch.rand(2, *shape)
    moved = warp(x, torch.eye(2).expand(2, 2, 2), torch.zeros(2, 2))
    assert torch.allclose(moved, x, atol=1e-5)


def naive(x: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """One sample (C, H, W), tap by tap and position by position, as the docstrings say."""
    c, h, w = x.shape

    def pixel(row: int, column: int) -> Tensor:
        return x[:, int(mirrored(torch.tensor(row), h)), int(mirrored(torch.tensor(column), w))]

    def fine(row: int, column: int) -> Tensor:
        """Entry (row, column) of the picture at twice the resolution."""
        total = torch.zeros(c, dtype=x.dtype)
        for s in range(row % 2, len(SYM6), 2):
            for t in range(column % 2, len(SYM6), 2):
                total += 2 * SYM6[s] * SYM6[t] * pixel((row - s) // 2, (column - t) // 2)
        return total

    cache: dict[tuple[int, int], Tensor] = {}

    def at(row: int, column: int) -> Tensor:
        row, column = (min(max(k, -2), 2 * n + 2 * MARGIN - 1) for k, n in ((row, h), (column, w)))
        if (row, column) not in cache:
            cache[row, column] = fine(row, column)
        return cache[row, column]

    def folded(position: float, n: int) -> float:
        """Beyond what the doubled picture knows: mirrored at the picture's edges."""
        k = 2 * position + PHASE
        if not -2 <= k <= 2 * n + 2 * MARGIN - 1:
            around = (position + 0.5) % (2 * n)
            k = 2 * (min(around, 2 * n - around) - 0.5) + PHASE
        return k

    def moved(row: int, column: int) -> Tensor:
        v = torch.tensor([(column - PHASE) / 2 - (w - 1) / 2, (row - PHASE) / 2 - (h - 1) / 2], dtype=x.dtype)
        right, down = (matrix @ v + shift).tolist()
        k, m = folded(down + (h - 1) / 2, h), folded(right + (w - 1) / 2, w)
        i, j = math.floor(k), math.floor(m)
        a, b = k - i, m - j
        upper = (1 - b) * at(i, j) + b * at(i, j + 1)
        return (1 - a) * upper + a * ((1 - b) * at(i + 1, j) + b * at(i + 1, j + 1))

    out = torch.zeros_like(x)
    sampled = {(r, q): moved(r, q) for r in range(2 * h + 10) for q in range(2 * w + 10)}
    for row in range(h):
        for column in range(w):
            for s, a in enumerate(SYM6):
                for t, b in enumerate(SYM6):
                    out[:, row, column] += a * b / 2 * sampled[2 * row + s, 2 * column + t]
    return out


def test_the_warp_is_its_naive_reference_for_each_sample() -> None:
    x = torch.rand(4, 2, 5, 7, dtype=F64)
    matrix = torch.stack([turn(0.4)[0] * 1.3, turn(2.0)[0] @ torch.diag(torch.tensor([0.6, 1.7], dtype=F64)),
                          turn(0.0)[0], turn(-1.0)[0] * 4])  # fmt: skip
    shift = torch.tensor([[0.3, -1.2], [2.5, 0.1], [30.2, -18.7], [-3.0, 9.0]], dtype=F64)
    expected = torch.stack([naive(*sample) for sample in zip(x, matrix, shift, strict=True)])
    assert torch.allclose(warp(x, matrix, shift), expected, atol=1e-9)
    single = warp(x.float(), matrix.float(), shift.float())
    assert torch.allclose(single.double(), expected, atol=1e-5)


@pytest.mark.parametrize("angle", [0.3, -1.1, math.pi / 4])
@pytest.mark.parametrize("scale", [0.8, 1.0, 1.2])
def test_a_ramp_stays_a_ramp_where_no_edge_is_near(angle: float, scale: float) -> None:
    h, w = 40, 44
    down, right = torch.meshgrid(
        torch.arange(h, dtype=F64) - (h - 1) / 2, torch.arange(w, dtype=F64) - (w - 1) / 2, indexing="ij"
    )
    v = torch.stack([right, down], -1)
    matrix, shift = turn(angle) * scale, torch.tensor([[0.37, -1.4]], dtype=F64)
    moved = warp((2 * right - 3 * down)[None, None], matrix, shift)[0, 0]
    source = v @ matrix[0].T + shift[0]
    expected = 2 * source[..., 0] - 3 * source[..., 1]
    assert torch.allclose(moved[16:24, 18:26], expected[16:24, 18:26], atol=1e-5)


def test_gradients_and_gradients_of_gradients_of_the_warp_are_right() -> None:
    x = torch.rand(2, 1, 4, 5, dtype=F64, requires_grad=True)
    matrix, shift = turn(0.5, 2), torch.tensor([[0.4, 0.2], [3.0, 0.7]], dtype=F64)

    def curved(x: Tensor) -> Tensor:
        return warp(x, matrix, shift).pow(3)

    assert torch.autograd.gradcheck(curved, x)
    assert torch.autograd.gradgradcheck(lambda x: curved(x).sum((1, 2, 3)), x)


def test_the_warp_and_its_gradient_are_each_others_transpose() -> None:
    x, g = torch.rand(2, 3, 6, 6, dtype=F64, requires_grad=True), torch.rand(2, 3, 6, 6, dtype=F64)
    y = warp(x, turn(1.0, 2), torch.ones(2, 2, dtype=F64))
    (back,) = torch.autograd.grad(y, x, g)
    assert (back * x).sum().item() == pytest.approx((g * y).sum().item())


# ---- frequency bands --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 6, 32, 100])
def test_the_bands_add_up_to_the_picture_and_a_constant_lies_in_the_lowest(size: int) -> None:
    octaves = bands(size, F64, CPU)
    assert torch.allclose(octaves.sum(0), torch.eye(size, dtype=F64), atol=1e-9)
    assert torch.allclose(octaves.sum(2), torch.tensor([1.0, 0, 0, 0], dtype=F64)[:, None].expand(-1, size), atol=1e-9)


@pytest.mark.parametrize("band, period", [(0, 64), (1, 12), (2, 6), (3, 2.5)])
def test_each_band_is_an_octave(band: int, period: float) -> None:
    wave = torch.cos(2 * math.pi * torch.arange(192, dtype=F64) / period)
    power = (bands(192, F64, CPU) @ wave)[:, 48:144].square().sum(1)
    assert power.argmax() == band


def test_gains_act_along_both_axes_on_each_sample_by_itself() -> None:
    x, gains = torch.rand(3, 2, 9, 6, dtype=F64), torch.rand(3, BANDS, dtype=F64)
    for i in range(3):
        rows, columns = (sum(g * m for g, m in zip(gains[i], bands(n, F64, CPU), strict=True)) for n in (9, 6))
        assert torch.allclose(amplify(x, gains)[i], rows @ x[i] @ columns.T)  # type: ignore[union-attr,operator]
    assert torch.allclose(amplify(x, torch.ones(3, BANDS)), x, atol=1e-6)
