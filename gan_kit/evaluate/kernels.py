"""The kernel distance of KAD: few samples, no assumption of a Gaussian, no bias."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gan_kit.evaluate.frechet import check_features
from gan_kit.types import UserError

__all__ = ["GaussianDistance", "gaussian_distance", "median_distance"]

BLOCK = 2048


class GaussianDistance(NamedTuple):
    """value: 100 MMD², near 0 and perhaps below it for sets of one distribution; stderr: for other samples of both
    sides, by the first term of the U statistic's variance; bandwidth: of the kernel"""

    value: float
    stderr: float
    bandwidth: float


def median_distance(x: Tensor, most: int = 2000, seed: int = 0) -> float:
    """Median Euclidean distance of the pairs of rows of (N, F), or of `most` rows drawn without replacement."""
    check_features(x)
    if len(x) > most:
        x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:most]]
    return float(torch.pdist(x.double()).median())


def gaussian_distance(
    real: Tensor, fake: Tensor, *, bandwidth: float | None = None, most: int = 5000, seed: int = 0
) -> GaussianDistance:
    """100 times the unbiased squared MMD with kernel exp(-|x - y|² / 2σ²): KAD (Chung et al. 2025, section 3).

    real, fake: (N, F), (M, F)
    bandwidth: σ; None takes the median distance within the reference, so that it is the same for all that are judged
        against it (the published kadtk takes it from what is judged)
    most: samples of a side, drawn without replacement where there are more

    Raises UserError where the reference's samples are all alike, which leaves no bandwidth.
    """
    check_features(real, fake)
    sigma = median_distance(real) if bandwidth is None else bandwidth
    if not sigma > 0:
        raise UserError(f"bandwidth={sigma:g} makes no kernel: do the reference's samples differ?")
    g = torch.Generator().manual_seed(seed)
    x, y = (part[torch.randperm(len(part), generator=g)[:most]].double() for part in (real, fake))
    # what each sample adds: its mean kernel with its own side less that with the other
    of_x = _means(x, x, sigma, own=True) - _means(x, y, sigma)
    of_y = _means(y, y, sigma, own=True) - _means(y, x, sigma)
    variance = 4 * (of_x.var() / len(x) + of_y.var() / len(y))
    return GaussianDistance(100 * float(of_x.mean() + of_y.mean()), 100 * float(variance.sqrt()), sigma)


def _means(a: Tensor, b: Tensor, sigma: float, own: bool = False) -> Tensor:
    """Mean kernel of each row of `a` with the rows of `b`, without itself where they are its own side."""
    total = torch.empty(len(a), dtype=torch.float64)
    for rows in torch.arange(len(a)).split(BLOCK):
        total[rows] = sum(
            torch.cdist(a[rows], part).square_().mul_(-0.5 / sigma**2).exp_().sum(1) for part in b.split(BLOCK)
        )
    return (total - 1) / (len(b) - 1) if own else total / len(b)  # a sample's kernel with itself is 1
