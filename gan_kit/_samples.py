"""Samples of a trained generator as files, for the doors that write them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_kit.bundle import TrainedGAN

__all__ = ["folder_name", "write_samples"]


def folder_name(label: Any, seed: int, psi: float) -> str:
    """seed=0_psi=1.0: which samples these are"""
    named = {"label": label, "seed": seed, "psi": psi}
    return "_".join(f"{k}={v}" for k, v in named.items() if v is not None)


def write_samples(
    gan: TrainedGAN, out: Path, n: int, label: int | str | None, seed: int, psi: float, batch_size: int
) -> None:
    """n numbered PNG files into the folder `out`, and grid.png of the first 256; of vectors a scatter plot only."""
    import torch
    from tqdm import tqdm

    from gan_kit.pictures import grid, save_png, to_uint8

    out.mkdir(parents=True, exist_ok=True)
    shown: list[torch.Tensor] = []
    written = 0
    with tqdm(total=n, unit=" samples", disable=None) as bar:
        for x in gan.batches(n, label, seed, psi, batch_size):
            if x.dim() == 4:
                for image in to_uint8(x).permute(0, 2, 3, 1).numpy():
                    save_png(image, out / f"{written:06d}.png")
                    written += 1
            if len(shown) * batch_size < (256 if x.dim() == 4 else 10_000):
                shown.append(x)
            bar.update(len(x))
    head = torch.cat(shown)[: 256 if x.dim() == 4 else 10_000]
    save_png(grid(head, columns=max(1, round(math.sqrt(len(head))))), out / "grid.png")
    print(f"{out / 'grid.png'}" + (f"  and {written} pictures beside it" if written else ""))
