"""Linear maps of pictures, per sample, through which gradients and gradients of gradients pass: warping, and gains of
frequency bands. Pictures go on beyond their edges as their mirror image.

Both are made of the filters of orthogonal wavelets (Daubechies 1992, tables 6.1 and 6.3), as products with small
matrices: one a size, kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

__all__ = ["BANDS", "amplify", "mirrored", "warp"]

SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314464153)
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
PHASE = sum(t * h for t, h in enumerate(SYM6)) / sum(SYM6)  # of twice the resolution: where a filter's mass lies
MARGIN = 6  # pixels beyond each edge that the doubled picture knows; 5 are what halving it again looks at
BANDS = 4


def mirrored(position: Tensor, size: int) -> Tensor:
    """Whole positions on an endless line of pictures and their mirror images, as positions in the picture."""
    position = position.remainder(2 * size)
    return torch.minimum(position, 2 * size - 1 - position)


@lru_cache(maxsize=16)
def doubling(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(2 size + 14, size): a row's resolution doubled; its entry k is position (k - 2 - PHASE) / 2 of the row."""
    matrix = torch.zeros(2 * size + 2 * MARGIN + 2, size, dtype=torch.float64)
    pixels = torch.arange(-MARGIN, size + MARGIN)
    for pixel, source in zip(pixels.tolist(), mirrored(pixels, size).tolist(), strict=True):
        for t, h in enumerate(SYM6):
            if 0 <= (row := 2 * pixel + t + 2) < len(matrix):
                matrix[row, source] += h * 2**0.5
    return matrix.to(device, dtype)


@lru_cache(maxsize=16)
def halving(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(size, 2 size + 10): back from twice the resolution, whose entry k is position (k - PHASE) / 2."""
    matrix = torch.zeros(size, 2 * size + len(SYM6) - 2, dtype=torch.float64)
    for pixel in range(size):
        matrix[pixel, 2 * pixel : 2 * pixel + len(SYM6)] = torch.tensor(SYM6, dtype=torch.float64) / 2**0.5
    return matrix.to(device, dtype)


@lru_cache(maxsize=16)
def bands(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(BANDS, size, size): a row's octaves from the lowest to the highest; their sum is the row."""
    low = torch.tensor(SYM2, dtype=torch.float64)
    high = low * torch.tensor([1.0, -1, 1, -1])
    low, high = (F.conv1d(h.view(1, 1, -1), h.view(1, 1, -1), padding=3).flatten() / 2 for h in (low, high))
    filters, lower = [], torch.ones(1, dtype=torch.float64)
    for octave in range(BANDS - 1):  # the highest first
        filters.append(convolved(lower, spread(high, 2**octave)))
        lower = convolved(lower, spread(low, 2**octave))
    filters = [lower, *reversed(filters)]
    matrix = torch.zeros(BANDS, size, size, dtype=torch.float64)
    for band, taps in enumerate(filters):
        for t, h in enumerate(taps):
            rows = torch.arange(size)
            matrix[band].index_put_((rows, mirrored(rows + t - len(taps) // 2, size)), h, accumulate=True)
    return matrix.to(device, dtype)


def spread(taps: Tensor, by: int) -> Tensor:
    out = taps.new_zeros((len(taps) - 1) * by + 1)
    out[::by] = taps
    return out


def convolved(a: Tensor, b: Tensor) -> Tensor:
    return F.conv1d(a.view(1, 1, -1), b.flip(0).view(1, 1, -1), padding=len(b) - 1).flatten()


def amplify(x: Tensor, gains: Tensor) -> Tensor:
    """x: (B, C, H, W), gains: (B, BANDS) of the octaves from the lowest to the highest, along both axes."""
    h, w = x.shape[2:]
    rows, columns = (
        torch.einsum("bk,kij->bij", gains.to(x), bands(size, x.dtype, x.device))[:, None] for size in (h, w)
    )
    return rows @ x @ columns.mT


def warp(x: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """x: (B, C, H, W) -> the same shape; what stands at v in the result stood at matrix v + shift.

    matrix: (B, 2, 2), shift: (B, 2); positions are (column, row) in pixels from the middle of the picture
    The picture's resolution is doubled, sampled bilinearly at the doubled resolution, and halved again.
    """
    h, w = x.shape[2:]
    fine = doubling(h, x.dtype, x.device) @ x @ doubling(w, x.dtype, x.device).mT
    places = [torch.arange(2 * n + len(SYM6) - 2, device=x.device, dtype=x.dtype) for n in (w, h)]
    columns, rows = ((k - PHASE) / 2 - (n - 1) / 2 for k, n in zip(places, (w, h), strict=True))
    where = torch.stack(torch.broadcast_tensors(columns[None, :], rows[:, None]), -1)
    source = torch.einsum("bij,hwj->bhwi", matrix.to(x), where) + shift.to(x)[:, None, None]
    grid = torch.stack([entry(source[..., i], n) for i, n in enumerate((w, h))], -1)
    return halving(h, x.dtype, x.device) @ _Sample.apply(fine, grid) @ halving(w, x.dtype, x.device).mT


def entry(position: Tensor, size: int) -> Tensor:
    """Positions from the middle, in pixels, as entries of the doubled row, in grid_sample's units (-1 to 1)."""
    pixel = position + (size - 1) / 2
    inside = (pixel + 0.5).remainder(2 * size)
    inside = torch.minimum(inside, 2 * size - inside) - 0.5
    k, last = 2 * pixel + PHASE + 2, 2 * size + 2 * MARGIN + 1
    k = torch.where((k >= 0) & (k <= last), k, 2 * inside + PHASE + 2)
    return k * 2 / last - 1


class _Sample(Function):
    """F.grid_sample, bilinear, of which torch has no second derivative. It is linear in x: its backward's backward is
    itself. The grid takes no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = x.shape
        return F.grid_sample(x, grid, "bilinear", "border", align_corners=True)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return _Spread.apply(g, *ctx.saved_tensors, ctx.shape), None


class _Spread(Function):
    """The transpose of `_Sample`."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        mask = (True, False)  # bilinear, border, align_corners
        x = g.new_zeros(shape)
        return torch.ops.aten.grid_sampler_2d_backward(g.contiguous(), x, grid, 0, 1, True, mask)[0]

    @staticmethod
    def backward(ctx: Any, gg: Tensor) -> Any:
        return _Sample.apply(gg, *ctx.saved_tensors), None, None
