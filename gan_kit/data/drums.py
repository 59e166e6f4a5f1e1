"""A drum machine of our own: eight voices like the analogue ones of 1980, synthesised, every parameter known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gan_kit.data.arrays import Arrays
from gan_kit.data.synthesis import SPLITS, check_clips, clip, filtered, ramp, synthesised, uniforms, white
from gan_kit.types import UserError

__all__ = ["Drums"]

# What is drawn for each sound of a voice: low, high; evenly in the logarithm. Times in seconds, frequencies in Hz.
VOICES: dict[str, dict[str, tuple[float, float]]] = {
    "kick": {
        "pitch": (42, 70), "sweep": (3, 8), "sweep_time": (0.012, 0.04), "decay": (0.05, 0.16), "click": (0.05, 0.5)
    },
    "snare": {"pitch": (160, 260), "body": (0.3, 1.2), "decay": (0.04, 0.14), "colour": (700, 2500)},
    "closed hat": {"pitch": (0.8, 1.3), "metal": (0.15, 1.0), "decay": (0.008, 0.03), "colour": (3500, 5500)},
    "open hat": {"pitch": (0.8, 1.3), "metal": (0.15, 1.0), "decay": (0.1, 0.3), "colour": (3500, 5500)},
    "clap": {"pitch": (800, 1600), "gap": (0.008, 0.014), "decay": (0.03, 0.12), "colour": (1.5, 3.0)},
    "tom": {
        "pitch": (80, 220), "sweep": (0.2, 0.7), "sweep_time": (0.03, 0.1), "decay": (0.08, 0.2), "click": (0.02, 0.2)
    },
    "cowbell": {"pitch": (470, 640), "ratio": (1.42, 1.55), "decay": (0.05, 0.15), "colour": (1500, 3500)},
    "rim": {"pitch": (1500, 2300), "low": (400, 560), "decay": (0.004, 0.012), "click": (0.1, 0.6)},
}  # fmt: skip
COMMON = {"velocity": (0.3, 1.0), "onset": (0.002, 0.012)}
METAL = (205.3, 304.4, 369.6, 522.7, 540.0, 800.0)  # Hz of the six square waves of the TR-808's cymbals


class Drums:
    """One-shots of a drum machine, labelled by voice: int16 mono clips, a pure function of (seed, class, number).

    count: of the train split; val and test have an eighth of it each. Classes are equally many, in turn.
    seed: of the sounds, not of the run: the data stay the same when the run's seed changes

    Raises UserError for clips too short, and a rate too low, for a drum.
    """

    splits = SPLITS
    class_names = tuple(VOICES)

    def __init__(self, sample_rate: int = 16_000, clip_samples: int = 16_384, count: int = 8192, seed: int = 0) -> None:
        check_clips(sample_rate, clip_samples, count, len(VOICES), seed)
        if sample_rate < 12_000:
            raise UserError(f"sample_rate={sample_rate} cuts off the hats; set audio.sample_rate to 12000 Hz or more")
        self.sample_rate, self.clip_samples, self.count, self.seed = sample_rate, clip_samples, count, seed

    def load(self, split: str) -> Arrays:
        """-> x (N, 1, T) int16; y (N,) int64; 8 classes"""
        return synthesised(split, self.count, self.class_names, self.clip_samples, self.sound)

    def parameters(self, label: int, number: int) -> dict[str, float]:
        """What was drawn for a sound: `VOICES` and `COMMON` name them and tell their ranges."""
        ranges = VOICES[self.class_names[label]] | COMMON
        drawn = uniforms(len(ranges), self.seed, label, number, 0)
        return {name: ramp(*ends, u, log=True) for (name, ends), u in zip(ranges.items(), drawn, strict=True)}

    def sound(self, label: int, number: int) -> np.ndarray:
        """-> (1, T) int16"""
        p = self.parameters(label, number)
        voice = _SYNTHESIS[self.class_names[label]]
        noise = white(self.clip_samples, self.seed, label, number, 1)
        t = np.arange(self.clip_samples, dtype=np.float32) / self.sample_rate
        x = voice(p, t, noise, self.sample_rate)
        return clip(x, 0.95 * p["velocity"], round(p["onset"] * self.sample_rate))


# The voices. p: parameters; t: (T,) seconds; noise: (T,) white; rate: Hz -> (T,) float32 of any level


def _decay(t: np.ndarray, seconds: float) -> np.ndarray:
    return np.exp(-t / np.float32(seconds))


def _swept(t: np.ndarray, pitch: float, sweep: float, seconds: float) -> np.ndarray:
    """A sine at pitch (1 + sweep e^(-t / seconds)) Hz: its phase is the integral of that."""
    return np.sin(np.float32(2 * np.pi * pitch) * (t + np.float32(sweep * seconds) * (1 - _decay(t, seconds))))


def _thump(p: dict[str, float], t: np.ndarray, noise: np.ndarray) -> np.ndarray:
    x = _swept(t, p["pitch"], p["sweep"], p["sweep_time"]) * _decay(t, p["decay"])
    # struck harder, it is driven harder: odd harmonics
    drive = np.float32(1 + 2 * p["velocity"])
    return np.tanh(drive * x) / drive + np.float32(p["click"] * p["velocity"]) * noise * _decay(t, 0.0015)


def _kick(p: dict[str, float], t: np.ndarray, noise: np.ndarray, rate: int) -> np.ndarray:
    return _thump(p, t, noise)


def _tom(p: dict[str, float], t: np.ndarray, noise: np.ndarray, rate: int) -> np.ndarray:
    overtone = _swept(t, 1.5 * p["pitch"], p["sweep"], p["sweep_time"]) * _decay(t, 0.4 * p["decay"])
    return _thump(p, t, noise) + np.float32(0.25) * overtone


def _snare(p: dict[str, float], t: np.ndarray, noise: np.ndarray, rate: int) -> np.ndarray:
    body = _swept(t, p["pitch"], 0.4, 0.01) + 0.6 * _swept(t, 1.72 * p["pitch"], 0.2, 0.01)
    wires = filtered(noise, rate, low=p["colour"], high=3000 + 4000 * p["velocity"], order=1)
    return np.float32(0.5 * p["body"]) * body * _decay(t, 0.04) + wires * _decay(t, p["decay"])


def _hat(p: dict[str, float], t: np.ndarray, noise: np.ndarray, rate: int) -> np.ndarray:
    # squares that alias: what folds back is as inharmonic as what is meant to be
    metal = sum(np.sign(np.sin(np.float32(2 * np.pi * p["pitch"] * hz) * t)) for hz in METAL)
    mixed = np.float32(p["metal"] / 2) * metal + noise
    return filtered(mixed, rate, low=p["colour"], order=4) * _decay(t, p["decay"])


def _clap(p: dict[str, float], t: np.ndarray, noise: np.ndarray, rate: int) -> np.ndarray:
    envelope = np.zeros_like(t)
    for hand in range(3):
        since = t - np.float32(hand * p["gap"])
        envelope = np.where(since >= 0, _decay(np.maximum(since, 0), 0.006), envelope)
    since = t - np.float32(3 * p["gap"])
    envelope = np.where(since >= 0, _decay(np.maximum(since, 0), p["decay"]), envelope)
    width = np.sqrt(p["colour"])
    return filtered(noise, rate, low=p["pitch"] / width, high=p["pitch"] * width, order=3) * envelope


def _cowbell(p: dict[str, float], t: np.ndarray, noise: np.ndarray, rate: int) -> np.ndarray:
    x = np.zeros_like(t)
    for pitch in (p["pitch"], p["pitch"] * p["ratio"]):
        for k in range(1, int(rate / 2 / pitch) + 1, 2):  # a square wave as far as the rate reaches
            softer = 1 / np.sqrt(1 + (k * pitch / p["colour"]) ** 2)
            x += np.float32(softer / k) * np.sin(np.float32(2 * np.pi * k * pitch) * t)
    return x * (np.float32(0.6) * _decay(t, 0.015) + np.float32(0.4) * _decay(t, p["decay"]))


def _rim(p: dict[str, float], t: np.ndarray, noise: np.ndarray, rate: int) -> np.ndarray:
    modes = _swept(t, p["pitch"], 0.0, 0.01) + 0.5 * _swept(t, p["low"], 0.0, 0.01)
    crack = filtered(noise, rate, low=2000) * _decay(t, 0.002)
    return modes * _decay(t, p["decay"]) + np.float32(p["click"]) * crack


_SYNTHESIS: dict[str, Callable[[dict[str, float], np.ndarray, np.ndarray, int], np.ndarray]] = {
    "kick": _kick,
    "snare": _snare,
    "closed hat": _hat,
    "open hat": _hat,
    "clap": _clap,
    "tom": _tom,
    "cowbell": _cowbell,
    "rim": _rim,
}
