"""Pictures that any tool has made: a folder of files, or an .npz, read in batches to be scored."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gan_kit.data.prepare.image_decode import loaded, native_channels, opened, readable_kinds, upright
from gan_kit.data.prepare.reading import read
from gan_kit.data.prepare.scan import scan
from gan_kit.data.prepare.types import Found, Unusable
from gan_kit.data.transforms import Resize, Transform, to_chw
from gan_kit.types import UserError

__all__ = ["Samples", "agreed_channels", "load_samples"]

MOST_BYTES = 2**30  # of one file


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


class _Files:
    def __init__(self, root: Path, size: int | None, channels: int | None):
        self.root = root
        if not root.exists():
            raise UserError(f"there is no folder {root}; give a folder or archive of pictures, or an .npz")
        listing = scan(root, readable_kinds())
        bad = [*listing.refused]
        self.files = [f for f in listing.files if f.name != "grid.png" or len(listing.files) == 1]
        if not self.files:
            raise UserError(f"no picture in {root}{_told(bad)}; give a folder of pictures")
        if bad:
            raise UserError(f"{root}: {len(bad)} files are no pictures that can be read{_told(bad)}; take them out")
        kinds = Counter[int]()
        sides: dict[tuple[int, int], str] = {}
        count = Counter[tuple[int, int]]()
        examples: dict[int, str] = {}
        digest = hashlib.sha256()
        for found, (sha256, side, native) in zip(self.files, _mapped(_header, self.files), strict=True):
            if side is None:
                raise UserError(f"{root / found.name} cannot be read ({native}); mend it or take it out")
            digest.update(sha256)
            kinds[native] += 1
            examples.setdefault(native, found.name)
            count[side] += 1
            sides.setdefault(side, found.name)
        if channels is None:
            if len(kinds) > 1:
                raise UserError(
                    f"{root} mixes grey pictures ({examples[1]}) and colour ones ({examples[3]}); give channels=3 or 1"
                )
            (channels,) = kinds
        if size is None and len(sides) > 1:
            (many, _), *_, (few, _) = count.most_common()
            raise UserError(
                f"{root} mixes sizes: {sides[few]} is {few[0]}x{few[1]}, most are {many[0]}x{many[1]}; "
                f"give image_size= to resample all to one size"
            )
        width, height = (size, size) if size else next(iter(sides))
        self.shape: tuple[int, int, int] = (channels, height, width)
        self.decode = partial(decoded, channels=channels, transform=Resize(size) if size else None)
        digest.update(repr((self.shape, size)).encode())
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.files)

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        good = []
        for found, pixels in zip(self.files, _mapped(self.decode, self.files), strict=True):
            if isinstance(pixels, str):
                raise UserError(f"{self.root / found.name} cannot be read ({pixels}); mend it or take it out")
            good.append(pixels)
            if len(good) == batch_size:
                yield np.stack(good)
                good = []
        if good:
            yield np.stack(good)


def decoded(found: Found, *, channels: int, transform: Transform | None) -> np.ndarray | str:
    """-> (C, H, W) uint8, or the reason why the file gives none"""
    try:
        image, _ = upright(loaded(opened(read(found, MOST_BYTES), found.kind)), channels)
        return np.ascontiguousarray(to_chw(transform(image) if transform else image))
    except Unusable as reason:
        return str(reason)


def agreed_channels(root: Path) -> int:
    """1 or 3: what all pictures below a folder are. Raises UserError where some are grey and some in colour."""
    files = scan(root, readable_kinds()).files
    found: dict[int, list[str]] = {}
    for file, (_, side, native) in zip(files, _mapped(_header, files), strict=True):
        if side is not None:
            found.setdefault(native, []).append(file.name)
    if len(found) > 1:
        raise UserError(
            f"{root} mixes {len(found[1])} grey pictures ({found[1][0]}) and {len(found[3])} colour ones "
            f"({found[3][0]}); set data.channels=3 or data.channels=1"
        )
    return next(iter(found), 3)


def _header(found: Found) -> tuple[bytes, Any, Any]:
    """-> SHA-256 of the bytes, (width, height), channels; or None and the reason for the last two"""
    try:
        data = read(found, MOST_BYTES)
        image = opened(data, found.kind)
        return hashlib.sha256(data).digest(), image.size, native_channels(image)
    except Unusable as reason:
        return b"", None, str(reason)


def _mapped(function: Callable[[Found], Any], files: Sequence[Found]) -> Iterator[Any]:
    """As map, over processes where it is worth starting them: decoders take turns in threads of one process."""
    if len(files) < 500:
        yield from map(function, files)
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(min(8, os.cpu_count() or 1), mp_context=context) as pool:
        for start in range(0, len(files), 2048):  # what waits to be taken is bounded
            yield from pool.map(function, files[start : start + 2048], chunksize=32)


def _told(refused: list[tuple[str, str]]) -> str:
    return f" ({'; '.join(f'{name}: {reason}' for name, reason in refused[:3])})" if refused else ""


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
