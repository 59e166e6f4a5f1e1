"""When something is due, on the clock of samples seen. Stateless, so that resuming changes nothing."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

__all__ = ["crossed", "is_last_step"]


def crossed(every_samples: int, gan: Any, batch: Any, trainer: Trainer) -> bool:
    """Whether the step just taken carried `samples_seen` over a multiple of `every_samples`."""
    before = gan.samples_seen - len(batch.x) * trainer.world_size
    return gan.samples_seen // every_samples > before // every_samples


def is_last_step(trainer: Trainer) -> bool:
    """Whether training ends with the batch whose `on_train_batch_end` hooks are running."""
    if trainer.should_stop:
        return True
    if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
        return True
    progress = trainer.fit_loop.epoch_loop.batch_progress
    last_epoch = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= trainer.max_epochs
    return last_epoch and progress.is_last_batch
