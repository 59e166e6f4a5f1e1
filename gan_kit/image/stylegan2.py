"""StyleGAN2's networks (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN"), without operators
of their own.

The defaults are config F as trained by StyleGAN2-ADA (Karras et al. 2020b, appendix C): the generator with skip
connections to pixels, the residual discriminator. For CIFAR-10 they take mapping_layers=2, mixing=0,
architecture="plain" and mbstd_group=32. Pictures are resampled with their edges repeated where NVIDIA's operators put
zeros; noise and styles that are mixed are drawn for each sample.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.nn import (
    ClassHead,
    Downsample,
    EqualConv2d,
    EqualLinear,
    Recorded,
    Upsample,
    blur,
    conv2d,
    conv_transpose2d,
    embedding,
)
from gan_kit.noise import Noise
from gan_kit.types import Critique, UserError

__all__ = ["StyleGAN2Discriminator", "StyleGAN2Generator", "minibatch_std", "modulated_conv2d"]

LEAK, GAIN = 0.2, math.sqrt(2)  # the gain keeps the variance, roughly; it is folded into the layer before


def lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, LEAK, inplace=True)


def unit(x: Tensor) -> Tensor:
    """Each row scaled to a mean square of 1; (B, N)"""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def channels_of(size: int, base: int, most: int) -> list[int]:
    """Channels from 4x4 up to size: base/resolution, at most `most`. Raises UserError for a size that is no 2^n."""
    if size not in [2**i for i in range(3, 11)]:
        raise UserError(f"image size {size} is not a power of two from 8 to 1024; set image_size=32, say")
    if base < size:
        raise UserError(f"channel_base={base} leaves no channel at {size}x{size}; set channel_base={32 * size}, say")
    return [min(base // 2**i, most) for i in range(2, int(math.log2(size)) + 1)]


def modulated_conv2d(
    x: Tensor, weight: Tensor, style: Tensor, demodulate: bool = True, up: bool = False, gain: float = 1.0
) -> Tensor:
    """Each sample convolved with weights of its own (section 2.2, equations 1 and 3).

    w'_ijk = style_i w_ijk, divided by its norm over i and k where demodulated; up: twice the size, filtered.
    Scaling the channels that come in and those that go out is the same as scaling the weights, so that the whole batch
    shares one dense convolution, in place of one group a sample.

    x: (B, C_in, H, W), weight: (C_out, C_in, k, k), style: (B, C_in) -> (B, C_out, H, W), or (B, C_out, 2H, 2W)
    """
    x = x * style[:, :, None, None]
    if up:
        x = blur(conv_transpose2d(x, weight.transpose(0, 1), stride=(2, 2)), pad=1, gain=4)
    else:
        pad = weight.shape[-1] // 2
        x = conv2d(x, weight, padding=(pad, pad))
    if demodulate:
        norms = style.square() @ weight.square().sum((2, 3)).t()
        return x * ((norms + 1e-8).rsqrt() * gain)[:, :, None, None]
    return x * gain if gain != 1 else x


class StyleLayer(nn.Module):
    """3x3 modulated convolution, noise, bias, leaky ReLU; x: (B, C_in, H, W), w: (B, w_dim)"""

    picture: Tensor

    def __init__(self, w_dim: int, in_channels: int, out_channels: int, size: int, up: bool):
        super().__init__()
        self.size, self.up, self.scale = size, up, 1 / math.sqrt(in_channels * 9)
        self.affine = EqualLinear(w_dim, in_channels, bias=1.0)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        self.strength = nn.Parameter(torch.empty(()))
        self.bias = nn.Parameter(torch.empty(out_channels))
        # the noise where none is drawn: always the same, so that it need not be saved
        g = torch.Generator().manual_seed(size + up)
        self.register_buffer("picture", torch.randn(1, 1, size, size, generator=g), persistent=False)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.strength)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, w: Tensor, noise: Noise | None) -> Tensor:
        x = modulated_conv2d(x, self.weight * self.scale, self.affine(w), up=self.up, gain=GAIN)
        drawn = self.picture if noise is None else noise.randn(1, self.size, self.size).to(x.device)
        x = x + (drawn * (self.strength * GAIN)).to(x.dtype)
        return lrelu(x + (self.bias * GAIN).to(x.dtype)[:, None, None])


class ToPixels(nn.Module):
    """1x1 modulated convolution without demodulation; x: (B, C_in, H, W), w: (B, w_dim) -> (B, channels, H, W)"""

    def __init__(self, w_dim: int, in_channels: int, channels: int):
        super().__init__()
        self.scale = 1 / math.sqrt(in_channels)
        self.affine = EqualLinear(w_dim, in_channels, bias=1.0)
        self.weight = nn.Parameter(torch.empty(channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels))

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = modulated_conv2d(x, self.weight * self.scale, self.affine(w), demodulate=False)
        return x + self.bias.to(x.dtype)[:, None, None]


class StyleGAN2Generator(Recorded, nn.Module):
    """z: (B, z_dim), y: (B,) or (B, vector_dim) or None -> (B, channels, size, size), unbounded; w: (B, num_ws, w_dim)
    in between.

    num_classes, vector_dim: what it is conditioned on, 0 both for nothing; null_class: see `gan_kit.nn.embedding`
    mapping_layers: from z to w, which learn with 1/100 of the learning rate
    channel_base, channel_max: channels are channel_base / resolution, at most channel_max
    architecture: "skip" (config F), every resolution adds to the pixels; or "residual", the last one makes them
    mixing: how many of the training samples take w from a second z beyond a random layer (style mixing, Karras et al.
        2019, section 3.1); that z is N(0, 1), drawn from `noise` sample by sample (published: once a batch)

    noise: what each layer's noise is drawn from; None takes fixed pictures of it, and mixes no styles
    psi: w is drawn to its running mean `w_mean` by 1 - psi. The mean follows w of all training samples by .005 a batch
    """

    takes_noise = True
    truncates = True
    averages = ("w_mean",)  # buffers that the strategy averages over ranks
    w_mean: Tensor

    def __init__(
        self,
        size: int = 256,
        channels: int = 3,
        num_classes: int = 0,
        z_dim: int = 512,
        w_dim: int = 512,
        mapping_layers: int = 8,
        channel_base: int = 32768,
        channel_max: int = 512,
        architecture: str = "skip",
        mixing: float = 0.9,
        null_class: bool = False,
        vector_dim: int = 0,
    ):
        super().__init__()
        if architecture not in ("skip", "residual"):
            raise UserError(f"no architecture={architecture!r} of the generator; have skip, residual")
        if not 0 <= mixing <= 1 or mapping_layers < 1:
            raise UserError(f"mixing={mixing}, mapping_layers={mapping_layers}: give 0 to 1, and at least one layer")
        widths = channels_of(size, channel_base, channel_max)
        self.z_dim, self.w_dim, self.num_classes, self.null_class = z_dim, w_dim, num_classes, null_class
        self.vector_dim = vector_dim
        self.architecture, self.mixing = architecture, mixing
        self.num_ws = 2 * len(widths)  # two layers a resolution, one at 4x4, and the last one's pixels
        self.embed = embedding(num_classes, w_dim, null_class, vector_dim)
        first = z_dim + (w_dim if self.embed else 0)
        self.layers = nn.ModuleList(
            EqualLinear(w_dim if i else first, w_dim, gain=GAIN, lr_multiplier=0.01) for i in range(mapping_layers)
        )
        self.register_buffer("w_mean", torch.zeros(w_dim))
        self.const = nn.Parameter(torch.empty(1, widths[0], 4, 4))
        self.convs, self.pixels, self.skips = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(widths):
            resolution, before = 4 * 2**i, widths[max(i - 1, 0)]
            if i:
                self.convs.append(StyleLayer(w_dim, before, width, resolution, up=True))
            self.convs.append(StyleLayer(w_dim, width, width, resolution, up=False))
            if architecture == "skip" or i == len(widths) - 1:
                self.pixels.append(ToPixels(w_dim, width, channels))
            if architecture == "residual" and i:
                self.skips.append(EqualConv2d(before, width, 1, bias=False))
        self.upsample = Upsample()
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def reset_parameters(self) -> None:
        for m in self.modules():
            if isinstance(m, EqualLinear | EqualConv2d | StyleLayer | ToPixels):
                m.reset_parameters()
        if self.embed is not None:
            self.embed.reset_parameters()
        nn.init.normal_(self.const)
        self.w_mean.zero_()

    def mapping(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """w of z, the same for all layers: (B, num_ws, w_dim)"""
        h = unit(z)
        if self.embed is not None:
            h = torch.cat([h, unit(self.embed(y, len(z)))], 1)
        for layer in self.layers:
            h = lrelu(layer(h))
        return h[:, None].expand(-1, self.num_ws, -1)

    def mixed(self, w: Tensor, y: Tensor | None, noise: Noise) -> Tensor:
        """Styles of a second z from a random layer on, in `mixing` of the samples."""
        other = self.mapping(noise.randn(self.z_dim).to(w), y)
        chance, where = noise.rand(2).to(w.device).unbind(1)
        first = torch.where(chance < self.mixing, 1 + (where * (self.num_ws - 1)).long(), self.num_ws)
        layer = torch.arange(self.num_ws, device=w.device)
        return torch.where((layer < first[:, None])[:, :, None], w, other)

    def synthesis(self, w: Tensor, noise: Noise | None = None) -> Tensor:
        """x of w (B, num_ws, w_dim): one w a convolution; pixels take the next one's"""
        x = self.const.to(w.dtype).expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        ws = w.unbind(1)
        x = self.convs[0](x, ws[0], noise)
        if self.architecture == "residual":
            for i, skip in enumerate(self.skips):
                h = self.convs[2 * i + 1](x, ws[2 * i + 1], noise)
                h = self.convs[2 * i + 2](h, ws[2 * i + 2], noise)
                x = (h + skip(self.upsample(x))) * math.sqrt(0.5)
            return self.pixels[0](x, ws[-1])
        out = self.pixels[0](x, ws[1])
        for i in range(1, len(self.pixels)):
            x = self.convs[2 * i - 1](x, ws[2 * i - 1], noise)
            x = self.convs[2 * i](x, ws[2 * i], noise)
            out = self.upsample(out) + self.pixels[i](x, ws[2 * i + 1])
        return out

    def forward(self, z: Tensor, y: Tensor | None = None, noise: Noise | None = None, psi: float = 1.0) -> Tensor:
        w = self.mapping(z, y)
        if self.training:
            self.w_mean.lerp_(w[:, 0].detach().mean(0).to(self.w_mean), 0.005)
            if self.mixing and noise is not None:
                w = self.mixed(w, y, noise)
        if psi != 1:
            w = torch.lerp(self.w_mean.to(w), w, psi)
        return self.synthesis(w, noise)


