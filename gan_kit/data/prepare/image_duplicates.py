"""Which pictures are one: signs of a cosine transform find candidates, thumbnails side by side decide.

A picture's signature is a thumbnail (image_signature.py). The signs of its lowest cosine coefficients are a code that
survives compression, another size, brightness and loss of colour (Zauner 2010, "Implementation and benchmarking of
perceptual image hash functions", section 3.2.1, which takes the median where we take 0); a mirrored picture has its
odd horizontal coefficients negated, so its code is known without a second transform. Codes that differ in few bits
are candidates (hamming.py: not all pairs), and a candidate counts only if the thumbnails' fine structure correlates:
different garments on one background agree in the coarse structure, hardly ever in the fine.

Crops: the codes of WINDOWS of each picture are asked among the codes of whole pictures, and what answers is aligned by
Gauss-Newton steps before it is compared (Baker and Matthews 2004, "Lucas-Kanade 20 years on", section 2.1, with gain
and offset). Asking costs as many look-ups a picture as there are windows, and is the longest part for large sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from typing import Any, NamedTuple

import numpy as np

from gan_kit.data.prepare.hamming import Index, clusters, near_pairs
from gan_kit.data.prepare.helpers import in_processes
from gan_kit.data.prepare.image_signature import COLOUR, LENGTH, LUMA, SIDE
from gan_kit.data.prepare.types import Near
from gan_kit.types import UserError

__all__ = ["near"]

BLANK, FLAT = 1.2, 3.0  # grey levels: deviation of the thumbnail; of its fine structure
RADIUS, FLAT_RADIUS = 20, 5  # bits of 128; of 32
CROP_RADIUS = 8  # bits of 64
SAME, ALIKE = 0.95, 0.87  # correlation of the fine structure
DIFFERENT = 0.45  # what differs in a small place, as a share of the fine structure: a print on one of two equal shirts
ELSEWHERE = 0.7  # what differs in several places, as a share of what is there
PLACE, LEVELS = 20.0, 10.0  # grey levels that one place, and several, may differ by
UNMOVED = 0.97  # so alike that an alignment says nothing
WHOLE = 0.9  # correlation of the thumbnails themselves, which very fine patterns need
FLAT_WHOLE = 0.85  # as WHOLE, for flat pictures
CROP = 0.82  # as SAME, after the alignment
RECOLOURED = 0.03  # 0 for one colour, however strong, 1 for the opposite one
LIGHT = 230  # from here on a brighter copy's lights may be clipped, which changes their colour
LIKELY = 0.65  # correlation of the thumbnails before they are aligned
CROP_SCALE = 0.98  # nearer to 1 is a trimmed edge, not a crop
BLOCK = 512  # pairs or pictures at once: a few megabytes
WORTH_HELP = 8  # blocks of pictures whose crops take about as long as beginning processes does, .4 s
STRANGERS, CROP_STRANGERS = 50.0, 1.0  # candidates of a picture, and of a window, on average
LISTED = 3  # doubtful pairs of a picture


def near(signatures: np.ndarray, progress: bool = False, workers: int = 1, crops: bool = True) -> Near:
    """Pairs among (N, 1152) uint8 signatures, which may be a memmap: then `workers` processes search for crops.

    same: copies, mirrored or not, of pictures with some fine structure
    doubtful: "flat": copies as far as one can tell, but there is little to tell by; pictures of one colour come as a
    chain from dark to bright. "crop": one shows a part of the other. "colour": the same in grey, not in colour.
    "alike": between the same and different. Of what is the same, one row (the first) stands for all in these pairs,
    and a pair is left out that is not among the LISTED closest of either row.
    """
    if signatures.ndim != 2 or signatures.shape[1] != LENGTH or signatures.dtype != np.uint8:
        raise UserError(f"signatures of shape {signatures.shape} and type {signatures.dtype}; give (N, {LENGTH}) uint8")
    codes, deviation, fine, level = _read(signatures)
    blank = deviation < BLANK
    flat = blank | (fine < FLAT)

    found = list(_compared(signatures, _candidates(codes, np.flatnonzero(~blank), RADIUS, progress), flat))
    weak = np.flatnonzero(flat & ~blank)
    coarse = codes[:, :1] & np.packbits(np.arange(64) < 32).view(np.uint64)  # their finer signs are noise
    found += _compared(signatures, _candidates(coarse, weak, FLAT_RADIUS, progress), flat)
    chain = np.flatnonzero(blank)[np.argsort(level[blank], kind="stable")]
    found.append(_rows(np.stack([chain[:-1], chain[1:]], 1), FLAT_WORD, 1.0))

    pairs = np.concatenate(found)
    is_same = pairs["word"] == SAME_WORD
    same = np.unique(np.stack([pairs["i"][is_same], pairs["j"][is_same]], 1), axis=0)
    first = clusters(len(signatures), same)
    pairs = pairs[~is_same]
    if crops:
        rows = np.flatnonzero(~flat & (first == np.arange(len(first))))
        pairs = np.concatenate([pairs, *_crops(signatures, codes[:, :1], rows, workers, progress)])
    doubtful = _listed(_rows(np.stack([first[pairs["i"]], first[pairs["j"]]], 1), pairs["word"], pairs["score"]))
    return Near(same, np.stack([doubtful["i"], doubtful["j"]], 1), tuple(WORDS[w] for w in doubtful["word"]))


WORDS = ("same", "flat", "crop", "colour", "alike")
SAME_WORD, FLAT_WORD, CROP_WORD, COLOUR_WORD, ALIKE_WORD = range(5)
PAIR = np.dtype([("i", np.int64), ("j", np.int64), ("word", np.uint8), ("score", np.float32)])


def _rows(pairs: np.ndarray, word: np.ndarray | int, score: np.ndarray | float) -> np.ndarray:
    """(P, 2) in any order -> (P,) of PAIR, with i <= j"""
    out = np.empty(len(pairs), PAIR)
    out["i"], out["j"], out["word"], out["score"] = pairs.min(1), pairs.max(1), word, score
    return out


def _listed(pairs: np.ndarray) -> np.ndarray:
    """Each pair once, with its highest score, if it is one of the LISTED closest of its i or of its j; sorted."""
    pairs = pairs[pairs["i"] != pairs["j"]]
    pairs = pairs[np.lexsort((-pairs["score"], pairs["j"], pairs["i"]))]
    new = np.ones(len(pairs), np.bool_)
    new[1:] = (pairs["i"][1:] != pairs["i"][:-1]) | (pairs["j"][1:] != pairs["j"][:-1])
    pairs = pairs[new]
    place = np.arange(len(pairs))
    rows, ends = np.concatenate([pairs["i"], pairs["j"]]), np.concatenate([place, place])
    order = np.lexsort((-pairs["score"][ends], rows))
    starts = np.searchsorted(rows[order], rows[order])
    return pairs[np.unique(ends[order[np.arange(len(order)) - starts < LISTED]])]


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


def _codes(luma: np.ndarray) -> np.ndarray:
    """(B, 32, 32) -> (B, 2) uint64: the signs of its lowest 128 coefficients"""
    whole = _cosines()
    return _signs(whole @ luma @ whole.T, 128)


def _signs(coefficients: np.ndarray, bits: int) -> np.ndarray:
    """(..., V, H) -> (..., bits / 64) uint64: the signs of the first `bits` in ORDER"""
    places = ORDER[:bits, 0] * coefficients.shape[-1] + ORDER[:bits, 1]
    positive = (coefficients > 0).reshape(*coefficients.shape[:-2], -1).take(places, -1)
    return np.packbits(positive, axis=-1).view(np.uint64)


def _mirrored(codes: np.ndarray) -> np.ndarray:
    """The codes that the mirrored pictures have."""
    return codes ^ np.packbits(MIRRORED).view(np.uint64)[: codes.shape[1]]


def _read(signatures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """-> codes (N, 2) uint64; deviations of the thumbnail and of its fine structure, and its mean (N,), grey levels"""
    n = len(signatures)
    codes = np.empty((n, 2), np.uint64)
    deviation, fine, level = (np.empty(n, np.float32) for _ in range(3))
    for rows in _blocks(np.arange(n)):
        luma = _luma(signatures, rows)
        codes[rows] = _codes(luma)
        deviation[rows] = luma.std(axis=(1, 2))
        fine[rows] = _fine(luma).std(axis=(1, 2))
        level[rows] = luma.mean(axis=(1, 2))
    return codes, deviation, fine, level


def _luma(signatures: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.asarray(signatures[rows, :LUMA]).reshape(-1, SIDE, SIDE).astype(np.float32)


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK]


# Candidates and their comparison


def _candidates(codes: np.ndarray, rows: np.ndarray, radius: int, progress: bool) -> np.ndarray:
    """(P, 3): i, j of rows, and 1 where j is compared mirrored; equal codes as chains"""
    radius = _radius(codes[rows], radius, STRANGERS)
    straight = rows[near_pairs(codes[rows], radius, progress)]
    _, first = np.unique(codes[rows], axis=0, return_index=True)
    one_each = rows[first]
    asked = codes[one_each]
    turned = one_each[Index(asked, radius, len(asked), keep=False).near(_mirrored(asked), progress)]
    turned = turned[turned[:, 0] < turned[:, 1]]
    flag = np.repeat([0, 1], [len(straight), len(turned)])
    return np.column_stack([np.concatenate([straight, turned]), flag]).astype(np.int64)


def _radius(codes: np.ndarray, most: int, strangers: float) -> int:
    """`most`, or fewer bits where codes crowd: a code finds no more than so many others, on average; -1 for none."""
    codes = np.unique(codes, axis=0)
    sample = codes[np.linspace(0, len(codes) - 1, min(len(codes), 1024)).astype(np.int64)]
    if len(sample) < 2:
        return most
    signs = np.unpackbits(sample.view(np.uint8), axis=1).astype(np.float32) * 2 - 1
    counts = np.zeros(signs.shape[1] + 1, np.int64)
    for rows in _blocks(np.arange(len(signs))):
        distance = ((signs.shape[1] - signs[rows] @ signs.T) / 2).astype(np.int16)
        counts += np.bincount(distance.ravel(), minlength=len(counts))
    counts[0] -= len(signs)  # from themselves
    found = np.cumsum(counts[: most + 1]) / counts.sum() * len(codes)
    return int((found <= max(strangers, 0)).sum()) - 1


def _compared(signatures: np.ndarray, pairs: np.ndarray, flat: np.ndarray) -> Iterator[np.ndarray]:
    """(P, 3) candidates -> those that get a word, as PAIR."""
    for block in _blocks(pairs):
        i, j, mirrored = block.T
        a, b = _luma(signatures, i), _luma(signatures, j)
        b = np.where(mirrored[:, None, None] == 1, b[:, :, ::-1], b)
        whole, fine = _correlation(a, b), _correlation(_fine(a), _fine(b))
        little = flat[i] | flat[j]
        keep = np.where(little, whole >= FLAT_WHOLE, (fine >= ALIKE) & (whole >= WHOLE))
        i, j, mirrored, a, b, whole, fine, little = (
            v[keep] for v in (i, j, mirrored, a, b, whole, fine, little)
        )  # fmt: skip
        light = np.maximum(a, b).reshape(-1, COLOUR, SIDE // COLOUR, COLOUR, SIDE // COLOUR).max((2, 4)) >= LIGHT
        recoloured = _recoloured(signatures[i, LUMA:], signatures[j, LUMA:], mirrored == 1, light) > RECOLOURED
        box, _ = _aligned(a, b, _boxes(len(a), 0, 0, 1))
        part = np.abs(np.log(box[:, 2:])).max(axis=1, initial=0) > -np.log(CROP_SCALE)
        words = np.select(
            [little, part & (fine < UNMOVED), (fine < SAME) | _differ(a, b), recoloured],
            [FLAT_WORD, CROP_WORD, ALIKE_WORD, COLOUR_WORD],
            SAME_WORD,
        )
        yield _rows(np.stack([i, j], 1), words, np.where(little, whole, fine))


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


def _differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(B, 32, 32) twice -> (B,) bool: whether some of 64 places show something else, up to a gain and an offset.

    In one outline on one background, such as a shirt's, all that tells two prints apart is a small share of the whole:
    so the fourth worst place is held against the whole, the eighth against what is in it, and both the eighth and the
    worst in grey levels. Some places, and what is nearly white, may be a brighter copy's clipped lights.
    """
    fine_a, fine_b = _fine(a), _fine(b)
    counts = np.maximum(a, b) < 245
    gain = (fine_a * fine_b).sum((1, 2)) / np.maximum((fine_a * fine_a).sum((1, 2)), 1e-3)
    fine_a *= gain[:, None, None]
    rest = _places(np.where(counts, fine_b - fine_a, 0))
    there = np.maximum(np.maximum(_places(fine_a), _places(fine_b)), 4)  # what compression makes of nothing
    whole = np.maximum(fine_b.std((1, 2)), 1e-3)
    levels = _places(_unexplained(a, b, counts)) / np.sqrt(np.maximum(gain, 1))[:, None]
    fine = (_worst(rest, 4) > DIFFERENT * whole) | (_worst(rest / there, 8) > ELSEWHERE)
    return fine | (_worst(levels, 1) > PLACE) | (_worst(levels, 8) > LEVELS)


