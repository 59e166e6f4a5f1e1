"""BigGAN's orthogonal regularisation (Brock et al. 2019, equation 3), for either net."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan_kit.adversarial.penalties import DView, Penalty
from gan_kit.adversarial.schedule import Scheduled
from gan_kit.adversarial.terms import GView, Term
from gan_kit.types import UserError

__all__ = ["OrthogonalPenalty", "OrthogonalTerm", "off_orthogonality"]


def off_orthogonality(net: nn.Module) -> Tensor:
    """‖W Wᵀ ⊙ (1 - I)‖² summed over all weights but embeddings and vectors; rows of W are its first axis. Scalar."""
    spared = {id(p) for m in net.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    total = []
    for weight in net.parameters():
        if weight.dim() < 2 or id(weight) in spared:
            continue
        rows = weight.float().flatten(1)
        gram = rows @ rows.T
        total.append(gram.square().sum() - gram.diagonal().square().sum())
    if not total:
        raise UserError(f"{type(net).__name__} has no weights that could be orthogonal; leave the regularisation out")
    return torch.stack(total).sum()


class OrthogonalTerm(Term):
    """Of G's weights; weight is β."""

    def __init__(self, weight: Scheduled = 1e-4, every: int = 1):
        super().__init__(weight, every)

    def formula(self, view: GView) -> Tensor:
        return off_orthogonality(view.generator)


class OrthogonalPenalty(Penalty):
    """Of D's weights; weight is β."""

    differentiates_x = False

    def __init__(self, weight: Scheduled = 1e-4, every: int = 1):
        super().__init__(weight, every)

    def formula(self, view: DView) -> Tensor:
        assert view.discriminator is not None
        return off_orthogonality(view.discriminator)
