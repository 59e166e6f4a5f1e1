"""Periodic activations, and activations without aliasing (BigVGAN, Lee et al. 2023, sections 3.2 and 3.3)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.types import UserError

__all__ = ["AntiAliased", "Snake", "kaiser_sinc"]


class Snake(nn.Module):
    """x + sin²(αx) / β, learned per channel in log scale (Ziyin et al. 2020); (B, C, ...) -> the same shape.

    beta: a height of its own, as in BigVGAN's snake-beta; False keeps β = α
    """

    def __init__(self, channels: int, beta: bool = True):
        super().__init__()
        self.log_alpha = nn.Parameter(torch.zeros(channels))
        self.log_beta = nn.Parameter(torch.zeros(channels)) if beta else None

    def reset_parameters(self) -> None:
        for p in self.parameters():
            nn.init.zeros_(p)

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (x.dim() - 2))
        alpha = self.log_alpha.exp().view(shape)
        beta = alpha if self.log_beta is None else self.log_beta.exp().view(shape)
        return x + (alpha * x).sin().square() / (beta + 1e-9)


def kaiser_sinc(taps: int = 12, cutoff: float = 0.25, half_width: float = 0.3) -> Tensor:
    """A low-pass filter (taps,) that sums to 1: a sinc under a Kaiser window.

    cutoff, and half the width of the transition about it: cycles a sample. The window's β follows Kaiser's formula for
    the attenuation that so many taps reach over so wide a transition.
    """
    attenuation = 2.285 * (taps / 2 - 1) * math.pi * 4 * half_width + 7.95
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation >= 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    else:
        beta = 0.0
    t = torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2
    h = torch.sinc(2 * cutoff * t) * torch.kaiser_window(taps, periodic=False, beta=beta, dtype=torch.float64)
    return (h / h.sum()).float()


class AntiAliased(nn.Module):
    """The activation at twice the rate: up, activate, down, each with a 12-tap filter; (B, C, ..., T) -> the same.

    Overtones that a non-linearity makes above half the rate are filtered out instead of folded back.
    `radius`: samples on each side that one output sees.
    """

    radius = 5

    def __init__(self, activation: nn.Module, taps: int = 12):
        super().__init__()
        if taps % 4:
            raise UserError(f"taps={taps} of the anti-aliasing filter must be a multiple of 4; 12 as published")
        self.activation = activation
        self.filter: Tensor
        self.register_buffer("filter", kaiser_sinc(taps), persistent=False)
        self.radius = taps // 2 - 1

    def forward(self, x: Tensor) -> Tensor:
        shape, h = x.shape, self.filter.view(1, 1, -1)
        taps = h.shape[-1]
        half = taps // 2
        # up: each phase of the filter makes one of two samples, a quarter of a step before and after their own
        flat = F.pad(x.reshape(-1, 1, shape[-1]), (half // 2 - 1, half // 2), mode="replicate")
        phases = F.conv1d(flat, 2 * torch.cat([h[..., 0::2], h[..., 1::2]]).flip(-1))  # (N, 2, T)
        up = phases.transpose(1, 2).reshape(*shape[:-1], 2 * shape[-1])
        y = self.activation(up).reshape(-1, 1, 2 * shape[-1])
        return F.conv1d(F.pad(y, (half, half - 1), mode="replicate"), h, stride=2).view(shape)
