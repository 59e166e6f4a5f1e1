"""The pitch of a voice from frame to frame, and how far that of a copy is from it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gan_kit.types import UserError

__all__ = ["Pitch", "PitchScores", "pitch_scores", "yin"]


class Pitch(NamedTuple):
    """hz: (..., L), of unvoiced frames the best guess; voiced: (..., L) bool; a frame every 10 ms"""

    hz: Tensor
    voiced: Tensor


def yin(
    x: Tensor,
    sample_rate: int,
    lowest: float = 60.0,
    highest: float = 500.0,
    threshold: float = 0.15,
    quiet_db: float = 40.0,
) -> Pitch:
    """YIN (de Cheveigné & Kawahara 2002, steps 1 to 5): the smallest lag at which a frame repeats itself.

    x: (..., T) mono
    lowest, highest: Hz; a frame is two periods of the lowest
    threshold: of the normalised difference, 0 for what repeats itself exactly; a frame without a lag below it is
        unvoiced, and so is one `quiet_db` below the sound's loudest

    Raises UserError for sounds shorter than a frame, and for pitches that the rate can't hold.
    """
    if not 0 < lowest < highest < sample_rate / 4:
        raise UserError(f"pitches from {lowest:g} to {highest:g} Hz at {sample_rate} Hz; keep below a quarter of it")
    longest = round(sample_rate / lowest)  # lags, in samples
    shortest = max(2, round(sample_rate / highest))
    window, hop = 2 * longest, max(1, sample_rate // 100)
    size = window + longest + 1
    if x.shape[-1] < size:
        raise UserError(f"{x.shape[-1]} samples are too short for a pitch from {lowest:g} Hz: {size} at least")
    frames = x.double().unfold(-1, size, hop)  # (..., L, size)
    spectrum = torch.fft.rfft(frames)
    shown = torch.fft.rfft(frames[..., :window], size)
    products = torch.fft.irfft(spectrum * shown.conj(), size)[..., : longest + 2]
    sums = torch.nn.functional.pad(frames.square().cumsum(-1), (1, 0))
    energy = sums[..., window : window + longest + 2] - sums[..., : longest + 2]
    difference = (energy[..., :1] + energy - 2 * products).clamp_min(0)
    lags = torch.arange(1, longest + 2, device=x.device)
    total = difference[..., 1:].cumsum(-1)
    normal = torch.where(total > 0, difference[..., 1:] * lags / total.clamp_min(1e-300), 1.0)  # lag 1 first
    # lags from shortest to longest, with both neighbours
    before, here, after = (normal[..., shortest - 2 + i : longest - 1 + i] for i in range(3))
    valley = (here <= before) & (here < after) & (here < threshold)
    found = valley.any(-1)
    at = torch.where(found, valley.int().argmax(-1), here.argmin(-1))[..., None]
    a, b, c = (part.gather(-1, at)[..., 0] for part in (before, here, after))
    bend = a - 2 * b + c
    shift = torch.where(bend > 0, 0.5 * (a - c) / bend.clamp_min(1e-300), 0.0).clamp(-1, 1)
    level = energy[..., 0]
    heard = level > 10 ** (-quiet_db / 10) * level.amax(-1, keepdim=True)
    return Pitch(sample_rate / (at[..., 0] + shortest + shift), found & heard & (level > 0))


class PitchScores(NamedTuple):
    """Of each sound. cents: mean absolute error where both are voiced, NaN where none is (100 cents are a semitone);
    voicing_f1: of the frames taken for voiced, 1 where both sides have none"""

    cents: Tensor
    voicing_f1: Tensor


def pitch_scores(x_hat: Tensor, x: Tensor, sample_rate: int) -> PitchScores:
    """x_hat, x: (N, T) -> (N,) each"""
    mine, theirs = yin(x_hat, sample_rate), yin(x, sample_rate)
    both = mine.voiced & theirs.voiced
    off = (1200 * (mine.hz / theirs.hz).log2()).abs()
    cents = torch.where(both, off, 0).sum(-1) / both.sum(-1)  # 0 / 0 is NaN
    named = mine.voiced.sum(-1) + theirs.voiced.sum(-1)
    f1 = torch.where(named > 0, 2 * both.sum(-1) / named, 1.0)
    return PitchScores(cents, f1)
