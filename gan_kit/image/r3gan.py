"""R3GAN's networks (Huang et al. 2024, "The GAN is dead; long live the GAN!", section 4 and appendix).

A ResNet without normalisation: Fix-up style initialisation, grouped 3x3 convolutions in an inverted bottleneck,
bilinear resampling, a bias only ahead of a non-linearity. `expansion`, `group_size`, `blocks`, `last_width`, `patch`,
`pixel_kernel`, `dense`, `tanh` and `resample` are ours: their defaults are the published net, other values make it
affordable on small machines, or quicker to learn there (docs/results.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.nn import Conv2d, Downsample, Recorded, Upsample, embedding
from gan_kit.types import Critique, UserError

__all__ = ["R3GANDiscriminator", "R3GANGenerator", "stage_widths"]

LEAK = 0.2
ACTIVATION_GAIN = math.sqrt(2 / (1 + LEAK**2))


def stage_widths(size: int, width: int, patch: int = 1, last_width: int | None = None) -> list[int]:
    """Channels of each stage from 4x4 up to size/patch: `width` up to 32x32, then halved with each doubling; with
    `last_width` that many at the last stage, twice as many at each below, but no more than `width`.

    Reproduces the published tables (768x4 for 32x32, 768x4-384-192-96 for 256x256).
    Raises UserError where `size` is not a power of two from 8 to 256, or `patch` does not leave an 8x8 net.
    """
    if size not in (8, 16, 32, 64, 128, 256):
        raise UserError(f"image size {size} is not a power of two from 8 to 256; set image_size=32, say")
    if patch not in (1, 2, 4, 8) or size // patch < 8:
        raise UserError(f"patch={patch} does not fit {size}x{size} images; use 1, 2, 4 or 8 with size/patch >= 8")
    resolutions = [2**i for i in range(2, int(math.log2(size // patch)) + 1)]
    if last_width is not None:
        if last_width < 1:
            raise UserError(f"last_width={last_width}; give the last stage a channel or more, or null")
        return [min(width, last_width * resolutions[-1] // r) for r in resolutions]
    return [min(width, width * 32 // (r * patch)) if r * patch > 32 else width for r in resolutions]


def init_fan_in(module: nn.Conv2d | nn.Linear, gain: float = 1.0) -> None:
    """Normal weights with std = gain / sqrt(fan_in)."""
    nn.init.normal_(module.weight, std=gain / math.sqrt(module.weight[0].numel()))


def pixel_conv(channels_in: int, channels_out: int, kernel: int) -> Conv2d:
    """The convolution from or to pixels."""
    if kernel < 1 or kernel % 2 == 0:
        raise UserError(f"pixel_kernel={kernel} must be odd, so that pixels stay in place; 1 (as published) or 3")
    return Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)


class StridedUp(nn.Sequential):
    """Transposed convolution and leaky ReLU, as DCGAN's; the last one is linear and has no bias.

    x: (B, C_in, H, W) -> (B, C_out, factor H, factor W)
    """

    def __init__(self, channels_in: int, channels_out: int, factor: int = 2, last: bool = False):
        conv = nn.ConvTranspose2d(channels_in, channels_out, 2 * factor, factor, factor // 2, bias=not last)
        super().__init__(conv, nn.Identity() if last else nn.LeakyReLU(LEAK, inplace=True))

    def reset_parameters(self) -> None:
        conv, activation = self
        assert isinstance(conv, nn.ConvTranspose2d)
        gain = ACTIVATION_GAIN if isinstance(activation, nn.LeakyReLU) else 1.0
        nn.init.normal_(conv.weight, std=gain / math.sqrt(4 * conv.in_channels))  # 2x2 positions reach an output
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)


class StridedDown(nn.Sequential):
    """Its mirror in the critic. x: (B, C_in, H, W) -> (B, C_out, H/factor, W/factor)"""

    def __init__(self, channels_in: int, channels_out: int, factor: int = 2):
        conv = Conv2d(channels_in, channels_out, 2 * factor, factor, factor // 2)
        super().__init__(conv, nn.LeakyReLU(LEAK, inplace=True))

    def reset_parameters(self) -> None:
        conv = self[0]
        assert isinstance(conv, Conv2d)
        assert conv.bias is not None
        init_fan_in(conv, ACTIVATION_GAIN)
        nn.init.zeros_(conv.bias)


class Block(nn.Module):
    """x + W3 φ(W2 φ(W1 x)): 1x1 widening, grouped 3x3, 1x1 narrowing; x: (B, C, H, W)"""

    def __init__(self, channels: int, expansion: float, group_size: int | None):
        super().__init__()
        inner = int(channels * expansion)
        if inner < 1:
            raise UserError(f"expansion={expansion} of {channels} channels leaves none; give 2, as published, or .5")
        if group_size is not None and inner % group_size:
            raise UserError(f"{inner} inner channels are not whole groups of {group_size}; change width or group_size")
        self.w1 = Conv2d(channels, inner, 1)
        self.w2 = Conv2d(inner, inner, 3, padding=1, groups=inner // group_size if group_size else 1)
        self.w3 = Conv2d(inner, channels, 1, bias=False)

    def reset_parameters(self, num_blocks: int) -> None:
        gain = ACTIVATION_GAIN * num_blocks**-0.25  # Fix-up: L^(-1/(2m-2)) with m = 3 layers a branch
        init_fan_in(self.w1, gain)
        init_fan_in(self.w2, gain)
        nn.init.zeros_(self.w3.weight)
        for biased in (self.w1, self.w2):
            assert biased.bias is not None
            nn.init.zeros_(biased.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.w1(x), LEAK, inplace=True)
        h = F.leaky_relu(self.w2(h), LEAK, inplace=True)
        return x + self.w3(h)


class _R3GAN(nn.Module):
    """What both nets share: the stages' shape and the initialisation."""

    def __init__(
        self,
        size: int,
        width: int,
        widths: Sequence[int] | None,
        last_width: int | None,
        blocks: int | Sequence[int],
        expansion: float,
        group_size: int | None,
        patch: int,
        resample: str,
    ):
        super().__init__()
        default = stage_widths(size, width, patch, last_width)
        self.widths = default if widths is None else list(widths)
        if len(self.widths) != len(default):
            raise UserError(
                f"widths={self.widths} has {len(self.widths)} stages, but {size}x{size} images with patch={patch} "
                f"take {len(default)}, from 4x4 upwards"
            )
        counts = [blocks] * len(default) if isinstance(blocks, int) else list(blocks)
        if len(counts) > len(default) or min(counts, default=0) < 0:
            raise UserError(f"blocks={blocks}: give a number from 0, or one for each of the {len(default)} stages")
        counts += [0] * (len(default) - len(counts))
        if resample not in ("bilinear", "strided"):
            raise UserError(f"resample={resample!r}: choose 'bilinear', as published, or 'strided'")
        self.strided = resample == "strided"
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(w, expansion, group_size) for _ in range(n)))
            for w, n in zip(self.widths, counts, strict=True)
        )

    def _strided_pixels(self, patch: int, pixel_kernel: int) -> bool:
        """Whether the convolution from or to pixels is one of the strided ones."""
        if not self.strided or patch == 1:
            return False
        if pixel_kernel != 1:
            raise UserError(
                f"pixel_kernel={pixel_kernel} has no place in a strided net of patch={patch}, whose convolution at the "
                f"pixels is {2 * patch}x{2 * patch}; leave it 1"
            )
        return True

    def _reset_inner(self) -> None:
        blocks = [m for m in self.modules() if isinstance(m, Block)]
        for block in blocks:
            block.reset_parameters(len(blocks))
        for module in self.modules():
            if isinstance(module, StridedUp | StridedDown):
                module.reset_parameters()


