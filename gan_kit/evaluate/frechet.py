"""Fréchet distances of feature sets, in fp64, without a matrix square root."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
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
        if not all(part.isfinite().all() for part in x.split(CHUNK)):
            raise UserError("some features are not finite; look for NaN or inf in the samples")
    if len({x.shape[1] for x in sets}) > 1:
        raise UserError(f"features of {', '.join(str(x.shape[1]) for x in sets)} dimensions: use one extractor for all")


def check_labels(features: Tensor, y: Tensor) -> None:
    """Raises UserError where there is not one label a row."""
    if y.shape != features.shape[:1]:
        raise UserError(f"labels {tuple(y.shape)} for features {tuple(features.shape)}; give one a sample")


def _chunks(x: Tensor) -> Iterator[Tensor]:
    return (part.double() for part in x.split(CHUNK))


def _mean(x: Tensor) -> Tensor:
    return sum((c.sum(0) for c in _chunks(x)), torch.zeros(())) / len(x)


def mean_and_cov(features: Tensor) -> tuple[Tensor, Tensor]:
    """(N, F) -> mean (F,) and unbiased covariance (F, F), in fp64; two passes in chunks, so that neither rounding nor
    memory grows with N. Raises UserError where N < 2."""
    if features.dim() != 2 or len(features) < 2:
        raise UserError(f"a covariance takes (N, F) features with N >= 2, these are {tuple(features.shape)}")
    mean = _mean(features)
    outer = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
    for c in _chunks(features):
        c = c - mean  # not in place: a chunk of fp64 features is the caller's own
        outer.addmm_(c.T, c)
    return mean, outer / (len(features) - 1)


class _Gaussian:
    """mean (F,), trace of the covariance, the covariance where it is known, and a root R (F, r) with R Rᵀ the
    covariance; r < F where that is singular"""

    def __init__(self, mean: Tensor, *, cov: Tensor | None = None, root: Tensor | None = None):
        self.mean, self.cov = mean, cov
        if root is not None:
            self.root = root
        self.trace = self.root.square().sum() if cov is None else cov.trace()

    @functools.cached_property
    def root(self) -> Tensor:
        assert self.cov is not None
        return cov_root(self.cov)


def _fitted(x: Tensor) -> _Gaussian:
    """The Gaussian of features (N, F). Where N <= F the centred features are the root: no covariance is needed."""
    if len(x) > x.shape[1]:
        mean, cov = mean_and_cov(x)
        return _Gaussian(mean, cov=cov)
    mean = _mean(x)
    return _Gaussian(mean, root=((x.double() - mean) / (len(x) - 1) ** 0.5).T)


def _distance(a: _Gaussian, b: _Gaussian) -> Tensor:
    overlap = _overlap(a.root, b.root) if a.cov is None or b.cov is None else _overlap_of_covs(a, a.cov, b.cov)
    distance = (a.mean - b.mean).square().sum() + a.trace + b.trace - 2 * overlap
    return distance.clamp(min=0)  # rounding may leave -1e-12


def _overlap(root1: Tensor, root2: Tensor) -> Tensor:
    """tr (C1 C2)^½: the eigenvalues of C1 C2 are the squared singular values of R1ᵀ R2, whatever the roots."""
    m = root1.T @ root2
    if len(m) > m.shape[1]:
        m = m.T
    if len(m) <= 512:  # good to the last digit, and still cheap
        return torch.linalg.svdvals(m).sum()
    # of the smaller side's Gram matrix: zeros of a singular covariance would come back as the root of rounding
    return torch.linalg.eigvalsh(m @ m.T).clamp(min=0).sqrt().sum()


def _overlap_of_covs(a: _Gaussian, cov1: Tensor, cov2: Tensor) -> Tensor:
    """tr (C1 C2)^½ of (F, F) both; the first is a's, whose root is used where it can be."""
    # a feature that never varies on one side adds nothing; without those of C1, its root is Cholesky's
    live1, live2 = cov1.diagonal() > 0, cov2.diagonal() > 0
    live = live1 & live2
    if not (live == live1).all():
        root = _root(cov1, live)
    elif live.all():
        root = a.root
    else:
        root = a.root[live]
    overlap = _overlap_of_full_rank(root, cov2, live)
    return _overlap(root, _root(cov2, live)) if overlap is None else overlap


