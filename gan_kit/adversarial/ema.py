"""The generator's exponential moving average, measured in samples."""

from __future__ import annotations

import torch
from torch import nn

from gan_kit.adversarial.schedule import Scheduled, value_at
from gan_kit.types import UserError

__all__ = ["EMA"]


class EMA:
    """How fast an average follows: half of the past is forgotten every `halflife_samples`.

    warmup: the half-life is at most this share of the samples seen so far, so that an early average is not held back
        by the initial weights (Karras et al. 2020, StyleGAN2-ADA's EMA ramp); None for none
    """

    def __init__(self, halflife_samples: Scheduled = 10_000, warmup: float | None = 0.05):
        if not callable(halflife_samples) and halflife_samples < 0:
            raise UserError(f"halflife_samples={halflife_samples} must not be negative")
        self.halflife_samples, self.warmup = halflife_samples, warmup

    def decay(self, batch_size: int, samples_seen: int) -> float:
        """The weight of the past when `batch_size` samples come in after `samples_seen` of them."""
        halflife = value_at(self.halflife_samples, samples_seen)
        if self.warmup is not None:
            halflife = min(halflife, self.warmup * samples_seen)
        return 0.5 ** (batch_size / halflife) if halflife > 0 else 0.0

    @torch.no_grad()
    def update(self, average: nn.Module, net: nn.Module, batch_size: int, samples_seen: int) -> None:
        """Move `average`'s parameters towards `net`'s; copy its buffers (batch-norm statistics, counters)."""
        decay = self.decay(batch_size, samples_seen)
        torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
        for mine, theirs in zip(average.buffers(), net.buffers(), strict=True):
            mine.copy_(theirs)
