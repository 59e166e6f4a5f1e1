"""Stops a training whose losses or weights are no longer numbers."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from gan_kit.types import UserError

__all__ = ["Guard", "check_weights"]

CURES = "try a lower lr, a larger penalty weight, clip_g/clip_d=1.0, or trainer.precision=32-true"


class Guard(Callback):
    """every_steps: how often the losses are read; explosion: the largest loss that passes

    Every step's losses are looked at where they are; the host reads the outcome every `every_steps`, from all ranks.
    Raises UserError, before anything damaged is saved. `Guardian` is the one for GANs: it sees more than this.
    """

    def __init__(self, every_steps: int = 50, explosion: float = 1e6):
        if every_steps < 1:
            raise UserError(f"every_steps={every_steps} must be positive")
        self.every_steps, self.explosion = every_steps, explosion
        self._first: Tensor | None = None  # the first step with a bad loss, inf for none yet
        self._peak: Tensor | None = None  # the largest loss since `peak` was asked for

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.forget(pl_module.device)

    def forget(self, device: Any) -> None:
        self._first, self._peak = torch.tensor(math.inf, device=device), torch.zeros((), device=device)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        losses = [value.float() for name, value in pl_module.scalars.items() if name.startswith("loss")]
        if not losses or self._first is None or self._peak is None:
            return
        largest = torch.stack(losses).abs().max()
        good = largest <= self.explosion  # not so where one is NaN
        self._first = torch.minimum(self._first, torch.where(good, math.inf, float(pl_module.step)))
        self._peak = torch.maximum(self._peak, largest)
        if pl_module.step % self.every_steps:
            return
        first = self._first.clone()
        if trainer.world_size > 1:
            dist.all_reduce(first, dist.ReduceOp.MIN)
        if (step := float(first)) != math.inf:
            self.broken(trainer, pl_module, f"a loss at step {step:.0f} is no number, or beyond {self.explosion:g}")

    def peak(self, trainer: Trainer) -> float:
        """The largest |loss| of all ranks since the last call."""
        assert self._peak is not None
        peak = self._peak.clone()
        if trainer.world_size > 1:
            dist.all_reduce(peak, dist.ReduceOp.MAX)
        self._peak.zero_()
        return float(peak)

    def broken(self, trainer: Trainer, pl_module: Any, what: str) -> None:
        raise UserError(f"{what}: {CURES}")


def check_weights(pl_module: LightningModule) -> None:
    """Raises UserError where a weight is not finite."""
    for name, p in pl_module.named_parameters():
        if not torch.isfinite(p.detach().sum()):
            raise UserError(
                f"weight {name} is not finite at step {pl_module.step}: {CURES}; resume from the last checkpoint"
            )
