"""Resizing as two matrix products: fast on a CPU, and exactly the published kind."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

__all__ = ["bicubic_matrix", "bilinear", "tf1_matrix", "torch_matrix"]


@functools.cache
def tf1_matrix(size: int, out: int) -> Tensor:
    """(out, size): TensorFlow 1's bilinear, whose pixel i looks at i * size/out, no half-pixel centres and no
    antialiasing: what FID's numbers are made with (Parmar et al. 2022 show what it costs)."""
    return _weights(torch.arange(out, dtype=torch.float64) * (size / out), size)


@functools.cache
def torch_matrix(size: int, out: int) -> Tensor:
    """(out, size): bilinear with half-pixel centres, antialiased where it shrinks (a triangle as wide as the scale)."""
    scale = size / out
    if scale <= 1:
        return _weights(((torch.arange(out, dtype=torch.float64) + 0.5) * scale - 0.5).clamp(min=0), size)
    centre = (torch.arange(out, dtype=torch.float64) + 0.5) * scale - 0.5
    weight = (1 - (torch.arange(size, dtype=torch.float64) - centre[:, None]).abs() / scale).clamp(min=0)
    return (weight / weight.sum(1, keepdim=True)).float()


def _weights(place: Tensor, size: int) -> Tensor:
    low = place.floor().long().clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    share = (place - low).clamp(0, 1)
    matrix = torch.zeros(len(place), size, dtype=torch.float64)
    rows = torch.arange(len(place))
    matrix.index_put_((rows, low), 1 - share, accumulate=True)
    matrix.index_put_((rows, high), share, accumulate=True)
    return matrix.float()


def bilinear(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x: (B, C, H, W) float -> (B, C, out, out)"""
    return torch.matmul(rows.to(x), torch.matmul(x, columns.to(x).T))


@functools.cache
def bicubic_matrix(size: int, out: int) -> Tensor:
    """(out, size): Pillow's bicubic (a = -0.5), antialiased where it shrinks, on floats: clean-fid's."""
    scale = size / out
    reach = max(scale, 1.0)
    centre = (torch.arange(out, dtype=torch.float64)[:, None] + 0.5) * scale
    t = ((torch.arange(size, dtype=torch.float64) + 0.5 - centre) / reach).abs()
    a = -0.5
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    weight = torch.where(t < 1, near, torch.where(t < 2, far, torch.zeros_like(t)))
    return (weight / weight.sum(1, keepdim=True)).float()
