"""What a source hands over, and what every source needs: a checked split name and a fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gan_kit.types import UserError

__all__ = ["Arrays", "Source", "check_split"]

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Arrays:
    """One split of a data set.

    x: (N, C, H, W) uint8 pictures or (N, C, T) int16 sounds, perhaps a read-only np.memmap, or (N, D) float32 vectors
        in [-1, 1]
    y: (N,) int64 class indices, (N, E) float32 vectors, or None
    class_names: one a class, or empty
    sha256: of the samples and classes, where it is known already
    checked: asked with row numbers before a training reads them: gives others for those that can't be read any more
    """

    x: np.ndarray
    y: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    sha256: str | None = None
    checked: Callable[[np.ndarray], np.ndarray] | None = None

    def fingerprint(self) -> str:
        """SHA-256 of the samples and their classes: two data sets of one fingerprint are the same one."""
        if self.sha256 is not None:
            return self.sha256
        digest = hashlib.sha256(repr((self.x.shape, str(self.x.dtype), self.class_names)).encode())
        for start in range(0, len(self.x), 4096):  # a memmap is read bit by bit
            digest.update(np.ascontiguousarray(self.x[start : start + 4096]).data)
        if self.y is not None:
            digest.update(np.ascontiguousarray(self.y, dtype=np.int64 if self.labels is not None else np.float32).data)
        return digest.hexdigest()

    @property
    def labels(self) -> np.ndarray | None:
        """(N,) class indices, or None: no vectors"""
        return self.y if self.y is not None and self.y.ndim == 1 else None

    @property
    def vectors(self) -> np.ndarray | None:
        """(N, E) float32, or None: no classes"""
        return self.y if self.y is not None and self.y.ndim == 2 else None


class Source(Protocol):
    """Anything that gives the arrays of a split, the same ones each time."""

    def load(self, split: str) -> Arrays:
        """split: "train" or "test". Raises UserError when the data cannot be had."""
        ...


def check_split(split: str, have: tuple[str, ...] = SPLITS) -> str:
    if split not in have:
        raise UserError(f"no split {split!r}; have {', '.join(have)}")
    return split
