"""Bilinear resampling by two, with the [1, 3, 3, 1] filter of StyleGAN2 (Karras et al. 2020) and R3GAN."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Downsample", "Upsample"]


class Upsample(nn.Module):
    """x: (B, C, H, W) -> (B, C, 2H, 2W)"""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class Downsample(nn.Module):
    """x: (B, C, H, W) -> (B, C, H/2, W/2); edges are repeated, so that a constant image stays constant."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(row, row)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv2d(x, self.kernel.to(x.dtype).expand(channels, 1, 4, 4), stride=2, groups=channels)
