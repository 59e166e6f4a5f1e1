"""Ways from one latent code to another. t = 0 is the first and t = 1 the second, bit for bit."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["lerp", "slerp"]


def lerp(a: Tensor, b: Tensor, t: Tensor | float) -> Tensor:
    """The straight line, for priors that fill a box or a learnt space such as w; a, b: (N, ...), t: a number or (N,)"""
    t = _column(t, a)
    return torch.where(t == 1, b, a + t * (b - a))


def slerp(a: Tensor, b: Tensor, t: Tensor | float) -> Tensor:
    """Along the great circle, lengths linearly: (N, D), t: a number or (N,) -> (N, D).

    Samples of N(0, 1) lie near the sphere of radius sqrt(D), which a straight line leaves (White 2016, section 2.1).
    Between opposite points, where every great circle is as short, one is chosen.
    """
    t = _column(t, a)
    length_a, length_b = (v.norm(dim=-1, keepdim=True).clamp_min(1e-12) for v in (a, b))
    u, v = a / length_a, b / length_b
    across = v - (u * v).sum(-1, keepdim=True) * u
    # opposite or equal: an axis stands in for the way across
    axis = torch.zeros_like(u).scatter_(-1, u.abs().argmin(-1, keepdim=True), 1.0)
    axis = axis - (u * axis).sum(-1, keepdim=True) * u
    sine = across.norm(dim=-1, keepdim=True)
    angle = torch.atan2(sine, (u * v).sum(-1, keepdim=True))
    across = torch.where(sine > 1e-5, across, axis)
    across = across / across.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    way = torch.cos(t * angle) * u + torch.sin(t * angle) * across
    way = way * (length_a + t * (length_b - length_a))
    return torch.where(t == 0, a, torch.where(t == 1, b, way))


def _column(t: Tensor | float, like: Tensor) -> Tensor:
    """t so that it multiplies rows: (N, 1, ...) or (1, ..., 1)"""
    t = torch.as_tensor(t, dtype=like.dtype, device=like.device)
    return t.reshape(-1, *[1] * (like.dim() - 1))
