"""Ctrl-C, SIGTERM and SIGUSR1 (a cluster's notice): finish the step, save, stop."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, Trainer

__all__ = ["Interrupt"]


class Interrupt(Callback):
    """The first signal lets the running step end, so that what is saved is exact; a second Ctrl-C stops at once.

    Other signals count once: launchers, schedulers and a parent's death send SIGTERM several times over.

    received: the signal that ended the training, or None. One rank's signal ends all, at the same step.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.received: int | None = None
        self._speaks = True
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._speaks = trainer.is_global_zero
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._handle) for s in self.SIGNALS}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.received is not None:
            if signum == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.received = signum
        name = signal.Signals(signum).name
        if self._speaks:
            print(f"\n{name}: saving after this step; Ctrl-C to stop at once, without saving", file=sys.stderr)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.world_size > 1:
            self._agree(trainer.strategy)
        elif self.received is not None:
            trainer.should_stop = True

    def _agree(self, strategy: Any) -> None:
        if self.received is not None:
            strategy.tell(signal.Signals(self.received).name)
        for signum in self.SIGNALS:
            if signum.name in strategy.heard:
                self.received = signum
                strategy.lightning_module.trainer.should_stop = True

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        self._restore()
