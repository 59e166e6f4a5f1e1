"""How alike two thumbnails are, and which part of one the other shows.

A box is moved by Gauss-Newton steps (Baker and Matthews 2004, "Lucas-Kanade 20 years on", section 2.1, with gain and
offset).
"""

from __future__ import annotations

import numpy as np

from gan_kit.data.prepare.image_codes import hats
from gan_kit.data.prepare.image_signature import LUMA, SIDE

__all__ = ["aligned", "correlation", "fine_structure", "sampled"]


def fine_structure(luma: np.ndarray) -> np.ndarray:
    """(B, 32, 32) less its blur by a Gaussian of 1.5 pixels"""
    return luma - BLUR @ luma @ BLUR.T


def _blur() -> np.ndarray:
    at = np.arange(SIDE)
    weights = np.exp(-0.5 * ((at[:, None] - at) / 1.5) ** 2)
    weights[weights < 1e-30] = 0  # they add nothing, and numbers below 1e-38 take a CPU many times as long
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


BLUR = _blur()


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(B, 32, 32) twice -> (B,)"""
    a = a - a.mean(axis=(1, 2), keepdims=True)
    b = b - b.mean(axis=(1, 2), keepdims=True)
    norms = np.sqrt(np.einsum("bij,bij->b", a, a) * np.einsum("bij,bij->b", b, b))
    return np.einsum("bij,bij->b", a, b) / np.maximum(norms, 1e-6)


def sampled(luma: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(B, 32, 32), boxes (B, 4) of x, y, width, height in a unit square -> what the boxes show (B, 32, 32)"""
    at = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
    across = hats((box[:, :1] + box[:, 2:3] * at) * SIDE - 0.5)
    down = hats((box[:, 1:2] + box[:, 3:] * at) * SIDE - 0.5)
    return down @ luma @ across.transpose(0, 2, 1)


def aligned(a: np.ndarray, b: np.ndarray, box: np.ndarray, steps: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Move boxes (B, 4) until what they show of a, times a gain, plus an offset, is most like b -> boxes and that"""
    at = np.broadcast_to((np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE, (SIDE, SIDE))
    vertical, horizontal = np.gradient(a, axis=(1, 2)) if len(a) else (a, a)
    for _ in range(steps):
        shown, right, down = (sampled(x, box) for x in (a, horizontal, vertical))
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
    return box, sampled(a, box)


def _centred(x: np.ndarray) -> np.ndarray:
    return x - x.mean((1, 2), keepdims=True)
