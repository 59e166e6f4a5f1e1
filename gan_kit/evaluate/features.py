"""Extractors: samples in, features and, where the network classifies, class probabilities out.

One contract for all: an extractor takes samples as data sets store them and as files hold them, pictures uint8, sounds
int16, and does its own resizing, resampling and scaling, so that these are part of what its name and fingerprint stand
for.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gan_kit.pictures import to_uint8
from gan_kit.types import UserError

__all__ = [
    "Extracted",
    "Extractor",
    "Pixels",
    "RandomFeatures",
    "as_pictures",
    "as_sounds",
    "as_stored",
    "in_fp32",
    "pixels_for",
]


class Extracted(NamedTuple):
    """What an extractor says of a batch.

    features: (B, F) float32
    probabilities: (B, K) float32, rows sum to 1, or None where the network does not classify
    """

    features: Tensor
    probabilities: Tensor | None


class Extractor(nn.Module, ABC):
    """Samples -> features. Frozen, in evaluation mode, fp32.

    name: what its scores are called after: fd-<name>; only the 2015 Inception's are FID, only VGGish's FAD
    weights_sha256: of the file its weights came from, or of the weights themselves
    dims: F; num_classes: K, 0 without probabilities
    """

    name: str
    weights_sha256: str = ""
    dims: int
    num_classes: int = 0
    costly: bool = False  # minutes for ten thousand samples on a CPU

    @abstractmethod
    def extract(self, x: Tensor) -> Extracted:
        """x: (B, C, H, W) uint8 pictures, C = 1 or 3, of any size; extractors of other data say what they take.

        Raises UserError for anything else.
        """

    def settings(self) -> dict[str, Any]:
        """Plain values that change its figures (resizer, layer, ...), for the fingerprint."""
        return {}

    @property
    def protocol(self) -> dict[str, Any]:
        """All that its figures depend on, as plain values: two extractors of one protocol give the same figures."""
        return {"extractor": self.name, "weights_sha256": self.weights_sha256, "dims": self.dims, **self.settings()}

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.protocol, sort_keys=True).encode()).hexdigest()

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)

    def features(self, x: Tensor) -> Tensor:
        """-> (B, F) float32"""
        return self.extract(x).features

    def probabilities(self, x: Tensor) -> Tensor:
        """-> (B, K) float32. Raises UserError where the network does not classify."""
        found = self.extract(x).probabilities
        if found is None:
            raise UserError(f"extractor {self.name} gives no class probabilities; use inception or a classifier")
        return found

    def train(self, mode: bool = True) -> Extractor:
        """Stays in evaluation mode, whatever module it hangs in."""
        return super().train(False)


@contextmanager
def in_fp32() -> Iterator[None]:
    """Autocast and TF32 off, whatever surrounds it: both move features by more than what scores tell apart."""
    precision, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    kinds = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    with ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(torch.autocast(kind, enabled=False))
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)
            torch.backends.cudnn.allow_tf32 = convolutions


def as_pictures(x: Tensor, channels: int | None = None) -> Tensor:
    """Check uint8 pictures (B, C, H, W); grey ones become `channels` equal planes where that is given.

    Raises UserError naming what else it was given.
    """
    if x.dim() != 4 or x.dtype != torch.uint8 or x.shape[1] not in (1, 3):
        raise UserError(
            f"this extractor takes uint8 pictures (B, C, H, W) with 1 or 3 channels, not {x.dtype} "
            f"{tuple(x.shape)}; round samples in [-1, 1] with gan_kit.pictures.to_uint8"
        )
    if channels == 3 and x.shape[1] == 1:
        return x.expand(-1, 3, -1, -1)
    if channels is not None and x.shape[1] != channels:
        raise UserError(f"this extractor takes pictures with {channels} channels, these have {x.shape[1]}")
    return x


def as_sounds(x: Tensor) -> Tensor:
    """Check int16 sounds -> their mean over channels in [-1, 1), (B, C, T) -> (B, T) float32.

    Raises UserError naming what else it was given.
    """
    if x.dim() != 3 or x.dtype != torch.int16:
        raise UserError(
            f"this extractor takes int16 sounds (B, C, T), not {x.dtype} {tuple(x.shape)}; round waves in [-1, 1] with "
            f"gan_kit.evaluate.features.as_stored, and judge pictures with extractor=auto"
        )
    return x.float().mean(1) / 32768


def as_stored(x: Tensor) -> Tensor:
    """Samples in [-1, 1] as their files would hold them, rounded and clipped: pictures (B, C, H, W) uint8, sounds
    (B, C, T) int16, vectors as they are. Raises UserError for NaN, which rounding would hide."""
    if not x.isfinite().all():
        bad = int((~x.isfinite()).flatten(1).any(1).sum())
        raise UserError(f"{bad} of {len(x)} samples hold NaN or inf: there is nothing to score")
    if x.dim() == 4:
        return to_uint8(x)
    return (x.float() * 32768).round_().clamp_(-32768, 32767).to(torch.int16) if x.dim() == 3 else x


class Pixels(Extractor):
    """The samples' own values in [-1, 1]: for tests, for vectors, and as the plainest baseline.

    x: (B, ...) uint8 or int16, or float in [-1, 1] -> (B, F)
    shape: of one sample
    """

    name = "pixels"

    def __init__(self, shape: Iterable[int]):
        super().__init__()
        self.shape = tuple(shape)
        self.dims = int(torch.Size(self.shape).numel())

    def settings(self) -> dict[str, Any]:
        return {"shape": list(self.shape)}

    def extract(self, x: Tensor) -> Extracted:
        if tuple(x.shape[1:]) != self.shape:
            raise UserError(f"extractor pixels was made for samples of shape {self.shape}, not {tuple(x.shape[1:])}")
        flat = x.flatten(1).float()
        return Extracted({torch.uint8: flat / 127.5 - 1, torch.int16: flat / 32768}.get(x.dtype, flat), None)


def pixels_for(data: Any) -> Pixels:
    """Pixels of the data that a data module holds. Raises UserError where there is none."""
    if data is None:
        raise UserError("extractor=pixels has to know the samples' shape: score a run, or use another extractor")
    return Pixels(data.arrays("train").x.shape[1:])


class RandomFeatures(Extractor):
    """An untrained convolutional network, the same for one seed: for tests. Its figures say nothing of quality.

    x: (B, C, H, W) uint8 -> (B, dims)
    """

    name = "random"

    def __init__(self, dims: int = 64, channels: int = 3, seed: int = 0):
        super().__init__()
        self.dims, self.channels, self.seed = dims, channels, seed
        g = torch.Generator().manual_seed(seed)
        self.weight1 = nn.Buffer(torch.randn(32, channels, 4, 4, generator=g) / (16 * channels) ** 0.5)
        self.weight2 = nn.Buffer(torch.randn(dims, 32, 4, 4, generator=g) / (16 * 32) ** 0.5)

    def settings(self) -> dict[str, Any]:
        return {"channels": self.channels, "seed": self.seed}

    def extract(self, x: Tensor) -> Extracted:
        x = as_pictures(x, self.channels).float() / 127.5 - 1
        h = nn.functional.conv2d(x, self.weight1, stride=2, padding=1).relu()
        return Extracted(nn.functional.conv2d(h, self.weight2, stride=2, padding=1).relu().mean((2, 3)), None)
