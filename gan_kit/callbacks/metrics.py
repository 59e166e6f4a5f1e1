"""The step's scalars, to metrics.jsonl and to whatever loggers the trainer has."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from gan_kit.callbacks.clock import is_last_step
from gan_kit.files import write_whole
from gan_kit.types import UserError

__all__ = ["MetricsLog", "keep_until", "log_row"]


class MetricsLog(Callback):
    """Every `every_steps` steps one JSON line; the x axis of all loggers is samples seen."""

    def __init__(self, every_steps: int = 50):
        if every_steps < 1:
            raise UserError(f"every_steps={every_steps} must be positive")
        self.every_steps = every_steps
        self._since = (0.0, 0)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._since = (time.perf_counter(), pl_module.samples_seen)
        self.path = Path(trainer.default_root_dir) / "metrics.jsonl"
        if trainer.is_global_zero:  # steps that a killed run took after its last checkpoint are taken again
            keep_until(self.path, pl_module.samples_seen)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if (pl_module.step % self.every_steps and not is_last_step(trainer)) or not pl_module.scalars:
            return
        row = self.averaged(trainer, pl_module.scalars)
        if not trainer.is_global_zero:
            return
        now, (then, samples) = time.perf_counter(), self._since
        row["samples_per_second"] = (pl_module.samples_seen - samples) / max(now - then, 1e-9)
        self._since = (now, pl_module.samples_seen)
        log_row(trainer, pl_module, row)

    def averaged(self, trainer: Trainer, scalars: dict[str, Tensor]) -> dict[str, float]:
        """Each rank has the scalars of its share of the batch: their means over all."""
        if trainer.world_size == 1 or not scalars:
            return {name: float(value) for name, value in scalars.items()}
        values = torch.stack([value.float() for value in scalars.values()])
        dist.all_reduce(values)
        return dict(zip(scalars, (values / trainer.world_size).tolist(), strict=True))


def log_row(trainer: Trainer, pl_module: Any, row: dict[str, float]) -> None:
    """To all loggers, and as a line of metrics.jsonl. On rank 0."""
    for logger in trainer.loggers:
        logger.log_metrics(row, step=pl_module.samples_seen)
    path = Path(trainer.default_root_dir) / "metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps({"samples_seen": pl_module.samples_seen, "step": pl_module.step, **row}) + "\n")


def keep_until(path: Path, samples_seen: int) -> None:
    """Drop the lines of a log that are of later than this."""
    if not path.exists():
        return
    text = path.read_text()
    lines = text.splitlines()
    kept = [line for line in lines if _samples(line) <= samples_seen]
    if kept != lines or not text.endswith("\n"):
        write_whole(path, "".join(f"{line}\n" for line in kept))


def _samples(line: str) -> float:
    try:
        return json.loads(line)["samples_seen"]
    except (json.JSONDecodeError, KeyError, TypeError):  # the half line of a killed run
        return float("inf")
