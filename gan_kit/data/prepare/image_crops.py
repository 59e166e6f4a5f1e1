"""Which pictures show a part of another: windows of each are asked for among whole ones, and aligned.

The codes of all WINDOWS of a picture (image_codes.py) are looked up among those of whole pictures, and what answers is
aligned before it is compared (image_alignment.py). That is as many look-ups a picture as there are windows, the longest
part of a search in large sets, so processes share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gan_kit.data.prepare.hamming import Index
from gan_kit.data.prepare.helpers import in_processes, is_mapped
from gan_kit.data.prepare.image_alignment import aligned, correlation, fine_structure, sampled
from gan_kit.data.prepare.image_codes import BLOCK, ORDER, cosines, in_blocks, luma_of, radius_for, signs

__all__ = ["find_crops"]

RADIUS = 8  # bits of 64
STRANGERS = 1.0  # candidates of a window, on average
LIKELY = 0.65  # correlation of the thumbnails before they are aligned
SAME = 0.82  # correlation of the fine structure after the alignment
WORTH_HELP = 8  # blocks of pictures whose crops take about as long as beginning processes does, .4 s

# Windows so dense that a crop of 0.8 to 0.95 of the side is near one of them: side, and where it may begin
WINDOWS = [(side, np.linspace(0, 1 - side, steps)) for side, steps in ((0.825, 5), (0.875, 4), (0.925, 3))]
BOXES = np.array([(x, y, side, side) for side, starts in WINDOWS for y in starts for x in starts], np.float32)


def _codes_of_windows(luma: np.ndarray) -> np.ndarray:
    """(B, 32, 32) -> (B, 50) uint64, in the order of BOXES: of each window the signs of its lowest 64 coefficients"""
    top = int(ORDER[:64].max()) + 1
    codes = []
    for side, starts in WINDOWS:
        # windows beside each other share their rows, those above each other their columns
        waves = np.concatenate([cosines(start, side)[:top] for start in starts])
        coefficients = (waves @ luma @ waves.T).reshape(-1, len(starts), top, len(starts), top)
        codes.append(signs(coefficients.transpose(0, 1, 3, 2, 4), 64).reshape(len(luma), -1))
    return np.concatenate(codes, axis=1)


def find_crops(
    signatures: np.ndarray, codes: np.ndarray, rows: np.ndarray, workers: int, progress: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (P, 2) of rows of which the second shows a part of the first, and scores (P,).

    workers: processes that search a large mapped file
    """
    from tqdm import tqdm

    codes = codes[rows]
    parts = list(in_blocks(rows))
    crops = _Crops(signatures, codes, rows, radius_for(codes, RADIUS, STRANGERS))
    if workers > 1 and len(parts) >= WORTH_HELP and is_mapped(signatures):
        folder = Path(str(signatures.filename)).parent  # type: ignore[attr-defined]
        found = in_processes(crops, parts, min(workers, len(parts)), folder)
    else:
        found = map(crops, parts)
    del crops
    with tqdm(total=len(rows), desc="crops", unit="picture", disable=None if progress else True) as bar:
        for part, pairs in zip(parts, found, strict=True):
            yield pairs
            bar.update(len(part))


class _Crops:
    """Among codes (R, 1) of these rows, what shows windows of some: rows -> pairs, scores"""

    def __init__(self, signatures: np.ndarray, codes: np.ndarray, rows: np.ndarray, radius: int):
        self.signatures, self.rows = signatures, rows
        self.index = Index(codes, radius, BLOCK * len(BOXES))

    def __call__(self, some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = self.index.near(_codes_of_windows(luma_of(self.signatures, some)).reshape(-1, 1))
        picture, window = np.divmod(found[:, 0], len(BOXES))
        pairs = np.column_stack([some[picture], self.rows[found[:, 1]], window])
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        shown = [_shown(self.signatures, block) for block in in_blocks(pairs)]
        return (
            np.concatenate([np.zeros((0, 2), np.int64), *(part for part, _ in shown)]),
            np.concatenate([np.zeros(0, np.float32), *(scores for _, scores in shown)]),
        )


def _shown(signatures: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P, 3) of rows and a window of the first -> those of which the first, about there, shows the second; scores"""
    box = BOXES[pairs[:, 2]]
    a, b = luma_of(signatures, pairs[:, 0]), luma_of(signatures, pairs[:, 1])
    likely = correlation(sampled(a, box), b) > LIKELY
    pairs, a, b, box = pairs[likely], a[likely], b[likely], box[likely]
    box, moved = aligned(a, b, box)
    alike = correlation(fine_structure(moved), fine_structure(b))
    inside = (box > -0.05).all(1) & (box[:, 2:] > 0.6).all(1) & (box[:, :2] + box[:, 2:] < 1.05).all(1)
    good = inside & (alike >= SAME)
    return pairs[good, :2], alike[good]
