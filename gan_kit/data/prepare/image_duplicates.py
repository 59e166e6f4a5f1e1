"""Which pictures are one: signs of a cosine transform find candidates, thumbnails side by side decide.

A picture's signature is a thumbnail. The signs of its lowest cosine coefficients are a code that survives compression,
another size, brightness and loss of colour (Zauner 2010, "Implementation and benchmarking of perceptual image hash
functions", section 3.2.1, which takes the median where we take 0); a mirrored picture has its odd horizontal
coefficients negated, so its code is known without a second transform. Codes that differ in few bits are candidates
(hamming.py: not all pairs), and a candidate counts only if the thumbnails' fine structure correlates: different
garments on one background agree in the coarse structure, hardly ever in the fine.

Crops: the codes of WINDOWS of each picture are asked among the codes of whole pictures, and what answers is aligned by
Gauss-Newton steps before it is compared (Baker and Matthews 2004, "Lucas-Kanade 20 years on", section 2.1, with gain
and offset). Asking costs as many look-ups a picture as there are windows, and is the longest part for large sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gan_kit.data.prepare.hamming import clusters, near_pairs
from gan_kit.data.prepare.types import Near
from gan_kit.types import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["near", "signature"]

SIDE, COLOUR = 32, 8  # of the luma thumbnail, and of the two of colour
LUMA = SIDE * SIDE
LENGTH = LUMA + 2 * COLOUR * COLOUR
BLANK, FLAT = 2.0, 3.0  # grey levels: deviation of the thumbnail; of its fine structure
RADIUS, CROP_RADIUS = 20, 7  # bits of 128; of 64
SAME, ALIKE = 0.9, 0.8  # correlation of the fine structure
WHOLE = 0.9  # correlation of the thumbnails themselves, which very fine patterns need
CROP = 0.85  # as SAME, after the alignment
RECOLOURED = 0.4  # share of the colour that differs
CROP_SCALE = 0.98  # nearer to 1 is a trimmed edge, not a crop
BLOCK = 2048  # pairs or pictures at once
MOST = 20_000_000  # candidates of one search


def signature(image: Image) -> np.ndarray:
    """An upright picture of mode L or RGB -> (1152,) uint8: luma 32 x 32 of the whole of it, then Cb, Cr 8 x 8."""
    from PIL import Image as pil

    w, h = image.size
    shrink = (max(1, w // 64), max(1, h // 64))
    if shrink != (1, 1):  # whole pixels first: several times faster than the filter on all of them
        image = image.reduce(shrink)
    image = image.resize((SIDE, SIDE), pil.Resampling.BILINEAR)
    out = np.full(LENGTH, 128, np.uint8)
    if image.mode == "L":
        out[:LUMA] = np.asarray(image).ravel()
        return out
    planes = image.convert("YCbCr")
    out[:LUMA] = np.asarray(planes.getchannel(0)).ravel()
    out[LUMA:] = np.asarray(planes.reduce(SIDE // COLOUR))[..., 1:].transpose(2, 0, 1).ravel()
    return out


def near(signatures: np.ndarray, progress: bool = False, crops: bool = True) -> Near:
    """Pairs among (N, 1152) uint8 signatures, which may be a memmap.

    same: copies, mirrored or not, of pictures with some fine structure
    doubtful: "flat": copies as far as one can tell, but there is little to tell by; pictures of one colour come as a
    chain from dark to bright. "crop": one shows a part of the other. "colour": the same in grey, not in colour.
    "alike": between the same and different. Of what is the same, one row (the first) stands for all in these pairs.
    """
    if signatures.ndim != 2 or signatures.shape[1] != LENGTH or signatures.dtype != np.uint8:
        raise UserError(f"signatures of shape {signatures.shape} and type {signatures.dtype}; give (N, {LENGTH}) uint8")
    codes, deviation, fine = _read(signatures)
    blank = deviation < BLANK
    flat = fine < FLAT

    found = _compared(signatures, _candidates(codes, np.flatnonzero(~blank), RADIUS, progress), flat)
    weak = np.flatnonzero(flat & ~blank)  # their fine signs are noise
    found += _compared(signatures, _candidates(codes[:, :1], weak, RADIUS // 2, progress), flat)
    found += [(i, j, "flat") for i, j in _chain(signatures, np.flatnonzero(blank))]
    same = _sorted([(i, j) for i, j, word in found if word == "same"])

    first = clusters(len(signatures), same)
    if crops:
        rows = np.flatnonzero(~flat & (first == np.arange(len(first))))
        found += _crops(signatures, codes[:, :1], rows, progress)
    words: dict[tuple[int, int], str] = {}
    for i, j, word in found:
        a, b = sorted((int(first[i]), int(first[j])))
        if word != "same" and a != b:
            words.setdefault((a, b), word)
    doubtful = _sorted(list(words))
    return Near(same, doubtful, tuple(words[a, b] for a, b in doubtful.tolist()))


# Codes


def _order() -> np.ndarray:
    """(128, 2) vertical and horizontal frequencies, low ones first, without the mean"""
    pairs = [(u, v) for u in range(16) for v in range(16) if u + v]
    return np.array(sorted(pairs, key=lambda p: (2 * max(p) + sum(p), p)))[:128]


ORDER = _order()
MIRRORED = ORDER[:, 1] % 2 == 1
FREQUENCIES = int(ORDER.max()) + 1


def _cosines(start: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """(FREQUENCIES, SIDE): cosine coefficients of the window [start, start + scale) of a unit line of SIDE samples"""
    m = 2 * SIDE
    at = (np.arange(m) + 0.5) / m
    rows = np.cos(np.pi * np.arange(FREQUENCIES)[:, None] * at)
    return (rows @ _hats((start + scale * at) * SIDE - 0.5)).astype(np.float32)


def _hats(at: np.ndarray) -> np.ndarray:
    """Linear interpolation at positions (..., M) among SIDE samples, as a matrix (..., M, SIDE); ends are held"""
    at = np.clip(at, 0, SIDE - 1)
    return np.maximum(0, 1 - np.abs(at[..., None] - np.arange(SIDE))).astype(np.float32)


def _codes(luma: np.ndarray, down: np.ndarray, across: np.ndarray, bits: int) -> np.ndarray:
    """(B, 32, 32) -> (B, bits / 64) uint64: the signs of the first `bits` coefficients"""
    coefficients = down @ luma @ across.T
    positive = coefficients[:, ORDER[:bits, 0], ORDER[:bits, 1]] > 0
    return np.ascontiguousarray(np.packbits(positive, axis=1)).view(np.uint64)


def _mirrored(codes: np.ndarray) -> np.ndarray:
    """The codes that the mirrored pictures have."""
    return codes ^ np.packbits(MIRRORED).view(np.uint64)[: codes.shape[1]]


def _read(signatures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> codes (N, 2) uint64; deviations of the thumbnail (N,) and of its fine structure (N,), in grey levels"""
    n = len(signatures)
    codes, deviation, fine = np.empty((n, 2), np.uint64), np.empty(n, np.float32), np.empty(n, np.float32)
    whole = _cosines()
    for rows in _blocks(np.arange(n)):
        luma = _luma(signatures, rows)
        codes[rows] = _codes(luma, whole, whole, 128)
        deviation[rows] = luma.std(axis=(1, 2))
        fine[rows] = _fine(luma).std(axis=(1, 2))
    return codes, deviation, fine