def _overlap_of_full_rank(root1: Tensor, cov2: Tensor, live: Tensor) -> Tensor | None:
    """tr (C1 C2)^½ as tr (Lᵀ C2 L)^½, with L the Cholesky factor of C1; None where one of them is singular.

    LAPACK's sygst forms that matrix in half the time of one product of matrices, and C2 needs no root of its own.
    cov2: C2 is that of its features that are live
    """
    n = len(root1)
    if n <= 512 or n != root1.shape[1] or root1[0, -1] != 0:
        return None
    from scipy.linalg import lapack

    room = np.empty((n, n))  # one matrix's memory for all that follows: a new one costs more than copying it
    product, failed = lapack.dsygst(_fortran(_part(cov2, live, room)), root1.numpy(), itype=2, lower=1, overwrite_a=1)
    assert failed == 0
    diagonal, beside = lapack.dsytrd(product, lower=1, lwork=64 * n, overwrite_a=1)[1:3]
    trace, singular = trace_of_root(diagonal, beside)
    if singular and _cholesky(_part(cov2, live, room))[1]:
        return None  # zeros of a singular C2 would come back as the root of rounding
    return torch.tensor(trace, dtype=torch.float64)


def trace_of_root(diagonal: Any, beside: Any, step: float = 0.4) -> tuple[float, bool]:
    """tr T^½ of a tridiagonal matrix (n,), (n - 1,) without negative eigenvalues, and whether it may have zeros.

    √x = 1/π ∫ e^u log(1 + x e^-2u) du, so that the trace is an integral of log-determinants, each the work of one pass
    over T, where eigenvalues take n. The integrand is analytic within π/2 of the real axis: the trapezoid rule is off
    by e^(-π²/step), relatively (Trefethen & Weideman 2014). Its ends are sums of known series.
    """
    from scipy.linalg import lapack

    n, ratio = len(diagonal), math.exp(-step)
    bound = float(np.abs(diagonal).max() + 2 * np.abs(beside).max())  # no eigenvalue is greater
    if not bound:
        return 0.0, True
    diagonal, beside = diagonal / bound, beside / bound  # so that no square overflows
    squares = float((diagonal**2).sum() + 2 * (beside**2).sum())
    u = math.log(1e4) / 2
    # above u: log(1 + y) = y - y²/2, of y = x e^-2u
    total = float(diagonal.sum()) * math.exp(-u) * ratio / (1 - ratio)
    total -= squares / 2 * math.exp(-3 * u) * ratio**3 / (1 - ratio**3)
    while True:
        scale = math.exp(2 * u)
        pivots, _, failed = lapack.dpttrf(diagonal / scale + 1, beside / scale)
        if failed or scale < 1e-32:  # rounding has made an eigenvalue negative, or nothing is left below
            break
        log_det = float(np.log(pivots).sum())
        total += math.exp(u) * log_det
        u -= step
    # below u: what is left of T + e^2u is T
    total += math.exp(u + step) * (log_det * ratio / (1 - ratio) + 2 * n * step * ratio / (1 - ratio) ** 2)
    singular = lapack.dpttrf(diagonal - 16 * np.finfo(float).eps, beside)[2] > 0
    return total * step / math.pi * bound**0.5, singular


def _part(cov: Tensor, live: Tensor, room: Any = None) -> Tensor:
    """A copy of the covariance (F, F), of those features alone, in the array `room` if there is one.

    A new one is numpy's, which asks for huge pages where torch's memory does not: it is filled in a third of the time,
    and what LAPACK does in it takes a twentieth less.
    """
    given, rows = cov.numpy(), live.nonzero()[:, 0].numpy()
    if room is None:
        room = np.empty((len(rows), len(rows)))
    if len(rows) == len(given):
        np.copyto(room, given)
    else:
        for k in range(0, len(rows), 256):  # no other large matrix on the way
            given[rows[k : k + 256]].take(rows, 1, out=room[k : k + 256], mode="clip")
    return torch.from_numpy(room)


