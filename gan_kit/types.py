"""The words that all rooms share. Imports no torch, so that doors which only parse arguments stay fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AudioSpec", "Batch", "Critique", "DataSpec", "UserError"]


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
class AudioSpec:
    """What a waveform and its spectra are: two models that share sound must agree on all of it.

    sample_rate: Hz; clip_samples: of a training clip
    n_fft, hop_length, win_length: samples, a periodic Hann window; center: frames are centred, the ends padded
    n_mels, fmin, fmax: mel bands and their edges in Hz (None: half the sample rate); mel_scale: "slaney" or "htk";
        mel_norm: "slaney" (bands of equal area) or "none"
    power: of the magnitude, 1 or 2; log: "ln" or "log10"; eps: the smallest value the log is taken of
    """

    sample_rate: int
    clip_samples: int
    n_fft: int = 1024
    hop_length: int = 256
    win_length: int = 1024
    center: bool = True
    n_mels: int = 80
    fmin: float = 0.0
    fmax: float | None = None
    mel_scale: str = "slaney"
    mel_norm: str = "slaney"
    power: float = 1.0
    log: str = "ln"
    eps: float = 1e-5


@dataclass(frozen=True)
class DataSpec:
    """What a data set holds, as far as a network has to know.

    shape: shape of one sample, (C, H, W) or (C, T) or (dims,)
    num_classes: 0 when batches carry no labels
    class_names: one a class, or empty
    audio: of sounds
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    class_names: tuple[str, ...] = ()
    audio: AudioSpec | None = None
