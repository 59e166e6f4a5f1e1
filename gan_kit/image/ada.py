"""The augmentations of adaptive discriminator augmentation (ADA, Karras et al. 2020, "Training Generative Adversarial
Networks with Limited Data", appendix B), for pictures of any size and number of channels.

Applied to reals and fakes inside the discriminator's input path, each with probability p; gradients, and gradients of
gradients, pass through. What adapts p is `gan_kit.adversarial.AdaptiveP`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from gan_kit.image.warp import BANDS, amplify, mirrored, warp
from gan_kit.noise import Noise
from gan_kit.types import UserError

__all__ = ["ADA"]

GROUPS = {
    "blit": ("flip", "quarter_turns", "shift"),
    "geometry": ("scale", "rotation", "stretch", "fraction"),
    "colour": ("brightness", "contrast", "luma_flip", "hue", "saturation"),
    "filter": ("filter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
}
OPS = tuple(op for ops in GROUPS.values() for op in ops)
BAND_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # expected of pictures, whose spectrum falls as 1/f


class Dice:
    """The draws of one call: which samples are struck, and by how much. rows: (B, n)"""

    def __init__(self, ops: frozenset[str], p: float, noise: Noise, x: Tensor):
        self.ops, self.p, self.noise, self.x = ops, p, noise, x

    def has(self, op: str) -> bool:
        return op in self.ops

    def strikes(self, p: float | None = None) -> Tensor:
        """(B,) of 0 and 1"""
        return (self.noise.rand() < (self.p if p is None else p)).to(self.x)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * self.noise.rand().to(self.x)

    def normal(self) -> Tensor:
        return self.noise.randn().to(self.x)


def blit(x: Tensor, dice: Dice) -> Tensor:
    """Exact moves of pixels: mirroring, quarter turns (half turns where H ≠ W), shifts by up to an eighth."""
    b, c, h, w = x.shape
    row = torch.arange(h, device=x.device).view(1, h, 1)
    column = torch.arange(w, device=x.device).view(1, 1, w)
    if dice.has("shift"):
        on = dice.strikes()
        down, right = ((dice.uniform(-0.125, 0.125) * n * on).round().long() for n in (h, w))
        row, column = mirrored(row - down.view(b, 1, 1), h), mirrored(column - right.view(b, 1, 1), w)
    if dice.has("quarter_turns"):
        turns = ((dice.uniform() * 4).floor() * dice.strikes()).long().view(b, 1, 1)
        if h != w:
            turns = turns // 2 * 2
        row, column = torch.where(turns >= 2, h - 1 - row, row), torch.where(turns >= 2, w - 1 - column, column)
        if h == w:
            odd = turns % 2 > 0
            row, column = torch.where(odd, column, row), torch.where(odd, h - 1 - row, column)
    if dice.has("flip"):
        on = (dice.uniform().lt(0.5) * dice.strikes()).view(b, 1, 1) > 0
        column = torch.where(on, w - 1 - column, column)
    place = (row * w + column).expand(b, h, w).reshape(b, 1, h * w).expand(b, c, h * w)
    return x.flatten(2).gather(2, place).view(b, c, h, w)


def geometry(x: Tensor, dice: Dice) -> Tensor:
    """Scaling, rotation before and after a stretch, and a shift: one warp, of the samples that are struck."""
    b, _, h, w = x.shape
    matrix, shift = torch.eye(2, dtype=x.dtype, device=x.device).expand(b, 2, 2), x.new_zeros(b, 2)
    struck = x.new_zeros(b)
    if dice.has("scale"):
        on = dice.strikes()
        size = torch.exp2(-0.2 * dice.normal() * on)
        matrix, struck = matrix @ diagonal(size, size), struck + on
    once = 1 - math.sqrt(1 - min(dice.p, 1.0))  # two rotations: either strikes with probability p
    for op in ("rotation", "stretch", "rotation"):
        if not dice.has(op):
            continue
        if op == "rotation":
            on = dice.strikes(once)
            matrix = matrix @ rotation(dice.uniform(-math.pi, math.pi) * on)
        else:
            on = dice.strikes()
            size = torch.exp2(-0.2 * dice.normal() * on)
            matrix = matrix @ diagonal(size, 1 / size)
        struck = struck + on
    if dice.has("fraction"):
        on = dice.strikes()
        offset = torch.stack([dice.normal() * n * 0.125 * on for n in (w, h)], 1)
        shift, struck = shift - (matrix @ offset[:, :, None])[:, :, 0], struck + on
    return only(struck > 0, x, lambda rows: warp(x[rows], matrix[rows], shift[rows]))


def colour(x: Tensor, dice: Dice) -> Tensor:
    """One affine map of the channels; the axis of equal channels is what luma is."""
    b, c = x.shape[:2]
    one = torch.eye(c, dtype=x.dtype, device=x.device)
    luma = torch.full((c, c), 1 / c, dtype=x.dtype, device=x.device)
    matrix, offset = one.expand(b, c, c), x.new_zeros(b, 1)
    if dice.has("brightness"):
        offset = offset + (0.2 * dice.normal() * dice.strikes())[:, None]
    if dice.has("contrast"):
        gain = torch.exp2(0.5 * dice.normal() * dice.strikes())[:, None]
        matrix, offset = matrix * gain[:, :, None], offset * gain
    if dice.has("luma_flip"):
        on = (dice.uniform().lt(0.5) * dice.strikes())[:, None]
        matrix, offset = (one - 2 * luma * on[:, :, None]) @ matrix, offset * (1 - 2 * on)
    if dice.has("hue") and c == 3:
        angle = (dice.uniform(-math.pi, math.pi) * dice.strikes())[:, None, None]
        cross = (one.roll(1, 0) - one.roll(-1, 0)) / math.sqrt(3)  # v × about the luma axis (Rodrigues' formula)
        matrix = (luma + (one - luma) * angle.cos() + cross * angle.sin()) @ matrix
    if dice.has("saturation") and c > 1:
        gain = torch.exp2(dice.normal() * dice.strikes())[:, None, None]
        matrix = (luma + (one - luma) * gain) @ matrix
    return torch.einsum("bij,bjhw->bihw", matrix, x) + offset[:, :, None, None]


def band_gains(dice: Dice) -> tuple[Tensor, Tensor]:
    """(B, BANDS) of gains that leave the expected power as it is, and (B,) which samples are struck."""
    power = torch.tensor(BAND_POWER, dtype=dice.x.dtype, device=dice.x.device)
    gains, struck = dice.x.new_ones(len(dice.x), BANDS), dice.x.new_zeros(len(dice.x))
    for band in range(BANDS):
        on = dice.strikes()
        one = torch.ones_like(gains)
        one[:, band] = torch.exp2(dice.normal() * on)
        gains, struck = gains * one / (one.square() @ power).sqrt()[:, None], struck + on
    return gains, struck > 0


def cutout(x: Tensor, dice: Dice) -> Tensor:
    """Grey out (0) a box of half the sides, its middle anywhere in the picture."""
    h, w = x.shape[2:]
    away = [((torch.arange(n, device=x.device) + 0.5) / n - dice.uniform()[:, None]).abs() >= 0.25 for n in (h, w)]
    off = dice.strikes().view(-1, 1, 1) == 0
    return x * (away[0][:, :, None] | away[1][:, None, :] | off)[:, None].to(x)


def filtered(x: Tensor, dice: Dice) -> Tensor:
    """Four octaves, each louder or softer."""
    gains, struck = band_gains(dice)
    return only(struck, x, lambda rows: amplify(x[rows], gains[rows]))


def noisy(x: Tensor, dice: Dice) -> Tensor:
    """Gaussian noise, of a deviation of its own for each sample."""
    sigma = (0.1 * dice.normal().abs() * dice.strikes()).view(-1, 1, 1, 1)
    return x + sigma * dice.noise.randn(*x.shape[1:]).to(x)


def only(struck: Tensor, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """x with the rows that are struck replaced: the others stay as they are, to the bit, and cost nothing."""
    rows = struck.nonzero()[:, 0]
    return x.index_copy(0, rows, change(rows)) if len(rows) else x


def diagonal(a: Tensor, b: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([a, b], -1))


def rotation(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)


CHANGES = {
    "blit": blit,
    "geometry": geometry,
    "colour": colour,
    "filter": filtered,
    "noise": noisy,
    "cutout": cutout,
}


class ADA(nn.Module):
    """x: (B, C, H, W) -> the same shape; each op strikes a sample with probability p.

    policy: groups or single ops, applied in the order of the paper, which is this:
        blit: flip, quarter_turns, shift; geometry: scale, rotation, stretch, fraction (of a pixel and more);
        colour: brightness, contrast, luma_flip, hue, saturation; filter (gains of four octaves); noise; cutout.
        The paper's choice for most data is blit, geometry and colour. Leave out what changes the meaning: quarter_turns
        and flip of digits, hue of flowers.
    strengths: of a group, what p is multiplied with for its ops; 1 where none is given
    hue needs three channels and saturation two, of other pictures they leave the colours as they are. Beyond its edges
    a picture goes on as its mirror image. Raises UserError for an unknown op or group, and for a strength that is none.
    """

    def __init__(
        self, policy: Sequence[str] = ("blit", "geometry", "colour"), strengths: Mapping[str, float] | None = None
    ):
        super().__init__()
        if unknown := set(policy) - set(OPS) - GROUPS.keys():
            raise UserError(f"no such augmentation {sorted(unknown)}; have {sorted({*OPS, *GROUPS})}")
        self.ops = frozenset(op for name in policy for op in GROUPS.get(name, (name,)))
        self.strengths = dict(strengths or {})
        if unknown := self.strengths.keys() - GROUPS.keys():
            raise UserError(f"no such group of augmentations {sorted(unknown)}; have {', '.join(GROUPS)}")
        if wrong := {name: value for name, value in self.strengths.items() if not 0 <= value <= 1}:
            raise UserError(f"strengths={wrong} must lie between 0 and 1")

    def forward(self, x: Tensor, p: float, noise: Noise) -> Tensor:
        if p <= 0:
            return x
        with torch.autocast(x.device.type, enabled=False):
            return self.augmented(x if x.dtype == torch.float64 else x.float(), p, noise)

    def augmented(self, x: Tensor, p: float, noise: Noise) -> Tensor:
        for group, change in CHANGES.items():
            if self.ops.intersection(GROUPS[group]):
                x = change(x, Dice(self.ops, p * self.strengths.get(group, 1.0), noise, x.detach()))
        return x

    def extra_repr(self) -> str:
        return ", ".join(op for op in OPS if op in self.ops)
