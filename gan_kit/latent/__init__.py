"""Where z comes from, what a generator makes of it, and the ways through its latent space."""

from gan_kit.latent.directions import Directions, directions, jacobian, pca, sefa
from gan_kit.latent.draw import draw, generate
from gan_kit.latent.inversion import Inverted, invert
from gan_kit.latent.paths import lerp, slerp
from gan_kit.latent.prior import Normal, Prior, Uniform
from gan_kit.latent.view import Codes, Latent

__all__ = [
    "Codes",
    "Directions",
    "Inverted",
    "Latent",
    "Normal",
    "Prior",
    "Uniform",
    "directions",
    "draw",
    "generate",
    "invert",
    "jacobian",
    "lerp",
    "pca",
    "sefa",
    "slerp",
]
