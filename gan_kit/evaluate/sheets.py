"""Pictures beside the figures: nearest training neighbours, samples by class, scores over time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_kit.evaluate.suite import Score
from gan_kit.files import written_whole
from gan_kit.pictures import grid, save_png
from gan_kit.sounds import spectrogram_grid
from gan_kit.types import AudioSpec

__all__ = ["draw_history", "draw_precision_recall", "nearest_sheet", "rows_sheet"]


def as_floats(x: Tensor) -> Tensor:
    if x.is_floating_point():
        return x
    return x.float() / 32768 if x.dtype == torch.int16 else x.float() / 127.5 - 1


def rows_sheet(rows: Sequence[Tensor], path: Path, audio: AudioSpec | None = None) -> None:
    """One row of pictures, or of sounds as spectrograms, a tensor (all of one length), as stored or in [-1, 1]."""
    columns = len(rows[0])
    x = torch.cat([as_floats(row) for row in rows])
    save_png(grid(x, columns) if audio is None else spectrogram_grid(x, audio, columns), path)


def nearest_sheet(
    fakes: Tensor, train: np.ndarray, neighbours: Tensor, path: Path, audio: AudioSpec | None = None
) -> None:
    """Each row: a generated sample, then the training samples nearest to it.

    fakes: (N, C, H, W) or of sounds (N, C, T); neighbours: (N, k) rows of `train`
    """
    rows = []
    for fake, near in zip(fakes, neighbours, strict=True):
        found = torch.from_numpy(np.ascontiguousarray(train[near.numpy()]))
        rows.append(torch.cat([as_floats(fake[None]), as_floats(found)]))
    rows_sheet(rows, path, audio)


def read_history(path: Path) -> list[dict[str, Any]]:
    """Lines of {"samples_seen": ..., metric: value, ...}; half a line of a killed run is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def draw_history(history: Path, path: Path) -> bool:
    """Each score against the samples seen, and precision against recall; False where there are not two points yet."""
    rows = read_history(history)
    if len(rows) < 2:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [k for k in rows[-1] if k not in ("samples_seen", "step")]
    scatter = {"precision", "recall"} <= set(names)
    panels = len(names) + scatter
    columns = min(3, panels)
    lines = -(-panels // columns)
    figure = Figure(figsize=(4 * columns, 2.8 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for name, ax in zip(names, axes, strict=False):
        points = [(r["samples_seen"], r[name]) for r in rows if r.get(name) is not None]
        ax.plot(*zip(*points, strict=True), marker=".")
        ax.set(title=name, xlabel="samples seen")
        ax.grid(alpha=0.3)
    if scatter:
        ax = axes[len(names)]
        both = [r for r in rows if r.get("recall") is not None]
        dots = ax.scatter(*([r[k] for r in both] for k in ("recall", "precision")), c=[r["samples_seen"] for r in both])
        ax.set(title="precision against recall", xlabel="recall", ylabel="precision")
        figure.colorbar(dots, ax=ax, label="samples seen")
    for ax in axes[panels:]:
        ax.remove()
    with written_whole(path) as part:
        figure.savefig(part, format="png", dpi=90)
    return True


def draw_precision_recall(scores: Sequence[Score], path: Path) -> bool:
    """Precision against recall and density against coverage, a point for generated samples with its standard errors
    and one for the real samples in their place; False where these scores are not among them."""
    by_name = {score.metric: score for score in scores}
    pairs = [pair for pair in (("recall", "precision"), ("coverage", "density")) if by_name.keys() >= set(pair)]
    if not pairs:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(pairs), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for (across, up), ax in zip(pairs, figure.subplots(1, len(pairs), squeeze=False).flat, strict=True):
        x, y = by_name[across], by_name[up]
        ax.errorbar(x.value, y.value, y.stderr, x.stderr, fmt="o", label="generated")
        if x.floor is not None and y.floor is not None:
            ax.plot(x.floor, y.floor, "k*", markersize=10, label="real")
        ax.set(xlabel=across, ylabel=up, xlim=(-0.02, 1.02), ylim=(-0.02, max(1.02, 1.1 * max(y.value, y.floor or 0))))
        ax.grid(alpha=0.3)
        ax.legend()
    with written_whole(path) as part:
        figure.savefig(part, format="png", dpi=90)
    return True
