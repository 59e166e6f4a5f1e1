"""The one place that calls a generator from noise."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gan_kit.latent.prior import Prior
from gan_kit.noise import Noise

__all__ = ["draw", "generate"]


def draw(generator: Any, prior: Prior, noise: Noise, y: Tensor | None = None, psi: float = 1.0) -> Tensor:
    """x (B, ...) of z ~ prior: the samples that `noise` and `y` say.

    psi: truncation, by the generator in its own space where it says that it does (`truncates`), else of the prior
    """
    own = getattr(generator, "truncates", False)
    z = prior(noise, generator.z_dim, 1.0 if own else psi)
    return generate(generator, z, noise, y, psi)


def generate(generator: Any, z: Tensor, noise: Noise, y: Tensor | None = None, psi: float = 1.0) -> Tensor:
    """x (B, ...) of z (B, z_dim), on the generator's device and in its precision.

    A generator that draws random numbers of its own (`takes_noise`) is given `noise`, and one that truncates in its
    own space (`truncates`) is given `psi`.
    """
    more: dict[str, Any] = {}
    if getattr(generator, "takes_noise", False):
        more["noise"] = noise
    if getattr(generator, "truncates", False):
        more["psi"] = psi
    like = next((p for p in generator.parameters() if p.is_floating_point()), z)
    return generator(z.to(like.device, like.dtype), y, **more)