def _unexplained(a: np.ndarray, b: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(B, 32, 32) twice -> b less a times a gain, plus an offset, by least squares where it counts, 0 elsewhere"""
    n = np.maximum(counts.sum((1, 2), keepdims=True), 1)
    a, b = (np.where(counts, x - (x * counts).sum((1, 2), keepdims=True) / n, 0) for x in (a, b))
    gain = (a * b).sum((1, 2), keepdims=True) / np.maximum((a * a).sum((1, 2), keepdims=True), 1e-3)
    return b - gain * a


def _places(x: np.ndarray) -> np.ndarray:
    """(B, 32, 32) -> (B, 64): the root mean square of each 4 x 4"""
    return np.sqrt((x * x).reshape(len(x), 8, 4, 8, 4).mean((2, 4))).reshape(len(x), 64)


def _worst(places: np.ndarray, k: int) -> np.ndarray:
    """(B, 64) -> (B,): the k-th largest"""
    return np.sort(places, axis=1)[:, -k]


def _recoloured(a: np.ndarray, b: np.ndarray, mirrored: np.ndarray, light: np.ndarray) -> np.ndarray:
    """(B, 128) uint8 twice -> (B,): from 0, one colour up to its strength, to 1; 0 where either is grey

    light: (B, 8, 8) bool, places (of a) that do not count
    """
    a, b = (np.asarray(x).reshape(-1, 2, COLOUR, COLOUR).astype(np.float32) - 128 for x in (a, b))
    b = np.where(mirrored[:, None, None, None], b[..., ::-1], b)
    a, b = (np.where(light[:, None], 0, x).reshape(len(x), 2 * COLOUR * COLOUR) for x in (a, b))
    count = np.maximum(2 * (~light).sum((1, 2)), 1)
    strength_a, strength_b = np.sqrt((a * a).sum(1) / count), np.sqrt((b * b).sum(1) / count)
    cosine = (a * b).sum(1) / count / np.maximum(strength_a * strength_b, 1e-6)
    grey = np.minimum(strength_a, strength_b) < 4
    return np.where(grey, 0, (1 - cosine) / 2)


# Crops


# Windows so dense that a crop of 0.8 to 0.95 of the side is near one of them: side, and where it may begin
WINDOWS = [(side, np.linspace(0, 1 - side, steps)) for side, steps in ((0.825, 5), (0.875, 4), (0.925, 3))]
BOXES = np.array([(x, y, side, side) for side, starts in WINDOWS for y in starts for x in starts], np.float32)


def _codes_of_windows(luma: np.ndarray) -> np.ndarray:
    """(B, 32, 32) -> (B, 50) uint64, in the order of BOXES: of each window the signs of its lowest 64 coefficients"""
    top = int(ORDER[:64].max()) + 1
    codes = []
    for side, starts in WINDOWS:
        # windows beside each other share their rows, those above each other their columns
        cosines = np.concatenate([_cosines(start, side)[:top] for start in starts])
        coefficients = (cosines @ luma @ cosines.T).reshape(-1, len(starts), top, len(starts), top)
        codes.append(_signs(coefficients.transpose(0, 1, 3, 2, 4), 64).reshape(len(luma), -1))
    return np.concatenate(codes, axis=1)


def _crops(
    signatures: np.ndarray, codes: np.ndarray, rows: np.ndarray, workers: int, progress: bool
) -> Iterator[np.ndarray]:
    """Pairs of rows of which one shows a part of the other, as PAIR."""
    from tqdm import tqdm

    codes = codes[rows]
    parts = list(_blocks(rows))
    told = codes, rows, _radius(codes, CROP_RADIUS, CROP_STRANGERS)
    if workers > 1 and len(parts) >= WORTH_HELP and (file := _File.of(signatures)):
        found = in_processes(_Crops, (file, *told), parts, min(workers, len(parts)))
    else:
        found = map(_Crops(signatures, *told), parts)
    with tqdm(total=len(rows), desc="crops", unit="picture", disable=None if progress else True) as bar:
        for part, pairs in zip(parts, found, strict=True):
            yield pairs
            bar.update(len(part))


class _File(NamedTuple):
    """A whole file's array as other processes can open it, where sending it would be too much."""

    path: str
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: np.ndarray) -> _File | None:
        if not isinstance(array, np.memmap) or not isinstance(array.base, mmap):  # a slice's base is an array
            return None
        return cls(str(array.filename), array.dtype, array.offset, array.shape)


