"""Calls timed side by side: rounds take turns, so that a machine whose speed drifts is unfair to none."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def interleaved(rounds: int, calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median seconds of each; the first round warms up and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if i:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(s) for name, s in seconds.items()}
