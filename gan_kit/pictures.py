"""Samples as pictures: uint8 arrays, grids, PNG files."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

__all__ = ["grid", "save_png", "to_uint8"]


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] -> 0..255, rounded, clamped; any shape."""
    return ((x.float() + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)


def grid(x: Tensor, columns: int, min_side: int = 480) -> np.ndarray:
    """(N, C, H, W) or (N, 2) in [-1, 1] -> one picture (H', W', 3) uint8.

    Small images are magnified by a whole factor until the grid is at least `min_side` wide; vectors become a scatter
    plot of their first two coordinates.
    """
    if x.dim() == 2:
        return _scatter(x, min_side)
    if x.dim() != 4:
        raise ValueError(f"no picture of samples of shape {tuple(x.shape[1:])}")
    images = x[:, :3] if x.shape[1] >= 3 else x[:, :1]
    factor = max(1, math.ceil(min_side / (columns * (images.shape[-1] + 2))))
    images = F.interpolate(to_uint8(images.cpu()).float(), scale_factor=factor)  # nearest: pixels stay what they are
    return make_grid(images, nrow=columns, padding=2 * factor, pad_value=255).permute(1, 2, 0).to(torch.uint8).numpy()


def _scatter(x: Tensor, side: int) -> np.ndarray:
    picture = np.full((side, side, 3), 255, np.uint8)
    place = ((x[:, :2].cpu().numpy() / 1.25 + 1) / 2 * side).astype(int)
    inside = ((place >= 1) & (place < side - 1)).all(axis=1)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            picture[side - 1 - place[inside, 1] + dy, place[inside, 0] + dx] = (31, 90, 160)
    return picture


def save_png(picture: np.ndarray, path: Path) -> None:
    """(H, W), (H, W, 1) or (H, W, 3) uint8 -> a PNG file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    part = path.with_name(f".{path.name}.part")
    try:
        Image.fromarray(picture).save(part, format="PNG")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
