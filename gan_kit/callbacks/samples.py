"""Pictures of fixed latents as training goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from gan_kit.bundle import label_rows
from gan_kit.callbacks.clock import crossed, is_last_step
from gan_kit.noise import SampleNoise
from gan_kit.pictures import grid, save_png
from gan_kit.types import UserError

__all__ = ["SampleGrid", "log_image"]


class SampleGrid(Callback):
    """Every `every_samples` samples, and at the end, a grid into the run's samples/ and to the loggers.

    One row per class of the same latents throughout, from the averaged generator; 2-D data get a scatter plot.
    """

    def __init__(self, every_samples: int = 50_000, columns: int = 10, seed: int = 0):
        if every_samples < 1 or columns < 1:
            raise UserError(f"every_samples={every_samples} and columns={columns} must be positive")
        self.every_samples, self.columns, self.seed = every_samples, columns, seed

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not trainer.is_global_zero:
            return
        if crossed(self.every_samples, pl_module, batch, trainer) or is_last_step(trainer):
            self.draw(trainer, pl_module)

    def draw(self, trainer: Trainer, gan: Any) -> None:
        spec = trainer.datamodule.spec  # type: ignore[attr-defined]
        labels = label_rows(getattr(gan.generator, "num_classes", 0), self.columns)
        n = len(labels) if labels else 2000 if len(spec.shape) == 1 else 8 * self.columns
        y = torch.tensor(labels, device=gan.device) if labels else None
        x = gan.sample(SampleNoise(self.seed, range(n), gan.device), y)
        picture = grid(x.float().cpu(), self.columns)
        save_png(picture, Path(trainer.default_root_dir) / "samples" / f"{gan.samples_seen:012d}.png")
        for logger in trainer.loggers:
            log_image(logger, "samples", picture, gan.samples_seen)


def log_image(logger: Logger, name: str, picture: np.ndarray, step: int) -> None:
    """(H, W, 3) uint8 to a logger that shows pictures; the others have the PNG file."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, picture, step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [picture], step=step)