def _fortran(cov: Tensor) -> Any:
    """The same memory in Fortran's order, as LAPACK takes it: a covariance is symmetric."""
    return cov.numpy().T


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor, root1: Tensor | None = None) -> Tensor:
    """Squared Wasserstein-2 distance of two Gaussians (Dowson & Landau 1982), in fp64.

    mean: (F,), cov: (F, F) -> scalar; |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½) (FID: Heusel et al. 2017)
    root1: `cov_root(cov1)`, where it is known already

    Raises UserError for shapes that don't belong together and for what is not finite.
    """
    if mean1.shape != mean2.shape or cov1.shape != cov2.shape or cov1.shape != (*mean1.shape, *mean1.shape):
        shapes = ", ".join(str(tuple(t.shape)) for t in (mean1, cov1, mean2, cov2))
        raise UserError(f"means and covariances of one feature space must be (F,) and (F, F); have {shapes}")
    mean1, cov1, mean2, cov2 = (t.double() for t in (mean1, cov1, mean2, cov2))
    if not all(t.sum().isfinite() for t in (mean1, cov1, mean2, cov2)):  # NaN and inf stay in a sum
        raise UserError("the features' mean or covariance is not finite; look for NaN or inf in the samples")
    root1 = None if root1 is None else root1.double()
    return _distance(_Gaussian(mean1, cov=cov1, root=root1), _Gaussian(mean2, cov=cov2))


def _cholesky(cov: Tensor) -> tuple[Tensor, int]:
    """The lower factor of (F, F), in Fortran's order and in its memory, and whether there is none: LAPACK's, without
    torch's copies."""
    from scipy.linalg import lapack

    if not len(cov):
        return cov, 0
    root, failed = lapack.dpotrf(_fortran(cov), lower=1, overwrite_a=1)
    return torch.from_numpy(root), failed


def cov_root(cov: Tensor) -> Tensor:
    """R (F, r) with cov = R Rᵀ: Cholesky's, or eigh's without its zeros where cov is singular (features that never
    vary, fewer samples than features)."""
    cov = cov.double()
    live = cov.diagonal() > 0
    root = _root(cov, live)
    if live.all():
        return root
    whole = torch.zeros(root.shape[1], len(cov), dtype=cov.dtype).T  # in Fortran's order, as LAPACK takes it
    whole[live] = root
    return whole


def _root(cov: Tensor, live: Tensor) -> Tensor:
    """`cov_root` of those features alone."""
    root, failed = _cholesky(_part(cov, live))
    if failed:
        values, vectors = torch.linalg.eigh(_part(cov, live))
        kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
        root = vectors[:, kept] * values[kept].sqrt()
    return root


def frechet_distance_of(a: Tensor, b: Tensor) -> Tensor:
    """Fréchet distance of two sets of features (N, F), (M, F) -> scalar fp64.

    Where a set is smaller than F, its centred features stand for its covariance, and tr (C1 C2)^½ is the nuclear norm
    of an (N, M), (N, F) or (F, M) matrix: exact, and cheap where covariances are large and singular.
    """
    check_features(a, b)
    return _distance(_fitted(a), _fitted(b))


def frechet_with_error(real: Tensor, fake: Tensor, groups: int = 10) -> tuple[float, float]:
    """Fréchet distance and its standard error: the jackknife that leaves out one of the groups of fakes at a time
    (Efron & Stein 1981). NaN with fewer than three fakes a group.

    The error is of the choice of fakes, given the reference; the bias of finite numbers is no part of it.
    """
    check_features(real, fake)
    if groups < 2:
        raise UserError(f"groups={groups} leaves nothing to leave out; groups >= 2, better 10")
    n = len(fake)
    reference = _fitted(real)
    if n < 3 * groups:
        return float(_distance(reference, _fitted(fake))), float("nan")
    parts = torch.randperm(n, generator=torch.Generator().manual_seed(0)).tensor_split(groups)
    left = []
    if n - len(parts[0]) <= fake.shape[1]:
        value = _distance(reference, _fitted(fake))
        for i in range(groups):
            left.append(_distance(reference, _fitted(fake[torch.cat([*parts[:i], *parts[i + 1 :]])])))
    else:
        mean = _mean(fake)
        sums = [_sums(fake, rows, mean) for rows in parts]
        outer = torch.zeros_like(sums[0][1])
        for _, group in sums:
            outer += group
        value = _distance(reference, _Gaussian(mean, cov=outer / (n - 1)))
        for rows, (total, group) in zip(parts, sums, strict=True):  # the whole's sums minus the group's
            left.append(_distance(reference, _of_sums(-total, outer - group, n - len(rows), mean)))
    spread = torch.stack(left)
    variance = (groups - 1) / groups * (spread - spread.mean()).square().sum()
    return float(value), float(variance.sqrt())


