"""Networks over plain vectors, for rings of Gaussians and other toys."""

from gan_kit.vector.mlp import MLPDiscriminator, MLPGenerator

__all__ = ["MLPDiscriminator", "MLPGenerator"]
