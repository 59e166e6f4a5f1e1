"""Resizing as two matrix products, one an axis: exact, fast, and named by the recipe that it reproduces."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from gan_kit.types import UserError

__all__ = ["RESIZERS", "resize", "resize_matrix"]


def _triangle(t: float) -> float:
    return max(0.0, 1 - abs(t))


def _cubic(t: float) -> float:
    """Keys 1981, a = -1/2"""
    t = abs(t)
    if t < 1:
        return (1.5 * t - 2.5) * t * t + 1
    return ((-0.5 * t + 2.5) * t - 4) * t + 2 if t < 2 else 0.0


# kernel, its half width in source pixels, whether pixels have their centre at i + 1/2, whether it widens to smooth
# what it makes smaller, whether overshoots are cut to 0..255
_Recipe = tuple[Callable[[float], float], float, bool, bool, bool]
RESIZERS: dict[str, _Recipe] = {
    "tf1": (_triangle, 1, False, False, False),  # TensorFlow 1: pixel i lies at i; the published FIDs, torch-fidelity
    "bilinear": (_triangle, 1, True, False, False),  # torch's interpolate(align_corners=False): pytorch-fid
    "bilinear-smooth": (_triangle, 1, True, True, False),  # Pillow's BILINEAR in floats: torchmetrics >= 1.8
    "bicubic-smooth": (_cubic, 2, True, True, True),  # Pillow's BICUBIC in floats, then cut: clean-fid
}


@lru_cache(maxsize=64)
def resize_matrix(source: int, target: int, resizer: str) -> Tensor:
    """-> (target, source) float32 on the CPU, rows sum to 1; not to be written to."""
    kernel, radius, half, smooth, _ = RESIZERS[resizer]
    scale = source / target
    width = max(scale, 1.0) if smooth else 1.0
    shift = 0.5 if half else 0.0
    matrix = torch.zeros(target, source, dtype=torch.float64)
    for i in range(target):
        centre = (i + shift) * scale - shift  # in pixels of the source
        taps = range(math.ceil(centre - radius * width), math.floor(centre + radius * width) + 1)
        for j in taps:
            weight = kernel((j - centre) / width)
            if smooth and not 0 <= j < source:
                continue  # Pillow leaves out what lies outside, and shares its weight among the rest
            matrix[i, min(max(j, 0), source - 1)] += weight  # the others repeat the edge
    return (matrix / matrix.sum(1, keepdim=True)).float()


def resize(x: Tensor, size: int, resizer: str) -> Tensor:
    """(B, C, H, W) of any type -> (B, C, size, size) float32, in the values' own range.

    resizer: a name in RESIZERS
    """
    if resizer not in RESIZERS:
        raise UserError(f"no such resizer {resizer}; have {', '.join(RESIZERS)}")
    x = x.float()
    if x.shape[-2:] == (size, size):
        return x
    across = resize_matrix(x.shape[3], size, resizer).to(x.device)
    down = resize_matrix(x.shape[2], size, resizer).to(x.device)
    x = down @ (x @ across.T)
    return x.clamp_(0, 255) if RESIZERS[resizer][4] else x
