"""Notes whose pitch is known to the cent: the smallest set of sounds on which a GAN can be heard to go wrong."""

from __future__ import annotations

import numpy as np

from gan_kit.data.arrays import Arrays
from gan_kit.data.synthesis import SPLITS, check_clips, clip, ramp, synthesised, uniforms
from gan_kit.types import UserError

__all__ = ["Tones"]

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
CENTS = 10.0  # a note is at most so much out of tune


class Tones:
    """Notes of an octave and more, labelled by pitch: int16 mono clips, a pure function of (seed, class, number).

    Up to 12 harmonics below half the sample rate, of drawn brightness, level, attack, decay, phase and mistuning.

    low, high: MIDI numbers of the lowest and the highest note (60 is C4, 69 is A4 of 440 Hz)
    count: of the train split; val and test have an eighth of it each. Classes are equally many, in turn.
    seed: of the sounds, not of the run
    """

    splits = SPLITS

    def __init__(
        self,
        sample_rate: int = 16_000,
        clip_samples: int = 16_384,
        low: int = 60,
        high: int = 71,
        count: int = 4096,
        seed: int = 0,
    ) -> None:
        if not 12 <= low <= high <= 127:
            raise UserError(f"notes from low={low} to high={high}; set 12 <= data.low <= data.high <= 127")
        check_clips(sample_rate, clip_samples, count, high - low + 1, seed)
        if hz_of(high) > 0.45 * sample_rate:
            raise UserError(
                f"note high={high} is {hz_of(high):.0f} Hz, too near half of {sample_rate} Hz; set data.high lower"
            )
        self.sample_rate, self.clip_samples, self.count, self.seed = sample_rate, clip_samples, count, seed
        self.low, self.high = low, high

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(f"{NAMES[note % 12]}{note // 12 - 1}" for note in range(self.low, self.high + 1))

    def load(self, split: str) -> Arrays:
        """-> x (N, 1, T) int16; y (N,) int64, the note; a class a note"""
        return synthesised(split, self.count, self.class_names, self.clip_samples, self.sound)

    def parameters(self, label: int, number: int) -> dict[str, float]:
        """hz; harmonics' slope in 1 / harmonic^slope; attack and decay in seconds; level; phase in radians"""
        u = uniforms(6, self.seed, label, number)
        return {
            "hz": hz_of(self.low + label + CENTS / 100 * (2 * u[0] - 1)),
            "slope": ramp(0.8, 2.5, u[1]),
            "attack": ramp(0.003, 0.03, u[2], log=True),
            "decay": ramp(0.2, 2.0, u[3], log=True),
            "level": ramp(0.3, 0.95, u[4], log=True),
            "phase": ramp(0, 2 * np.pi, u[5]),
        }

    def sound(self, label: int, number: int) -> np.ndarray:
        """-> (1, T) int16"""
        p = self.parameters(label, number)
        t = np.arange(self.clip_samples) / self.sample_rate
        turning = np.exp(2j * np.pi * p["hz"] * t)
        harmonic, total = turning, np.zeros_like(turning)
        for k in range(1, min(12, int(0.48 * self.sample_rate / p["hz"])) + 1):
            total += k ** -p["slope"] * np.exp(1j * k * k * p["phase"]) * harmonic
            harmonic = harmonic * turning
        x = total.imag
        x *= (1 - np.exp(-t / p["attack"])) * np.exp(-t / p["decay"])
        return clip(x, p["level"], 0)


def hz_of(note: float) -> float:
    """Of a MIDI number, in equal temperament"""
    return float(440 * 2 ** ((note - 69) / 12))
