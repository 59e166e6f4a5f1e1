"""What is kept of a picture to find it again: small thumbnails of its luma and of its colours (image_duplicates.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["COLOUR", "LENGTH", "LUMA", "SIDE", "luminance", "signature", "signatures", "thumbnail"]

SIDE, COLOUR = 32, 8  # of the luma thumbnail, and of the two of colour
LUMA = SIDE * SIDE
LENGTH = LUMA + 2 * COLOUR * COLOUR


def signature(image: Image) -> np.ndarray:
    """An upright picture of mode L or RGB -> (1152,) uint8: luma 32 x 32 of the whole of it, then Cb, Cr 8 x 8."""
    small = np.asarray(thumbnail(image))[None]
    return signatures(small, luminance(small))[0]


def signatures(small: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Thumbnails of one shape (N, H, W) or (N, H, W, 3), and the same in grey (N, H, W) -> (N, 1152) uint8"""
    n = len(small)
    out = np.full((n, LENGTH), 128, np.uint8)
    out[:, :LUMA] = _all_resized(grey, SIDE).reshape(n, LUMA)
    if small.ndim == 4:
        tall = _all_resized(small, COLOUR).reshape(n * COLOUR, COLOUR, 3)
        colour = _converted(tall, "YCbCr").reshape(n, COLOUR, COLOUR, 3)
        out[:, LUMA:] = colour[..., 1:].transpose(0, 3, 1, 2).reshape(n, -1)
    return out


def luminance(small: np.ndarray) -> np.ndarray:
    """(N, H, W) or (N, H, W, 3) uint8 -> (N, H, W)"""
    return small if small.ndim == 3 else _converted(small.reshape(-1, *small.shape[2:]), "L").reshape(small.shape[:3])


def _converted(pixels: np.ndarray, mode: str) -> np.ndarray:
    from PIL import Image as pil

    return np.asarray(pil.fromarray(pixels).convert(mode))


def _all_resized(small: np.ndarray, side: int) -> np.ndarray:
    """(N, H, W, ...) -> (N, side, side, ...)"""
    from PIL import Image as pil

    n, h, w = small.shape[:3]
    if h % side or w % side:
        return np.stack([np.asarray(_resized(pil.fromarray(one), side)) for one in small])
    # means of whole blocks: all pictures at once, as one high one
    tall = pil.fromarray(small.reshape(n * h, *small.shape[2:])).reduce((w // side, h // side))
    return np.asarray(tall).reshape(n, side, side, *small.shape[3:])


def thumbnail(image: Image) -> Image:
    """The whole picture, 64 pixels a side; a smaller side stays. Means of at most 256 x 256 of its pixels: many times
    faster than a filter over all of a large picture, and what that misses is far finer than what is compared."""
    from PIL import Image as pil

    w, h = (min(side, 256) for side in image.size)
    if (w, h) != image.size:
        image = image.resize((w, h), pil.Resampling.NEAREST)
    return _resized(image, 64) if min(w, h) >= 64 else image.resize((min(w, 64), min(h, 64)), pil.Resampling.HAMMING)


def _resized(image: Image, side: int) -> Image:
    from PIL import Image as pil

    w, h = image.size
    if w % side or h % side:
        return image.resize((side, side), pil.Resampling.HAMMING)
    return image.reduce((w // side, h // side))  # the same for whole multiples, only faster