def _sums(x: Tensor, rows: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and sum of outer products of x[rows] - shift, a chunk at a time."""
    total = torch.zeros_like(shift)
    outer = torch.zeros(len(shift), len(shift), dtype=shift.dtype)
    for part in rows.split(CHUNK):
        c = x[part].double() - shift
        total += c.sum(0)
        outer.addmm_(c.T, c)
    return total, outer


def _of_sums(total: Tensor, outer: Tensor, n: int, shift: Tensor) -> _Gaussian:
    mean = total / n
    return _Gaussian(mean + shift, cov=(outer - n * torch.outer(mean, mean)) / (n - 1))


class FrechetInfinity(NamedTuple):
    """value: the distance for infinitely many fakes; slope: FD_N = value + slope / N; stderr: of the fit's value"""

    value: float
    slope: float
    stderr: float


def frechet_infinity(
    real: Tensor, fake: Tensor, *, points: int = 15, least: int | None = None, seed: int = 0
) -> FrechetInfinity:
    """FD extrapolated to infinitely many fakes (Chong & Forsyth 2020, section 4): a line in 1/N through subsets of
    them, by least squares.

    Subsets are drawn without replacement: with replacement the line leads to FD_N, not to the limit. Each has a
    permutation of its own: through nested ones the line is no better, and as their errors go together the fit's
    stderr is a half to a third of the spread over draws of fakes. So is it with sizes evenly spread in N; with 1/N
    it comes close. What the reference's finite number adds stays in.
    points: subsets
    least: size of the smallest, else the largest of a tenth of the fakes, 100 and twice F, but at most half of them:
    below, FD_N is no line in 1/N
    """
    check_features(real, fake, least=4)
    n = len(fake)
    least = max(n // 10, min(max(100, 2 * fake.shape[1]), n // 2)) if least is None else least
    if points < 3 or not 2 <= least < n:
        raise UserError(f"points={points} subsets of {least} to {n} fakes make no line; points >= 3, least < {n}")
    reference = _fitted(real)
    mean = _mean(fake)
    g = torch.Generator().manual_seed(seed)
    sizes = (1 / torch.linspace(1 / n, 1 / least, points, dtype=torch.float64)).round().long()
    found = []
    for size in sizes.tolist():
        rows = torch.randperm(n, generator=g)[:size]
        few = size <= fake.shape[1]
        fitted = _fitted(fake[rows]) if few else _of_sums(*_sums(fake, rows, mean), size, mean)
        found.append(_distance(reference, fitted))
    x, y = 1 / sizes.double(), torch.stack(found)
    centred = x - x.mean()
    slope = (centred * y).sum() / centred.square().sum()
    value = y.mean() - slope * x.mean()
    residual = (y - value - slope * x).square().sum() / (points - 2)
    stderr = (residual * (1 / points + x.mean() ** 2 / centred.square().sum())).sqrt()
    return FrechetInfinity(float(value), float(slope), float(stderr))


def class_frechet_distances(real: Tensor, real_y: Tensor, fake: Tensor, fake_y: Tensor) -> dict[int, float]:
    """Fréchet distance within each class that both sides have two samples of.

    real, fake: (N, F), (M, F); real_y, fake_y: (N,), (M,) class indices. Raises UserError where there is no such class.
    """
    check_features(real, fake)
    check_labels(real, real_y)
    check_labels(fake, fake_y)
    distances = {}
    for k in sorted(set(real_y.tolist()) & set(fake_y.tolist())):
        a, b = real[real_y == k], fake[fake_y == k]
        if min(len(a), len(b)) >= 2:
            distances[k] = float(frechet_distance_of(a, b))
    if not distances:
        raise UserError("no class has two real and two generated samples; generate more, or check the labels")
    return distances
