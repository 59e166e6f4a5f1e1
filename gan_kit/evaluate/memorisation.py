"""Whether generated samples are copies of training data: what distances of distributions reward, and these find."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gan_kit.evaluate.frechet import check_features
from gan_kit.evaluate.neighbours import nearest
from gan_kit.types import UserError

__all__ = ["CT", "Rate", "authenticity", "copy_share", "data_copying_ct", "memorisation_distance", "mifid", "rate"]


class Rate(NamedTuple):
    """A share of samples, and its binomial standard error."""

    value: float
    stderr: float


def rate(hits: Tensor) -> Rate:
    """hits: (N,) bool"""
    value = float(hits.double().mean())
    return Rate(value, (value * (1 - value) / len(hits)) ** 0.5)


def authenticity(train: Tensor, fake: Tensor) -> Rate:
    """Share of fakes farther from their nearest training sample than that one is from its own nearest other
    (Alaa et al. 2022, section 4). Copies have 0.

    train, fake: (N, F), (M, F)

    What held-out real data have depends on the dimensions, of Gaussians about .3 in 1, .45 in 4, .7 in 16, .8 in 64,
    as nearest samples come to be hubs with near neighbours of their own: compare with theirs, not with a half.
    """
    check_features(train, fake)
    distance, index = nearest(fake, train)
    hit, back = index[:, 0].unique(return_inverse=True)  # the training samples that matter
    two = nearest(train[hit], train, 2)
    own = torch.where(two[1][:, 0] == hit, two[0][:, 1], two[0][:, 0])  # with a duplicate, either may come first: 0
    return rate(distance[:, 0] > own[back])


def copy_share(train: Tensor, fake: Tensor, held: Tensor, quantile: float = 0.01) -> Rate:
    """Share of fakes nearer to a training sample than all but `quantile` of held-out real samples are.

    train, fake, held: (N, F), (M, F), (L, F)

    Held-out data have `quantile` by construction; a generator that copies every other sample has about one half.
    stderr: binomial, with that of the edge, which `held` knows only so well. Where as many held-out samples are
    exact copies as `quantile` says, only exact copies count.
    """
    check_features(train, fake, held)
    if not 0 < quantile < 1:
        raise UserError(f"quantile={quantile} must lie between 0 and 1")
    known = nearest(held, train)[0][:, 0].sort().values
    place = quantile * (len(known) - 1)
    low, high = known[int(place)], known[min(int(place) + 1, len(known) - 1)]
    edge = low + (high - low) * (place - int(place))
    distance = nearest(fake, train)[0][:, 0]
    share = rate(distance < edge if edge > 0 else distance == 0)
    q = max(quantile, 1 / (len(known) + 1))
    return Rate(share.value, (share.stderr**2 + q * (1 - q) / len(known)) ** 0.5)


class CT(NamedTuple):
    """value: z score, below 0 where fakes lie nearer to the training data than held-out data do; cells: (share of
    fakes, z) of each cell that was counted"""

    value: float
    cells: tuple[tuple[float, float], ...]


def data_copying_ct(train: Tensor, held: Tensor, fake: Tensor, cells: int = 5, seed: int = 0) -> CT:
    """Data-copying test C_T (Meehan, Chaudhuri, Dasgupta 2020, section 3): in each cell of the training data's
    k-means, the z score of the Mann-Whitney U of distances to the training data, fakes' against held-out samples';
    weighted by the held-out samples in the cell.

    train, held, fake: (N, F), (L, F), (M, F)
    cells: at most; fewer where there are not 50 samples a cell. Those with fewer than 10 of either side are left out

    Around 0 (within about ±3) for held-out data, far below (-5) for copies, above for what is far from the data. It
    sees copying that is common in a cell: a few copies among good samples are `copy_share`'s to find.
    """
    check_features(train, held, fake)
    if cells < 1:
        raise UserError(f"cells={cells} hold no samples; cells >= 1")
    to_train = [nearest(x, train)[0][:, 0] for x in (held, fake)]
    centres = _centres(train, min(cells, max(1, min(len(held), len(fake)) // 50)), seed)
    cell_held, cell_fake = (nearest(x, centres)[1][:, 0] for x in (held, fake))
    scores, weights, shares = [], [], []
    for c in range(len(centres)):
        h, f = to_train[0][cell_held == c], to_train[1][cell_fake == c]
        if min(len(h), len(f)) < 10:  # a normal approximation needs a few
            continue
        scores.append(_mann_whitney_z(f, h))
        weights.append(len(h))
        shares.append(len(f) / len(fake))
    if not scores:
        return CT(_mann_whitney_z(to_train[1], to_train[0]), ())
    value = sum(z * w for z, w in zip(scores, weights, strict=True)) / sum(weights)
    return CT(value, tuple(zip(shares, scores, strict=True)))


def _mann_whitney_z(a: Tensor, b: Tensor) -> float:
    """How far `a` lies above `b`, in standard deviations of U; ties share their rank."""
    n, m = len(a), len(b)
    _, inverse, counts = torch.cat([a, b]).unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    rank = (last - (counts.double() - 1) / 2)[inverse]
    u = float(rank[:n].sum()) - n * (n + 1) / 2
    ties = float((counts.double() ** 3 - counts.double()).sum()) / ((n + m) * (n + m - 1))
    variance = n * m / 12 * (n + m + 1 - ties)
    return (u - n * m / 2) / variance**0.5 if variance > 0 else 0.0


def _centres(x: Tensor, k: int, seed: int, rounds: int = 15) -> Tensor:
    """k-means (Lloyd) of at most 20,000 rows."""
    g = torch.Generator().manual_seed(seed)
    x = x[torch.randperm(len(x), generator=g)[:20_000]].double()
    centres = x[:k].clone()
    for _ in range(rounds):
        cell = torch.cdist(x, centres).argmin(1)
        for c in range(k):
            if (cell == c).any():
                centres[c] = x[cell == c].mean(0)
    return centres


def memorisation_distance(real: Tensor, fake: Tensor, block: int = 4096) -> float:
    """Mean cosine distance of each fake to its nearest real sample (Bai et al. 2021, MiFID's second term).

    real, fake: (N, F), (M, F). Over the fakes: over the reals it misses copies of a few of them.
    """
    check_features(real, fake, least=1)
    best = torch.full((len(fake),), -torch.inf, dtype=torch.float64)
    for base in real.split(block):
        unit = torch.nn.functional.normalize(base.double(), dim=1)
        for i in range(0, len(fake), block):
            mine = torch.nn.functional.normalize(fake[i : i + block].double(), dim=1)
            best[i : i + block] = best[i : i + block].maximum((mine @ unit.T).amax(1))
    return float((1 - best).clamp(min=0).mean())


def mifid(fd: float, distance: float, threshold: float = 0.1, eps: float = 1e-15) -> float:
    """Memorisation-informed FID (Bai et al. 2021): fd / distance below the threshold, fd from there on. Copies, whose
    distance is 0, have a huge one."""
    return fd / (distance + eps) if distance < threshold else fd
