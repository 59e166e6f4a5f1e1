"""Scores of generated samples as pure functions: features in, numbers out, in fp64.

Features are (N, F) of any float type, on the CPU. All raise UserError for features that are not finite, have too few
rows or differ in dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gan_kit.evaluate.frechet import (
    CHUNK,
    FrechetInfinity,
    check_features,
    check_labels,
    class_frechet_distances,
    cov_root,
    frechet_distance,
    frechet_distance_of,
    frechet_infinity,
    frechet_with_error,
    mean_and_cov,
)
from gan_kit.evaluate.neighbours import nearest, radii
from gan_kit.types import UserError

__all__ = [
    "CT",
    "PRDC",
    "DensityCoverage",
    "Diversity",
    "FrechetInfinity",
    "InceptionScore",
    "KernelDistance",
    "Modes",
    "PrecisionRecall",
    "Rate",
    "authenticity",
    "class_frechet_distances",
    "copy_share",
    "cov_root",
    "data_copying_ct",
    "density_coverage",
    "frechet_distance",
    "frechet_distance_of",
    "frechet_infinity",
    "frechet_with_error",
    "inception_score",
    "intra_class_diversity",
    "kernel_distance",
    "mean_and_cov",
    "memorisation_distance",
    "mifid",
    "modes_covered",
    "nearest",
    "prdc",
    "precision_recall",
    "vendi_score",
]


class Rate(NamedTuple):
    """A share of samples, and its binomial standard error."""

    value: float
    stderr: float


def _rate(hits: Tensor) -> Rate:
    value = float(hits.double().mean())
    return Rate(value, (value * (1 - value) / len(hits)) ** 0.5)


# ---- kernel distance, inception score -------------------------------------------------------------------------


class KernelDistance(NamedTuple):
    """value: mean over subsets

    stderr: standard deviation over subsets / √subsets, i.e. of the mean for other subsets of these same samples; where
    subsets are many they overlap, and for other samples it is larger. Of a single subset, or where each would hold
    both sides whole: for other samples, by the first term of the U statistic's variance.
    """

    value: float
    stderr: float


def kernel_distance(
    real: Tensor, fake: Tensor, *, subsets: int = 100, subset_size: int = 1000, degree: int = 3, seed: int = 0
) -> KernelDistance:
    """Unbiased squared MMD with kernel (x·y/F + 1)^degree: KID (Bińkowski et al. 2018, section 4).

    real, fake: (N, F), (M, F)
    subset_size: samples of each side in a subset, drawn without replacement; at most as many as the smaller side has
    """
    check_features(real, fake)
    size = min(subset_size, len(real), len(fake))
    if size < 2 or subsets < 1:
        raise UserError(f"subsets={subsets} of subset_size={subset_size} can't be scored; at least 1 of 2")
    if size == len(real) == len(fake):
        subsets = 1  # they are all the same one
    g = torch.Generator().manual_seed(seed)
    values, stderr = [], 0.0
    for _ in range(subsets):
        x = real[torch.randperm(len(real), generator=g)[:size]].double()
        y = fake[torch.randperm(len(fake), generator=g)[:size]].double()
        xx, yy, xy = ((a @ b.T).div_(x.shape[1]).add_(1).pow_(degree) for a, b in ((x, x), (y, y), (x, y)))
        # what each sample adds: its mean kernel with its own side less that with the other
        of_x = (xx.sum(1) - xx.diagonal()) / (size - 1) - xy.mean(1)
        of_y = (yy.sum(1) - yy.diagonal()) / (size - 1) - xy.mean(0)
        values.append(of_x.mean() + of_y.mean())
        stderr = float(4 * (of_x.var() + of_y.var()) / size) ** 0.5
    found = torch.stack(values)
    return KernelDistance(float(found.mean()), float(found.std()) / subsets**0.5 if subsets > 1 else stderr)


class InceptionScore(NamedTuple):
    """mean and standard deviation over the splits"""

    mean: float
    std: float


def inception_score(probabilities: Tensor, *, splits: int = 10, seed: int = 0) -> InceptionScore:
    """exp E KL(p(y|x) || p(y)) over splits (Salimans et al. 2016, section 4); probabilities: (N, K), rows sum to 1.

    Shuffled first: samples come ordered by class, and a split of one class scores 1.
    """
    check_features(probabilities)
    if not 1 <= splits <= len(probabilities):
        raise UserError(f"{len(probabilities)} samples can't be cut into splits={splits}; at most one a sample")
    p = probabilities
    if (p < 0).any() or (p.double().sum(1) - 1).abs().max() > 1e-3:
        raise UserError("these are no probabilities: each row must sum to 1; apply softmax to logits")
    order = torch.randperm(len(p), generator=torch.Generator().manual_seed(seed))
    scores = []
    for rows in order.tensor_split(splits):
        part = p[rows].double()
        mean = part.mean(0, keepdim=True)
        scores.append((torch.xlogy(part, part) - torch.xlogy(part, mean)).sum(1).mean().exp())
    found = torch.stack(scores)
    return InceptionScore(float(found.mean()), float(found.std(correction=0)))


# ---- precision and recall -------------------------------------------------------------------------------------


class PRDC(NamedTuple):
    """Each a share (density: a mean count over k) with its standard error, given the balls: binomial, density's from
    the spread of its counts."""

    precision: float
    recall: float
    density: float
    coverage: float
    precision_stderr: float
    recall_stderr: float
    density_stderr: float
    coverage_stderr: float


class PrecisionRecall(NamedTuple):
    precision: Rate
    recall: Rate


class DensityCoverage(NamedTuple):
    density: Rate
    coverage: Rate


def prdc(real: Tensor, fake: Tensor, k: int = 5, block: int = 1024) -> PRDC:
    """Precision and recall by k-th-neighbour balls (Kynkäänniemi et al. 2019, section 2), density and coverage
    (Naeem et al. 2020, section 3), for the price of one.

    real, fake: (N, F), (M, F)
    precision: share of fakes in a real sample's ball; recall: of real samples in a fake's; density: real balls that a
    fake lies in, over k; coverage: share of real balls that hold a fake

    A sample on the edge of a ball lies in it, so that duplicates count: the `prdc` package's strict `<` gives them 0.
    """
    check_features(real, fake)
    if not 1 <= k < min(len(real), len(fake)):
        raise UserError(f"k={k} neighbours need more than {k} samples a side, there are {len(real)} and {len(fake)}")
    centre = real[:CHUNK].double().mean(0)
    # product form, for speed: what rounding leaves on the edge of a ball, for one a duplicate, is in
    ball_real, ball_fake = (radii(x, k).square() * (1 + 1e-9) for x in (real, fake))
    within = torch.zeros(len(fake), dtype=torch.float64)  # real balls that a fake lies in
    recalled = torch.zeros(len(real), dtype=torch.bool)
    covered = torch.zeros(len(real), dtype=torch.bool)
    for j in range(0, len(real), 4 * block):
        at = slice(j, j + 4 * block)
        base = real[at].double() - centre
        squares = base.square().sum(1)
        for i in range(0, len(fake), block):
            rows = slice(i, i + block)
            part = fake[rows].double() - centre
            distance = (part.square().sum(1, keepdim=True) + squares).mul_(1 - 1e-12).addmm_(part, base.T, alpha=-2)
            inside = distance <= ball_real[at]
            within[rows] += inside.sum(1)
            covered[at] |= inside.any(0)
            recalled[at] |= (distance <= ball_fake[rows, None]).any(0)
    precision, recall, coverage = _rate(within > 0), _rate(recalled), _rate(covered)
    density = within / k
    stderr = float(density.std() / len(density) ** 0.5)
    return PRDC(
        precision.value, recall.value, float(density.mean()), coverage.value,
        precision.stderr, recall.stderr, stderr, coverage.stderr,
    )  # fmt: skip


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """`prdc`'s first two with the k of Kynkäänniemi et al. 2019."""
    p = prdc(real, fake, k)
    return PrecisionRecall(Rate(p.precision, p.precision_stderr), Rate(p.recall, p.recall_stderr))


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> DensityCoverage:
    """`prdc`'s other two with the k of Naeem et al. 2020."""
    p = prdc(real, fake, k)
    return DensityCoverage(Rate(p.density, p.density_stderr), Rate(p.coverage, p.coverage_stderr))


