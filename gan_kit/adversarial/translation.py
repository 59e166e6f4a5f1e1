"""a -> b from pairs: a reconstruction of b whose discriminator sees a beside it (pix2pix, Isola et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan_kit.adversarial.reconstruction import Reconstruction
from gan_kit.types import UserError

__all__ = ["L1", "Translation", "halves"]


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """x: (B, 2 C, ...) -> a and b, (B, C, ...) each"""
    if x.shape[1] % 2:
        raise UserError(f"samples of {x.shape[1]} channels are no pairs (a, b); use paired data, such as data=pairs")
    a, b = x.chunk(2, dim=1)
    return a, b


class L1(nn.Module):
    """Mean absolute difference of b̂ and b, a term of `Translation` and `Reconstruction` (equation 3)."""

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return (x_hat.float() - x.float()).abs().mean()


class Translation(Reconstruction):
    """The step of a generator G(a, y) -> b̂ on pairs x = (a, b), stacked on the channels (section 3.1).

    The discriminator sees pairs too, (a, b) and (a, b̂); the terms compare b̂ with b. All arguments are those of
    `Reconstruction`; `condition` is applied to a ahead of G. pix2pix: non-saturating loss, an L1 term of weight 100,
    no feature matching (feature_weight=0).
    """

    def pair(self, real: Tensor, y: Tensor | None, made: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = halves(real)
        if made is None:
            b_hat = self.generator(a if self.condition is None else self.condition(a), y)
            if b_hat.shape != b.shape:
                raise UserError(
                    f"the generator makes {tuple(b_hat.shape)} of {tuple(a.shape)}, but b is {tuple(b.shape)}"
                )
            made = torch.cat([a, b_hat.to(a.dtype)], dim=1)
        return real, made

    def distance(self, term: nn.Module, x_hat: Tensor, x: Tensor) -> Tensor:
        return term(halves(x_hat)[1], halves(x)[1])

    def compared(self, x: Tensor) -> list[Tensor]:
        """a, b̂ and b of pairs x: rows to look at"""
        a, b = halves(x)
        return [a, self.reconstruct(a), b]

    def shipped(self, x: Tensor) -> dict[str, tuple[nn.Module, Tensor]]:
        """What a bundle is made of: {suffix of its name: (net, examples of what it is shown)}"""
        net = self.generator if self.generator_ema is None else self.generator_ema
        return {"": (net, halves(x)[0])}
