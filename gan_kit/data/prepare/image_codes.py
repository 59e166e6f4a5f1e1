"""Codes that differ in few bits where pictures are alike: signs of a cosine transform of their thumbnails.

The signs of the lowest coefficients survive compression, another size, brightness and loss of colour (Zauner 2010,
"Implementation and benchmarking of perceptual image hash functions", section 3.2.1, which takes the median where we
take 0). A mirrored picture has its odd horizontal coefficients negated, so its code is known without a second
transform.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gan_kit.data.prepare.image_signature import LUMA, SIDE

__all__ = [
    "BLOCK",
    "ORDER",
    "codes_mirrored",
    "codes_of",
    "cosines",
    "hats",
    "in_blocks",
    "luma_of",
    "radius_for",
    "signs",
]

BLOCK = 512  # pairs or pictures at once: a few megabytes


def luma_of(signatures: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The luma thumbnails (B, 32, 32) float32 of these rows of signatures, perhaps a memmap"""
    return np.asarray(signatures[rows, :LUMA]).reshape(-1, SIDE, SIDE).astype(np.float32)


def in_blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """(N, ...) -> parts of BLOCK rows"""
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK]


def _order() -> np.ndarray:
    """(128, 2) vertical and horizontal frequencies, low ones first, without the mean"""
    pairs = [(u, v) for u in range(16) for v in range(16) if u + v]
    return np.array(sorted(pairs, key=lambda p: (2 * max(p) + sum(p), p)))[:128]


ORDER = _order()
MIRRORED = ORDER[:, 1] % 2 == 1
FREQUENCIES = int(ORDER.max()) + 1


def cosines(start: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """(FREQUENCIES, SIDE): cosine coefficients of the window [start, start + scale) of a unit line of SIDE samples"""
    m = 2 * SIDE
    at = (np.arange(m) + 0.5) / m
    rows = np.cos(np.pi * np.arange(FREQUENCIES)[:, None] * at)
    return (rows @ hats((start + scale * at) * SIDE - 0.5)).astype(np.float32)


def hats(at: np.ndarray) -> np.ndarray:
    """Linear interpolation at positions (..., M) among SIDE samples, as a matrix (..., M, SIDE); ends are held"""
    at = np.clip(at, 0, SIDE - 1)
    return np.maximum(0, 1 - np.abs(at[..., None] - np.arange(SIDE))).astype(np.float32)


def codes_of(luma: np.ndarray) -> np.ndarray:
    """(B, 32, 32) -> (B, 2) uint64: the signs of its lowest 128 coefficients"""
    whole = cosines()
    return signs(whole @ luma @ whole.T, 128)


def signs(coefficients: np.ndarray, bits: int) -> np.ndarray:
    """(..., V, H) -> (..., bits / 64) uint64: the signs of the first `bits` in ORDER"""
    places = ORDER[:bits, 0] * coefficients.shape[-1] + ORDER[:bits, 1]
    positive = (coefficients > 0).reshape(*coefficients.shape[:-2], -1).take(places, -1)
    return np.packbits(positive, axis=-1).view(np.uint64)


def codes_mirrored(codes: np.ndarray) -> np.ndarray:
    """The codes that the mirrored pictures have."""
    return codes ^ np.packbits(MIRRORED).view(np.uint64)[: codes.shape[1]]


def radius_for(codes: np.ndarray, most: int, strangers: float) -> int:
    """`most`, or fewer bits where codes crowd: a code finds no more than so many others, on average; -1 for none."""
    codes = np.unique(codes, axis=0)
    sample = codes[np.linspace(0, len(codes) - 1, min(len(codes), 1024)).astype(np.int64)]
    if len(sample) < 2:
        return most
    signs = np.unpackbits(sample.view(np.uint8), axis=1).astype(np.float32) * 2 - 1
    counts = np.zeros(signs.shape[1] + 1, np.int64)
    for rows in in_blocks(np.arange(len(signs))):
        distance = ((signs.shape[1] - signs[rows] @ signs.T) / 2).astype(np.int16)
        counts += np.bincount(distance.ravel(), minlength=len(counts))
    counts[0] -= len(signs)  # from themselves
    found = np.cumsum(counts[: most + 1]) / counts.sum() * len(codes)
    return int((found <= max(strangers, 0)).sum()) - 1
