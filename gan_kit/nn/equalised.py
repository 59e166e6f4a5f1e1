"""Layers whose weights are N(0, 1) and scaled when used, so that Adam moves all of them alike.

The "equalised learning rate" of Karras et al. 2018 (progressive growing, section 4.1), with the multiplier of the
learning rate of StyleGAN (Karras et al. 2019, appendix C).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.nn.conv import conv2d

__all__ = ["EqualConv2d", "EqualLinear"]


class EqualLinear(nn.Module):
    """x: (..., in_features) -> (..., out_features), Wx / √in_features + b

    bias: its first value; gain: of the activation that follows, folded into weight and bias
    lr_multiplier: the layer learns as if the optimiser's learning rate were multiplied by it
    """

    def __init__(
        self, in_features: int, out_features: int, bias: float = 0.0, gain: float = 1.0, lr_multiplier: float = 1.0
    ):
        super().__init__()
        self.bias_start, self.lr_multiplier = bias, lr_multiplier
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.weight_scale = gain * lr_multiplier / math.sqrt(in_features)
        self.bias_scale = gain * lr_multiplier
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=1 / self.lr_multiplier)
        nn.init.constant_(self.bias, self.bias_start / self.lr_multiplier)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.weight_scale, self.bias * self.bias_scale)


class EqualConv2d(nn.Module):
    """x: (B, C_in, H, W) -> (B, C_out, H', W'), zero padding unless told otherwise; fit for gradient penalties.

    gain: of the activation that follows, folded into weight and bias
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        padding: int | None = None,
        bias: bool = True,
        gain: float = 1.0,
    ):
        super().__init__()
        self.gain, self.scale = gain, gain / math.sqrt(in_channels * kernel**2)
        self.stride = (stride, stride)
        pad = kernel // 2 if padding is None else padding
        self.padding = (pad, pad)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias * self.gain
        return conv2d(x, self.weight * self.scale, bias, self.stride, self.padding)
