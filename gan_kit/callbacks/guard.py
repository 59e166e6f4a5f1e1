"""Stops a training whose losses or weights are no longer numbers."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gan_kit.types import UserError

__all__ = ["Guard", "check_weights"]

CURES = "try a lower lr, a larger penalty weight, clip_g/clip_d=1.0, or trainer.precision=32-true"


class Guard(Callback):
    """every_steps: how often the losses are read; explosion: the largest loss that passes

    Raises UserError, before anything damaged is saved.
    """

    def __init__(self, every_steps: int = 50, explosion: float = 1e6):
        if every_steps < 1:
            raise UserError(f"every_steps={every_steps} must be positive")
        self.every_steps, self.explosion = every_steps, explosion

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if pl_module.step % self.every_steps:
            return
        for name, scalar in pl_module.scalars.items():
            if not name.startswith("loss"):
                continue
            value = float(scalar)
            if not math.isfinite(value) or abs(value) > self.explosion:
                raise UserError(
                    f"{name} is {value:g} at step {pl_module.step} ({pl_module.samples_seen:,} samples): {CURES}"
                )


def check_weights(pl_module: LightningModule) -> None:
    """Raises UserError where a weight is not finite."""
    for name, p in pl_module.named_parameters():
        if not torch.isfinite(p.detach().sum()):
            raise UserError(
                f"weight {name} is not finite at step {pl_module.step}: {CURES}; resume from the last checkpoint"
            )
