"""The words of preparing: what a scan finds, what a decoder makes of it, what a search for duplicates says.

A folder's way: scan -> Found; a Domain decodes each to Items, or says why not (Unusable); fingerprints of all Items are
searched for near-duplicates (Near); clusters, labels and splits are assigned; what is kept is packed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Domain", "Found", "Item", "Near", "Unusable"]


class Unusable(Exception):
    """A file gives no sample; the message is the reason, as the report shows it: short, no path, no full stop."""


@dataclass(frozen=True)
class Found:
    """One file, or one member of an archive.

    name: relative to the source, with "/"; a member is ARCHIVE!MEMBER; bytes that are no UTF-8 as surrogates
    path: the file, or the archive; member: the name inside the archive
    kind: what the first bytes say: "jpeg", "png", "wav", ...; "" where they say nothing
    size, mtime_ns: of the file, or of the member
    """

    name: str
    path: Path
    member: str | None
    kind: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Item:
    """One sample decoded and normalised: a picture, a frame of one, or a clip of sound.

    x: (C, H, W) uint8 or (C, T) int16, contiguous, of the shape that all samples of the set have
    digest: 16 bytes, XXH3 of the decoded samples before they were normalised, with their shape: equal for a PNG and its
        copy as BMP
    signature: what near-duplicates are searched by, of one shape and dtype in a domain
    quality: which of a cluster is kept: the highest; only compared within a cluster
    part: "" for a whole file, "frame 3", "clip 2" for a part of one
    facts: numbers and short words for the manifest and its histograms: width, height, mode, seconds, peak_db, ...
    actions: what was done, in words that count well: "turned by EXIF", "alpha on white", "44100 Hz to 22050 Hz"
    flags: what a person may not want: "blank", "blurred", "dark", "silent", "clipped", ...
    sketch: what `Domain.finished` finds the rest by; None for an item that is finished
    """

    x: np.ndarray
    digest: bytes
    signature: np.ndarray
    quality: float
    part: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    actions: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    sketch: Any = None


@dataclass(frozen=True)
class Near:
    """Pairs of rows that look alike, each (i, j) once, with i < j, sorted.

    same: (M, 2) int64, surely one picture or recording; doubtful: (K, 2) int64, for a person to look at
    reasons: K short words, one a doubtful pair: "crop", "flat", "alike"
    """

    same: np.ndarray
    doubtful: np.ndarray
    reasons: tuple[str, ...] = ()


class Domain(ABC):
    """How files of one kind become samples. Pickles to worker processes; its repr names every setting that matters.

    name: "image" or "audio"; kinds: the values of Found.kind that it decodes; flags: all that Item.flags may hold
    version: raised when the same files and settings come to give other samples
    """

    name: str
    kinds: frozenset[str]
    flags: frozenset[str] = frozenset()
    version: int = 1

    @property
    def spec(self) -> dict[str, Any]:
        """What a reader of the samples has to know beside their shape, e.g. {"sample_rate": 22050}"""
        return {}

    @abstractmethod
    def items(self, data: bytes, found: Found) -> Iterator[Item]:
        """Decode and normalise one file's bytes. Raises Unusable; never lets a decoder's own error out.

        Items may lack what is found for many of them at once: see `finished`.
        """

    def finished(self, items: list[Item]) -> list[Item]:
        """The items of some files, whole. What comes of one does not depend on the others."""
        return items

    @abstractmethod
    def near(self, signatures: np.ndarray, progress: bool = False, workers: int = 1) -> Near:
        """Near-duplicates among N signatures (N, ...), perhaps a memmap; memory beside them grows as N, not N^2.

        workers: processes that may search; what is found does not depend on them
        """

    @abstractmethod
    def sheet(self, rows: list[np.ndarray], columns: int) -> bytes:
        """A PNG that shows samples: thumbnails, or waveforms."""
