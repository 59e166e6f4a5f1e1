"""Values that change with the number of real samples seen: lr, β2, γ, EMA half-life, augmentation p.

A schedule is any function samples_seen -> float; wherever one fits, a plain number does too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from gan_kit.types import UserError

__all__ = ["Cosine", "Exponential", "Linear", "Scheduled", "value_at"]

Scheduled: TypeAlias = float | Callable[[int], float]


def value_at(value: Scheduled, samples_seen: int) -> float:
    return value(samples_seen) if callable(value) else value


class _Ramp:
    def __init__(self, start: float, end: float, duration_samples: int, after_samples: int = 0):
        if duration_samples <= 0:
            raise UserError(f"duration_samples={duration_samples} must be positive")
        self.start, self.end = float(start), float(end)
        self.duration_samples, self.after_samples = duration_samples, after_samples

    def progress(self, samples_seen: int) -> float:
        return min(max((samples_seen - self.after_samples) / self.duration_samples, 0.0), 1.0)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.start:g} -> {self.end:g} over {self.duration_samples:,} samples)"


class Linear(_Ramp):
    """start -> end in a straight line, from `after_samples` on for `duration_samples`, then constant."""

    def __call__(self, samples_seen: int) -> float:
        return self.start + (self.end - self.start) * self.progress(samples_seen)


class Cosine(_Ramp):
    """start -> end along half a cosine, then constant (R3GAN, Huang et al. 2024, appendix)."""

    def __call__(self, samples_seen: int) -> float:
        fraction = (1 - math.cos(math.pi * self.progress(samples_seen))) / 2
        return self.start + (self.end - self.start) * fraction


class Exponential:
    """start · factor^n after n times `every_samples`, in whole times (HiFi-GAN, Kong et al. 2020: .999 an epoch)."""

    def __init__(self, start: float, factor: float, every_samples: int):
        if every_samples <= 0 or not 0 < factor <= 1:
            raise UserError(f"factor={factor} every_samples={every_samples}; keep 0 < factor <= 1 <= every_samples")
        self.start, self.factor, self.every_samples = float(start), float(factor), every_samples

    def __call__(self, samples_seen: int) -> float:
        return self.start * self.factor ** (samples_seen // self.every_samples)

    def __repr__(self) -> str:
        return f"Exponential({self.start:g}, x {self.factor:g} every {self.every_samples:,} samples)"