# ---- memorisation ---------------------------------------------------------------------------------------------


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
    return _rate(distance[:, 0] > own[back])


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
    share = _rate(distance < edge if edge > 0 else distance == 0)
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


# ---- classes --------------------------------------------------------------------------------------------------


class Modes(NamedTuple):
    """number: of classes that appear; kl: of the fakes' classes from the reference's, nats; covered: which ones"""

    number: int
    kl: float
    covered: tuple[int, ...]


def modes_covered(
    classes: Tensor, num_classes: int, *, reference: Tensor | Sequence[float] | None = None, least: float = 0.1
) -> Modes:
    """Which classes appear, and how evenly (as Srivastava et al. 2017 count stacked-MNIST's).

    classes: (N,) labels or (N, K) probabilities, of which the largest counts
    reference: (K,) shares of the classes in real data, else uniform
    least: a class appears where its share is at least this part of the reference's
    """
    labels = classes.argmax(1) if classes.dim() == 2 else classes
    if not len(labels) or int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise UserError(f"labels must be 0 to {num_classes - 1}, at least one of them")
    shares = torch.bincount(labels, minlength=num_classes).double() / len(labels)
    even = torch.full((num_classes,), 1 / num_classes, dtype=torch.float64)
    real = even if reference is None else torch.as_tensor(reference, dtype=torch.float64)
    if len(real) != num_classes or abs(float(real.sum()) - 1) > 1e-6:
        raise UserError(f"the reference must be {num_classes} shares that sum to 1")
    covered = ((shares > 0) & (shares >= least * real)).nonzero()[:, 0].tolist()
    floor = real.clamp(min=1 / (2 * len(labels)))  # a class that the reference lacks costs much, not infinitely much
    kl = float((torch.xlogy(shares, shares) - torch.xlogy(shares, floor)).sum())
    return Modes(len(covered), max(kl, 0.0), tuple(covered))


