"""What a source hands over, and what every source needs: a checked split name and a cache to look in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from gan_kit.types import UserError

__all__ = ["Arrays", "Source", "cache_home", "check_split"]

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Arrays:
    """One split of a data set.

    x: (N, C, H, W) uint8 pictures, perhaps a read-only np.memmap, or (N, D) float32 vectors in [-1, 1]
    y: (N,) int64 class indices, or None
    class_names: one a class, or empty
    """

    x: np.ndarray
    y: np.ndarray | None = None
    class_names: tuple[str, ...] = ()


class Source(Protocol):
    """Anything that gives the arrays of a split, the same ones each time."""

    def load(self, split: str) -> Arrays:
        """split: "train" or "test". Raises UserError when the data cannot be had."""
        ...


def check_split(split: str) -> str:
    if split not in SPLITS:
        raise UserError(f"no split {split!r}; have {', '.join(SPLITS)}")
    return split


def cache_home() -> Path:
    """$GAN_KIT_CACHE, else ~/.cache/gan_kit."""
    return Path(os.environ.get("GAN_KIT_CACHE") or "~/.cache/gan_kit").expanduser()
