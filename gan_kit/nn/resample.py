"""Resampling by two with the [1, 3, 3, 1] filter of StyleGAN2 (Karras et al. 2020, appendix B) and R3GAN.

`Upsample` and `Downsample` stand alone; `blur` is the filter beside a convolution of stride two, up or down.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

__all__ = ["Downsample", "Upsample", "blur"]


class Upsample(nn.Module):
    """x: (B, C, H, W) -> (B, C, 2H, 2W)"""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class Downsample(nn.Module):
    """x: (B, C, H, W) -> (B, C, H/2, W/2); edges are repeated, so that a constant image stays constant."""

    def forward(self, x: Tensor) -> Tensor:
        # [1, 3, 3, 1] / 8 on an image with its edges repeated is half the transpose of Upsample, along each axis. Its
        # derivative is Upsample: with R1 this is several times as fast as a depthwise convolution on a CPU.
        b, c, h, w = x.shape
        size = [b, c, h // 2, w // 2]
        return torch.ops.aten.upsample_bilinear2d_backward(x, [h, w], size, False, None, None) / 4


def blur(x: Tensor, pad: int, gain: float = 1.0) -> Tensor:
    """gain x [1, 3, 3, 1] / 8 along both axes, zeros around: (B, C, H, W) -> (B, C, H + 2 pad - 3, W + 2 pad - 3)

    pad 2 comes before a 3x3 convolution of stride 2 without padding: H -> H + 1 -> H / 2; pad 1 with gain 4 behind a
    transposed one: H -> 2H + 1 -> 2H. Derivatives of all orders are of this kind again.
    """
    return _Blur.apply(x, pad, gain)


class _Blur(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pad: int, gain: float) -> Tensor:
        ctx.pad, ctx.gain = pad, gain
        channels = x.shape[1]
        row = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) * (gain**0.5 / 8)
        x = F.conv2d(x, row.view(1, 1, 4, 1).expand(channels, 1, 4, 1), padding=(pad, 0), groups=channels)
        return F.conv2d(x, row.view(1, 1, 1, 4).expand(channels, 1, 1, 4), padding=(0, pad), groups=channels)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return blur(g, 3 - ctx.pad, ctx.gain), None, None  # the filter is its own mirror image
