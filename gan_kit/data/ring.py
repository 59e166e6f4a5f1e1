"""Gaussians on a circle: the smallest data set on which a GAN can lose modes, and all is known about it."""

from __future__ import annotations

import math

import numpy as np

from gan_kit.data.arrays import Arrays, check_split
from gan_kit.types import UserError

__all__ = ["Ring"]


class Ring:
    """`modes` equal Gaussians of standard deviation `std`, centred evenly on a circle of `radius`.

    count: points in the train split; the test split has as many, drawn apart
    seed: of the points, not of the run: the data stay the same when the run's seed changes
    """

    def __init__(
        self, modes: int = 8, radius: float = 0.8, std: float = 0.02, count: int = 10_000, seed: int = 0
    ) -> None:
        if modes < 1:
            raise UserError(f"modes={modes}; a ring needs at least 1")
        if count < modes:
            raise UserError(f"count={count} leaves modes empty; set data.count={modes} or more")
        if not (radius > 0 and std >= 0 and radius + 4 * std <= 1):
            raise UserError(f"radius={radius} with std={std} leaves [-1, 1]; keep radius + 4 std at most 1")
        if seed < 0:
            raise UserError(f"seed={seed} of the ring's points is negative; give 0 or more")
        self.modes, self.radius, self.std, self.count, self.seed = modes, radius, std, count, seed

    @property
    def centres(self) -> np.ndarray:
        """(modes, 2) float64, mode 0 at (radius, 0), then counter-clockwise"""
        angle = 2 * math.pi * np.arange(self.modes) / self.modes
        return self.radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def load(self, split: str) -> Arrays:
        """-> x (count, 2) float32; y (count,) int64, the mode; modes differ by one point at most"""
        stream = np.random.SeedSequence([self.seed, int(check_split(split) == "test")])
        rng = np.random.Generator(np.random.Philox(stream))
        y = np.arange(self.count, dtype=np.int64) % self.modes
        x = self.centres[y] + self.std * rng.standard_normal((self.count, 2))
        return Arrays(x.clip(-1, 1).astype(np.float32), y, tuple(str(mode) for mode in range(self.modes)))
