"""FastGAN's networks (Liu et al. 2021, "Towards Faster and Stabilized GAN Training for High-Fidelity Few-Shot Image
Synthesis", section 3): for some hundred pictures and one GPU.

The generator's layers of low resolution gate the channels of those 16 times as large (skip-layer excitation). The
discriminator learns to decode its own features of real pictures, which keeps it from looking at a few details only.
Widths and the 4x4 -> 64x64 gate follow the authors' training; the decoders' loss is the paper's L1, not a perceptual
one.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.nn import ClassHead, Recorded, VectorEmbedding, embedding
from gan_kit.nn.spectral import raw_weight, restart_spectral, spectral_norm
from gan_kit.noise import Noise
from gan_kit.types import Aux, Critique, UserError

__all__ = ["FastGANDiscriminator", "FastGANGenerator"]

LEAK = 0.2
# in units of `width`
G_WIDTHS = {4: 16, 8: 8, 16: 4, 32: 2, 64: 2, 128: 1, 256: 0.5, 512: 0.25, 1024: 0.125}
D_WIDTHS = {8: 8, 16: 4, 32: 2, 64: 1, 128: 0.5, 256: 0.25, 512: 0.125, 1024: 0.125}
DECODER_WIDTHS = (2, 1, 1, 0.5)  # at 16x16, 32x32, 64x64, 128x128


def resolutions(size: int, first: int) -> list[int]:
    if size not in [2**i for i in range(5, 11)]:
        raise UserError(f"image size {size} is not a power of two from 32 to 1024; set image_size=64, say")
    return [2**i for i in range(int(math.log2(first)), int(math.log2(size)) + 1)]


def conv(a: int, b: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    return spectral_norm(nn.Conv2d(a, b, kernel, stride, padding, bias=False))


def _reset(net: nn.Module) -> None:
    """Weights N(0, .02), batch-norm gains N(1, .02)."""
    for m in net.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(raw_weight(m), std=0.02)
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
        elif isinstance(m, Noisy):
            nn.init.zeros_(m.strength)
        elif isinstance(m, ClassHead):
            m.reset_parameters()
    restart_spectral(net)


class Noisy(nn.Module):
    """One picture of noise for all channels, of learned strength; none where there is no `noise`."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, noise: Noise | None) -> Tensor:
        return x if noise is None else x + (self.strength * noise.randn(1, *x.shape[2:]).to(x.device)).to(x.dtype)


class UpBlock(nn.Module):
    """Nearest upsampling, 3x3, batch norm, GLU; a second 3x3 and noise where `deep`.

    x: (B, C_in, H, W) -> (B, C_out, 2H, 2W)
    """

    def __init__(self, in_channels: int, out_channels: int, deep: bool = False):
        super().__init__()
        sides = [in_channels, *[out_channels] * (1 + deep)]
        self.convs = nn.ModuleList(conv(a, 2 * out_channels, 3, 1, 1) for a in sides[:-1])
        self.norms = nn.ModuleList(nn.BatchNorm2d(2 * out_channels) for _ in self.convs)
        self.noises = nn.ModuleList(Noisy() for _ in self.convs) if deep else None

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        for i, (layer, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = layer(x)
            x = x if self.noises is None else self.noises[i](x, noise)
            x = F.glu(norm(x), 1)
        return x


class Excitation(nn.Module):
    """Channels of `high` times gates in (0, 1) made of `low` (equation 2). low: (B, C, h, w), high: (B, C', H, W)"""

    def __init__(self, low: int, high: int):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), conv(low, high, 4), nn.LeakyReLU(0.1), conv(high, high, 1), nn.Sigmoid()
        )

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        return high * self.gate(low)


