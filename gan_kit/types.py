"""The words that all rooms share. Imports no torch, so that doors which only parse arguments stay fast."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = [
    "AudioSpec",
    "Aux",
    "Batch",
    "Critique",
    "DataSpec",
    "Representation",
    "UserError",
    "conditional",
    "missing",
    "without",
]


class UserError(ValueError):
    """A mistake the user can mend. Doors print it on one line and exit with 2: name the value and the cure."""


class Batch(NamedTuple):
    """What a training step receives.

    x: (B, ...) float in [-1, 1], e.g. (B, C, H, W) or (B, C, T)
    y: (B,) int64 class indices, (B, E) float vectors, or None; a sample without one has y < 0, or a row of NaN
    """

    x: Tensor
    y: Tensor | None


def conditional(net: Any) -> bool:
    """Whether a network looks at y, classes or vectors"""
    return bool(getattr(net, "num_classes", 0) or getattr(net, "vector_dim", 0))


def missing(y: Tensor) -> Tensor:
    """(B,) bool: the samples without a condition, y < 0 of classes, a row of NaN of vectors"""
    return y.isnan().any(1) if y.is_floating_point() else y < 0


def without(y: Tensor, rows: Tensor, num_classes: int) -> Tensor:
    """y in which these rows have no condition: the null class, number num_classes, or NaN. rows: (B,) bool"""
    return y.masked_fill(rows[:, None], math.nan) if y.is_floating_point() else y.masked_fill(rows, num_classes)


class Aux(NamedTuple):
    """What a discriminator says of a sample beside real or fake; a part that it does not say is None.

    logits: (B, num_classes), of the classes (AC-GAN)
    embedding: (B, E) of length 1, and proxies: (num_classes, E) of length 1, one a class (ReACGAN)
    direction: (B,), the logit once more, with gradients for the last layer's direction alone (SAN)
    own_loss: () -> (B,), what D learns of these samples beside real or fake, computed when asked for (FastGAN)
    """

    logits: Tensor | None = None
    embedding: Tensor | None = None
    proxies: Tensor | None = None
    direction: Tensor | None = None
    own_loss: Callable[[], Tensor] | None = None


class Critique(NamedTuple):
    """What a discriminator answers: one entry per sub-discriminator, real is high.

    logits: K tensors of any shape with B first
    features: K lists of hidden activations (may be empty lists)
    aux: what it says beside that, if anything
    """

    logits: list[Tensor]
    features: list[list[Tensor]]
    aux: Aux | None = None


@dataclass(frozen=True)
class AudioSpec:
    """What a waveform and its spectra are: two models that share sound must agree on all of it.

    sample_rate: Hz; clip_samples: of a training clip
    n_fft, hop_length, win_length: samples, a periodic Hann window in the middle of n_fft
    center: frame l is centred on sample l hop_length, n_fft / 2 samples mirrored at the ends: T // hop_length + 1
        frames; False mirrors (n_fft - hop_length) / 2, so that T samples are T / hop_length frames (HiFi-GAN, Vocos)
    n_mels, fmin, fmax: mel bands and their edges in Hz (None: half the sample rate); mel_scale: "slaney" or "htk";
        mel_norm: "slaney" (bands of equal area) or "none"
    power: of the magnitude, 1 or 2; log: "ln" or "log10"; eps: the smallest value the log is taken of

    Raises UserError for values that make no spectrum.
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

    def __post_init__(self) -> None:
        for name in ("sample_rate", "clip_samples", "n_fft", "hop_length", "win_length", "n_mels"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UserError(f"audio.{name}={value} is no whole number from 1 on")
        if self.n_fft % 2 or self.win_length > self.n_fft:
            raise UserError(
                f"audio.n_fft={self.n_fft} must be even and at least win_length={self.win_length}; "
                f"set audio.n_fft={max(self.n_fft, self.win_length) + 1 & ~1}"
            )
        if 2 * self.hop_length > self.win_length:
            raise UserError(
                f"audio.hop_length={self.hop_length} leaves samples that no Hann window of "
                f"win_length={self.win_length} hears well; set audio.hop_length={max(self.win_length // 2, 1)} or less"
            )
        if not self.center and self.hop_length % 2:
            raise UserError(
                f"audio.hop_length={self.hop_length} is odd: with center=false the same number of samples is mirrored "
                "at both ends; set an even audio.hop_length, or audio.center=true"
            )
        top = self.sample_rate / 2 if self.fmax is None else self.fmax
        if not 0 <= self.fmin < top <= self.sample_rate / 2:
            raise UserError(
                f"mel bands from audio.fmin={self.fmin:g} to fmax={top:g} Hz; keep 0 <= fmin < fmax <= "
                f"{self.sample_rate / 2:g}, half the sample rate"
            )
        known = {
            "mel_scale": ("slaney", "htk"),
            "mel_norm": ("slaney", "none"),
            "power": (1, 2),
            "log": ("ln", "log10"),
        }
        for name, have in known.items():
            if getattr(self, name) not in have:
                raise UserError(f"no audio.{name}={getattr(self, name)}; have {', '.join(map(str, have))}")
        if not 0 < self.eps < math.inf:
            raise UserError(f"audio.eps={self.eps} must be above 0, such as 1e-5")

    @property
    def bins(self) -> int:
        """F of a spectrum, from 0 Hz to half the sample rate"""
        return self.n_fft // 2 + 1

    def frames(self, samples: int | None = None) -> int:
        """L of a sound of so many samples, of a clip by default"""
        return (self.clip_samples if samples is None else samples) // self.hop_length + self.center

    def differences(self, other: AudioSpec) -> list[tuple[str, str, str]]:
        """What the two don't agree on: ("n_fft", "1024", "2048"), mine first; clip lengths may differ."""
        pairs = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return [(name, str(a), str(b)) for name, a, b in pairs if a != b and name != "clip_samples"]

    def require(self, other: AudioSpec, mine: str, theirs: str) -> None:
        """Raises UserError with a table of what differs, where the two don't agree.

        mine, theirs: whose specs these are, in words
        """
        rows = self.differences(other)
        if not rows:
            return
        rows = [("", mine, theirs), *rows]
        a, b = (max(len(row[i]) for row in rows) for i in (0, 1))
        table = "\n".join(f"  {name:{a}}  {x:{b}}  {y}" for name, x, y in rows)
        raise UserError(f"{mine} and {theirs} don't agree on what a sound is; bring audio= to one of them:\n{table}")


class Representation(Protocol):
    """Samples as networks see them, and back: `gan_kit.audio.Spectrogram`. A class that records its arguments."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __call__(self, x: Tensor) -> Tensor: ...
    def inverse(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class DataSpec:
    """What a data set holds, as far as a network has to know.

    shape: shape of one sample, (C, H, W) or (C, T) or (dims,)
    num_classes: 0 when batches carry no labels
    vector_dim: E of the vectors that batches carry in the place of labels, or 0
    class_names: one a class, or empty
    audio: of sounds
    representation: how networks see a sample, where they don't see the sample itself; `shape` is the shape they see
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    class_names: tuple[str, ...] = ()
    audio: AudioSpec | None = None
    representation: Representation | None = None
    vector_dim: int = 0

    def settings(self) -> dict[str, Any]:
        """What configs call `spec`, as plain values"""
        return {"shape": list(self.shape), "num_classes": self.num_classes, "vector_dim": self.vector_dim}

    def decode(self, x: Tensor) -> Tensor:
        """What a generator made -> samples: (B, 2, F, L) pictures -> (B, 1, T) waves, where that is what they are."""
        return x if self.representation is None else self.representation.inverse(x)
