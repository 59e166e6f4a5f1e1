"""Fréchet distances of feature sets, in fp64, without a matrix square root."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gan_kit.types import UserError

__all__ = [
    "FrechetInfinity",
    "class_frechet_distances",
    "cov_root",
    "frechet_distance",
    "frechet_distance_of",
    "frechet_infinity",
    "frechet_with_error",
    "mean_and_cov",
]

CHUNK = 4096


def check_features(*sets: Tensor, least: int = 2) -> None:
    """Raises UserError for what is no set of features, holds NaN, has too few rows, or differs in dimensions."""
    for x in sets:
        if x.dim() != 2 or len(x) < least:
            raise UserError(f"features must be (N, F) with N >= {least}, these are {tuple(x.shape)}")
        if not x.isfinite().all():
            raise UserError("some features are not finite; look for NaN or inf in the samples")
    if len({x.shape[1] for x in sets}) > 1:
        raise UserError(f"features of {', '.join(str(x.shape[1]) for x in sets)} dimensions: use one extractor for all")


def _chunks(x: Tensor) -> Iterator[Tensor]:
    return (part.double() for part in x.split(CHUNK))


def mean_and_cov(features: Tensor) -> tuple[Tensor, Tensor]:
    """(N, F) -> mean (F,) and unbiased covariance (F, F), in fp64; two passes in chunks, so that neither rounding nor
    memory grows with N. Raises UserError where N < 2."""
    if features.dim() != 2 or len(features) < 2:
        raise UserError(f"a covariance takes (N, F) features with N >= 2, these are {tuple(features.shape)}")
    mean = sum((c.sum(0) for c in _chunks(features)), torch.zeros(())) / len(features)
    outer = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
    for c in _chunks(features):
        c = c - mean  # not in place: a chunk of fp64 features is the caller's own
        outer.addmm_(c.T, c)
    return mean, outer / (len(features) - 1)


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor, root1: Tensor | None = None) -> Tensor:
    """Squared Wasserstein-2 distance of two Gaussians (Dowson & Landau 1982), in fp64.

    mean: (F,), cov: (F, F) -> scalar; |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½) (FID: Heusel et al. 2017)
    root1: `cov_root(cov1)`, where it is known already
    """
    if mean1.shape != mean2.shape or cov1.shape != cov2.shape or cov1.shape != (*mean1.shape, *mean1.shape):
        shapes = ", ".join(str(tuple(t.shape)) for t in (mean1, cov1, mean2, cov2))
        raise UserError(f"means and covariances of one feature space must be (F,) and (F, F); have {shapes}")
    mean1, cov1, mean2, cov2 = (t.double() for t in (mean1, cov1, mean2, cov2))
    if not all(t.isfinite().all() for t in (mean1, cov1, mean2, cov2)):
        raise UserError("the features' mean or covariance is not finite; look for NaN or inf in the samples")
    root = cov_root(cov1) if root1 is None else root1
    # C1 C2 and Rᵀ C2 R have the same eigenvalues where C1 = R Rᵀ, but the second is symmetric
    product = root.T @ cov2 @ root
    overlap = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * overlap
    return distance.clamp(min=0)  # rounding may leave -1e-12


def cov_root(cov: Tensor) -> Tensor:
    """R with cov = R Rᵀ: Cholesky's, or eigh's where cov is singular (fewer samples than features)."""
    root, failed = torch.linalg.cholesky_ex(cov)
    if not failed:
        return root
    values, vectors = torch.linalg.eigh(cov)
    return vectors * values.clamp(min=0).sqrt()


def frechet_distance_of(a: Tensor, b: Tensor) -> Tensor:
    """Fréchet distance of two sets of features (N, F), (M, F) -> scalar fp64.

    Where the sets are smaller than F, tr (C1 C2)^½ is the nuclear norm of the (N, M) matrix of inner products of the
    centred features: exact, and cheap where covariances are large and singular.
    """
    check_features(a, b)
    if max(len(a), len(b)) >= a.shape[1]:
        return frechet_distance(*mean_and_cov(a), *mean_and_cov(b))
    a, b = a.double(), b.double()
    mean_a, mean_b = a.mean(0), b.mean(0)
    a, b = (a - mean_a) / (len(a) - 1) ** 0.5, (b - mean_b) / (len(b) - 1) ** 0.5
    overlap = torch.linalg.svdvals(a @ b.T).sum()
    distance = (mean_a - mean_b).square().sum() + a.square().sum() + b.square().sum() - 2 * overlap
    return distance.clamp(min=0)


def frechet_with_error(real: Tensor, fake: Tensor, groups: int = 10) -> tuple[float, float]:
    """Fréchet distance and its standard error: the jackknife that leaves out a tenth of the fakes at a time.

    The error is of the choice of fakes, given the reference; the bias of finite numbers is no part of it.
    """
    check_features(real, fake)
    mean, cov = mean_and_cov(real)
    root = cov_root(cov)
    value = float(frechet_distance(mean, cov, *mean_and_cov(fake), root1=root))
    if len(fake) < 3 * groups:
        return value, float("nan")
    # the whole's sums minus a group's: one pass over the features
    shift = fake[:CHUNK].double().mean(0)
    order = torch.randperm(len(fake), generator=torch.Generator().manual_seed(0))
    sums, outers, counts = [], [], []
    for rows in order.chunk(groups):
        total = torch.zeros_like(shift)
        outer = torch.zeros_like(cov)
        for part in rows.split(CHUNK):
            x = fake[part].double() - shift
            total += x.sum(0)
            outer.addmm_(x.T, x)
        sums.append(total)
        outers.append(outer)
        counts.append(len(rows))
    all_sum, all_outer = torch.stack(sums).sum(0), torch.zeros_like(cov)
    for outer in outers:
        all_outer += outer
    left = []
    for total, outer, count in zip(sums, outers, counts, strict=True):
        n = len(fake) - count
        m = (all_sum - total) / n
        c = (all_outer - outer - n * torch.outer(m, m)) / (n - 1)
        left.append(float(frechet_distance(mean, cov, m + shift, c, root1=root)))
    spread = torch.tensor(left, dtype=torch.float64)
    variance = (len(left) - 1) / len(left) * (spread - spread.mean()).square().sum()
    return value, float(variance.sqrt())


class FrechetInfinity(NamedTuple):
    """value: the distance for infinitely many fakes; slope: FD_N = value + slope / N; stderr: of the fit"""

    value: float
    slope: float
    stderr: float


def frechet_infinity(
    real: Tensor, fake: Tensor, *, points: int = 8, least: int | None = None, seed: int = 0
) -> FrechetInfinity:
    """FD extrapolated to infinitely many fakes (Chong & Forsyth 2020): a line in 1/N through subsets of them.

    The subsets are drawn without replacement: with replacement the line leads to FD_N, not to the limit. What the
    reference's finite number adds stays in.
    points: subsets; least: the smallest, else a tenth of the fakes, at least 100
    """
    check_features(real, fake, least=4)
    n = len(fake)
    least = least or max(min(100, n // 2), n // 10)
    if points < 3 or not 2 <= least < n:
        raise UserError(f"points={points} subsets of {least} to {n} fakes make no line; points >= 3, least < {n}")
    mean, cov = mean_and_cov(real)
    root = cov_root(cov)
    g = torch.Generator().manual_seed(seed)
    inverse = torch.linspace(1 / n, 1 / least, points, dtype=torch.float64)  # evenly spread where the line is fitted
    sizes = (1 / inverse).round().long()
    found = []
    for size in sizes.tolist():
        rows = torch.randperm(n, generator=g)[:size]
        found.append(float(frechet_distance(mean, cov, *mean_and_cov(fake[rows]), root1=root)))
    x, y = 1 / sizes.double(), torch.tensor(found, dtype=torch.float64)
    centred = x - x.mean()
    slope = float((centred * y).sum() / centred.square().sum())
    value = float(y.mean() - slope * x.mean())
    residual = (y - value - slope * x).square().sum() / (points - 2)
    stderr = (residual * (1 / points + x.mean() ** 2 / centred.square().sum())).sqrt()
    return FrechetInfinity(value, slope, float(stderr))


def class_frechet_distances(real: Tensor, real_y: Tensor, fake: Tensor, fake_y: Tensor) -> dict[int, float]:
    """Fréchet distance within each class that both sides have two samples of."""
    check_features(real, fake)
    distances = {}
    for k in sorted(set(real_y.tolist()) & set(fake_y.tolist())):
        a, b = real[real_y == k], fake[fake_y == k]
        if min(len(a), len(b)) >= 2:
            distances[k] = float(frechet_distance_of(a, b))
    if not distances:
        raise UserError("no class has two real and two generated samples")
    return distances
