"""A progress bar in samples: rate, losses, time left."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import Callback, Trainer
from tqdm import tqdm

__all__ = ["Progress"]


class Progress(Callback):
    """total: samples of the whole training, for the time left

    Where stderr is no terminal (a log file, CI), one line every `log_seconds` instead.
    """

    def __init__(self, total: int | None = None, refresh_seconds: float = 0.5, log_seconds: float = 30.0):
        self.total, self.refresh_seconds, self.log_seconds = total, refresh_seconds, log_seconds

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._shown = time.monotonic()
        self._seen = pl_module.samples_seen
        self._rate: float | None = None
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=self.total,
            initial=pl_module.samples_seen,
            unit=" samples",
            unit_scale=True,
            dynamic_ncols=True,
            smoothing=0.1,
            disable=not (self._terminal and trainer.is_global_zero),
        )

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if not trainer.is_global_zero:
            return
        now = time.monotonic()
        if now - self._shown < (self.refresh_seconds if self._terminal else self.log_seconds):
            return
        since, self._shown = self._shown, now
        losses = {k: f"{float(v):.3f}" for k, v in pl_module.scalars.items() if k.startswith(("loss", "accuracy"))}
        if self._terminal:
            self._bar.set_postfix(losses, refresh=False)
            self._bar.update(pl_module.samples_seen - self._bar.n)
        else:
            seen = pl_module.samples_seen
            rate = max(0, seen - self._seen) / (now - since)  # a roll-back goes back
            # of late, as tqdm's: a slow start is soon forgotten, and one slow stretch does not frighten
            self._seen, self._rate = seen, rate if self._rate is None else 0.7 * self._rate + 0.3 * rate
            left = f", {(self.total - seen) / self._rate / 60:.1f} min left" if self.total and self._rate else ""
            words = " ".join(f"{k} {v}" for k, v in losses.items())
            print(f"{seen:,} samples, {self._rate:,.0f} samples/s{left}, {words}", file=sys.stderr, flush=True)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._bar.update(pl_module.samples_seen - self._bar.n)
        self._bar.close()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        if bar := getattr(self, "_bar", None):
            bar.close()
