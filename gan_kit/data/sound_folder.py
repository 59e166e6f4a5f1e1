"""A prepared data set of sounds, checked against the AudioSpec of the run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from gan_kit.data.arrays import Arrays
from gan_kit.data.packed import INDEX, Packed, Shards
from gan_kit.types import AudioSpec, UserError

__all__ = ["SoundFolder", "starts"]


class SoundFolder:
    """Clips that `python -m gan_kit.prepare domain=audio` has made, of `audio`'s rate and at least its length.

    channels: 1 or 2, as prepared

    Raises UserError for what is no such data set, or one of another rate, of other channels or of shorter clips.
    """

    def __init__(self, root: str | Path | None, audio: AudioSpec, channels: int = 1) -> None:
        if root is None:
            raise UserError("no folder of sounds given; set data.root=/path/to/prepared")
        self.root, self.audio, self.channels = Path(root).expanduser(), audio, channels
        self._packed: Packed | None = None

    @property
    def packed(self) -> Packed:
        if self._packed is None:
            self._packed = self._opened()
        return self._packed

    @property
    def splits(self) -> tuple[str, ...]:
        return self.packed.splits

    def load(self, split: str) -> Arrays:
        """-> x (N, C, T) int16, mapped, T as prepared; y (N,) int64, None without classes"""
        return self.packed.load(split)

    def _opened(self) -> Packed:
        rate, length = self.audio.sample_rate, self.audio.clip_samples
        again = f"domain=audio domain.sample_rate={rate} domain.clip_samples={length} domain.channels={self.channels}"
        if self.root.is_dir() and not (self.root / INDEX).is_file() and not (self.root / ".preparing").is_dir():
            raise UserError(
                f"{self.root} is no prepared data set (it has no {INDEX}); make one with "
                f"python -m gan_kit.prepare source={self.root} out=… {again}, and set data.root to it"
            )
        packed = Packed(self.root)
        index: dict[str, Any] = packed.index
        if index["domain"] != "audio":
            raise UserError(f"{self.root} holds {index['domain']}s, not sounds; set data=folder, or another data.root")
        have = index.get("spec", {}).get("sample_rate")
        if have != rate:
            raise UserError(
                f"{self.root} was prepared at {have} Hz, not audio.sample_rate={rate}; set audio.sample_rate={have}, "
                f"or prepare it again with {again}"
            )
        channels, samples = index["shape"]
        if channels != self.channels:
            raise UserError(
                f"{self.root} was prepared with {channels} channels, not {self.channels}; set data.channels={channels}"
                f", or prepare it again with {again}"
            )
        if samples < length:
            raise UserError(
                f"{self.root} has clips of {samples} samples, too short for audio.clip_samples={length}; set "
                f"audio.clip_samples={samples} or less, or prepare it again with {again}"
            )
        return packed


def starts(arrays: Arrays, samples: int) -> Arrays:
    """Each sound's first samples, nothing copied."""
    x: Any = arrays.x
    if x.shape[-1] == samples:
        return arrays
    x = Shards([part[..., :samples] for part in x.parts]) if isinstance(x, Shards) else x[..., :samples]
    return dataclasses.replace(arrays, x=x, sha256=arrays.sha256 and f"{arrays.sha256}/first {samples}")
