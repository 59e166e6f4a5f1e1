"""What a generator learns from beside its adversarial loss: a formula over one view of its half of the step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gan_kit.adversarial.penalties import Latent, Lazy
from gan_kit.adversarial.schedule import Scheduled
from gan_kit.noise import BatchNoise
from gan_kit.types import Critique, UserError

__all__ = ["FeatureMatching", "GView", "Term"]


@dataclass
class GView:
    """What a term sees of one generator step.

    generator: G; critique: x -> Critique, with the labels bound and the augmentation inside; D is frozen
    latent: z (B, z_dim), and `generate`: z -> x with the labels and G's own draws as they were
    y: (B,) labels or None; real, fake: (B, ...) un-augmented, the fakes with their graph
    on_fake: the critique already made of the fakes; on_real: of the reals, without gradients, where the loss or a
        term asked for it (`sees_real`), else None
    samples_seen: the clock
    """

    generator: Any
    critique: Callable[[Tensor], Critique]
    latent: Latent
    noise: BatchNoise
    y: Tensor | None
    real: Tensor
    fake: Tensor
    on_fake: Critique
    on_real: Critique | None = None
    samples_seen: int = 0


class Term(Lazy, ABC):
    """A formula `(view) -> (B,)` of G's half of the step, with a weight and laziness; `every` counts G's steps."""

    sees_real = False  # True: `view.on_real` is wanted

    def prepare(self, generator: Any) -> None:
        """Called once with G before the training; raise UserError where this term can't be taken of it."""

    def __call__(self, view: GView) -> Tensor:
        return self.weight_at(view.samples_seen) * self.formula(view).mean()

    @abstractmethod
    def formula(self, view: GView) -> Tensor:
        """-> (B,) or a scalar, differentiable with respect to the generator's weights"""


class FeatureMatching(Term):
    """‖E f(real) - E f(fake)‖² of each of D's features f, the mean over its elements, summed over features
    (Salimans et al. 2016, section 3.1). The means are the batch's that is seen at once: a micro-batch's, a rank's.
    """

    sees_real = True

    def __init__(self, weight: Scheduled = 1.0, every: int = 1):
        super().__init__(weight, every)

    def formula(self, view: GView) -> Tensor:
        assert view.on_real is not None
        reals, fakes = ([f.float().mean(0) for fs in c.features for f in fs] for c in (view.on_real, view.on_fake))
        if not fakes:
            raise UserError("feature matching: this discriminator shows no features in its Critique; choose another")
        return torch.stack([(r - f).square().mean() for r, f in zip(reals, fakes, strict=True)]).sum()