def _luma(signatures: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.asarray(signatures[rows, :LUMA]).reshape(-1, SIDE, SIDE).astype(np.float32)


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK]


# Candidates and their comparison

Found = list[tuple[int, int, str]]


def _candidates(codes: np.ndarray, rows: np.ndarray, radius: int, progress: bool) -> np.ndarray:
    """(P, 3): i, j of rows, and 1 where j is compared mirrored; equal codes as chains"""
    straight = rows[_search(codes[rows], radius, None, progress)]
    _, first = np.unique(codes[rows], axis=0, return_index=True)
    one_each = rows[first]
    turned = one_each[_search(codes[one_each], radius, _mirrored(codes[one_each]), progress)]
    turned = turned[turned[:, 0] < turned[:, 1]]
    flag = np.repeat([0, 1], [len(straight), len(turned)])
    return np.column_stack([np.concatenate([straight, turned]), flag]).astype(np.int64)


def _search(codes: np.ndarray, radius: int, queries: np.ndarray | None, progress: bool) -> np.ndarray:
    """near_pairs, with a smaller radius where a set is so uniform that most pairs are candidates"""
    while True:
        try:
            return near_pairs(codes, radius, queries, progress, most=MOST)
        except UserError:
            if radius == 0:
                raise
            radius //= 2