class R3GANGenerator(Recorded, _R3GAN):
    """z: (B, z_dim), y: (B,) classes, (B, vector_dim) or None -> (B, channels, size, size), unbounded unless tanh.

    num_classes, vector_dim: what it is conditioned on, 0 both for nothing; null_class: see `gan_kit.nn.embedding`
    width, widths: channels up to 32x32, or of every stage from 4x4 upwards; last_width: see `stage_widths`
    blocks: of each stage, or numbers for the stages from 4x4 upwards, those not named having none: transitions alone
    patch: the last stage works at size/patch and writes patch x patch pixels a position
    pixel_kernel: side of the convolution to pixels, odd; 3 lets neighbouring patches agree
    dense: a map of its own from z for each of the 4x4 positions, where the published net scales one learned 4x4 basis
        a channel: in a thin net that leaves samples little to differ by
    tanh: bound the pixels to [-1, 1]
    resample: "bilinear", as published, between linear 1x1 convolutions; or "strided": learned transitions as DCGAN's,
        with a leaky ReLU, that reach 2x2 positions, also from and to pixels where patch > 1
    """

    def __init__(
        self,
        size: int = 32,
        channels: int = 3,
        num_classes: int = 0,
        z_dim: int = 64,
        embed_dim: int = 64,
        width: int = 768,
        widths: Sequence[int] | None = None,
        last_width: int | None = None,
        blocks: int | Sequence[int] = 2,
        expansion: float = 2,
        group_size: int | None = 16,
        patch: int = 1,
        pixel_kernel: int = 1,
        tanh: bool = False,
        dense: bool = False,
        null_class: bool = False,
        vector_dim: int = 0,
        resample: str = "bilinear",
    ):
        super().__init__(size, width, widths, last_width, blocks, expansion, group_size, patch, resample)
        self.z_dim, self.num_classes, self.null_class, self.vector_dim = z_dim, num_classes, null_class, vector_dim
        first = self.widths[0]
        self.embed = embedding(num_classes, embed_dim, null_class, vector_dim)
        self.linear = nn.Linear(z_dim + (embed_dim if self.embed else 0), first * (16 if dense else 1), bias=False)
        self.basis = None if dense else nn.Parameter(torch.empty(first, 4, 4))
        self.ups = nn.ModuleList(
            StridedUp(a, b)
            if self.strided
            else nn.Sequential(Conv2d(a, b, 1, bias=False) if a != b else nn.Identity(), Upsample())
            for a, b in zip(self.widths, self.widths[1:], strict=False)
        )
        strided = self._strided_pixels(patch, pixel_kernel)
        self.to_pixels = nn.Sequential(
            StridedUp(self.widths[-1], channels, patch, last=True)
            if strided
            else pixel_conv(self.widths[-1], channels * patch**2, pixel_kernel),
            nn.Identity() if strided else nn.PixelShuffle(patch),
            nn.Tanh() if tanh else nn.Identity(),
        )
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def reset_parameters(self) -> None:
        self._reset_inner()
        if self.embed is not None:
            self.embed.reset_parameters()
        init_fan_in(self.linear)
        if self.basis is not None:
            nn.init.normal_(self.basis)
        for conv in (*(up[0] for up in self.ups), self.to_pixels[0]):  # type: ignore[index]
            if isinstance(conv, nn.Conv2d):
                init_fan_in(conv)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(y, len(z))], dim=1)
        x = self.linear(z)
        if self.basis is None:
            x = x.unflatten(1, (-1, 4, 4))
        else:
            x = x[:, :, None, None] * self.basis.to(z.dtype)
        x = self.stages[0](x.contiguous(memory_format=torch.channels_last))
        for up, stage in zip(self.ups, self.stages[1:], strict=True):
            x = stage(up(x))
        return self.to_pixels(x)


