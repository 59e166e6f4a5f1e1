"""What a training took beside what its first steps foretold."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

__all__ = ["Stopwatch"]

WARM_UP, PROBE = 17, 50  # steps, as gan_kit.estimate probes: a third of 50 warms up


class Stopwatch(Callback):
    """The clock at a run's first steps and at its end. It prints and writes nothing; no step waits for it but two."""

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.steps = 0
        self.began = self.last = self._now(pl_module)
        self.probed: dict[int, tuple[float, int]] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        self.steps += 1
        if self.steps in (WARM_UP, PROBE):
            self.probed[self.steps] = self._now(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.last = self._now(pl_module)

    @staticmethod
    def _now(pl_module: Any) -> tuple[float, int]:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), pl_module.samples_seen

    def figures(self) -> dict[str, float] | None:
        """samples, seconds, samples_per_second of all of it, pictures, scores and checkpoints included, beside
        foretold_samples_per_second of steps 18 to 50 and foretold_seconds; None for a training of no more steps."""
        if PROBE not in self.probed or self.steps <= PROBE:
            return None
        (a, before), (b, after) = self.probed[WARM_UP], self.probed[PROBE]
        seconds, samples = self.last[0] - self.began[0], self.last[1] - self.began[1]
        foretold = (after - before) / (b - a)
        return {
            "samples": samples,
            "seconds": seconds,
            "samples_per_second": samples / seconds,
            "foretold_samples_per_second": foretold,
            "foretold_seconds": samples / foretold,
        }
