"""Losses of a discriminator that also says which class it sees, for both nets: AC-GAN's and ReACGAN's.

The discriminator is built with `conditioning="auxiliary"` or `"d2d-ce"` (`gan_kit.nn.ClassHead`). Samples without a
label (y < 0 or y = num_classes, the null class) count as 0, so that partly labelled data train all the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_kit.adversarial.penalties import DView, Penalty
from gan_kit.adversarial.schedule import Scheduled
from gan_kit.adversarial.terms import GView, Term
from gan_kit.types import Critique, UserError

__all__ = ["ClassLoss", "ClassPenalty", "ClassTerm", "CrossEntropy", "DataToDataCrossEntropy"]


class ClassLoss(ABC):
    """(critique, y (B,)) -> (B,), 0 for samples without a label"""

    @abstractmethod
    def __call__(self, critique: Critique, y: Tensor) -> Tensor: ...


class CrossEntropy(ClassLoss):
    """-log softmax(class logits)[y] (AC-GAN, Odena et al. 2017, equation 3)."""

    def __call__(self, critique: Critique, y: Tensor) -> Tensor:
        if critique.aux is None or critique.aux.logits is None:
            raise UserError("the discriminator says nothing of classes; build it with conditioning=auxiliary")
        logits = critique.aux.logits.float()
        classes = logits.shape[1]
        return F.cross_entropy(logits, torch.where((y < 0) | (y >= classes), -100, y), reduction="none")


class DataToDataCrossEntropy(ClassLoss):
    """D2D-CE (ReACGAN, Kang et al. 2021, equation 6): near its class's proxy, far from the others of the batch.

    -log(a / (a + Σ_j b_j)), a = exp([f·v_y - m_p]₋ / τ), b_j = exp([f·f_j - m_n]₊ / τ) over all j of another class.
    The others are those seen at once: a micro-batch's, a rank's.
    """

    def __init__(self, temperature: float = 0.5, margin_positive: float = 0.98, margin_negative: float = -0.02):
        if temperature <= 0:
            raise UserError(f"temperature={temperature} must be positive, 0.5 say")
        self.temperature, self.margin_positive, self.margin_negative = temperature, margin_positive, margin_negative

    def __call__(self, critique: Critique, y: Tensor) -> Tensor:
        aux = critique.aux
        if aux is None or aux.embedding is None or aux.proxies is None:
            raise UserError("the discriminator embeds nothing on a sphere; build it with conditioning=d2d-ce")
        f, proxies = aux.embedding.float(), aux.proxies.float()
        labelled = (y >= 0) & (y < len(proxies))
        own = (f * proxies[y.clamp(0, len(proxies) - 1)]).sum(1)
        a = (own - self.margin_positive).clamp(max=0) / self.temperature  # (B,)
        b = (f @ f.T - self.margin_negative).clamp(min=0) / self.temperature  # (B, B)
        others = (y[:, None] != y) & labelled
        b = b.masked_fill(~others, -torch.inf)
        loss = torch.cat([a[:, None], b], 1).logsumexp(1) - a
        return torch.where(labelled, loss, torch.zeros_like(loss))


class ClassPenalty(Penalty):
    """The class loss of D on reals, and on fakes too if `fakes` (as AC-GAN was published; ReACGAN's D: reals alone)."""

    differentiates_x = False

    def __init__(self, loss: ClassLoss, weight: Scheduled = 1.0, fakes: bool = False):
        super().__init__(weight)
        self.loss, self.fakes = loss, fakes

    def formula(self, view: DView) -> Tensor:
        y = labels_of(view.y)
        on_real = self.loss(view.on_real, y)
        return on_real + self.loss(view.on_fake, y) if self.fakes else on_real


class ClassTerm(Term):
    """The class loss of G: its fakes are to be of the classes that were asked for."""

    def __init__(self, loss: ClassLoss, weight: Scheduled = 1.0):
        super().__init__(weight)
        self.loss = loss

    def formula(self, view: GView) -> Tensor:
        return self.loss(view.on_fake, labels_of(view.y))


def labels_of(y: Tensor | None) -> Tensor:
    if y is None:
        raise UserError("a loss of classes needs labels, and the batch has none; choose another objective")
    if y.is_floating_point():
        raise UserError("a loss of classes needs class indices, and the data give vectors; choose another objective")
    return y
