"""Image networks: one file per family. They meet losses and trainers in conf/, never by import."""

from gan_kit.image.augment import DiffAugment
from gan_kit.image.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_kit.image.r3gan import R3GANDiscriminator, R3GANGenerator

__all__ = ["DCGANDiscriminator", "DCGANGenerator", "DiffAugment", "R3GANDiscriminator", "R3GANGenerator"]