class FastGANGenerator(Recorded, nn.Module):
    """z: (B, z_dim), y: (B,), (B, vector_dim) or None -> (B, channels, size, size) in [-1, 1]; size from 32 to 1024.

    num_classes, vector_dim: 0 for an unconditional net, as published; else an embedding of y stands beside z
    width: channels at 128x128
    noise: what the noise in each other block is drawn from; None: there is none
    """

    takes_noise = True

    def __init__(
        self,
        size: int = 256,
        channels: int = 3,
        num_classes: int = 0,
        z_dim: int = 256,
        embed_dim: int = 64,
        width: int = 64,
        null_class: bool = False,
        vector_dim: int = 0,
    ):
        super().__init__()
        sizes = resolutions(size, 4)
        widths = {r: max(int(G_WIDTHS[r] * width), 1) for r in sizes}
        self.z_dim, self.num_classes, self.null_class, self.vector_dim = z_dim, num_classes, null_class, vector_dim
        self.embed = embedding(num_classes, embed_dim, null_class, vector_dim)
        first = z_dim + (embed_dim if self.embed else 0)
        self.first = nn.Sequential(
            spectral_norm(nn.ConvTranspose2d(first, 2 * widths[4], 4, bias=False)),
            nn.BatchNorm2d(2 * widths[4]),
            nn.GLU(1),
        )
        self.ups = nn.ModuleDict(
            {str(r): UpBlock(widths[r // 2], widths[r], i % 2 == 0) for i, r in enumerate(sizes[1:])}
        )
        self.excitations = nn.ModuleDict(
            {str(r): Excitation(widths[r // 16], widths[r]) for r in sizes if 64 <= r <= 512}
        )
        self.to_pixels = nn.Sequential(conv(widths[size], channels, 3, 1, 1), nn.Tanh())
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def reset_parameters(self) -> None:
        _reset(self)

    def forward(self, z: Tensor, y: Tensor | None = None, noise: Noise | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(y, len(z))], dim=1)
        x = self.first(z[:, :, None, None])
        seen = {4: x}
        for r, up in self.ups.items():
            x = up(x, noise)
            if r in self.excitations:
                x = self.excitations[r](seen[int(r) // 16], x)
            seen[int(r)] = x
        return self.to_pixels(x)


class DownBlock(nn.Module):
    """The mean of a path of two convolutions and one of pooling (appendix); halves the size."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.main = nn.Sequential(
            conv(in_channels, out_channels, 4, 2, 1),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(LEAK),
            conv(out_channels, out_channels, 3, 1, 1),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(LEAK),
        )
        self.direct = nn.Sequential(
            nn.AvgPool2d(2), conv(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels), nn.LeakyReLU(LEAK)
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.main(x) + self.direct(x)) / 2


class Decoder(nn.Module):
    """Features of 8x8 positions to a small picture: (B, C, 8, 8) -> (B, channels, side, side) in [-1, 1]"""

    def __init__(self, in_channels: int, channels: int, side: int, width: int):
        super().__init__()
        ups = int(math.log2(side // 8))
        widths = [in_channels, *(max(int(r * width), 1) for r in DECODER_WIDTHS[:ups])]
        self.net = nn.Sequential(
            *(UpBlock(a, b) for a, b in itertools.pairwise(widths)),
            conv(widths[-1], channels, 3, 1, 1),
            nn.Tanh(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class FastGANDiscriminator(Recorded, nn.Module):
    """x: (B, channels, size, size), y: (B,) or None -> Critique: logits (B, 5, 5), one a patch; size from 32 to 1024.

    With classes a second sub-discriminator looks at the 8x8 features' mean and y: a `gan_kit.nn.ClassHead` of this
    `conditioning`. `aux.own_loss` decodes what D has of x (equation 4): the whole picture from its 8x8 features, and
    one quarter, drawn for each sample, from a quarter of its 16x16 features, both at up to 128x128. Its weight is that
    of the penalty `gan_kit.adversarial.OwnLoss`.

    Batch norm couples the samples: no gradient penalties.
    """

    takes_noise = True

    def __init__(
        self,
        size: int = 256,
        channels: int = 3,
        num_classes: int = 0,
        width: int = 64,
        conditioning: str = "projection",
        null_class: bool = False,
        vector_dim: int = 0,
    ):
        super().__init__()
        sizes = resolutions(size, 8)[::-1]
        widths = {r: max(int(D_WIDTHS[r] * width), 1) for r in sizes}
        self.num_classes, self.null_class, self.vector_dim = num_classes, null_class, vector_dim
        self.from_pixels = nn.Sequential(conv(channels, widths[size], 3, 1, 1), nn.LeakyReLU(LEAK))
        self.downs = nn.ModuleDict({str(r): DownBlock(widths[2 * r], widths[r]) for r in sizes[1:]})
        self.patches = nn.Sequential(
            conv(widths[8], widths[8], 1), nn.BatchNorm2d(widths[8]), nn.LeakyReLU(LEAK), conv(widths[8], 1, 4)
        )
        self.head: ClassHead | None = None
        if num_classes or vector_dim:
            self.head = ClassHead(widths[8], num_classes, conditioning, 0, False, null_class, vector_dim)
        self.side = min(size // 2, 128)
        self.whole = Decoder(widths[8], channels, self.side, width)
        self.quarter = Decoder(widths[16], channels, self.side, width)
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def reset_parameters(self) -> None:
        _reset(self)

    def forward(self, x: Tensor, y: Tensor | None = None, noise: Noise | None = None) -> Critique:
        h = self.from_pixels(x.contiguous(memory_format=torch.channels_last))
        seen: dict[str, Tensor] = {}
        for r, down in self.downs.items():
            h = seen[r] = down(h)
        logits, features, aux = [self.patches(h).squeeze(1)], [[seen["16"], h]], None
        if self.head is not None:
            logit, aux = self.head(h.mean((2, 3)), y)
            logits, features = [*logits, logit], [*features, []]
        own = lambda: self.reconstruction(x, seen["16"], h, noise)  # noqa: E731
        return Critique(logits, features, (aux or Aux())._replace(own_loss=own))

    def reconstruction(self, x: Tensor, f16: Tensor, f8: Tensor, noise: Noise | None) -> Tensor:
        """|x - decoded|, the mean over pixels of both decoders' pictures; (B,)"""
        x = x.detach()
        which = x.new_zeros(len(x)) if noise is None else noise.rand().to(x.device)
        quarter = (which * 4).long().clamp(max=3)
        pairs = [
            (self.whole(f8), F.adaptive_avg_pool2d(x, self.side)),
            (self.quarter(quarter_of(f16, quarter)), F.adaptive_avg_pool2d(quarter_of(x, quarter), self.side)),
        ]
        return sum(((a.float() - b.float()).abs().flatten(1).mean(1) for a, b in pairs), torch.zeros_like(which))


def quarter_of(x: Tensor, which: Tensor) -> Tensor:
    """One quarter of each picture, 0 to 3 from the top left; x: (B, C, H, W), which: (B,) -> (B, C, H/2, W/2)"""
    b, c, h, w = x.shape
    parts = x.reshape(b, c, 2, h // 2, 2, w // 2)
    return parts[torch.arange(b, device=x.device), :, which // 2, :, which % 2]
