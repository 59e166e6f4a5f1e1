"""LeCam's regulariser, for small data sets (Tseng et al. 2021, "Regularizing Generative Adversarial Networks under
Limited Data")."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gan_kit.adversarial.adaptive import Adaptive, Mean
from gan_kit.adversarial.penalties import DView, Penalty
from gan_kit.adversarial.schedule import Scheduled
from gan_kit.types import Critique, UserError

__all__ = ["LeCam"]


class LeCam(Penalty, Adaptive):
    """(D(real) - a_fake)² + (D(fake) - a_real)², a the moving averages of D's logits (equation 8); weight is λ.

    halflife_samples: of the averages; 17,000 is the published decay of 0.99 at 256 a batch. They are one number a
        sub-discriminator, over all ranks, as of the step before; the very first step has none, and no penalty.
    Losses of differences (relativistic, Wasserstein) leave the level of logits free: this one would pull at it.
    """

    differentiates_x = False

    def __init__(self, weight: Scheduled = 0.3, halflife_samples: int = 17_000):
        super().__init__(weight)
        if halflife_samples < 1:
            raise UserError(f"LeCam's halflife_samples={halflife_samples} must be at least 1")
        self.halflife_samples = halflife_samples
        self.average: Tensor | None = None  # (2, K): real, fake of K sub-discriminators
        self.sums: Tensor | None = None  # (3, K): of the logits' means over a sample, and the number of samples

    def formula(self, view: DView) -> Tensor:
        reals, fakes = _means(view.on_real), _means(view.on_fake)  # (B, K)
        if self.average is None:
            return torch.zeros_like(reals[:, 0])
        real, fake = self.average.to(reals)
        return (reals - fake).square().sum(1) + (fakes - real).square().sum(1)

    def watch(self, on_real: Critique, on_fake: Critique) -> None:
        reals, fakes = _means(on_real).detach(), _means(on_fake).detach()
        seen = torch.stack([reals.sum(0), fakes.sum(0), torch.full_like(reals[0], len(reals))])
        self.sums = seen if self.sums is None else self.sums + seen

    def settle(self, mean: Mean, samples: int) -> None:
        if self.sums is None:
            return
        total = mean(self.sums)
        now, self.sums = total[:2] / total[2], None
        old = 0.5 ** (samples / self.halflife_samples)
        self.average = now if self.average is None else torch.lerp(now, self.average.to(now), old)

    def readings(self) -> dict[str, Tensor]:
        if self.average is None:
            return {}
        real, fake = self.average.sum(1)
        return {"_real": real, "_fake": fake}

    def state_dict(self) -> dict[str, Any]:
        return {"average": None if self.average is None else self.average.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average = state["average"]


def _means(critique: Critique) -> Tensor:
    """Each sub-discriminator's logit of each sample, the mean of its patches; (B, K)"""
    return torch.stack([logits.float().reshape(len(logits), -1).mean(1) for logits in critique.logits], dim=1)