def _compared(signatures: np.ndarray, pairs: np.ndarray, flat: np.ndarray) -> Found:
    """The word for each pair that has one: "same", "flat", "crop", "colour" or "alike"."""
    found: Found = []
    for block in _blocks(pairs):
        i, j, mirrored = block.T
        a, b = _luma(signatures, i), _luma(signatures, j)
        b = np.where(mirrored[:, None, None] == 1, b[:, :, ::-1], b)
        whole, fine = _correlation(a, b), _correlation(_fine(a), _fine(b))
        little = flat[i] | flat[j]
        keep = (fine >= ALIKE) & (whole >= WHOLE) | little & (whole >= WHOLE)
        i, j, mirrored, a, b, fine, little = (v[keep] for v in (i, j, mirrored, a, b, fine, little))
        recoloured = _recoloured(signatures[i, LUMA:], signatures[j, LUMA:], mirrored == 1) > RECOLOURED
        box, _ = _aligned(a, b, _boxes(len(a), 0, 0, 1))
        part = np.abs(np.log(box[:, 2:])).max(axis=1, initial=0) > -np.log(CROP_SCALE)
        choices = [little, part & (fine < 0.97), fine < SAME, recoloured]
        words = np.select(choices, ["flat", "crop", "alike", "colour"], "same")
        found += zip(i.tolist(), j.tolist(), words.tolist(), strict=True)
    return found


def _fine(luma: np.ndarray) -> np.ndarray:
    """(B, 32, 32) less its blur by a Gaussian of 1.5 pixels"""
    return luma - BLUR @ luma @ BLUR.T


