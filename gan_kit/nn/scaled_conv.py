"""A 3x3 convolution and the resampling by two beside it as one convolution, as ResNet GANs stack them.

The mean of 2x2 neighbouring outputs of a 3x3 convolution is one 4x4 convolution of stride 2, and a 3x3 convolution of a
picture whose pixels were doubled is a transposed one: both exact, at the edges too. That is 16 products where there
were 36, and no large picture in between. Weights stay 3x3, as published nets have them.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.nn.conv import Conv2d, conv2d, conv_transpose2d

__all__ = ["ConvDown", "ConvUp"]


class ConvDown(Conv2d):
    """avg_pool2d(conv3x3(x), 2). x: (B, C_in, H, W) -> (B, C_out, H/2, W/2)"""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__(channels_in, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, _spread(self.weight) / 4, self.bias, (2, 2), (1, 1))


class ConvUp(nn.Conv2d):
    """conv3x3(x with each pixel doubled along both axes). x: (B, C_in, H, W) -> (B, C_out, 2H, 2W)"""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__(channels_in, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        weight = _spread(self.weight).flip(2, 3).transpose(0, 1)
        x = conv_transpose2d(x, weight, (2, 2), (1, 1))
        return x if self.bias is None else x + self.bias.to(x.dtype)[:, None, None]


def _spread(weight: Tensor) -> Tensor:
    """(O, I, 3, 3) -> (O, I, 4, 4): the sum of the kernel at the four places that 2x2 pixels give it"""
    rows = F.pad(weight, (0, 0, 0, 1)) + F.pad(weight, (0, 0, 1, 0))
    return F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))
