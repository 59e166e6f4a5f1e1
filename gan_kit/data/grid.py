"""Gaussians on a square grid: more modes than a ring, some with neighbours on every side."""

from __future__ import annotations

import numpy as np

from gan_kit.data.arrays import Arrays, check_split
from gan_kit.types import UserError

__all__ = ["Grid"]


class Grid:
    """`side`² equal Gaussians of standard deviation `std`, centred on a grid from -extent to extent.

    Five a side is the grid of Dumoulin et al. 2017 and Srivastava et al. 2017 (VEEGAN, section 4.1).
    count: points in the train split; the test split has as many, drawn apart
    seed: of the points, not of the run: the data stay the same when the run's seed changes
    """

    def __init__(
        self, side: int = 5, extent: float = 0.8, std: float = 0.02, count: int = 10_000, seed: int = 0
    ) -> None:
        if side < 2:
            raise UserError(f"side={side}; a grid needs at least 2")
        if count < side**2:
            raise UserError(f"count={count} leaves modes empty; set data.count={side**2} or more")
        if not (extent > 0 and std >= 0 and extent + 4 * std <= 1):
            raise UserError(f"extent={extent} with std={std} leaves [-1, 1]; keep extent + 4 std at most 1")
        if seed < 0:
            raise UserError(f"seed={seed} of the grid's points is negative; give 0 or more")
        self.side, self.extent, self.std, self.count, self.seed = side, extent, std, count, seed

    @property
    def centres(self) -> np.ndarray:
        """(side², 2) float64, row by row from (-extent, -extent)"""
        line = np.linspace(-self.extent, self.extent, self.side)
        return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)

    def load(self, split: str) -> Arrays:
        """-> x (count, 2) float32; y (count,) int64, the mode; modes differ by one point at most"""
        stream = np.random.SeedSequence([self.seed, int(check_split(split) == "test")])
        rng = np.random.Generator(np.random.Philox(stream))
        y = np.arange(self.count, dtype=np.int64) % self.side**2
        x = self.centres[y] + self.std * rng.standard_normal((self.count, 2))
        return Arrays(x.clip(-1, 1).astype(np.float32), y, tuple(str(mode) for mode in range(self.side**2)))
