"""Adversarial losses: logits in, scalar out; real is high. Each reads like its paper's formula.

`g_sees_real` is True where the generator's loss compares with real logits.
"""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

__all__ = ["Hinge", "LeastSquares", "Loss", "NonSaturating", "Relativistic", "RelativisticAverage", "Wasserstein"]


class Loss(Protocol):
    """real, fake: logits of one sub-discriminator, of any shape with B first; -> scalar."""

    g_sees_real: bool

    def d(self, real: Tensor, fake: Tensor) -> Tensor: ...
    def g(self, real: Tensor | None, fake: Tensor) -> Tensor: ...


class NonSaturating:
    """The non-saturating logistic loss (Goodfellow et al. 2014, section 3)."""

    g_sees_real = False

    def d(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def g(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return F.softplus(-fake).mean()


class Hinge:
    """The hinge loss (Lim & Ye 2017; Miyato et al. 2018, equations 16 and 17)."""

    g_sees_real = False

    def d(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def g(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return -fake.mean()


class LeastSquares:
    """Least squares with targets 1 and 0 (Mao et al. 2017, equation 9)."""

    g_sees_real = False

    def d(self, real: Tensor, fake: Tensor) -> Tensor:
        return (real - 1).square().mean() / 2 + fake.square().mean() / 2

    def g(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return (fake - 1).square().mean() / 2


class Wasserstein:
    """The Kantorovich dual (Arjovsky et al. 2017, equation 2); the critic needs a Lipschitz penalty."""

    g_sees_real = False

    def d(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def g(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return -fake.mean()


class Relativistic:
    """Relativistic pairing, RpGAN (Jolicoeur-Martineau 2018; Huang et al. 2024, equation 2): fake i against real i."""

    g_sees_real = True

    def d(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(fake - real).mean()

    def g(self, real: Tensor | None, fake: Tensor) -> Tensor:
        assert real is not None
        return F.softplus(real - fake).mean()


class RelativisticAverage:
    """Relativistic average, RaGAN (Jolicoeur-Martineau 2018, equations 15 and 16): each logit against the other side's
    mean. The means are the batch's that is seen at once: a micro-batch's, a rank's.
    """

    g_sees_real = True

    def d(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(fake.mean() - real).mean() + F.softplus(fake - real.mean()).mean()

    def g(self, real: Tensor | None, fake: Tensor) -> Tensor:
        assert real is not None
        return self.d(fake, real)
