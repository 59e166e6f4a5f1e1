"""Consistency regularisation: D should say the same of a sample and of its neighbours.

CR is `Consistency(of="real")` (Zhang et al. 2020), bCR adds `Consistency(of="fake")`, zCR is `LatentConsistency` and
`LatentDiversity`, and all four of them ICR (Zhao et al. 2021, "Improved Consistency Regularization for GANs").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan_kit.adversarial.penalties import DView, Latent, Penalty
from gan_kit.adversarial.schedule import Scheduled
from gan_kit.adversarial.terms import GView, Term
from gan_kit.noise import Noise
from gan_kit.types import Critique, UserError

__all__ = ["Consistency", "LatentConsistency", "LatentDiversity"]


def sq_difference(a: Critique, b: Critique) -> Tensor:
    """Of the logits, the mean over a sample's patches, summed over sub-discriminators; (B,)"""
    pairs = zip(a.logits, b.logits, strict=True)
    return torch.stack([(x.float() - y.float()).square().reshape(len(x), -1).mean(1) for x, y in pairs]).sum(0)


class Consistency(Penalty):
    """(D(x) - D(T(x)))² at reals or fakes; weight is λ_CR, of which 10 is published.

    augment: T, called as augment(x, p=1, noise): a change that leaves a sample what it is, flips and small shifts
    of: "real" (CR, Zhang et al. 2020, equation 4) or "fake" (the other half of bCR, Zhao et al. 2021, section 3.1)
    """

    differentiates_x = False

    def __init__(self, augment: nn.Module, of: str = "real", weight: Scheduled = 10.0, every: int = 1):
        super().__init__(weight, every)
        if of not in ("real", "fake"):
            raise UserError(f"consistency of={of!r}: choose 'real' or 'fake'")
        self.augment, self.of = augment, of

    def formula(self, view: DView) -> Tensor:
        real = self.of == "real"
        x, critique, call = (
            (view.real, view.on_real, view.call_real) if real else (view.fake, view.on_fake, view.call_fake)
        )
        moved = self.augment(x.detach(), 1.0, view.noise)
        with view.noise.again(call):  # whatever else augments D's input does it in the same way again
            return sq_difference(critique, view.critique(moved))


def beside(latent: Latent, sigma: float, noise: Noise) -> Tensor:
    """x of z + σε"""
    return latent.generate(latent.z + sigma * noise.randn(*latent.z.shape[1:]).to(latent.z))


class LatentConsistency(Penalty):
    """(D(G(z)) - D(G(z + σε)))²; weight is λ_dis (zCR, Zhao et al. 2021, algorithm 2)."""

    differentiates_x = False

    def __init__(self, weight: Scheduled = 5.0, every: int = 1, sigma: float = 0.05):
        super().__init__(weight, every)
        self.sigma = positive(sigma)

    def formula(self, view: DView) -> Tensor:
        if view.latent is None:
            raise UserError("zCR needs a generator of noise z; this training's generator restores what it is shown")
        with torch.no_grad():
            x = beside(view.latent, self.sigma, view.noise)
        with view.noise.again(view.call_fake):
            return sq_difference(view.on_fake, view.critique(x))


class LatentDiversity(Term):
    """-(G(z) - G(z + σε))², the mean over a sample; weight is λ_gen (zCR, Zhao et al. 2021, algorithm 2)."""

    def __init__(self, weight: Scheduled = 0.5, every: int = 1, sigma: float = 0.05):
        super().__init__(weight, every)
        self.sigma = positive(sigma)

    def formula(self, view: GView) -> Tensor:
        moved = beside(view.latent, self.sigma, view.noise)
        return -(view.fake - moved).float().square().flatten(1).mean(1)


def positive(sigma: float) -> float:
    if sigma <= 0:
        raise UserError(f"zCR's sigma={sigma} must be positive, 0.05 say")
    return sigma
