"""What a discriminator learns beside telling real from fake, by a loss of its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gan_kit.adversarial.penalties import DView, Penalty
from gan_kit.adversarial.schedule import Scheduled
from gan_kit.types import UserError

__all__ = ["OwnLoss"]


class OwnLoss(Penalty):
    """The loss that D brings with its critique of reals, `aux.own_loss`: FastGAN's reconstruction (Liu et al. 2021).

    Raises UserError for a discriminator that brings none.
    """

    def __init__(self, weight: Scheduled = 1.0, every: int = 1):
        super().__init__(weight, every)

    def formula(self, view: DView) -> Tensor:
        own: Any = view.on_real.aux and view.on_real.aux.own_loss
        if own is None:
            raise UserError(
                f"{type(view.discriminator).__name__} has no loss of its own; leave this penalty out, or use "
                "discriminator=fastgan"
            )
        return own()
