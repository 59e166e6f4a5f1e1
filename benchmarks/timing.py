"""Calls timed side by side: rounds take turns, so that a machine whose speed drifts is unfair to none."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def interleaved(
    rounds: int, calls: dict[str, Callable[[], Any]], clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each; the first round warms up and is not counted.

    clock: `time.process_time` counts seconds of all threads of this process, which others on the machine lengthen less
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(rounds + 1):
        for name, call in calls.items():
            start = clock()
            call()
            if i:
                seconds[name].append(clock() - start)
    return {name: statistics.median(s) for name, s in seconds.items()}
