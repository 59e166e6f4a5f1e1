"""Pictures that any tool has made: a folder of files, or an .npz, read in batches to be scored."""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gan_kit.data.folder import decoded, native_channels, opened, scan
from gan_kit.data.transforms import Resize, Transform
from gan_kit.types import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Samples", "load_samples"]


class Samples(Protocol):
    """Pictures of one size, uint8 (C, H, W), read when they are wanted.

    fingerprint: SHA-256 of what the batches hold, by the files' bytes and what is done to them
    """

    shape: tuple[int, int, int]
    fingerprint: str

    def __len__(self) -> int: ...

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        """-> (at most batch_size, C, H, W) uint8 each"""
        ...


def load_samples(path: Path | str, size: int | None = None, channels: int | None = None) -> Samples:
    """A folder of pictures (at any depth; a grid.png beside others is left out), or an .npz with one array of them.

    size: resample to size x size (Lanczos); None takes them as they are, all of one size
    channels: 1 or 3; None: what the files are, which must agree

    Raises UserError for no, unreadable, unequal pictures, for arrays that hold no pictures, and for NaN.
    """
    path = Path(path).expanduser()
    if path.suffix == ".npz":
        return _Array(path, size, channels)
    return _Files(path, size, channels)


class _AsIs(Transform):
    size = 0

    def __call__(self, image: Image) -> Image:
        return image


class _Files:
    def __init__(self, root: Path, size: int | None, channels: int | None):
        self.root = root
        self.files = scan(root, labels=False).files
        if len(self.files) > 1:
            self.files = [f for f in self.files if f.name != "grid.png"]
        self.pool = ThreadPoolExecutor(4)
        paths = [f.path for f in self.files]
        if channels is None:
            kinds = list(self.pool.map(native_channels, paths))
            examples = {kind: f.name for f, kind in zip(self.files, kinds, strict=True) if kind}
            if len(examples) > 1:
                raise UserError(
                    f"{root} mixes grey pictures ({examples[1]}) and colour ones ({examples[3]}); give channels=3 or 1"
                )
            channels = next(iter(examples), 3)
        if size is None:
            sides = list(self.pool.map(_size, paths))
            found = Counter(side for side in sides if side)
            if len(found) > 1:
                many, few = found.most_common()[0][0], found.most_common()[-1][0]
                odd = self.files[sides.index(few)].name
                raise UserError(
                    f"{root} mixes sizes: {odd} is {few[0]}x{few[1]}, most are {many[0]}x{many[1]}; "
                    f"give image_size= to resample all to one size"
                )
            width, height = next(iter(found), (0, 0))
        else:
            width = height = size
        self.shape: tuple[int, int, int] = (channels, height, width)
        self.decode = partial(
            decoded, channels=channels, transform=Resize(size) if size else _AsIs(), max_pixels=89_478_485
        )
        digest = hashlib.sha256(repr((self.shape, size)).encode())
        for one in self.pool.map(_hash, paths):
            digest.update(one)
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.files)

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        for start in range(0, len(self.files), batch_size):
            part = self.files[start : start + batch_size]
            good = []
            for file, pixels in zip(part, self.pool.map(self.decode, [f.path for f in part]), strict=True):
                if isinstance(pixels, str):
                    raise UserError(f"{self.root / file.name} cannot be read ({pixels}); mend it or take it out")
                good.append(pixels)
            yield np.stack(good)


class _Array:
    def __init__(self, path: Path, size: int | None, channels: int | None):
        self.x = _pictures_of(path)
        if channels == 3 and self.x.shape[1] == 1:
            self.x = np.repeat(self.x, 3, axis=1)
        if channels is not None and self.x.shape[1] != channels:
            raise UserError(f"{path} holds pictures of {self.x.shape[1]} channels, not {channels}")
        if size is not None and self.x.shape[2:] != (size, size):
            self.x = Resize(size).arrays(self.x)
        self.shape: tuple[int, int, int] = tuple(self.x.shape[1:])
        self.fingerprint = hashlib.sha256(repr(self.shape).encode() + np.ascontiguousarray(self.x).data).hexdigest()

    def __len__(self) -> int:
        return len(self.x)

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        for start in range(0, len(self.x), batch_size):
            yield self.x[start : start + batch_size]


def _pictures_of(path: Path) -> np.ndarray:
    """The one array of pictures in an .npz -> (N, C, H, W) uint8."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive)
            ranks = {name: archive[name] for name in names}
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no .npz that can be read ({error}); is it whole?") from error
    if {"mu", "sigma"} <= ranks.keys():
        raise UserError(f"{path} holds statistics (mu, sigma), not pictures: they can only be given as real=")
    pictures = {name: x for name, x in ranks.items() if x.ndim == 4}
    if len(pictures) != 1:
        have = ", ".join(f"{name} {x.shape}" for name, x in ranks.items())
        raise UserError(f"{path} should hold one array of pictures (N, H, W, C) or (N, C, H, W); it holds {have}")
    (x,) = pictures.values()
    if x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    if x.shape[1] not in (1, 3):
        raise UserError(f"{path}: pictures of shape {x.shape[1:]} have neither 1 nor 3 channels")
    if x.dtype == np.uint8:
        return x
    if not np.issubdtype(x.dtype, np.floating):
        raise UserError(f"{path}: pictures of {x.dtype}; save them as uint8")
    if not np.isfinite(x).all():
        raise UserError(f"{path}: {int((~np.isfinite(x)).any((1, 2, 3)).sum())} of {len(x)} pictures hold NaN or inf")
    low, high = float(x.min()), float(x.max())
    if low < -1.01 or high > 1.01 or low >= 0:
        raise UserError(f"{path}: floats from {low:g} to {high:g}; save uint8 0..255, or floats in [-1, 1]")
    return np.rint((np.clip(x, -1, 1) + 1) * 127.5).astype(np.uint8)


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with opened(path) as image:
            return image.size
    except Exception:  # decoding will tell the reason
        return None


def _hash(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b"unreadable"
