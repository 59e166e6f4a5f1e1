"""What goes wrong in an adversarial training, as numbers: pure functions of logits, features and distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from gan_kit.evaluate.functional import intra_class_diversity, prdc

__all__ = ["Gap", "copy_share", "diversity", "growth", "held_out_gap", "recall", "sign_statistic", "standardised"]


def sign_statistic(real: Tensor, fake: Tensor | None = None) -> float:
    """E[sign D(real)] of training reals: 1 where D knows each of them (r_t of Karras et al. 2020, equation 1).

    real: (N,) logits. fake: (M,), of a relativistic D, whose logits have no zero of their own: E[sign(D(real) -
    D(fake))] over all pairs then. Their target for adaptive augmentation is 0.6.
    """
    if fake is None:
        return float(real.sign().mean())
    return float((real[:, None] - fake[None, :]).sign().mean())


class Gap(NamedTuple):
    """value: r_v, 0 without overfitting, 1 where held-out reals look like fakes; z: of train against held-out logits"""

    value: float
    z: float


def held_out_gap(train: Tensor, held: Tensor, fake: Tensor) -> Gap:
    """Where D puts held-out reals between the training reals (0) and the fakes (1): r_v of Karras et al. 2020,
    equation 1; free of the logits' offset and scale.

    train, held, fake: (N,), (M,), (K,) logits. 0 where D does not tell the training reals from the fakes.
    """
    away = float(train.mean() - fake.mean())
    missing = float(train.mean() - held.mean())
    error = math.sqrt(float(train.var() / len(train) + held.var() / len(held)))
    return Gap(missing / away if away > 0 else 0.0, missing / error if error > 0 else 0.0)


def standardised(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Both in units of the reals' standard deviation, without features that hardly vary. (N, F), (M, F)"""
    std = real.std(0)
    kept = std > 1e-3 * std.max()
    return real[:, kept] / std[kept], fake[:, kept] / std[kept]


def diversity(real: Tensor, fake: Tensor, y_real: Tensor | None = None, y_fake: Tensor | None = None) -> float:
    """Trace of the fakes' covariance as a share of the reals', the mean over classes: 0 for one picture a class.

    real, fake: (N, F), (M, F); y_real, y_fake: (N,), (M,), or None for one class. 1 where reals do not vary either.
    """
    if y_real is None or y_fake is None:
        y_real, y_fake = torch.zeros(len(real), dtype=torch.long), torch.zeros(len(fake), dtype=torch.long)
    shared = [
        k for k in set(y_real.tolist()) & set(y_fake.tolist()) if min((y_real == k).sum(), (y_fake == k).sum()) > 1
    ]
    if not any(float(real[y_real == k].var(0).sum()) > 0 for k in shared):
        return 1.0
    return intra_class_diversity(fake, y_fake, real, y_real).mean


def recall(real: Tensor, fake: Tensor, k: int = 5) -> float:
    """Share of reals within a fake's k-th-neighbour ball (Kynkäänniemi et al. 2019). real, fake: (N, F), (M, F)"""
    return prdc(real, fake, min(k, len(real) - 1, len(fake) - 1)).recall


def copy_share(fake: Tensor, reference: Tensor, quantile: float = 0.05) -> float:
    """Share of fakes nearer to the training data than all but `quantile` of real samples that are not in it.

    fake, reference: (N,), (M,) distances to the nearest training sample. `quantile` is due; copies have 1.
    """
    edge = torch.quantile(reference.double(), quantile)
    near = fake.double() < edge if edge > 0 else fake == 0
    return float(near.double().mean())


def growth(history: Sequence[float], value: float, least: float = 0.0) -> float:
    """How many times the median of what it was, and of `least` where there is no history."""
    before = median(history) if history else least
    return value / before if before > 0 else 1.0
