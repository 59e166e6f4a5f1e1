"""Samples in, samples out: (T, C) floats with full scale at 1."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np

__all__ = ["clipped_share", "db", "loud_part", "lufs", "mixed", "resampled", "rms", "stereo_kind"]

LONGEST = 16_000  # a filter has 128 times as many taps
FULL_SCALE = 1 - 2.0**-13


def resampled(x: np.ndarray, rate: int, to: int) -> np.ndarray:
    """(T, C) at `rate` Hz -> (about T to / rate, C): flat up to 0.9 of the lower Nyquist frequency, -100 dB above it.

    Ratios of more than LONGEST to one another, which no usual pair of rates has, are met to a hundred-thousandth.
    """
    from scipy.signal import resample_poly

    high, low = max(rate, to), min(rate, to)
    ratio = Fraction(high, low).limit_denominator(max(1, LONGEST * low // high))
    up, down = ratio.as_integer_ratio() if to > rate else ratio.as_integer_ratio()[::-1]
    return x if up == down else resample_poly(x, up, down, axis=0, window=_taps(max(up, down))).astype(x.dtype)


@lru_cache(16)
def _taps(factor: int) -> np.ndarray:
    from scipy.signal import firwin

    return firwin(2 * 64 * factor + 1, 0.95 / factor, window=("kaiser", 10.0)).astype(np.float32)


def loud_part(x: np.ndarray, rate: int, threshold_db: float, margin_seconds: float) -> tuple[int, int]:
    """Where the sound begins and ends: 10 ms no more than `threshold_db` below the loudest, with a margin; else all."""
    frame = max(1, rate // 100)
    power = np.add.reduceat((x.astype(np.float64) ** 2).mean(1), np.arange(0, len(x), frame))
    loud = np.flatnonzero(power > power.max() * 10 ** (-threshold_db / 10))
    if not len(loud):
        return 0, len(x)
    margin = round(margin_seconds * rate)
    return max(0, int(loud[0]) * frame - margin), min(len(x), (int(loud[-1]) + 1) * frame + margin)


# The K-weighting of ITU-R BS.1770-5, annex 1, tables 1 and 2, which hold at 48 kHz: numerators, denominators
SHELF = ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585))
HIGHPASS = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))


def lufs(x: np.ndarray, rate: int) -> float:
    """Integrated loudness of (T, C), C = 1 or 2, with both gates (ITU-R BS.1770-5, annex 1); -inf below -70 LUFS.

    A sound shorter than a block of 0.4 s is one block.
    """
    from scipy.signal import lfilter

    y = resampled(np.asarray(x, np.float64), rate, 48_000)
    for b, a in (SHELF, HIGHPASS):
        y = lfilter(b, a, y, axis=0)
    sums = np.pad((y**2).sum(1).cumsum(), (1, 0))
    size, step = min(19_200, len(y)), 4_800
    starts = np.arange(0, len(y) - size + 1, step)
    power = (sums[starts + size] - sums[starts]) / size
    power = power[power > 10 ** ((-70 + 0.691) / 10)]
    if len(power) == 0:
        return -np.inf
    power = power[power > power.mean() / 10]
    return float(-0.691 + 10 * np.log10(power.mean()))


def mixed(x: np.ndarray, channels: int) -> tuple[np.ndarray, list[str]]:
    have = x.shape[1]
    if have == channels:
        return x, []
    if channels == 2:
        return (x.repeat(2, 1), ["mono to both channels"]) if have == 1 else (x[:, :2], [f"2 of {have} channels"])
    if have == 2 and stereo_kind(x) == "out of phase":  # their mean would be next to nothing
        return x[:, :1], ["left of an out-of-phase pair"]
    return x.mean(1, keepdims=True), [f"{have} channels to mono"]


def stereo_kind(x: np.ndarray) -> str:
    """ "mono" where both channels are equal but for -60 dB, "out of phase" where their mean is almost silent"""
    left, right = x.T
    both = rms(left) + rms(right)
    if rms(left - right) <= 0.001 * both:
        return "mono"
    alike = 0.2 < rms(left) / max(both, 1e-30) < 0.8
    return "out of phase" if alike and rms(left + right) < 0.2 * both else "stereo"


def clipped_share(x: np.ndarray) -> float:
    """Share of samples at full scale beside an equal one: a peak that only reaches full scale is a single sample."""
    stuck = (x[1:] == x[:-1]) & (np.abs(x[1:]) >= FULL_SCALE)
    return float((np.pad(stuck, ((1, 0), (0, 0))) | np.pad(stuck, ((0, 1), (0, 0)))).mean()) if len(x) > 1 else 0.0


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.square(x, dtype=np.float64).mean())) if x.size else 0.0


def db(amplitude: float) -> float:
    return max(-200.0, 20 * float(np.log10(max(amplitude, 1e-10))))
