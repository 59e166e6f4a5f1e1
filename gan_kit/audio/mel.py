"""Mel scales, and the matrices that go from a spectrum's bins to mel bands and back.

Letters: F = n_fft / 2 + 1 bins from 0 Hz up, M mel bands.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from gan_kit.types import AudioSpec, UserError

__all__ = ["mel_filterbank", "mel_picture"]

SMALLEST = 0.1  # of the singular values that are inverted, of the largest: what comes back is at most ten times as loud


@lru_cache(32)
def _filterbank(
    sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float, scale: str, norm: str
) -> tuple[tuple[float, ...], ...]:
    to_mel, to_hz = (_slaney_mel, _slaney_hz) if scale == "slaney" else (_htk_mel, _htk_hz)
    low, high = to_mel(fmin), to_mel(fmax)
    edges = [to_hz(low + (high - low) * i / (n_mels + 1)) for i in range(n_mels + 2)]
    bins = [k * sample_rate / n_fft for k in range(n_fft // 2 + 1)]
    bands = []
    for left, middle, right in zip(edges, edges[1:], edges[2:], strict=False):
        height = 2 / (right - left) if norm == "slaney" else 1.0
        bands.append(
            tuple(height * max(0.0, min((f - left) / (middle - left), (right - f) / (right - middle))) for f in bins)
        )
    return tuple(bands)


def _htk_mel(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)


def _htk_hz(mel: float) -> float:
    return 700 * (10 ** (mel / 2595) - 1)


# Slaney's Auditory Toolbox (1998): 200/3 Hz a mel below 1 kHz, above it 27 mels for a factor of 6.4


def _slaney_mel(hz: float) -> float:
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)


def _slaney_hz(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def mel_filterbank(spec: AudioSpec) -> Tensor:
    """(M, F) float32 triangles over the bins. Raises UserError where a band falls between two bins."""
    fmax = spec.sample_rate / 2 if spec.fmax is None else spec.fmax
    bands = torch.tensor(
        _filterbank(spec.sample_rate, spec.n_fft, spec.n_mels, spec.fmin, fmax, spec.mel_scale, spec.mel_norm),
        dtype=torch.float64,
    )
    if empty := int((bands.sum(1) == 0).sum()):
        raise UserError(
            f"{empty} of audio.n_mels={spec.n_mels} bands are narrower than a bin ({spec.sample_rate / spec.n_fft:.4g} "
            "Hz); set a smaller audio.n_mels or a larger audio.n_fft"
        )
    return bands.float()


@lru_cache(8)
def mel_picture(spec: AudioSpec, bands: int) -> tuple[Tensor, Tensor, Tensor]:
    """(M, F) bins to bands, (F, M) bands to bins, (M,) the bands' middles in bins; float64. Not to be written to.

    The middles are evenly spaced in mel, from 0 Hz to half the sample rate. A band is a triangle from the middle before
    to the one behind, where these are nearer than a bin, to a bin away: there bands interpolate between bins, and none
    is empty. Weights add up to 1. The way back is the pseudo-inverse without its small singular values: the inverse
    where bands stand no further apart than bins, the nearest in the mean square elsewhere.
    """
    to_mel, to_hz = (_slaney_mel, _slaney_hz) if spec.mel_scale == "slaney" else (_htk_mel, _htk_hz)
    top = to_mel(spec.sample_rate / 2)
    middles = torch.tensor([to_hz(top * i / (bands - 1)) for i in range(bands)], dtype=torch.float64, device="cpu")
    middles *= spec.n_fft / spec.sample_rate
    apart = middles.diff().clamp_min(1.0)[:, None]
    away = torch.arange(spec.bins, dtype=torch.float64, device="cpu") - middles[:, None]
    below, above = torch.cat([apart[:1], apart]), torch.cat([apart, apart[-1:]])
    weights = (1 - torch.where(away < 0, -away / below, away / above)).clamp_min(0)
    weights /= weights.sum(1, keepdim=True)
    return weights, torch.linalg.pinv(weights, rtol=SMALLEST), middles
