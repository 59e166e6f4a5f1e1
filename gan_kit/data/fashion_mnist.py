"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 60,000 + 10,000 grey pictures of 28x28 in 10 classes."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gan_kit.data.arrays import Arrays, check_split
from gan_kit.data.published import download, homes
from gan_kit.data.transforms import Transform
from gan_kit.types import UserError

__all__ = ["FashionMNIST"]

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
# SHA-256 of the unpacked files: MNIST and KMNIST have the same names, sizes and headers
DIGESTS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
COUNTS = {"train": 60_000, "test": 10_000}
STEMS = {"train": "train", "test": "t10k"}
SUBFOLDERS = ("", "FashionMNIST/raw", "fashion-mnist", "fashion_mnist")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


class FashionMNIST:
    """Read from the four idx files, as published (.gz) or unpacked; downloaded only when they are nowhere.

    root: the first place looked in; then $GAN_KIT_DATA, then where Debian's dataset-fashion-mnist puts them
    """

    def __init__(self, root: str | Path | None = None, transform: Transform | None = None) -> None:
        self.root = None if root is None else Path(root).expanduser()
        self.transform = transform

    def load(self, split: str) -> Arrays:
        """-> x (N, 1, 28, 28) uint8, or of the transform's size; y (N,) int64; else UserError"""
        images, labels = self._files(check_split(split))
        n = COUNTS[split]
        x = read_idx(images, (n, 28, 28), DIGESTS[images.name.removesuffix(".gz")])[:, None]
        y = read_idx(labels, (n,), DIGESTS[labels.name.removesuffix(".gz")]).astype(np.int64)
        if self.transform is not None:
            x = self.transform.arrays(x)
        return Arrays(x, y, CLASS_NAMES)

    def places(self) -> Iterator[Path]:
        """Where the files are looked for, in order."""
        *given, cache = homes(self.root)
        for home in given:
            for sub in SUBFOLDERS:
                yield home / sub
        yield DEBIAN
        for sub in SUBFOLDERS:
            yield cache / sub

    def _files(self, split: str) -> tuple[Path, Path]:
        if found := self._find(split):
            return found
        reason = download("FashionMNIST", self.root)
        if found := self._find(split):
            return found
        raise UserError(
            "Fashion-MNIST is not on this machine"
            + (f" and could not be downloaded ({reason})" if reason else "")
            + "; set data.root (or GAN_KIT_DATA) to a folder with its four idx files, "
            "or `apt install dataset-fashion-mnist`, or run once where the network can be reached"
        )

    def _find(self, split: str) -> tuple[Path, Path] | None:
        stem = STEMS[split]
        for place in self.places():
            images = _gz_or_not(place / f"{stem}-images-idx3-ubyte")
            labels = _gz_or_not(place / f"{stem}-labels-idx1-ubyte")
            if images and labels:
                return images, labels
        return None


def read_idx(path: Path, shape: tuple[int, ...], digest: str = "") -> np.ndarray:
    """An idx file of unsigned bytes (LeCun's format), gzipped or not -> uint8 of `shape`.

    Raises UserError naming the file when it is cut short, damaged, of another shape or digest.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as f:
            raw = f.read()
    except (OSError, EOFError, zlib.error) as e:
        raise UserError(f"{path} cannot be read ({e}); fetch it again") from e
    # two zero bytes, the type (8: unsigned byte), the rank, then each length as a big-endian 32-bit number
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    size = len(header) + math.prod(shape)
    if raw[: len(header)] != header:
        raise UserError(f"{path} is no idx file of {'x'.join(map(str, shape))} bytes; fetch it again")
    if len(raw) != size:
        raise UserError(f"{path} holds {len(raw):,} bytes where its header tells {size:,}; fetch it again")
    if digest and hashlib.sha256(raw).hexdigest() != digest:
        raise UserError(f"{path} is whole, but other data than were published (is it MNIST?); fetch it again")
    return np.frombuffer(raw, np.uint8, offset=len(header)).reshape(shape)


def _gz_or_not(path: Path) -> Path | None:
    for candidate in (path, path.with_name(path.name + ".gz")):
        if candidate.is_file():
            return candidate
    return None
