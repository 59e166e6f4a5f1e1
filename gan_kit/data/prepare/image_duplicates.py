"""Which pictures are one: codes find candidates, thumbnails side by side decide.

A picture's signature is a thumbnail (image_signature.py). Those whose codes (image_codes.py) differ in few bits are
candidates (hamming.py: not all pairs), and a candidate counts only if the thumbnails' fine structure correlates:
different garments on one background agree in the coarse structure, hardly ever in the fine. Crops are looked for in
image_crops.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gan_kit.data.prepare.hamming import Index, clusters, near_pairs
from gan_kit.data.prepare.image_alignment import aligned, correlation, fine_structure
from gan_kit.data.prepare.image_codes import codes_mirrored, codes_of, in_blocks, luma_of, radius_for
from gan_kit.data.prepare.image_crops import find_crops
from gan_kit.data.prepare.image_signature import COLOUR, LENGTH, LUMA, SIDE
from gan_kit.data.prepare.types import Near
from gan_kit.types import UserError

__all__ = ["near"]

BLANK, FLAT = 1.2, 3.0  # grey levels: deviation of the thumbnail; of its fine structure
RADIUS, FLAT_RADIUS = 20, 5  # bits of 128; of 32
SAME, ALIKE = 0.95, 0.87  # correlation of the fine structure
DIFFERENT = 0.45  # what differs in a small place, as a share of the fine structure: a print on one of two equal shirts
ELSEWHERE = 0.7  # what differs in several places, as a share of what is there
PLACE, LEVELS = 20.0, 10.0  # grey levels that one place, and several, may differ by
UNMOVED = 0.97  # so alike that an alignment says nothing
WHOLE = 0.9  # correlation of the thumbnails themselves, which very fine patterns need
FLAT_WHOLE = 0.85  # as WHOLE, for flat pictures
RECOLOURED = 0.03  # 0 for one colour, however strong, 1 for the opposite one
LIGHT = 230  # from here on a brighter copy's lights may be clipped, which changes their colour
CROP_SCALE = 0.98  # nearer to 1 is a trimmed edge, not a crop
STRANGERS = 50.0  # candidates of a picture, on average
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
        shown = find_crops(signatures, codes[:, :1], rows, workers, progress)
        pairs = np.concatenate([pairs, *(_rows(some, CROP_WORD, score) for some, score in shown)])
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


def _read(signatures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """-> codes (N, 2) uint64; deviations of the thumbnail and of its fine structure, and its mean (N,), grey levels"""
    n = len(signatures)
    codes = np.empty((n, 2), np.uint64)
    deviation, fine, level = (np.empty(n, np.float32) for _ in range(3))
    for rows in in_blocks(np.arange(n)):
        luma = luma_of(signatures, rows)
        codes[rows] = codes_of(luma)
        deviation[rows] = luma.std(axis=(1, 2))
        fine[rows] = fine_structure(luma).std(axis=(1, 2))
        level[rows] = luma.mean(axis=(1, 2))
    return codes, deviation, fine, level


# Candidates and their comparison


def _candidates(codes: np.ndarray, rows: np.ndarray, radius: int, progress: bool) -> np.ndarray:
    """(P, 3): i, j of rows, and 1 where j is compared mirrored; equal codes as chains"""
    radius = radius_for(codes[rows], radius, STRANGERS)
    straight = rows[near_pairs(codes[rows], radius, progress)]
    _, first = np.unique(codes[rows], axis=0, return_index=True)
    one_each = rows[first]
    asked = codes[one_each]
    turned = one_each[Index(asked, radius, len(asked), keep=False).near(codes_mirrored(asked), progress)]
    turned = turned[turned[:, 0] < turned[:, 1]]
    flag = np.repeat([0, 1], [len(straight), len(turned)])
    return np.column_stack([np.concatenate([straight, turned]), flag]).astype(np.int64)


def _compared(signatures: np.ndarray, pairs: np.ndarray, flat: np.ndarray) -> Iterator[np.ndarray]:
    """(P, 3) candidates -> those that get a word, as PAIR."""
    for block in in_blocks(pairs):
        i, j, mirrored = block.T
        a, b = luma_of(signatures, i), luma_of(signatures, j)
        b = np.where(mirrored[:, None, None] == 1, b[:, :, ::-1], b)
        whole, fine = correlation(a, b), correlation(fine_structure(a), fine_structure(b))
        little = flat[i] | flat[j]
        keep = np.where(little, whole >= FLAT_WHOLE, (fine >= ALIKE) & (whole >= WHOLE))
        i, j, mirrored, a, b, whole, fine, little = (
            v[keep] for v in (i, j, mirrored, a, b, whole, fine, little)
        )  # fmt: skip
        light = np.maximum(a, b).reshape(-1, COLOUR, SIDE // COLOUR, COLOUR, SIDE // COLOUR).max((2, 4)) >= LIGHT
        recoloured = _recoloured(signatures[i, LUMA:], signatures[j, LUMA:], mirrored == 1, light) > RECOLOURED
        box, _ = aligned(a, b, np.tile(np.array([0, 0, 1, 1], np.float32), (len(a), 1)))
        part = np.abs(np.log(box[:, 2:])).max(axis=1, initial=0) > -np.log(CROP_SCALE)
        words = np.select(
            [little, part & (fine < UNMOVED), (fine < SAME) | _differ(a, b), recoloured],
            [FLAT_WORD, CROP_WORD, ALIKE_WORD, COLOUR_WORD],
            SAME_WORD,
        )
        yield _rows(np.stack([i, j], 1), words, np.where(little, whole, fine))


def _differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(B, 32, 32) twice -> (B,) bool: whether some of 64 places show something else, up to a gain and an offset.

    In one outline on one background, such as a shirt's, all that tells two prints apart is a small share of the whole:
    so the fourth worst place is held against the whole, the eighth against what is in it, and both the eighth and the
    worst in grey levels. Some places, and what is nearly white, may be a brighter copy's clipped lights.
    """
    fine_a, fine_b = fine_structure(a), fine_structure(b)
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
