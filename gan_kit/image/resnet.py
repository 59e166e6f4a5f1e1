"""The ResNets of WGAN-GP (Gulrajani et al. 2017), SNGAN (Miyato et al. 2018) and, with attention, SAGAN (2019).

Pre-activation blocks; conditional batch norm in G, projection in D (Miyato & Koyama 2018). Two exact rewritings for
speed: a 3x3 convolution and its resampling are one (`gan_kit.nn.ConvUp`, `ConvDown`), and the shortcut's 1x1
convolution, which commutes with resampling, always works on the smaller picture.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.nn import (
    ClassHead,
    ConditionalBatchNorm2d,
    Conv2d,
    ConvDown,
    ConvUp,
    Recorded,
    SelfAttention2d,
    VectorEmbedding,
    embedding,
    raw_weight,
    restart_spectral,
    spectral_norm,
)
from gan_kit.types import Critique, UserError

__all__ = ["ResNetDiscriminator", "ResNetGenerator"]

Norm: TypeAlias = Callable[[int], nn.Module]
VECTOR_EMBED_DIM = 128


@dataclass(frozen=True)
class Plan:
    """One published pair: `unit` times these are the channels of G from 4x4 upwards, and of D's blocks downwards.

    downs: how many of D's blocks, the first ones, halve the picture
    stem: D's first "block" resamples too, or is a plain "conv"; pool: D's last positions, "sum", "mean" or "flat"
    norm: of D's blocks, "none" or "layer"
    """

    unit: int
    g: tuple[int, ...]
    d: tuple[int, ...]
    downs: int
    stem: str = "block"
    pool: str = "sum"
    norm: str = "none"


PLANS: dict[str, dict[int, Plan]] = {
    # Miyato et al. 2018, tables 3 to 6, and the authors' code for 64 and 256; at 32 G's unit is twice D's
    "sngan": {
        32: Plan(128, (2, 2, 2, 2), (1, 1, 1, 1), 2),
        64: Plan(64, (16, 8, 4, 2, 1), (1, 2, 4, 8, 16), 5),
        128: Plan(64, (16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5),
        256: Plan(64, (16, 16, 8, 8, 4, 2, 1), (1, 2, 4, 8, 8, 16, 16), 6),
    },
    # Gulrajani et al. 2017, appendix F and the authors' code for 64; 128 and 256 repeat its widest stage
    "wgan_gp": {
        32: Plan(128, (1, 1, 1, 1), (1, 1, 1, 1), 2, pool="mean"),
        64: Plan(64, (8, 8, 4, 2, 1), (1, 2, 4, 8, 8), 4, "conv", "flat", "layer"),
        128: Plan(64, (8, 8, 8, 4, 2, 1), (1, 2, 4, 8, 8, 8), 5, "conv", "flat", "layer"),
        256: Plan(64, (8, 8, 8, 8, 4, 2, 1), (1, 2, 4, 8, 8, 8, 8), 6, "conv", "flat", "layer"),
    },
}


def plan_of(name: str, size: int) -> Plan:
    if name not in PLANS:
        raise UserError(f"no plan={name!r}; have {', '.join(PLANS)}")
    if size not in PLANS[name]:
        raise UserError(f"image size {size} is not a power of two from 32 to 256; set image_size=32, say")
    return PLANS[name][size]


def widths_of(plan: Sequence[int], unit: int, widths: Sequence[int] | None) -> list[int]:
    """Channels from a plan, or as given."""
    if widths is None:
        return [unit * n for n in plan]
    if len(widths) != len(plan):
        raise UserError(f"widths={list(widths)} are {len(widths)} numbers, but this net has {len(plan)} stages")
    return list(widths)


class UpBlock(nn.Module):
    """x: (B, a, H, W) -> (B, b, 2H, 2W): norm, ReLU, double, 3x3, norm, ReLU, 3x3, and a shortcut.

    c: the condition of both norms, or None
    """

    def __init__(self, a: int, b: int, norm: Norm, spectral: bool):
        super().__init__()
        self.norm1, self.conv1 = norm(a), spectral_norm(ConvUp(a, b), spectral)
        self.norm2, self.conv2 = norm(b), spectral_norm(Conv2d(b, b, 3, padding=1), spectral)
        self.shortcut = spectral_norm(Conv2d(a, b, 1), spectral)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        more = () if c is None else (c,)
        h = self.conv1(F.relu(self.norm1(x, *more), inplace=True))
        h = self.conv2(F.relu(self.norm2(h, *more), inplace=True))
        return h + F.interpolate(self.shortcut(x), scale_factor=2.0)


class DownBlock(nn.Module):
    """x: (B, a, H, W) -> (B, b, H/2, W/2), or of the same size: ReLU, 3x3, ReLU, 3x3, halve, and a shortcut.

    hidden: channels between the convolutions; first: works on pixels, so without the ReLU ahead
    """

    def __init__(self, a: int, b: int, hidden: int, down: bool, first: bool, spectral: bool, norm: Norm | None = None):
        super().__init__()
        self.down, self.first = down, first
        self.norm1 = norm(a) if norm else nn.Identity()
        self.norm2 = norm(hidden) if norm else nn.Identity()
        self.conv1 = spectral_norm(Conv2d(a, hidden, 3, padding=1), spectral)
        last = ConvDown(hidden, b) if down else Conv2d(hidden, b, 3, padding=1)
        self.conv2 = spectral_norm(last, spectral)
        self.shortcut = spectral_norm(Conv2d(a, b, 1), spectral) if down or a != b else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(x if self.first else F.relu(self.norm1(x)))
        h = self.conv2(F.relu(self.norm2(h)))
        return h + self.shortcut(F.avg_pool2d(x, 2) if self.down else x)


class ResNetGenerator(Recorded, nn.Module):
    """z: (B, z_dim), y: (B,) class indices, (B, vector_dim) or None -> (B, channels, size, size) in [-1, 1].

    size: 32, 64, 128 or 256; plan: whose channels, "sngan" or "wgan_gp"
    width: the plan's unit, or as published; widths: all channels, from 4x4 upwards
    spectral, attention: spectral normalisation, and self-attention at this resolution (SAGAN)
    null_class: one more class, number num_classes, for "no label"
    vector_dim: batch norms take gains and biases from an embedding (VECTOR_EMBED_DIM) of y, as BigGAN's do

    Raises UserError for labels that are missing.
    """

    def __init__(
        self,
        size: int = 32,
        channels: int = 3,
        num_classes: int = 0,
        z_dim: int = 128,
        plan: str = "sngan",
        width: int | None = None,
        widths: Sequence[int] | None = None,
        spectral: bool = False,
        attention: int | None = None,
        null_class: bool = False,
        vector_dim: int = 0,
    ):
        super().__init__()
        published = plan_of(plan, size)
        self.z_dim, self.num_classes, self.null_class, self.vector_dim = z_dim, num_classes, null_class, vector_dim
        self.widths = widths_of(published.g, width or published.unit, widths)
        classes = num_classes + null_class if num_classes else 0
        self.embed = embedding(0, VECTOR_EMBED_DIM, null_class, vector_dim)

        def norm(n: int) -> nn.Module:
            if self.embed is not None:
                return ConditionalBatchNorm2d(n, vector_dim=VECTOR_EMBED_DIM)
            return ConditionalBatchNorm2d(n, classes) if classes else nn.BatchNorm2d(n)

        self.linear = spectral_norm(nn.Linear(z_dim, self.widths[0] * 16), spectral)
        self.blocks = nn.ModuleList(UpBlock(a, b, norm, spectral) for a, b in itertools.pairwise(self.widths))
        sides = [8 * 2**i for i in range(len(self.blocks))]
        self.attention = attention_after(sides, self.widths[1:], attention, spectral)
        self.norm = nn.BatchNorm2d(self.widths[-1])
        self.to_pixels = spectral_norm(Conv2d(self.widths[-1], channels, 3, padding=1), spectral)
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def reset_parameters(self) -> None:
        reset_glorot(self)

    def condition(self, y: Tensor | None, n: int) -> Tensor | None:
        """What the norms take: rows of their tables, or an embedded vector."""
        if self.embed is not None:
            return self.embed(y, n)
        if not self.num_classes:
            return None
        if y is None and not self.null_class:
            raise UserError(f"this generator is conditioned on one of {self.num_classes} classes; give labels y")
        if y is None:
            return torch.full((n,), self.num_classes, device=self.linear.bias.device)
        return torch.where(y < 0, self.num_classes, y) if self.null_class else y

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        c = self.condition(y, len(z))
        x = self.linear(z).view(len(z), -1, 4, 4).contiguous(memory_format=torch.channels_last)
        for i, block in enumerate(self.blocks):
            x = block(x, c)
            if str(i) in self.attention:
                x = self.attention[str(i)](x)
        return torch.tanh(self.to_pixels(F.relu(self.norm(x), inplace=True)))


class ResNetDiscriminator(Recorded, nn.Module):
    """x: (B, channels, size, size), y: (B,) or None -> Critique with one (B,) logit.

    plan, width, widths, attention: as of `ResNetGenerator`; widths are the blocks' outputs, from the pixels on
    spectral: spectral normalisation of all layers (SNGAN); leave it out under a gradient penalty (WGAN-GP)
    pool, norm: as in the plan, or given: "sum", "mean", "flat"; "none", "layer"
    conditioning, null_class: see `gan_kit.nn.ClassHead`
    """

    def __init__(
        self,
        size: int = 32,
        channels: int = 3,
        num_classes: int = 0,
        plan: str = "sngan",
        width: int | None = None,
        widths: Sequence[int] | None = None,
        spectral: bool = True,
        attention: int | None = None,
        pool: str | None = None,
        norm: str | None = None,
        conditioning: str = "projection",
        null_class: bool = False,
        vector_dim: int = 0,
    ):
        super().__init__()
        published = plan_of(plan, size)
        self.num_classes, self.null_class, self.vector_dim = num_classes, null_class, vector_dim
        self.pool = pool or published.pool
        if self.pool not in ("sum", "mean", "flat"):
            raise UserError(f"pool={pool!r}: choose 'sum', 'mean' or 'flat'")
        norm = norm or published.norm
        if norm not in ("none", "layer"):
            raise UserError(f"norm={norm!r}: choose 'none' or 'layer'")
        layer_norm: Norm | None = (lambda n: nn.GroupNorm(1, n)) if norm == "layer" else None
        self.widths = widths_of(published.d, width or published.unit, widths)
        by_conv = published.stem == "conv"
        outs = self.widths[1:] if by_conv else self.widths
        ins = [self.widths[0], *outs[:-1]] if by_conv else [channels, *outs[:-1]]
        self.stem = Conv2d(channels, ins[0], 3, padding=1) if by_conv else nn.Identity()
        if by_conv:
            spectral_norm(self.stem, spectral)
        self.blocks = nn.ModuleList()
        for i, (a, b) in enumerate(zip(ins, outs, strict=True)):
            first = i == 0 and not by_conv
            of = None if first else layer_norm
            self.blocks.append(DownBlock(a, b, b if first else a, i < published.downs, first, spectral, of))
        sides = [size // 2 ** min(i + 1, published.downs) for i in range(len(outs))]
        self.attention = attention_after(sides, outs, attention, spectral)
        self.norm = layer_norm(outs[-1]) if layer_norm else nn.Identity()
        wide = outs[-1] * (sides[-1] ** 2 if self.pool == "flat" else 1)
        self.head = ClassHead(
            wide, num_classes, conditioning, spectral=spectral, null_class=null_class, vector_dim=vector_dim
        )
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def reset_parameters(self) -> None:
        reset_glorot(self)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        for i, block in enumerate(self.blocks):
            x = block(x)
            if str(i) in self.attention:
                x = self.attention[str(i)](x)
        x = F.relu(self.norm(x))
        h = x.flatten(1) if self.pool == "flat" else x.sum((2, 3)) if self.pool == "sum" else x.mean((2, 3))
        logit, aux = self.head(h, y)
        return Critique([logit], [[h]], aux)


def attention_after(sides: list[int], widths: list[int], side: int | None, spectral: bool) -> nn.ModuleDict:
    """{number of a block: the attention after it}, one or none; sides: of the blocks' outputs, in their order"""
    if side is None:
        return nn.ModuleDict()
    if side not in sides:
        raise UserError(f"attention={side}: this net has blocks at {', '.join(map(str, dict.fromkeys(sides)))}")
    i = sides.index(side)
    return nn.ModuleDict({str(i): SelfAttention2d(widths[i], spectral)})


def reset_glorot(net: nn.Module) -> None:
    """Glorot's uniform weights, √2 wider in the blocks' 3x3 convolutions, biases 0 (both papers' authors)."""
    for m in net.modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            in_block = isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)
            nn.init.xavier_uniform_(raw_weight(m), math.sqrt(2) if in_block else 1.0)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
    for name in ("stem", "to_pixels"):  # 3x3, but in no block
        if isinstance(outer := getattr(net, name, None), nn.Conv2d):
            nn.init.xavier_uniform_(raw_weight(outer))
    reset_others(net)
    restart_spectral(net)


def reset_others(net: nn.Module) -> None:
    """Norms, attention, head and embedded vectors, by their own rules."""
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d | nn.GroupNorm | ConditionalBatchNorm2d | SelfAttention2d | ClassHead):
            m.reset_parameters()
        elif isinstance(m, VectorEmbedding):
            m.reset_parameters(std=m.embedding_dim**-0.5)  # of length 1 or so: gains and biases begin near 1 and 0
