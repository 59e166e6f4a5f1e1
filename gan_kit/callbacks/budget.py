"""Stops the training when it has seen its budget of samples."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, Trainer

from gan_kit.types import UserError

__all__ = ["Budget"]


class Budget(Callback):
    """samples: real samples shown to D, over all resumes. Raises UserError unless positive."""

    def __init__(self, samples: int):
        if samples <= 0:
            raise UserError(f"budget_samples={samples} must be positive; budget_samples=100000, say")
        self.samples = samples

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if pl_module.samples_seen >= self.samples:
            raise UserError(
                f"the run has seen {pl_module.samples_seen:,} samples of its budget_samples={self.samples:,}: nothing "
                f"is left to do; resume it with a larger budget_samples"
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if pl_module.samples_seen >= self.samples:
            trainer.should_stop = True
