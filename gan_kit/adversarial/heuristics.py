"""Where to begin with γ, lr, the average's half-life and augmentation: published rules, as functions of the data.

They are first guesses, a sweep's centre. γ is the weight of ½‖∇D‖² (R1, R2) as in the papers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gan_kit.types import UserError

__all__ = ["Suggestion", "gamma_r1", "gamma_relativistic", "halflife", "learning_rate", "suggestions"]

R3GAN = ((32, 0.05), (64, 2.0), (256, 150.0))  # CIFAR-10, FFHQ-64, FFHQ-256 (Huang et al. 2024, appendix)


@dataclass(frozen=True)
class Suggestion:
    """A value to begin with, between which others to search, and why."""

    value: float
    low: float
    high: float
    why: str


def gamma_r1(resolution: int, batch: int) -> float:
    """γ = .0002 resolution² / batch (StyleGAN2-ADA, Karras et al. 2020, appendix C): of R1 with logistic losses."""
    _positive(resolution=resolution, batch=batch)
    return 0.0002 * resolution**2 / batch


def gamma_relativistic(resolution: int) -> float:
    """γ at the start of R1 + R2 with the relativistic loss: R3GAN's published settings, a power law between them."""
    _positive(resolution=resolution)
    upper = 1 if resolution < R3GAN[1][0] else 2
    (x0, y0), (x1, y1) = R3GAN[upper - 1], R3GAN[upper]
    slope = math.log(y1 / y0) / math.log(x1 / x0)
    return y0 * (resolution / x0) ** slope


def learning_rate(width: int) -> float:
    """R3GAN's 2e-4 at 768 channels, in inverse proportion to the widest layer, at most 2e-3.

    Adam's steps change a layer's output in proportion to its inputs (Yang et al. 2022, µP, table 3): 1.2e-3 at 128,
    near the 1e-3 that the small presets were searched to have (docs/results.md).
    """
    _positive(width=width)
    return min(2e-4 * 768 / width, 2e-3)


def halflife(batch: int) -> float:
    """Samples: 10,000 · batch / 32 (StyleGAN2, Karras et al. 2020, appendix B)"""
    _positive(batch=batch)
    return 10_000 * batch / 32


def suggestions(
    resolution: int, batch: int, samples: int, width: int | None = None, relativistic: bool = False
) -> dict[str, Suggestion]:
    """{what: where to begin}, for training data of so many samples. width: of the widest layer, if known

    γ's upper end lies further off than its lower one: on Fashion-MNIST recall grew up to the largest weight that was
    tried, and small data want more of it (docs/results.md). Raises UserError unless all are positive.
    """
    _positive(samples=samples)
    if relativistic:
        gamma, whence = gamma_relativistic(resolution), "R3GAN's settings by resolution"
    else:
        gamma, whence = gamma_r1(resolution, batch), "0.0002 resolution² / batch, StyleGAN2-ADA"
    found = {"gamma": Suggestion(gamma, gamma / 4, gamma * (16 if samples >= 10_000 else 64), whence)}
    if width is not None:
        lr = learning_rate(width)
        found["lr"] = Suggestion(lr, lr / 4, lr * 2, "2e-4 at 768 channels, inversely to the width")
    life = halflife(batch)
    found["ema"] = Suggestion(life, life / 4, life * 4, "10,000 batch / 32 samples, StyleGAN2")
    p = 0.0 if samples >= 50_000 else 0.3 if samples >= 5_000 else 0.6
    why = "D overfits small data (Karras et al. 2020, figure 7); the guardian's held-out gap tells"
    found["p"] = Suggestion(p, 0.0, min(1.0, p + 0.3), why)
    return found


def _positive(**given: int) -> None:
    for name, value in given.items():
        if value < 1:
            raise UserError(f"{name}={value} must be a positive number")