class Diversity(NamedTuple):
    """per_class: variance within the class over the reference's; mean: over classes"""

    mean: float
    per_class: dict[int, float]


def intra_class_diversity(features: Tensor, y: Tensor, reference: Tensor, reference_y: Tensor) -> Diversity:
    """Trace of the covariance within each class, as a share of real data's: 0 for one picture a class, 1 for real.

    features, reference: (N, F), (M, F); y, reference_y: (N,), (M,) class indices
    Raises UserError where no class has two of each that differ.
    """
    check_features(features, reference)
    check_labels(features, y)
    check_labels(reference, reference_y)
    per_class = {}
    for k in sorted(set(y.tolist()) & set(reference_y.tolist())):
        a, b = features[y == k], reference[reference_y == k]
        if min(len(a), len(b)) >= 2 and (spread := _spread(b)) > 0:
            per_class[k] = _spread(a) / spread
    if not per_class:
        raise UserError("no class has two real and two generated samples that differ")
    return Diversity(sum(per_class.values()) / len(per_class), per_class)


def _spread(x: Tensor) -> float:
    """Trace of the covariance."""
    mean = x.sum(0, dtype=torch.float64) / len(x)
    return float(sum((part.double() - mean).square().sum() for part in x.split(CHUNK))) / (len(x) - 1)


def vendi_score(features: Tensor, kernel: str = "cosine") -> float:
    """Effective number of different samples (Friedman & Dieng 2023, section 3): exp of the entropy of the eigenvalues
    of the samples' similarities over N. 1 where all are alike, N where all are orthogonal.

    features: (N, F); where N > F the eigenvalues are taken from the (F, F) side, and are at most F
    """
    check_features(features, least=1)
    if kernel != "cosine":
        raise UserError(f"no kernel {kernel!r}; have 'cosine'")
    if len(features) <= features.shape[1]:
        unit = torch.nn.functional.normalize(features.double(), dim=1)
        gram = unit @ unit.T
    else:
        gram = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
        for part in features.split(CHUNK):
            unit = torch.nn.functional.normalize(part.double(), dim=1)
            gram.addmm_(unit.T, unit)  # the same eigenvalues but for zeros
    values = torch.linalg.eigvalsh(gram).clamp(min=0)
    if not values.sum() > 0:
        raise UserError("all features are zero, which has no direction; look at the samples")
    values = values / values.sum()
    return float((-torch.xlogy(values, values)).sum().exp())
