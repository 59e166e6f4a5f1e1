"""Picture to picture: the networks of pix2pix (Isola et al. 2017) and CycleGAN (Zhu et al. 2017).

Two generators (a U-Net, and a ResNet at a quarter of the size) and a discriminator that judges overlapping patches.
pix2pix's dropout is left out: its authors found little variety in what it makes (section 2.2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gan_kit.nn import ClassHead, Conv2d, Recorded
from gan_kit.nn.spectral import raw_weight, restart_spectral, spectral_norm
from gan_kit.types import Critique, UserError

__all__ = ["PatchDiscriminator", "ResNetTranslator", "UNetTranslator"]


def normalised(channels: int, norm: str) -> nn.Module:
    """ "instance" (no parameters), "batch" or "none", of (B, channels, H, W)"""
    if norm not in ("instance", "batch", "none"):
        raise UserError(f"no norm={norm!r}; have instance, batch, none")
    if norm == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.InstanceNorm2d(channels)


def reset(net: nn.Module) -> None:
    """Convolutions N(0, .02), batch norms' gains N(1, .02), biases 0 (both papers' appendices)"""
    for m in net.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(raw_weight(m), std=0.02)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight, 1.0, 0.02)
            nn.init.zeros_(m.bias)
            m.reset_running_stats()
    restart_spectral(net)


class UNetTranslator(Recorded, nn.Module):
    """a: (B, channels, size, size), y: not looked at -> (B, channels, size, size) in [-1, 1] (pix2pix, appendix).

    Halved `depth` times by 4x4 convolutions and doubled as often, with what was on the way down beside.

    depth: None goes down to 1x1, as published; width: channels at half the size, doubled up to 8 x width
    """

    def __init__(
        self, size: int = 256, channels: int = 3, width: int = 64, depth: int | None = None, norm: str = "batch"
    ):
        super().__init__()
        most = int(math.log2(size)) if size > 1 else 0
        depth = most if depth is None else depth
        if not 1 < depth <= most or size % 2**depth:
            raise UserError(
                f"a U-Net of depth={depth} can't halve {size}x{size} pictures so often; use a size such as 256 or 64, "
                f"or generator=resnet_translator"
            )
        widths = [width * min(2**i, 8) for i in range(depth)]
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for i, w in enumerate(widths):
            last = i == depth - 1
            self.downs.append(
                nn.Sequential(
                    nn.LeakyReLU(0.2) if i else nn.Identity(),
                    nn.Conv2d(widths[i - 1] if i else channels, w, 4, 2, 1),
                    normalised(w, norm) if 0 < i < depth - 1 else nn.Identity(),
                )
            )
            self.ups.append(
                nn.Sequential(
                    nn.ReLU(),
                    nn.ConvTranspose2d(w if last else 2 * w, widths[i - 1] if i else channels, 4, 2, 1),
                    normalised(widths[i - 1], norm) if i else nn.Tanh(),
                )
            )
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def reset_parameters(self) -> None:
        reset(self)

    def forward(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        kept: list[Tensor] = []
        h = a
        for down in self.downs:
            h = down(h)
            kept.append(h)
        h = self.ups[-1](kept.pop())
        for up in reversed(self.ups[:-1]):
            h = up(torch.cat([h, kept.pop()], dim=1))
        return h


class _Residual(nn.Module):
    """h + two 3x3 convolutions on mirrored edges; h: (B, C, H, W)"""

    def __init__(self, channels: int, norm: str):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            normalised(channels, norm),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            normalised(channels, norm),
        )

    def forward(self, h: Tensor) -> Tensor:
        return h + self.branch(h)


class ResNetTranslator(Recorded, nn.Module):
    """a: (B, channels, H, W), y: not looked at -> the same shape in [-1, 1] (CycleGAN, appendix; Johnson et al. 2016).

    Sides are multiples of 4, from 16 on, of any size: what was trained at one may be used at another.

    blocks: 9 for 256x256 pictures, 6 for 128x128, as published
    """

    def __init__(self, channels: int = 3, width: int = 64, blocks: int = 9, norm: str = "instance"):
        super().__init__()
        if blocks < 1:
            raise UserError(f"blocks={blocks} must be at least 1; 6 or 9 as published")
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width, 7, padding=3, padding_mode="reflect"), normalised(width, norm), nn.ReLU()
        ]  # fmt: skip
        for a, b in ((width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(a, b, 3, 2, 1), normalised(b, norm), nn.ReLU()]
        layers += [_Residual(4 * width, norm) for _ in range(blocks)]
        for a, b in ((4 * width, 2 * width), (2 * width, width)):
            layers += [nn.ConvTranspose2d(a, b, 3, 2, 1, output_padding=1), normalised(b, norm), nn.ReLU()]
        layers += [nn.Conv2d(width, channels, 7, padding=3, padding_mode="reflect"), nn.Tanh()]
        self.net = nn.Sequential(*layers)
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def reset_parameters(self) -> None:
        reset(self)

    def forward(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        if a.shape[-1] % 4 or a.shape[-2] % 4 or min(a.shape[-2:]) < 16:
            raise UserError(
                f"a picture of {a.shape[-1]}x{a.shape[-2]}: sides must be multiples of 4 from 16 on; crop or pad it"
            )
        return self.net(a)


class PatchDiscriminator(Recorded, nn.Module):
    """x: (B, channels, H, W), y: (B,) or None -> Critique with one map of logits, (B, h, w), a logit a patch.

    4x4 convolutions, `layers` of them with stride 2, then two without (pix2pix, section 3.3 and appendix). For a
    conditional discriminator x is (a, b) stacked: channels=6.

    layers: 3 judges patches of 70x70 pixels, 2 of 34x34, 1 of 16x16
    norm: "instance", "batch" or "none"; spectral: spectral normalisation of the convolutions (Miyato et al. 2018)
    conditioning: how classes enter beside the patches, a kind of `gan_kit.nn.ClassHead` on the mean over patches
    """

    def __init__(
        self,
        channels: int = 3,
        num_classes: int = 0,
        width: int = 64,
        layers: int = 3,
        norm: str = "instance",
        spectral: bool = False,
        conditioning: str = "projection",
        null_class: bool = False,
        vector_dim: int = 0,
    ):
        super().__init__()
        if layers < 1:
            raise UserError(f"layers={layers} must be at least 1; 3 judges 70x70 patches")
        widths = [width * min(2**i, 8) for i in range(layers + 1)]
        strides = [2] * layers + [1]
        self.patch = 4 + 3 * sum(math.prod(strides[:i]) for i in range(1, layers + 2))
        self.stages = nn.ModuleList(
            nn.Sequential(
                self._conv(widths[i - 1] if i else channels, w, stride, spectral),
                normalised(w, norm) if i else nn.Identity(),
                nn.LeakyReLU(0.2),
            )
            for i, (w, stride) in enumerate(zip(widths, strides, strict=True))
        )
        self.to_logits = self._conv(widths[-1], 1, 1, spectral)
        self.num_classes, self.null_class, self.vector_dim = num_classes, null_class, vector_dim
        self.head: ClassHead | None = None
        if num_classes or vector_dim:
            self.head = ClassHead(widths[-1], num_classes, conditioning, 0, spectral, null_class, vector_dim)
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def _conv(channels_in: int, channels_out: int, stride: int, spectral: bool) -> nn.Module:
        return spectral_norm(Conv2d(channels_in, channels_out, 4, stride, padding=1), spectral)

    def reset_parameters(self) -> None:
        reset(self)
        if self.head is not None:
            self.head.reset_parameters()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        features: list[Tensor] = []
        for stage in self.stages:
            if min(x.shape[-2:]) < 4:
                raise UserError(f"the picture is too small for layers={len(self.stages) - 1} of patches; use fewer")
            x = stage(x)
            features.append(x)
        logits, aux = self.to_logits(x).squeeze(1), None
        if self.head is not None:
            of_class, aux = self.head(x.mean((2, 3)), y)
            logits = logits + of_class[:, None, None]
        return Critique([logits], [features], aux)
