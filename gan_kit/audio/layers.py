"""Convolutions over time as rows of a picture one pixel high, which is how they are quickest on a CPU.

The layers' weights have nn.Conv1d's shapes; signals inside a net are (B, C, 1, T). `rows` and `unrows` lead in and out.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from gan_kit.nn import conv2d

__all__ = ["Conv1d", "ConvTranspose1d", "normed", "reset_convolutions", "rows", "unrows"]


def rows(x: Tensor) -> Tensor:
    """(B, C, T) -> (B, C, 1, T), channels last on a CPU: the faster layout for narrow nets, for wide ones no matter."""
    x = x.unsqueeze(2)
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def unrows(x: Tensor) -> Tensor:
    """(B, C, 1, T) -> (B, C, T)"""
    return x.squeeze(2)


class Conv1d(nn.Conv1d):
    """x: (B, C_in, 1, T) -> (B, C_out, 1, T / stride), zeros beyond the ends; fast derivatives of all orders.

    padding: (kernel - 1) · dilation / 2 unless given
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
    ):
        padding = (kernel - 1) * dilation // 2 if padding is None else padding
        super().__init__(channels_in, channels_out, kernel, stride, padding, dilation, groups)
        self.shape = ((1, stride), (0, padding), (1, dilation), groups)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight.unsqueeze(2), self.bias, *self.shape)


class ConvTranspose1d(nn.ConvTranspose1d):
    """x: (B, C_in, 1, T) -> (B, C_out, 1, stride · T), where kernel - stride is even; of others one end is cut."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int):
        odd = (kernel - stride) % 2
        padding = (kernel - stride + odd) // 2
        super().__init__(channels_in, channels_out, kernel, stride, padding, odd)
        self.shape = ((1, stride), (0, padding), (0, odd))

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return F.conv_transpose2d(x, self.weight.unsqueeze(2), self.bias, *self.shape)


def normed(norm: str) -> Callable[..., nn.Module]:
    """The parametrization of a name: "weight", "spectral" or "none"."""
    wraps: dict[str, Callable[..., nn.Module]] = {
        "weight": weight_norm,
        "spectral": spectral_norm,
        "none": lambda module: module,
    }
    return wraps[norm]


@torch.no_grad()
def reset_convolutions(net: nn.Module) -> None:
    """torch's own initial weights for every convolution of `net`, behind weight or spectral norm too."""
    for m in net.modules():
        if isinstance(m, nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d):
            weight = torch.empty_like(m.weight)
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
            if m.bias is not None:
                bound = 1 / math.sqrt(weight[0].numel())
                nn.init.uniform_(m.bias, -bound, bound)
            if torch.nn.utils.parametrize.is_parametrized(m, "weight"):
                for buffer in m.parametrizations.weight[0].buffers():  # type: ignore[index, union-attr]  # of spectral norm
                    buffer.copy_(F.normalize(torch.randn_like(buffer), dim=0))
                m.weight = weight
                for _ in range(15):  # spectral norm's estimate of σ, which each look at the weight brings nearer
                    m.weight  # noqa: B018
            else:
                m.weight.copy_(weight)
