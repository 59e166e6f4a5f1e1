"""Random numbers as pure functions of where they are used.

Nothing here touches torch's global generators, so neither resuming, nor a callback, nor the number of
processes or micro-batches changes what a training step or a sample draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["BatchNoise", "Noise", "SampleNoise", "mix"]


def mix(*words: int) -> int:
    """Hash integers into one 63-bit seed (splitmix64 finaliser over a running sum)."""
    state = 0
    for word in words:
        state = (state + (word & 0xFFFFFFFFFFFFFFFF) + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1


class Noise(Protocol):
    """A source of per-sample random numbers: `shape` is one sample's, the result is (B, *shape)."""

    def randn(self, *shape: int) -> Tensor: ...
    def rand(self, *shape: int) -> Tensor: ...


class BatchNoise:
    """Draws for the whole batch of one step, of which this process and micro-batch take rows [start, stop).

    Call k of a step is seeded by (*key, k): cutting the batch into micro-batches or over ranks changes nothing,
    as long as each part makes the same calls.
    """

    def __init__(
        self,
        key: Sequence[int],
        total: int,
        start: int = 0,
        stop: int | None = None,
        device: torch.device | str = "cpu",
    ):
        self.key, self.total, self.start, self.stop = (
            tuple(key),
            total,
            start,
            total if stop is None else stop,
        )
        self.generator = torch.Generator(device)
        self.calls = 0

    def part(self, start: int, stop: int) -> BatchNoise:
        """The same draws, cut to rows [start, stop) of this part, from the first call on."""
        return BatchNoise(self.key, self.total, self.start + start, self.start + stop, self.generator.device)

    @contextmanager
    def again(self, call: int) -> Iterator[None]:
        """Within the block the draws from number `call` on come once more."""
        ahead, self.calls = self.calls, call
        try:
            yield
        finally:
            self.calls = ahead

    def _seeded(self) -> torch.Generator:
        self.generator.manual_seed(mix(*self.key, self.calls))
        self.calls += 1
        return self.generator

    def randn(self, *shape: int) -> Tensor:
        g = self._seeded()
        return torch.randn(self.total, *shape, generator=g, device=g.device)[self.start : self.stop]

    def rand(self, *shape: int) -> Tensor:
        g = self._seeded()
        return torch.rand(self.total, *shape, generator=g, device=g.device)[self.start : self.stop]


class SampleNoise:
    """Draws of the samples numbered `indices`: each has a stream of its own, whatever batch it is made in.

    Always drawn on the CPU, so that a seed means the same sample on every device.
    """

    def __init__(self, seed: int, indices: Sequence[int], device: torch.device | str = "cpu"):
        self.device = device
        self.generators = [torch.Generator().manual_seed(mix(seed, index)) for index in indices]

    def randn(self, *shape: int) -> Tensor:
        return self._stack([torch.randn(shape, generator=g) for g in self.generators])

    def rand(self, *shape: int) -> Tensor:
        return self._stack([torch.rand(shape, generator=g) for g in self.generators])

    def _stack(self, rows: list[Tensor]) -> Tensor:
        return torch.stack(rows).to(self.device)
