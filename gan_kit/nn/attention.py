"""Self-attention over the positions of a feature map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.nn.conv import Conv2d
from gan_kit.nn.spectral import raw_weight, restart_spectral, spectral_norm
from gan_kit.types import UserError

__all__ = ["SelfAttention2d"]


class SelfAttention2d(nn.Module):
    """x + γ · attention(x), γ = 0 to begin with (SAGAN, Zhang et al. 2019, section 3). x: (B, channels, H, W)

    Queries and keys have channels/8, values channels/2; keys and values are max-pooled by 2, as in the authors' code.
    No 1/√d in the softmax, no biases. Needs even H and W, and channels that 8 divides.

    spectral: spectral normalisation of its four 1x1 convolutions
    """

    def __init__(self, channels: int, spectral: bool = False):
        super().__init__()
        if channels % 8:
            raise UserError(f"attention over {channels} channels, which are no multiple of 8; change width")

        def conv(a: int, b: int) -> Conv2d:
            return spectral_norm(Conv2d(a, b, 1, bias=False), spectral)

        self.query, self.key = conv(channels, channels // 8), conv(channels, channels // 8)
        self.value, self.out = conv(channels, channels // 2), conv(channels // 2, channels)
        self.gamma = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for conv in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(raw_weight(conv))
        restart_spectral(self)
        nn.init.zeros_(self.gamma)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        query = _rows(self.query(x))  # (B, HW, C/8)
        key = _rows(F.max_pool2d(self.key(x), 2))  # (B, HW/4, C/8)
        value = _rows(F.max_pool2d(self.value(x), 2))  # (B, HW/4, C/2)
        # written out: fused kernels of scaled_dot_product_attention have no second derivative, for gradient penalties
        mixed = torch.softmax(query @ key.transpose(1, 2), dim=-1) @ value
        return x + self.gamma * self.out(mixed.view(b, h, w, c // 2).permute(0, 3, 1, 2))


def _rows(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, HW, C), a view in channels_last"""
    return x.permute(0, 2, 3, 1).flatten(1, 2)
