"""The words that all rooms share. Imports no torch, so that doors which only parse arguments stay fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Batch", "Critique", "DataSpec", "UserError"]


class UserError(ValueError):
    """A mistake the user can mend. Doors print it on one line and exit with 2: name the value and the cure."""


class Batch(NamedTuple):
    """What a training step receives.

    x: (B, ...) float in [-1, 1], e.g. (B, C, H, W) or (B, C, T)
    y: (B,) int64 class indices, or None
    """

    x: Tensor
    y: Tensor | None


class Critique(NamedTuple):
    """What a discriminator answers: one entry per sub-discriminator, real is high.

    logits: K tensors of any shape with B first
    features: K lists of hidden activations (may be empty lists)
    """

    logits: list[Tensor]
    features: list[list[Tensor]]


@dataclass(frozen=True)
class DataSpec:
    """What a data set holds, as far as a network has to know.

    shape: shape of one sample, (C, H, W) or (C, T) or (dims,)
    num_classes: 0 when batches carry no labels
    class_names: one a class, or empty
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    class_names: tuple[str, ...] = ()
