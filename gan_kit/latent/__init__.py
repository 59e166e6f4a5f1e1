"""Where z comes from."""

from gan_kit.latent.prior import Normal, Prior, Uniform

__all__ = ["Normal", "Prior", "Uniform"]
