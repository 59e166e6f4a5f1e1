"""Differentiable augmentation for image critics (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN
Training", section 3): colour, translation, cutout.

Applied to reals and fakes inside the discriminator's input path; gradients, and gradients of gradients, pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.noise import Noise
from gan_kit.types import UserError

__all__ = ["DiffAugment"]


def colour(x: Tensor, gate: Tensor, noise: Noise, strength: float) -> Tensor:
    """Brightness, saturation and contrast; x: (B, C, H, W), gate: (B, 1, 1, 1) 0/1."""
    r = (noise.rand(3) * gate.view(-1, 1) * strength).to(x)
    centre = (0.5 * gate.view(-1, 1) * strength).to(x)
    brightness = (r[:, 0:1] - centre)[:, :, None, None]
    saturation = (1 + 2 * (r[:, 1:2] - centre))[:, :, None, None]
    contrast = (1 + (r[:, 2:3] - centre))[:, :, None, None]
    x = x + brightness
    if x.shape[1] > 1:
        grey = x.mean(dim=1, keepdim=True)
        x = (x - grey) * saturation + grey
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * contrast + mean


def translation(x: Tensor, gate: Tensor, noise: Noise, strength: float) -> Tensor:
    """Shift by up to 1/8 of each side, black (-1) beyond the edge; x: (B, C, H, W)."""
    b, _, h, w = x.shape
    reach_h, reach_w = int(h * 0.125 * strength + 0.5), int(w * 0.125 * strength + 0.5)
    u, on = noise.rand(2), gate.view(-1)
    shift_h = (torch.floor(u[:, 0] * (2 * reach_h + 1)) - reach_h) * on
    shift_w = (torch.floor(u[:, 1] * (2 * reach_w + 1)) - reach_w) * on
    rows = (torch.arange(h, device=x.device) + shift_h.long()[:, None] + reach_h)[:, :, None]
    cols = (torch.arange(w, device=x.device) + shift_w.long()[:, None] + reach_w)[:, None, :]
    padded = F.pad(x, (reach_w, reach_w, reach_h, reach_h), value=-1.0).movedim(1, -1)
    batch = torch.arange(b, device=x.device)[:, None, None]
    return padded[batch, rows, cols].movedim(-1, 1)


def cutout(x: Tensor, gate: Tensor, noise: Noise, strength: float) -> Tensor:
    """Grey out (0) one box of half the side, placed anywhere; x: (B, C, H, W)."""
    _, _, h, w = x.shape
    side_h, side_w = int(h * 0.5 * strength + 0.5), int(w * 0.5 * strength + 0.5)
    u = noise.rand(2)
    top = torch.floor(u[:, 0:1] * (h + (1 - side_h % 2))) - side_h // 2
    left = torch.floor(u[:, 1:2] * (w + (1 - side_w % 2))) - side_w // 2
    rows, cols = torch.arange(h, device=x.device), torch.arange(w, device=x.device)
    in_rows = (rows >= top) & (rows < top + side_h)
    in_cols = (cols >= left) & (cols < left + side_w)
    hole = in_rows[:, None, :, None] & in_cols[:, None, None, :] & (gate > 0)
    return x.masked_fill(hole, 0.0)


OPS: dict[str, Callable[[Tensor, Tensor, Noise, float], Tensor]] = {
    "colour": colour,
    "translation": translation,
    "cutout": cutout,
}


class DiffAugment(nn.Module):
    """x: (B, C, H, W) -> the same shape; each op strikes a sample with probability p.

    policy: any of "colour", "translation", "cutout", applied in this order; strengths: one an op, 1 = as published
    Raises UserError for an unknown op or a strength outside (0, 1].
    """

    def __init__(self, policy: Sequence[str] = ("colour", "translation", "cutout"), **strengths: float):
        super().__init__()
        if unknown := (set(policy) | strengths.keys()) - OPS.keys():
            raise UserError(f"no such augmentation {sorted(unknown)}; have {sorted(OPS)}")
        self.strengths = {name: float(strengths.get(name, 1.0)) for name in OPS if name in policy}
        if bad := {k: v for k, v in self.strengths.items() if not 0 < v <= 1}:
            raise UserError(f"augmentation strengths {bad} must lie in (0, 1]")

    def forward(self, x: Tensor, p: float, noise: Noise) -> Tensor:
        if p <= 0:
            return x
        for name, strength in self.strengths.items():
            gate = (noise.rand() < p).to(x.dtype).view(-1, 1, 1, 1)
            x = OPS[name](x, gate, noise, strength)
        return x

    def extra_repr(self) -> str:
        return ", ".join(f"{k}={v:g}" for k, v in self.strengths.items())
