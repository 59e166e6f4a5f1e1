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
from gan_kit.evaluate.kernels import GaussianDistance, gaussian_distance, median_distance
from gan_kit.evaluate.memorisation import (
    CT,
    Rate,
    authenticity,
    copy_share,
    data_copying_ct,
    memorisation_distance,
    mifid,
    rate,
)
from gan_kit.evaluate.neighbours import nearest, radii
from gan_kit.types import UserError

__all__ = [
    "CT",
    "PRDC",
    "DensityCoverage",
    "Diversity",
    "FrechetInfinity",
    "GaussianDistance",
    "InceptionScore",
    "KernelDistance",
    "Modes",
    "NeighbourDistances",
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
    "gaussian_distance",
    "inception_score",
    "intra_class_diversity",
    "kernel_distance",
    "mean_and_cov",
    "median_distance",
    "memorisation_distance",
    "mifid",
    "modes_covered",
    "nearest",
    "neighbour_distances",
    "prdc",
    "precision_recall",
    "vendi_score",
]


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
    precision, recall, coverage = rate(within > 0), rate(recalled), rate(covered)
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


class NeighbourDistances(NamedTuple):
    """per_class: the mean distance within the class over the reference's, and its standard error; mean: over classes"""

    mean: float
    stderr: float
    per_class: dict[int, float]


def neighbour_distances(
    features: Tensor, y: Tensor, reference: Tensor, reference_y: Tensor, seed: int = 0
) -> NeighbourDistances:
    """Mean distance of a sample to the nearest other one of its class, as a share of real data's at equal numbers.

    0 for samples that come twice, about 1 for real ones. A class that has fallen into a few clumps keeps its variance,
    which `intra_class_diversity` looks at, but not this. features, reference: (N, F), (M, F); y, reference_y: (N,),
    (M,) class indices. seed: of which samples stay where one side has more. The error is of the mean over samples.
    Raises UserError where no class has two of each, the reference's apart.
    """
    check_features(features, reference)
    check_labels(features, y)
    check_labels(reference, reference_y)
    g = torch.Generator().manual_seed(seed)
    per_class, variance = {}, 0.0
    for k in sorted(set(y.tolist()) & set(reference_y.tolist())):
        sides = [features[y == k], reference[reference_y == k]]
        least = min(map(len, sides))
        if least < 2:
            continue
        ours, theirs = (radii(x[torch.randperm(len(x), generator=g)[:least]], 1) for x in sides)
        if (real := float(theirs.mean())) > 0:
            per_class[k] = float(ours.mean()) / real
            variance += float(ours.var()) / least / real**2
    if not per_class:
        raise UserError("no class has two generated samples and two real ones that lie apart")
    return NeighbourDistances(sum(per_class.values()) / len(per_class), variance**0.5 / len(per_class), per_class)


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
