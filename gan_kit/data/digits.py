"""scikit-learn's hand-written digits: 1,797 grey pictures of 8x8 that come with the package."""

from __future__ import annotations

import numpy as np

from gan_kit.data.arrays import Arrays, check_split
from gan_kit.data.transforms import Transform

__all__ = ["Digits"]

TEST_PER_CLASS = 30


class Digits:
    """Split by us, for good: 30 of each class for test (300), drawn at a fixed seed; 1,497 for train."""

    def __init__(self, transform: Transform | None = None) -> None:
        self.transform = transform

    def load(self, split: str) -> Arrays:
        """-> x (N, 1, 8, 8) uint8, or of the transform's size; y (N,) int64; 10 classes"""
        check_split(split)
        from sklearn.datasets import load_digits

        digits = load_digits()
        y = digits.target.astype(np.int64)
        keep = _is_test(y) == (split == "test")
        sixteenths = digits.images[keep].astype(np.int64)  # 0..16
        x = ((sixteenths * 255 + 8) // 16).astype(np.uint8)[:, None]
        if self.transform is not None:
            x = self.transform.arrays(x)
        return Arrays(x, y[keep], tuple(str(d) for d in range(10)))


def _is_test(y: np.ndarray) -> np.ndarray:
    # raw bits: unlike Generator's methods, a bit generator's stream is the same in every NumPy version
    rank = np.random.Philox(np.random.SeedSequence(1797)).random_raw(len(y))
    test = np.zeros(len(y), bool)
    for digit in range(10):
        of_class = np.flatnonzero(y == digit)
        test[of_class[np.argsort(rank[of_class])[:TEST_PER_CLASS]]] = True
    return test
