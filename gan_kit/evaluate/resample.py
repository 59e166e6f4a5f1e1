"""Sounds at another rate, the same way for all that are judged."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["METHOD", "resampled"]

METHOD = "scipy.signal.resample_poly"  # part of the protocol of what resamples


def resampled(x: Tensor, rate: int, wanted: int) -> Tensor:
    """(..., T) at `rate` Hz -> (..., T') at `wanted` Hz on the CPU, by a polyphase filter (Kaiser window); x itself
    where the rates agree."""
    if rate == wanted:
        return x
    from scipy.signal import resample_poly

    common = math.gcd(rate, wanted)
    found = resample_poly(x.detach().cpu().double().numpy(), wanted // common, rate // common, axis=-1)
    return torch.from_numpy(found).to(x.dtype)
