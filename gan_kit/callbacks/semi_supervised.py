"""What unlabelled samples and a generator taught a discriminator, beside the same network without them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from gan_kit.callbacks.clock import is_last_step
from gan_kit.callbacks.interrupt import Interrupt
from gan_kit.callbacks.probe import evaluating, takes_noise
from gan_kit.files import write_whole
from gan_kit.noise import BatchNoise, SampleNoise, mix
from gan_kit.types import UserError

__all__ = ["SemiSupervised"]


class SemiSupervised(Callback):
    """At the end of a training, the accuracy of D's class logits on held-out samples, and of its supervised baseline:
    D's own architecture from the start, with D's optimiser, learning rate and augmentation, on cross-entropy over the
    labelled training samples alone. Prints both and writes RUN/semi_supervised.json.

    split: whose accuracy; baseline_steps: of the baseline, each of a batch of the labelled ones; lr falls by a cosine
    seed: of the baseline's weights and batches

    Raises UserError, as training begins, for a discriminator that names no classes and for data without labels.
    """

    def __init__(self, split: str = "test", baseline_steps: int = 2000, batch_size: int = 64, seed: int = 0):
        for name, value in (("baseline_steps", baseline_steps), ("batch_size", batch_size)):
            if value < 1:
                raise UserError(f"{name}={value} must be at least 1")
        self.split, self.baseline_steps, self.batch_size, self.seed = split, baseline_steps, batch_size, seed

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        for split in ("train", self.split):
            if data.arrays(split).labels is None:
                raise UserError(f"semi-supervised training needs classes, and split {split} has none; data.labels=true")
        if not len(labelled_rows(data)):
            raise UserError("no training sample has a label; set data.labelled=100, say")
        self.class_logits(pl_module.discriminator, data.seen("train", np.arange(2), pl_module.device).x)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not trainer.is_global_zero or not is_last_step(trainer):
            return
        if any(isinstance(c, Interrupt) and c.received for c in trainer.callbacks):  # type: ignore[attr-defined]
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        found = self.compare(pl_module, data)
        for logger in trainer.loggers:
            figures = {f"semi_supervised/{k}": v for k, v in found.items() if k.endswith("accuracy")}
            logger.log_metrics(figures, step=pl_module.samples_seen)
        found["samples_seen"] = pl_module.samples_seen
        write_whole(Path(trainer.default_root_dir) / "semi_supervised.json", json.dumps(found, indent=1) + "\n")
        print(
            f"\naccuracy on {found['count']:,} samples of split {self.split}: {found['accuracy']:.4f} with "
            f"{found['unlabelled']:,} unlabelled samples beside {found['labelled']:,} labelled ones; "
            f"{found['baseline_accuracy']:.4f} of the same network on the labelled ones alone"
        )

    def compare(self, gan: Any, data: Any) -> dict[str, Any]:
        """Both accuracies, and of how many samples."""
        rows, total = labelled_rows(data), len(data.arrays("train").x)
        return {
            "accuracy": self.accuracy(gan.discriminator, gan, data),
            "baseline_accuracy": self.accuracy(self.baseline(gan, data), gan, data),
            "split": self.split,
            "count": len(data.arrays(self.split).x),
            "labelled": len(rows),
            "unlabelled": total - len(rows),
            "baseline_steps": self.baseline_steps,
        }

    def baseline(self, gan: Any, data: Any) -> nn.Module:
        """D's architecture trained on the labelled samples alone."""
        D = copy.deepcopy(gan.discriminator).requires_grad_(True).train()
        labelled = data.seen("train", labelled_rows(data), gan.device)
        size = min(self.batch_size, len(labelled.x))
        with torch.random.fork_rng(devices=[gan.device] if gan.device.type == "cuda" else []):
            torch.manual_seed(mix(self.seed, 1))
            D.reset_parameters()
            optimizer = gan.optimizer_d(D.parameters())
            lr = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.baseline_steps)
            order = torch.empty(0, dtype=torch.long)
            for step in range(self.baseline_steps):
                if len(order) < size:
                    order = torch.cat([order, torch.randperm(len(labelled.x))])
                rows, order = order[:size].to(gan.device), order[size:]
                noise = BatchNoise((self.seed, step, 2), size, device=gan.device)
                x = (
                    labelled.x[rows]
                    if gan.augment is None
                    else gan.augment(labelled.x[rows], self.strength(gan), noise)
                )
                loss = F.cross_entropy(self.class_logits(D, x, step), labelled.y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                lr.step()
        return D

    def strength(self, gan: Any) -> float:
        """p of the augmentation: the last one of the training"""
        p = gan.augment_p
        return float(p(gan.samples_seen) if callable(p) else p)

    @torch.no_grad()
    def accuracy(self, D: nn.Module, gan: Any, data: Any) -> float:
        n, right = len(data.arrays(self.split).x), 0
        with evaluating(D):
            for start in range(0, n, 256):
                batch = data.seen(self.split, np.arange(start, min(start + 256, n)), gan.device)
                right += int((self.class_logits(D, batch.x, start).argmax(1) == batch.y).sum())
        return right / n

    def class_logits(self, D: nn.Module, x: Tensor, key: int = 0) -> Tensor:
        """(B, K); what D says of classes does not depend on the label that it is given"""
        more = {"noise": SampleNoise(mix(self.seed, key), range(len(x)), x.device)} if takes_noise(D) else {}
        aux = D(x, torch.zeros(len(x), dtype=torch.long, device=x.device), **more).aux
        if aux is None or aux.logits is None:
            raise UserError(
                f"{type(D).__name__} names no classes, so it has no accuracy; set discriminator.conditioning=k+1 or "
                f"auxiliary, with an objective such as semi_supervised"
            )
        logits: Tensor = aux.logits.float()
        return logits


def labelled_rows(data: Any) -> np.ndarray:
    """Which training samples have a label"""
    return np.flatnonzero(data.arrays("train").labels >= 0)
