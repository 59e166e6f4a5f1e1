"""Image networks: one file per family. They meet losses and trainers in conf/, never by import."""

from gan_kit.image.ada import ADA
from gan_kit.image.augment import DiffAugment
from gan_kit.image.biggan import BigGANDiscriminator, BigGANGenerator
from gan_kit.image.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_kit.image.fastgan import FastGANDiscriminator, FastGANGenerator
from gan_kit.image.projected import ProjectedDiscriminator
from gan_kit.image.r3gan import R3GANDiscriminator, R3GANGenerator
from gan_kit.image.resnet import ResNetDiscriminator, ResNetGenerator
from gan_kit.image.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from gan_kit.image.translation import PatchDiscriminator, ResNetTranslator, UNetTranslator
from gan_kit.image.vit import ViTDiscriminator, ViTGenerator

__all__ = [
    "ADA",
    "BigGANDiscriminator",
    "BigGANGenerator",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "DiffAugment",
    "FastGANDiscriminator",
    "FastGANGenerator",
    "PatchDiscriminator",
    "ProjectedDiscriminator",
    "R3GANDiscriminator",
    "R3GANGenerator",
    "ResNetDiscriminator",
    "ResNetGenerator",
    "ResNetTranslator",
    "StyleGAN2Discriminator",
    "StyleGAN2Generator",
    "UNetTranslator",
    "ViTDiscriminator",
    "ViTGenerator",
]
