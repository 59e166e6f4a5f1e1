"""Domain-free layers."""

from gan_kit.nn.attention import SelfAttention2d
from gan_kit.nn.conv import Conv2d, conv2d, conv_transpose2d
from gan_kit.nn.embedding import ClassEmbedding, VectorEmbedding, embedding
from gan_kit.nn.equalised import EqualConv2d, EqualLinear
from gan_kit.nn.heads import ClassHead
from gan_kit.nn.norm import ConditionalBatchNorm2d
from gan_kit.nn.recorded import Recorded
from gan_kit.nn.resample import Downsample, Upsample, blur
from gan_kit.nn.scaled_conv import ConvDown, ConvUp
from gan_kit.nn.spectral import SpectralNorm, raw_weight, restart_spectral, spectral_norm

__all__ = [
    "ClassEmbedding",
    "ClassHead",
    "ConditionalBatchNorm2d",
    "Conv2d",
    "ConvDown",
    "ConvUp",
    "Downsample",
    "EqualConv2d",
    "EqualLinear",
    "Recorded",
    "SelfAttention2d",
    "SpectralNorm",
    "Upsample",
    "VectorEmbedding",
    "blur",
    "conv2d",
    "conv_transpose2d",
    "embedding",
    "raw_weight",
    "restart_spectral",
    "spectral_norm",
]
