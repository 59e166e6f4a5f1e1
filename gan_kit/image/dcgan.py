"""DCGAN's networks (Radford et al. 2016), for any power-of-two size, with optional classes.

Classes enter the generator as an embedding beside z, and the discriminator by projection (Miyato & Koyama 2018).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from gan_kit.nn import ClassHead, Recorded, VectorEmbedding, embedding
from gan_kit.types import Critique, UserError

__all__ = ["DCGANDiscriminator", "DCGANGenerator"]


def _widths(size: int, width: int) -> list[int]:
    """Channels from 4x4 up to size/2: halved with each doubling, `width` at size/2, at most 8 x width."""
    if size not in (8, 16, 32, 64, 128, 256):
        raise UserError(f"image size {size} is not a power of two from 8 to 256; set image_size=32, say")
    doublings = int(math.log2(size)) - 2
    return [width * min(8, 2 ** (doublings - 1 - i)) for i in range(doublings)]


def _reset(net: nn.Module) -> None:
    """Weights N(0, .02), batch-norm gains N(1, .02), biases 0 (section 4 of the paper)."""
    for m in net.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(m.weight, std=0.02)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.Embedding):
            nn.init.normal_(m.weight)
        elif isinstance(m, VectorEmbedding):
            m.reset_parameters()
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight, 1.0, 0.02)
            nn.init.zeros_(m.bias)
            m.reset_running_stats()


class DCGANGenerator(Recorded, nn.Module):
    """z: (B, z_dim), y: (B,) class indices, (B, vector_dim) or None -> (B, channels, size, size) in [-1, 1].

    num_classes, vector_dim: what it is conditioned on, 0 both for nothing; null_class: see `gan_kit.nn.embedding`
    """

    def __init__(
        self,
        size: int = 64,
        channels: int = 3,
        num_classes: int = 0,
        z_dim: int = 100,
        embed_dim: int = 64,
        width: int = 64,
        null_class: bool = False,
        vector_dim: int = 0,
    ):
        super().__init__()
        self.z_dim, self.num_classes, self.null_class, self.vector_dim = z_dim, num_classes, null_class, vector_dim
        widths = _widths(size, width)
        self.embed = embedding(num_classes, embed_dim, null_class, vector_dim)
        z_total = z_dim + (embed_dim if self.embed else 0)
        layers: list[nn.Module] = [nn.ConvTranspose2d(z_total, widths[0], 4, bias=False)]
        for a, b in itertools.pairwise(widths):
            layers += [
                nn.BatchNorm2d(a),
                nn.ReLU(inplace=True),
                nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False),
            ]
        last = widths[-1]
        layers += [
            nn.BatchNorm2d(last),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(last, channels, 4, 2, 1),
            nn.Tanh(),
        ]
        self.net = nn.Sequential(*layers)
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def reset_parameters(self) -> None:
        _reset(self)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(y, len(z))], dim=1)
        return self.net(z[:, :, None, None])


class DCGANDiscriminator(Recorded, nn.Module):
    """x: (B, channels, size, size), y: as of `DCGANGenerator` -> Critique with one (B,) logit.

    conditioning: how classes enter, a kind of `gan_kit.nn.ClassHead`
    norm: "batch" as published, or "none" (needed by gradient penalties: batch statistics couple the samples)
    """

    def __init__(
        self,
        size: int = 64,
        channels: int = 3,
        num_classes: int = 0,
        width: int = 64,
        norm: str = "batch",
        null_class: bool = False,
        vector_dim: int = 0,
        conditioning: str = "projection",
    ):
        super().__init__()
        if norm not in ("batch", "none"):
            raise UserError(f"norm={norm!r}: choose 'batch' or 'none'")
        self.num_classes, self.null_class, self.vector_dim = num_classes, null_class, vector_dim
        widths = _widths(size, width)[::-1]
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        for a, b in itertools.pairwise(widths):
            layers += [nn.Conv2d(a, b, 4, 2, 1, bias=norm == "none")]
            layers += [nn.BatchNorm2d(b)] if norm == "batch" else []
            layers += [nn.LeakyReLU(0.2, inplace=True)]
        self.net = nn.Sequential(*layers)
        last = widths[-1] * 16
        self.head: nn.Module = nn.Linear(last, 1)
        self.embed = embedding(num_classes, last, null_class, vector_dim)
        if conditioning != "projection" and (num_classes or vector_dim):
            self.head, self.embed = ClassHead(last, num_classes, conditioning, 0, False, null_class, vector_dim), None
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def reset_parameters(self) -> None:
        _reset(self)
        if self.embed is not None:
            self.embed.reset_parameters(std=0.02)
        if isinstance(self.head, ClassHead):
            self.head.reset_parameters()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        h = self.net(x).flatten(1)
        if isinstance(self.head, ClassHead):
            logit, aux = self.head(h, y)
            return Critique([logit], [[h]], aux)
        logit = self.head(h).squeeze(1)
        if self.embed is not None:
            logit = logit + (h * self.embed(y, len(h))).sum(1)
        return Critique([logit], [[h]])