def minibatch_std(x: Tensor, group: int = 4) -> Tensor:
    """One more channel: how much features vary within a sample's group, on average (Karras et al. 2018, section 3).

    x: (B, C, H, W) -> (B, C + 1, H, W). Groups are of `group` samples, or of the largest number up to it that divides
    B, one from each B/group-th of the batch: another order of the batch makes other groups, and each rank and
    micro-batch has groups of its own.
    """
    b, _, h, w = x.shape
    size = next(n for n in range(min(group, b), 0, -1) if b % n == 0)
    grouped = x.float().reshape(size, b // size, -1)
    std = ((grouped - grouped.mean(0)).square().mean(0) + 1e-8).sqrt().mean(1)  # var(0) is slow on a CPU
    return torch.cat([x, std.to(x.dtype).repeat(size)[:, None, None, None].expand(-1, 1, h, w)], 1)


class DownBlock(nn.Module):
    """Two 3x3 convolutions, the second to half the size; x: (B, C_in, H, W) -> (B, C_out, H/2, W/2)"""

    def __init__(self, in_channels: int, out_channels: int, residual: bool):
        super().__init__()
        self.conv0 = EqualConv2d(in_channels, in_channels, 3, gain=GAIN)
        # the sum of two branches is scaled by √½
        self.conv1 = EqualConv2d(in_channels, out_channels, 3, 2, padding=0, gain=1.0 if residual else GAIN)
        self.skip = EqualConv2d(in_channels, out_channels, 1, bias=False, gain=math.sqrt(0.5)) if residual else None
        self.downsample = Downsample()

    def forward(self, x: Tensor) -> Tensor:
        h = lrelu(self.conv1(blur(lrelu(self.conv0(x)), pad=2)))
        return h if self.skip is None else h + self.skip(self.downsample(x))


class StyleGAN2Discriminator(Recorded, nn.Module):
    """x: (B, channels, size, size), y: (B,) or None -> Critique with one (B,) logit.

    channel_base, channel_max: as the generator's
    architecture: "residual" (config F), or "plain" as for CIFAR-10
    mbstd_group: see `minibatch_std`; 32 for CIFAR-10, 0 for none
    conditioning, null_class: see `gan_kit.nn.ClassHead`. Published is a projection of an 8-layer embedding; here it is
        one layer, with equalised learning rates too
    """

    def __init__(
        self,
        size: int = 256,
        channels: int = 3,
        num_classes: int = 0,
        channel_base: int = 32768,
        channel_max: int = 512,
        architecture: str = "residual",
        mbstd_group: int = 4,
        conditioning: str = "projection",
        null_class: bool = False,
        vector_dim: int = 0,
    ):
        super().__init__()
        if architecture not in ("residual", "plain"):
            raise UserError(f"no architecture={architecture!r} of the discriminator; have residual, plain")
        if mbstd_group < 0:
            raise UserError(f"mbstd_group={mbstd_group}; give the number of samples of a group, 0 for none")
        widths = channels_of(size, channel_base, channel_max)[::-1]
        self.num_classes, self.vector_dim, self.mbstd_group = num_classes, vector_dim, mbstd_group
        self.null_class = null_class
        last = widths[-1]
        self.from_pixels = EqualConv2d(channels, widths[0], 1, gain=GAIN)
        self.blocks = nn.Sequential(
            *(DownBlock(a, b, architecture == "residual") for a, b in itertools.pairwise(widths))
        )
        self.conv = EqualConv2d(last + (mbstd_group > 0), last, 3, gain=GAIN)
        self.linear = EqualLinear(last * 16, last, gain=GAIN)
        self.head = ClassHead(last, num_classes, conditioning, null_class=null_class, vector_dim=vector_dim)
        self.head_scale = 1 / math.sqrt(last)
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def reset_parameters(self) -> None:
        for m in self.modules():
            if isinstance(m, EqualLinear | EqualConv2d):
                m.reset_parameters()
        self.head.reset_parameters()
        for m in self.head.modules():
            if isinstance(m, nn.Linear | nn.Embedding):
                nn.init.normal_(m.weight)  # what it is given is scaled instead

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        x = lrelu(self.from_pixels(x.contiguous(memory_format=torch.channels_last)))
        x = self.blocks(x)
        if self.mbstd_group:
            x = minibatch_std(x, self.mbstd_group)
        h = lrelu(self.linear(lrelu(self.conv(x)).flatten(1)))
        logit, aux = self.head(h * self.head_scale, y)
        return Critique([logit], [[h]], aux)
