"""Fréchet distances of feature sets, in fp64, without a matrix square root."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

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


class _Gaussian(NamedTuple):
    """mean (F,), trace of the covariance, and a root R (F, r) with R Rᵀ the covariance; r < F where that is singular"""

    mean: Tensor
    trace: Tensor
    root: Tensor


def _fitted(x: Tensor) -> _Gaussian:
    """The Gaussian of features (N, F). Where N <= F the centred features are the root: no covariance is needed."""
    if len(x) > x.shape[1]:
        return _of_moments(*mean_and_cov(x))
    mean = _mean(x)
    root = ((x.double() - mean) / (len(x) - 1) ** 0.5).T
    return _Gaussian(mean, root.square().sum(), root)


def _of_moments(mean: Tensor, cov: Tensor) -> _Gaussian:
    return _Gaussian(mean, cov.trace(), cov_root(cov))


def _distance(a: _Gaussian, b: _Gaussian) -> Tensor:
    distance = (a.mean - b.mean).square().sum() + a.trace + b.trace - 2 * _overlap(a.root, b.root)
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


def _overlap_of_full_rank(root1: Tensor, cov2: Tensor) -> Tensor | None:
    """tr (C1 C2)^½ by the eigenvalues of Lᵀ C2 L, with L the Cholesky factor of C1; None where one of them is singular.

    LAPACK's sygst forms that matrix in half the time of one product of matrices, and C2 needs no root of its own.
    """
    if len(cov2) <= 512 or len(cov2) != root1.shape[1] or root1[0, -1] != 0:
        return None
    from scipy.linalg import eigh, lapack

    room = cov2.clone()  # one matrix's memory for all that follows: a new one costs as much as copying it
    product, failed = lapack.dsygst(_fortran(room), root1.numpy(), itype=2, lower=1, overwrite_a=1)
    assert failed == 0
    values = torch.from_numpy(
        eigh(product, lower=True, eigvals_only=True, overwrite_a=True, driver="ev", check_finite=False)
    )
    if values[0] < 16 * torch.finfo(values.dtype).eps * values[-1] and _cholesky(room.copy_(cov2))[1]:
        return None  # zeros of a singular C2 would come back as the root of rounding
    return values.clamp(min=0).sqrt().sum()


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
    # a feature that never varies on one side adds nothing to tr (C1 C2)^½; without those of C1, its root is Cholesky's
    live1, live2 = cov1.diagonal() > 0, cov2.diagonal() > 0
    live = live1 & live2
    part2 = _of(cov2, live)
    if root1 is not None and (live == live1).all():
        root = root1.double()[live]
    else:
        root = cov_root(_of(cov1, live))
    overlap = _overlap_of_full_rank(root, part2)
    if overlap is None:
        overlap = _overlap(root, cov_root(part2))
    return ((mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * overlap).clamp(min=0)


def _of(cov: Tensor, live: Tensor) -> Tensor:
    """The covariance (F, F) of those features alone."""
    if live.all():
        return cov
    rows = live.nonzero()[:, 0]
    return cov[rows[:, None], rows]


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
    part = _of(cov, live)
    root, failed = _cholesky(part.clone())
    if failed:
        values, vectors = torch.linalg.eigh(part)
        kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
        root = vectors[:, kept] * values[kept].sqrt()
    if live.all():
        return root
    whole = torch.zeros(len(cov), root.shape[1], dtype=cov.dtype)
    whole[live] = root
    return whole


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
        value = _distance(reference, _of_moments(mean, outer / (n - 1)))
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
    return _of_moments(mean + shift, (outer - n * torch.outer(mean, mean)) / (n - 1))


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
