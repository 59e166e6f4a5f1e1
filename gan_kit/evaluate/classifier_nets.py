"""The classifiers whose features judge generators: of pictures, and of sounds by their log-mel spectrogram."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.audio.spectral import LogMel
from gan_kit.nn import Recorded
from gan_kit.types import AudioSpec, UserError

__all__ = ["ConvClassifier", "MelClassifier"]

FRAMES = 64  # of a sound, or up to twice as many


class ConvClassifier(Recorded, nn.Module):
    """x: (B, C, H, W) in [-1, 1] -> features (B, dims), logits (B, num_classes)

    Convolutions 3x3 with batch norm, halved until at most 4x4 is left, then one hidden layer: the features.
    """

    stored = torch.uint8

    def __init__(self, shape: tuple[int, ...] = (1, 32, 32), num_classes: int = 10, width: int = 32, dims: int = 128):
        super().__init__()
        if len(shape) != 3 or num_classes < 2:
            raise UserError(
                f"this classifier takes labelled pictures; the data have shape {tuple(shape)} and {num_classes} classes"
            )
        self.shape, self.num_classes, self.dims = tuple(shape), num_classes, dims
        channels, height, side = *shape[:2], shape[2]
        layers: list[nn.Module] = []
        while max(height, side) > 4:
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
            channels, width, height, side = width, min(2 * width, 128), math.ceil(height / 2), math.ceil(side / 2)
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * side, dims), nn.ReLU())
        self.head = nn.Linear(dims, num_classes)
        self.to(memory_format=torch.channels_last)

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
                module.reset_parameters()

    def scaled(self, x: Tensor) -> Tensor:
        """As it is stored -> in [-1, 1]"""
        return x.float() / 127.5 - 1

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x.contiguous(memory_format=torch.channels_last))
        return features, self.head(F.dropout(features, 0.3, self.training))


class MelClassifier(Recorded, nn.Module):
    """x: (B, C, T) in [-1, 1] -> features (B, dims), logits (B, num_classes)

    The log-mel spectrogram of the data's own AudioSpec, normalised by its bands' mean and variance over the training
    data, and then a `ConvClassifier`. While it trains, noise of -80 to -40 dB comes in, and up to a fifth of the bands
    and of the frames are hidden (Park et al. 2019, "SpecAugment", without warping): what a generator gets slightly
    wrong is not to decide the class.

    audio: an AudioSpec's values
    """

    stored = torch.int16

    def __init__(
        self, shape: tuple[int, ...], num_classes: int, audio: Mapping[str, Any], width: int = 16, dims: int = 128
    ):
        super().__init__()
        if len(shape) != 2 or num_classes < 2:
            raise UserError(
                f"this classifier takes labelled sounds; the data have shape {tuple(shape)} and {num_classes} classes"
            )
        self.shape, self.num_classes, self.dims = tuple(shape), num_classes, dims
        self.spec = AudioSpec(**audio)
        channels, samples = shape
        self.mel = LogMel(self.spec)
        self.norm = nn.BatchNorm1d(channels * self.spec.n_mels, affine=False)
        frames = self.spec.frames(samples)
        self.pool = 2 ** max(0, int(math.log2(frames / FRAMES)))  # of longer sounds several frames are averaged
        self.net = ConvClassifier((channels, self.spec.n_mels, frames // self.pool), num_classes, width, dims)

    def reset_parameters(self) -> None:
        self.norm.reset_parameters()
        self.net.reset_parameters()

    def scaled(self, x: Tensor) -> Tensor:
        return x.float() / 32768

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            level = 10 ** (-2 * torch.rand(len(x), 1, 1, device=x.device) - 2)
            x = x + level * torch.randn_like(x)
        mel = F.avg_pool2d(self.mel(x), (1, self.pool))
        mel = self.norm(mel.flatten(1, 2)).view_as(mel)
        if self.training:
            mel = mel * hidden(mel, -1) * hidden(mel, -2)  # 0 is the mean
        return self.net(mel)


def hidden(mel: Tensor, dim: int, most: float = 0.2) -> Tensor:
    """(B, C, M, L) -> 0 on a stretch of each sample's axis `dim`, up to `most` of it, else 1; broadcasts to `mel`"""
    size = mel.shape[dim]
    length = torch.rand(len(mel), 1, device=mel.device) * most * size
    start = torch.rand(len(mel), 1, device=mel.device) * (size - length)
    at = torch.arange(size, device=mel.device)
    kept = ((at < start) | (at >= start + length)).to(mel.dtype)
    return kept[:, None, None, :] if dim == -1 else kept[:, None, :, None]