class R3GANDiscriminator(Recorded, _R3GAN):
    """x: (B, channels, size, size), y: as of `R3GANGenerator` -> Critique with one (B,) logit: the generator mirrored.

    With classes or vectors the logit is the dot product of the head's features with their embedding.

    dense: the head sees all channels of all 4x4 positions together, not each channel by itself
    resample: as the generator's
    """

    def __init__(
        self,
        size: int = 32,
        channels: int = 3,
        num_classes: int = 0,
        embed_dim: int = 64,
        width: int = 768,
        widths: Sequence[int] | None = None,
        last_width: int | None = None,
        blocks: int | Sequence[int] = 2,
        expansion: float = 2,
        group_size: int | None = 16,
        patch: int = 1,
        pixel_kernel: int = 1,
        dense: bool = False,
        null_class: bool = False,
        vector_dim: int = 0,
        resample: str = "bilinear",
    ):
        super().__init__(size, width, widths, last_width, blocks, expansion, group_size, patch, resample)
        self.num_classes, self.null_class, self.vector_dim = num_classes, null_class, vector_dim
        first = self.widths[0]
        self.from_pixels: nn.Sequential = (
            StridedDown(channels, self.widths[-1], patch)
            if self._strided_pixels(patch, pixel_kernel)
            else nn.Sequential(nn.PixelUnshuffle(patch), pixel_conv(channels * patch**2, self.widths[-1], pixel_kernel))
        )
        self.downs = nn.ModuleList(
            StridedDown(b, a)
            if self.strided
            else nn.Sequential(Downsample(), Conv2d(b, a, 1, bias=False) if a != b else nn.Identity())
            for a, b in zip(self.widths, self.widths[1:], strict=False)
        )
        self.basis = nn.Conv2d(first, first, 4, groups=1 if dense else first, bias=False)
        self.embed = embedding(num_classes, embed_dim, null_class, vector_dim)
        self.linear = nn.Linear(first, embed_dim if self.embed else 1, bias=False)
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def reset_parameters(self) -> None:
        self._reset_inner()
        for conv in (*(down[1] for down in self.downs), self.from_pixels[1]):  # type: ignore[index]
            if isinstance(conv, nn.Conv2d):
                init_fan_in(conv)
        init_fan_in(self.basis)
        init_fan_in(self.linear)
        if self.embed is not None:
            self.embed.reset_parameters(std=1 / math.sqrt(self.embed.embedding_dim))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        x = self.from_pixels(x.contiguous(memory_format=torch.channels_last))
        for down, stage in zip(reversed(self.downs), reversed(self.stages[1:]), strict=True):
            x = down(stage(x))
        x = self.stages[0](x)
        if self.basis.groups == 1:
            h = F.linear(x.flatten(1), self.basis.weight.flatten(1))
        else:  # each channel by itself; as a grouped convolution its second derivative is slow
            h = (x * self.basis.weight[:, 0]).sum((2, 3))
        out = self.linear(h)
        logit = out.squeeze(1) if self.embed is None else (out * self.embed(y, len(out))).sum(1)
        return Critique([logit], [[h]])
