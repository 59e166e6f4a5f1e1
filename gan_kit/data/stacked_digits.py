"""Three digits in one picture, as its red, green and blue: a thousand modes that can be counted.

Stacked MNIST (Metz et al. 2017; Srivastava et al. 2017, section 4.2) of scikit-learn's digits, which are at hand.
"""

from __future__ import annotations

import numpy as np

from gan_kit.data.arrays import Arrays, check_split
from gan_kit.data.digits import Digits
from gan_kit.data.transforms import Transform
from gan_kit.types import UserError

__all__ = ["StackedDigits"]

MODES = 1000


class StackedDigits:
    """count: pictures of the train split, at least 1,000; the test split has a fifth of them, or 1,000, of digits that
    train has not. Each mode has as many, or one more; which ones is a function of `seed`, not of the run's seed.
    """

    def __init__(self, transform: Transform | None = None, count: int = 20_000, seed: int = 0) -> None:
        if count < MODES:
            raise UserError(f"count={count} leaves modes empty, of {MODES}; set data.count={MODES} or more")
        if seed < 0:
            raise UserError(f"seed={seed} of the stacked digits is negative; give 0 or more")
        self.transform, self.count, self.seed = transform, count, seed

    def load(self, split: str) -> Arrays:
        """-> x (N, 3, 8, 8) uint8, or of the transform's size; y (N,) int64: 100 red + 10 green + blue"""
        is_test = check_split(split) == "test"
        digits = Digits(self.transform).load(split)
        assert digits.y is not None
        n = max(self.count // 5, MODES) if is_test else self.count
        # raw bits: unlike Generator's methods, their stream is the same in every NumPy version
        bits = np.random.Philox(np.random.SeedSequence([self.seed, int(is_test)])).random_raw(4 * n).reshape(4, n)
        y = np.argsort(bits[3], kind="stable") % MODES
        of_class = [np.flatnonzero(digits.y == k) for k in range(10)]
        x = np.empty((n, 3, *digits.x.shape[2:]), np.uint8)
        for channel, place in enumerate((100, 10, 1)):
            wanted = y // place % 10
            rows = np.array([of_class[k][b % len(of_class[k])] for k, b in zip(wanted, bits[channel], strict=True)])
            x[:, channel] = digits.x[rows, 0]
        return Arrays(x, y.astype(np.int64), tuple(f"{mode:03d}" for mode in range(MODES)))