def _blur() -> np.ndarray:
    at = np.arange(SIDE)
    weights = np.exp(-0.5 * ((at[:, None] - at) / 1.5) ** 2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


BLUR = _blur()


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(B, 32, 32) twice -> (B,)"""
    a = a - a.mean(axis=(1, 2), keepdims=True)
    b = b - b.mean(axis=(1, 2), keepdims=True)
    norms = np.sqrt(np.einsum("bij,bij->b", a, a) * np.einsum("bij,bij->b", b, b))
    return np.einsum("bij,bij->b", a, b) / np.maximum(norms, 1e-6)


def _recoloured(a: np.ndarray, b: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """(B, 128) uint8 twice -> (B,): from 0, one colour up to its strength, to 1; 0 where either is grey"""
    a, b = (np.asarray(x).reshape(-1, 2, COLOUR, COLOUR).astype(np.float32) - 128 for x in (a, b))
    b = np.where(mirrored[:, None, None, None], b[..., ::-1], b)
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    strength_a, strength_b = np.sqrt((a * a).mean(1)), np.sqrt((b * b).mean(1))
    cosine = (a * b).mean(1) / np.maximum(strength_a * strength_b, 1e-6)
    grey = np.minimum(strength_a, strength_b) < 4
    return np.where(grey, 0, (1 - cosine) / 2)


def _chain(signatures: np.ndarray, rows: np.ndarray) -> list[tuple[int, int]]:
    """Pictures of one colour, each with the next brighter one."""
    level = np.array([signatures[i, :LUMA].mean() for i in rows])
    ordered = rows[np.argsort(level, kind="stable")].tolist()
    return list(pairwise(ordered))


# Crops


def _windows() -> Iterator[tuple[float, float, float]]:
    """x, y, side of windows so dense that a crop of 0.8 to 0.95 of the side is near one of them"""
    for side in (0.825, 0.875, 0.925):
        starts = np.linspace(0, 1 - side, int(np.ceil((1 - side) / 0.05)) + 1)
        for y in starts:
            for x in starts:
                yield float(x), float(y), side


def _crops(signatures: np.ndarray, codes: np.ndarray, rows: np.ndarray, progress: bool) -> Found:
    """Pairs of which one shows a part of the other."""
    from tqdm import tqdm

    found: dict[tuple[int, int], str] = {}
    windows = list(_windows())
    for x, y, side in tqdm(windows, desc="crops", unit="window", disable=not progress):
        down, across = _cosines(y, side), _cosines(x, side)
        asked = [_codes(_luma(signatures, block), down, across, 64) for block in _blocks(rows)]
        asked_codes = np.concatenate(asked) if asked else np.empty((0, 1), np.uint64)
        pairs = _search(codes[rows], CROP_RADIUS, asked_codes, False)
        pairs = rows[pairs[pairs[:, 0] != pairs[:, 1]]]
        for block in _blocks(pairs):
            block = block[[tuple(sorted(p)) not in found for p in block.tolist()]]
            box = _boxes(len(block), x, y, side)
            a, b = _luma(signatures, block[:, 0]), _luma(signatures, block[:, 1])
            likely = _correlation(_sampled(a, box), b) > 0.8
            block, a, b, box = block[likely], a[likely], b[likely], box[likely]
            box, moved = _aligned(a, b, box)
            good = _correlation(_fine(moved), _fine(b)) >= CROP
            good &= (box[:, 2:] > 0.6).all(1) & (box[:, 2:] < 1.05).all(1)
            good &= (box[:, :2] > -0.05).all(1) & (box[:, :2] + box[:, 2:] < 1.05).all(1)
            for i, j in block[good].tolist():
                found[min(i, j), max(i, j)] = "crop"
    return [(i, j, word) for (i, j), word in found.items()]


def _boxes(n: int, x: float, y: float, side: float) -> np.ndarray:
    return np.tile(np.array([x, y, side, side], np.float32), (n, 1))


def _sampled(luma: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(B, 32, 32), boxes (B, 4) of x, y, width, height in a unit square -> what the boxes show (B, 32, 32)"""
    at = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
    across = _hats((box[:, :1] + box[:, 2:3] * at) * SIDE - 0.5)
    down = _hats((box[:, 1:2] + box[:, 3:] * at) * SIDE - 0.5)
    return down @ luma @ across.transpose(0, 2, 1)


def _aligned(a: np.ndarray, b: np.ndarray, box: np.ndarray, steps: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Move boxes (B, 4) until what they show of a, times a gain, plus an offset, is most like b -> boxes and that"""
    at = np.broadcast_to((np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE, (SIDE, SIDE))
    vertical, horizontal = np.gradient(a, axis=(1, 2)) if len(a) else (a, a)
    for _ in range(steps):
        shown, right, down = (_sampled(x, box) for x in (a, horizontal, vertical))
        gain = np.maximum((_centred(shown) * _centred(b)).sum((1, 2)), 1e-3)
        gain = (gain / np.maximum((_centred(shown) ** 2).sum((1, 2)), 1e-3))[:, None, None] * SIDE
        right, down = gain * right, gain * down
        columns = [right, down, right * at, down * at.T, shown, np.ones_like(shown)]
        design = np.stack([c.reshape(len(a), LUMA) for c in columns], axis=2)
        offset = b.mean((1, 2), keepdims=True) - gain / SIDE * shown.mean((1, 2), keepdims=True)
        residual = (b - gain / SIDE * shown - offset).reshape(len(a), LUMA, 1)
        normal = design.transpose(0, 2, 1) @ design
        normal += 1e-4 * np.einsum("bii->b", normal)[:, None, None] * np.eye(6, dtype=np.float32)
        step = np.linalg.solve(normal, design.transpose(0, 2, 1) @ residual)[:, :4, 0]
        box = box + np.clip(step, -0.05, 0.05)
        box[:, 2:] = np.clip(box[:, 2:], 0.5, 2)
    return box, _sampled(a, box)


def _centred(x: np.ndarray) -> np.ndarray:
    return x - x.mean((1, 2), keepdims=True)


def _sorted(pairs: list[tuple[int, int]]) -> np.ndarray:
    unique = np.array(sorted({(min(p), max(p)) for p in pairs}), np.int64)
    return unique.reshape(-1, 2)