class _Crops:
    """Among codes (R, 1) of these rows, what shows windows of some: rows -> pairs, as PAIR."""

    def __init__(self, signatures: np.ndarray | _File, codes: np.ndarray, rows: np.ndarray, radius: int):
        if isinstance(signatures, _File):
            signatures = np.memmap(signatures.path, signatures.dtype, "r", signatures.offset, signatures.shape)
        self.signatures, self.rows = signatures, rows
        self.index = Index(codes, radius, BLOCK * len(BOXES))

    def __call__(self, some: np.ndarray) -> np.ndarray:
        found = self.index.near(_codes_of_windows(_luma(self.signatures, some)).reshape(-1, 1))
        picture, window = np.divmod(found[:, 0], len(BOXES))
        pairs = np.column_stack([some[picture], self.rows[found[:, 1]], window])
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        return np.concatenate([np.zeros(0, PAIR), *(_shown(self.signatures, block) for block in _blocks(pairs))])


def _shown(signatures: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(P, 3) of rows and a window of the first -> those of which the first, about there, shows the second, as PAIR"""
    box = BOXES[pairs[:, 2]]
    a, b = _luma(signatures, pairs[:, 0]), _luma(signatures, pairs[:, 1])
    likely = _correlation(_sampled(a, box), b) > LIKELY
    pairs, a, b, box = pairs[likely], a[likely], b[likely], box[likely]
    box, moved = _aligned(a, b, box)
    fine = _correlation(_fine(moved), _fine(b))
    inside = (box > -0.05).all(1) & (box[:, 2:] > 0.6).all(1) & (box[:, :2] + box[:, 2:] < 1.05).all(1)
    good = inside & (fine >= CROP)
    return _rows(pairs[good, :2], CROP_WORD, fine[good])


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
