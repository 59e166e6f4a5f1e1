"""What synthesised sounds are made of: numbers that are pure functions of a key, splits, 16-bit clips. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gan_kit.data.arrays import Arrays, check_split
from gan_kit.types import UserError

__all__ = ["SPLITS", "check_clips", "clip", "filtered", "ramp", "synthesised", "uniforms", "white"]

SPLITS = ("train", "val", "test")
SPLIT_AT = 1 << 30  # sound number n of split s is number s SPLIT_AT + n of its class


def _raw(n: int, key: Sequence[int]) -> np.ndarray:
    # raw bits: unlike Generator's methods, a bit generator's stream is the same in every NumPy version
    return np.random.Philox(np.random.SeedSequence(key)).random_raw(n)


def uniforms(n: int, *key: int) -> np.ndarray:
    """(n,) float64 in [0, 1), a pure function of the key"""
    return (_raw(n, key) >> 11) / 2.0**53


def white(n: int, *key: int) -> np.ndarray:
    """(n,) float32 white noise, uniform in [-1, 1), a pure function of the key"""
    return _raw(-(-n // 2), key).view(np.int32)[:n] * np.float32(2.0**-31)


def ramp(low: float, high: float, u: float, log: bool = False) -> float:
    """u in [0, 1) -> between low and high, evenly or in even ratios"""
    return float(low * (high / low) ** u if log else low + (high - low) * u)


def filtered(x: np.ndarray, rate: int, low: float = 0.0, high: float = np.inf, order: int = 2) -> np.ndarray:
    """Keep low..high Hz, with Butterworth's slopes of 6 order dB an octave (zero phase, the ends wrap)."""
    hz = np.fft.rfftfreq(len(x), 1 / rate)
    gain = np.ones_like(hz)
    if low > 0:
        gain /= np.sqrt(1 + (low / np.maximum(hz, 1e-3)) ** (2 * order))
    if np.isfinite(high):
        gain /= np.sqrt(1 + (hz / high) ** (2 * order))
    return np.fft.irfft(np.fft.rfft(x) * gain, len(x)).astype(np.float32)


def clip(x: np.ndarray, peak: float, onset: int) -> np.ndarray:
    """(T,) -> (1, T) int16 with this peak (1 is full scale), `onset` samples later, silent at the end."""
    x = x / max(float(np.abs(x).max()), 1e-9)
    fade = min(len(x) // 16, 256)
    x[len(x) - fade - onset : len(x) - onset] *= np.linspace(1, 0, fade, dtype=np.float32)
    out = np.zeros((1, len(x)), np.int16)
    out[0, onset:] = np.rint(32767 * peak * x[: len(x) - onset])
    return out


def check_clips(sample_rate: int, clip_samples: int, count: int, classes: int, seed: int) -> None:
    if sample_rate < 4000:
        raise UserError(f"sample_rate={sample_rate}; set audio.sample_rate to 4000 Hz or more")
    if clip_samples < sample_rate / 8:
        raise UserError(
            f"clip_samples={clip_samples} at {sample_rate} Hz is too short for a note; "
            f"set audio.clip_samples={-(-sample_rate // 8)} or more"
        )
    if count < classes:
        raise UserError(f"count={count} leaves classes empty; set data.count={classes} or more")
    if seed < 0:
        raise UserError(f"seed={seed} of the sounds is negative; give 0 or more")


def synthesised(
    split: str, count: int, names: tuple[str, ...], clip_samples: int, make: Callable[[int, int], np.ndarray]
) -> Arrays:
    """make(class, number) -> (1, T) int16 for the sounds of a split, classes in turn.

    count: of train; val and test have an eighth of it each
    """
    check_split(split, SPLITS)
    if split != "train":
        count = max(len(names), count // 8)
    first = SPLITS.index(split) * SPLIT_AT
    y = np.arange(count, dtype=np.int64) % len(names)
    x = np.empty((count, 1, clip_samples), np.int16)
    for row, label in enumerate(y):
        x[row] = make(int(label), first + row // len(names))
    return Arrays(x, y, names)
