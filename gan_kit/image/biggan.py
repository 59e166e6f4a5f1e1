"""BigGAN (Brock et al. 2019, "Large Scale GAN Training for High Fidelity Natural Image Synthesis", appendix B).

z is split: the first part becomes the 4x4 start, each further one conditions one block's batch norms, beside one
embedding of the class that all blocks share. Spectral normalisation in both nets, orthogonal initialisation,
self-attention at one resolution.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.image.resnet import DownBlock, UpBlock, attention_after, reset_others, widths_of
from gan_kit.nn import (
    ClassHead,
    ConditionalBatchNorm2d,
    Conv2d,
    Recorded,
    embedding,
    raw_weight,
    restart_spectral,
    spectral_norm,
)
from gan_kit.types import Critique, UserError

__all__ = ["BigGANDiscriminator", "BigGANGenerator"]

# Multiples of `width`: G's channels from 4x4 upwards; D's blocks from the pixels on, of which all but the last halve.
# 128 and 256: tables 4 and 5 of the paper; 32 and 64: the author's PyTorch code.
G_WIDTHS = {
    32: (4, 4, 4, 4),
    64: (16, 16, 8, 4, 2),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
}
D_WIDTHS = {
    32: (4, 4, 4, 4),
    64: (1, 2, 4, 8, 16),
    128: (1, 2, 4, 8, 16, 16),
    256: (1, 2, 4, 8, 8, 16, 16),
}
D_DOWNS = {32: 2, 64: 4, 128: 5, 256: 6}
Z_PART = 20


def _check(size: int) -> None:
    if size not in G_WIDTHS:
        raise UserError(f"image size {size} is not a power of two from 32 to 256; set image_size=32, say")


def _reset(net: nn.Module) -> None:
    """Orthogonal weights, biases 0."""
    reset_others(net)
    for m in net.modules():
        if isinstance(m, nn.Conv2d | nn.Linear | nn.Embedding):
            weight = raw_weight(m).detach()
            # through contiguous memory: orthogonal_ can't write to channels_last
            weight.copy_(nn.init.orthogonal_(torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)))
            if getattr(m, "bias", None) is not None:
                nn.init.zeros_(m.bias)  # type: ignore[arg-type]
    restart_spectral(net)


class BigGANGenerator(Recorded, nn.Module):
    """z: (B, z_dim), y: (B,), (B, vector_dim) or None -> (B, channels, size, size) in [-1, 1].

    size: 32, 64, 128 or 256; width: "ch" of the paper; widths: all channels, from 4x4 upwards
    z_dim: in equal parts, one for the start and one a block; None: 20 a part (120 at 128x128, 140 at 256x256)
    embed_dim: of the shared class embedding; attention: self-attention at this resolution, or None
    null_class: one more class, number num_classes, for "no label"
    """

    def __init__(
        self,
        size: int = 128,
        channels: int = 3,
        num_classes: int = 0,
        z_dim: int | None = None,
        embed_dim: int = 128,
        width: int = 96,
        widths: Sequence[int] | None = None,
        attention: int | None = 64,
        null_class: bool = False,
        vector_dim: int = 0,
    ):
        super().__init__()
        _check(size)
        self.widths = widths_of(G_WIDTHS[size], width, widths)
        self.parts = len(self.widths)
        self.z_dim = Z_PART * self.parts if z_dim is None else z_dim
        if self.z_dim % self.parts:
            near = self.z_dim // self.parts * self.parts or self.parts
            raise UserError(f"z_dim={z_dim} can't be cut into {self.parts} equal parts; set z_dim={near}")
        self.num_classes, self.null_class, self.vector_dim = num_classes, null_class, vector_dim
        part = self.z_dim // self.parts
        self.embed = embedding(num_classes, embed_dim, null_class, vector_dim)
        condition = part + (embed_dim if self.embed else 0)

        def norm(n: int) -> nn.Module:
            return ConditionalBatchNorm2d(n, vector_dim=condition, spectral=True)

        self.linear = spectral_norm(nn.Linear(part, self.widths[0] * 16))
        self.blocks = nn.ModuleList(UpBlock(a, b, norm, spectral=True) for a, b in itertools.pairwise(self.widths))
        sides = [8 * 2**i for i in range(len(self.blocks))]
        self.attention = attention_after(sides, self.widths[1:], attention, spectral=True)
        self.norm = nn.BatchNorm2d(self.widths[-1])
        self.to_pixels = spectral_norm(Conv2d(self.widths[-1], channels, 3, padding=1))
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def reset_parameters(self) -> None:
        _reset(self)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        first, *rest = z.chunk(self.parts, dim=1)
        shared = [] if self.embed is None else [self.embed(y, len(z))]
        x = self.linear(first).view(len(z), -1, 4, 4).contiguous(memory_format=torch.channels_last)
        for i, (block, part) in enumerate(zip(self.blocks, rest, strict=True)):
            x = block(x, torch.cat([*shared, part], dim=1))
            if str(i) in self.attention:
                x = self.attention[str(i)](x)
        return torch.tanh(self.to_pixels(F.relu(self.norm(x), inplace=True)))


class BigGANDiscriminator(Recorded, nn.Module):
    """x: (B, channels, size, size), y: (B,) or None -> Critique with one (B,) logit.

    width, widths, attention: as of `BigGANGenerator`; widths are the blocks' outputs, from the pixels on
    conditioning, null_class: see `gan_kit.nn.ClassHead`
    """

    def __init__(
        self,
        size: int = 128,
        channels: int = 3,
        num_classes: int = 0,
        width: int = 96,
        widths: Sequence[int] | None = None,
        attention: int | None = 64,
        conditioning: str = "projection",
        null_class: bool = False,
        vector_dim: int = 0,
    ):
        super().__init__()
        _check(size)
        self.num_classes, self.null_class, self.vector_dim = num_classes, null_class, vector_dim
        self.widths = widths_of(D_WIDTHS[size], width, widths)
        downs = D_DOWNS[size]
        # unlike SNGAN's, the first convolution of a block has the block's full width already
        self.blocks = nn.ModuleList(
            DownBlock(a, b, b, i < downs, first=i == 0, spectral=True)
            for i, (a, b) in enumerate(itertools.pairwise([channels, *self.widths]))
        )
        sides = [size // 2 ** min(i + 1, downs) for i in range(len(self.blocks))]
        self.attention = attention_after(sides, self.widths, attention, spectral=True)
        self.head = ClassHead(
            self.widths[-1], num_classes, conditioning, spectral=True, null_class=null_class, vector_dim=vector_dim
        )
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def reset_parameters(self) -> None:
        _reset(self)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        x = x.contiguous(memory_format=torch.channels_last)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if str(i) in self.attention:
                x = self.attention[str(i)](x)
        h = F.relu(x).sum((2, 3))
        logit, aux = self.head(h, y)
        return Critique([logit], [[h]], aux)
