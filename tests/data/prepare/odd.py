"""A domain of bad files. Processes that decode import it, and without what a test imports they are there at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import numpy as np

from gan_kit.data.prepare.types import Domain, Found, Item, Near, Unusable


class Odd(Domain):
    """One byte a sample. "k" kills the process, "h" hangs in Python, "c" in C, "x" breaks the decoder."""

    name, kinds = "image", frozenset({"jpeg"})

    def __repr__(self) -> str:
        return "Odd()"

    def items(self, data: bytes, found: Found) -> Iterator[Item]:
        what = data[-1:].decode()
        if what == "k":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "h":
            while True:
                time.sleep(0.01)
        if what == "c":  # as a decoder in C that holds on: no signal is heard
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
            time.sleep(60)
        if what == "x":
            raise RuntimeError("an odd\nfile")
        if what == "m":
            raise MemoryError
        if what == "u":
            raise Unusable("no good")
        yield Item(
            np.full((1, 2, 2), data[-1], np.uint8), bytes(15) + data[-1:], np.frombuffer(data[-8:], np.uint8), 1.0
        )

    def near(self, signatures: np.ndarray, progress: bool = False, workers: int = 1) -> Near:
        return Near(np.zeros((0, 2), np.int64), np.zeros((0, 2), np.int64))

    def sheet(self, rows: list[np.ndarray], columns: int) -> bytes:
        return b""
