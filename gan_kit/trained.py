"""Trained generators, ready to use: what `gan_kit.load` gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.audio.spectral import check_sound
from gan_kit.audio.streaming import vocode
from gan_kit.latent import Latent, Prior, draw
from gan_kit.noise import SampleNoise, mix
from gan_kit.types import AudioSpec, DataSpec, UserError

__all__ = ["TrainedGAN", "TrainedReconstruction", "label_rows"]


class TrainedGAN:
    """A generator ready to sample.

    generator: G(z, y) -> x; prior: where z comes from; spec: shape and classes of what it makes, and of sounds their
        AudioSpec
    facts: what the bundle says of its training
    vectors: (N, E), of a generator that is conditioned on vectors: what it draws by where none is given
    """

    def __init__(
        self,
        generator: nn.Module,
        prior: Prior,
        spec: DataSpec,
        facts: dict[str, Any] | None = None,
        vectors: Tensor | None = None,
    ):
        self.generator, self.prior, self.spec = generator.eval().requires_grad_(False), prior, spec
        self.facts, self.vectors = facts or {}, vectors
        self.device = torch.device("cpu")

    def to(self, device: torch.device | str) -> TrainedGAN:
        self.device = torch.device(device)
        self.generator.to(self.device)
        return self

    @property
    def sample_rate(self) -> int | None:
        """Hz, of sounds"""
        return self.spec.audio.sample_rate if self.spec.audio else None

    @property
    def num_classes(self) -> int:
        return int(getattr(self.generator, "num_classes", 0))

    @property
    def vector_dim(self) -> int:
        """E of the vectors that it is conditioned on, or 0"""
        return int(getattr(self.generator, "vector_dim", 0))

    def sample(
        self,
        n: int,
        label: int | str | Sequence[int] | None = None,
        seed: int = 0,
        psi: float = 1.0,
        batch_size: int = 64,
        start: int = 0,
        condition: Tensor | None = None,
    ) -> Tensor:
        """n samples in [-1, 1] on the CPU, (n, C, H, W) of pictures, (n, C, T) of sounds.

        label: a class index or name, one index a sample, or None for classes drawn evenly
        seed: sample number i of a seed is the same whatever n, batch_size or device (to rounding)
        psi: truncation; below 1 less varied, more typical
        start: number of the first sample
        condition: a vector (E,), or one a sample (n, E), of a generator that is conditioned on vectors; None for those
            in the bundle, of held-out data, drawn evenly

        Raises UserError for a label that the generator does not have, a condition of another length, n < 1 or psi < 0.
        """
        return torch.cat(list(self.batches(n, label, seed, psi, batch_size, start, condition)))

    def batches(
        self,
        n: int,
        label: int | str | Sequence[int] | None = None,
        seed: int = 0,
        psi: float = 1.0,
        batch_size: int = 64,
        start: int = 0,
        condition: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """What `sample` returns, batch by batch: memory stays bounded."""
        for name, value, least in (
            ("n", n, 1),
            ("batch_size", batch_size, 1),
            ("start", start, 0),
            ("psi", psi, 0),
        ):
            if value < least:
                raise UserError(f"{name}={value} must be at least {least}")
        labels = self.labels(n, label, seed, start, condition)
        for first in range(0, n, batch_size):
            last = min(first + batch_size, n)
            noise = SampleNoise(seed, range(start + first, start + last), self.device)
            y = None if labels is None else labels[first:last].to(self.device)
            with torch.inference_mode():
                x = draw(self.generator, self.prior, noise, y, psi)
                x = self.spec.decode(x.float())
            yield x.clamp(-1, 1).cpu()

    def latent(self, space: str = "auto") -> Latent:
        """The latent space, to interpolate, truncate, mix and look for directions in: docs/latent.md

        space: "z", "w", or "auto": w where the generator has one. Raises UserError for a space that it does not have.
        """
        return Latent(self.generator, self.prior, space, self.spec.decode, vectors=self.vectors)

    def labels(
        self,
        n: int,
        label: int | str | Sequence[int] | None,
        seed: int,
        start: int,
        condition: Tensor | None = None,
    ) -> Tensor | None:
        """The class of each of n samples, (n,), or its vector, (n, E), or None without either; see `sample`."""
        classes = self.num_classes
        if self.vector_dim:
            if label is not None:
                raise UserError(
                    f"label={label!r}: this generator is conditioned on vectors of {self.vector_dim}, not on classes; "
                    "give condition"
                )
            return self._vectors(n, condition, seed, start)
        if condition is not None:
            what = f"{classes} classes; give label" if classes else "no condition; leave it out"
            raise UserError(f"condition is a vector, and this generator has {what}")
        if not classes:
            if label is not None:
                raise UserError(f"label={label!r}: this generator was trained without classes; leave label out")
            return None
        if label is None:
            return torch.tensor([mix(seed, i, 1) % classes for i in range(start, start + n)])
        if isinstance(label, str):
            if label not in self.spec.class_names:
                raise UserError(f"no class {label!r}; have {list(self.spec.class_names)}")
            label = self.spec.class_names.index(label)
        wanted = [label] * n if isinstance(label, int) else list(label)
        if len(wanted) != n:
            raise UserError(f"{len(wanted)} labels for n={n} samples; give one, or one a sample")
        if bad := sorted({i for i in wanted if not 0 <= i < classes}):
            raise UserError(f"label {bad[0]} is out of range: this generator has classes 0 to {classes - 1}")
        return torch.tensor(wanted)

    def _vectors(self, n: int, condition: Tensor | None, seed: int, start: int) -> Tensor:
        if condition is None:
            if self.vectors is None:
                raise UserError(f"give a condition: this generator makes a sample of a vector of {self.vector_dim}")
            return self.vectors[[mix(seed, i, 1) % len(self.vectors) for i in range(start, start + n)]]
        y = torch.as_tensor(condition).float()
        y = y.expand(n, -1) if y.dim() == 1 else y
        if y.shape != (n, self.vector_dim):
            raise UserError(
                f"condition of shape {tuple(torch.as_tensor(condition).shape)}: this generator takes a vector of "
                f"{self.vector_dim}, ({self.vector_dim},), or one for each of {n} samples, ({n}, {self.vector_dim})"
            )
        if not torch.isfinite(y).all():
            raise UserError("condition holds NaN or infinite values")
        return y


def label_rows(num_classes: int, columns: int, rows: int = 8) -> list[int] | None:
    """Labels of a grid with one row per class (at most 20 rows), or None without classes."""
    return [i for i in range(min(num_classes, 20)) for _ in range(columns)] if num_classes else None


class TrainedReconstruction:
    """A generator that makes x̂ of what it is shown, c = condition(x): a vocoder makes a wave of a mel spectrogram.

    generator: G(c, y) -> x̂; condition: x -> c, None where the generator is shown x itself
    spec: what x is; facts: what the bundle says of the training
    """

    def __init__(
        self, generator: nn.Module, condition: nn.Module | None, spec: DataSpec, facts: dict[str, Any] | None = None
    ):
        self.generator: Any = generator.eval().requires_grad_(False)
        self.condition, self.spec, self.facts = condition, spec, facts or {}
        self.device = torch.device("cpu")

    def to(self, device: torch.device | str) -> TrainedReconstruction:
        self.device = torch.device(device)
        self.generator.to(self.device)
        if self.condition is not None:
            self.condition.to(self.device)
        return self

    @property
    def sample_rate(self) -> int | None:
        """Hz, of sounds"""
        return self.spec.audio.sample_rate if self.spec.audio else None

    @torch.inference_mode()
    def __call__(
        self,
        c: Tensor,
        y: Tensor | None = None,
        spec: AudioSpec | None = None,
        chunk_frames: int | None = 1000,
    ) -> Tensor:
        """x̂ on the CPU: of a mel (B, n_mels, L) a wave (B, 1, T) in [-1, 1].

        spec: of the sound that c was made of; one that disagrees with the training's is refused with what differs
        chunk_frames: vocoders take so many frames at a time, which bounds memory and changes nothing; None for all
        """
        if spec is not None and self.spec.audio is not None:
            self.spec.audio.require(spec, "the vocoder", "the mel")
        if not torch.isfinite(c).all():
            raise UserError("what the generator is shown holds NaN or infinite values")
        c = c.to(self.device)
        if chunk_frames and hasattr(self.generator, "context_frames"):
            return vocode(self.generator, c, chunk_frames).float().clamp(-1, 1).cpu()
        return self.generator(c, None if y is None else y.to(self.device)).float().clamp(-1, 1).cpu()

    @torch.inference_mode()
    def reconstruct(self, x: Tensor, y: Tensor | None = None, sample_rate: int | None = None) -> Tensor:
        """x -> x̂ of the same shape, on the CPU; sounds (B, C, T) of any length.

        Raises UserError for sounds at another rate, of other channels, too short or not finite.
        """
        x, length = x.to(self.device), x.shape[-1]
        if self.spec.audio is not None:
            check_sound(x, self.spec.audio, sample_rate)
            x = F.pad(x, (0, -length % self.spec.audio.hop_length))
        c = x if self.condition is None else self.condition(x)
        return self(c, y)[..., :length]
