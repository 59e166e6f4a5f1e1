"""CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 colour pictures of 32x32 in 10 classes."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gan_kit.data.arrays import Arrays, check_split
from gan_kit.data.published import download, places
from gan_kit.data.transforms import Transform
from gan_kit.types import UserError

__all__ = ["CIFAR10"]

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDER, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
# MD5 of the unpacked files, which is what the authors and torchvision give
DIGESTS = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
FILES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
SUBFOLDERS = ("", "cifar10", "cifar-10", "CIFAR10")
MOST_BYTES = 64 * 2**20  # of one file: published ones have 31 MB


class CIFAR10:
    """Read from the Python version's six files, in their folder or packed (.tar.gz); downloaded only when nowhere.

    root: the first place looked in, then $GAN_KIT_DATA
    check: only the files as published; False takes others of the same format, such as a part of them

    The files are pickles: none but plain values and arrays are let in, whatever `check` says.
    """

    def __init__(self, root: str | Path | None = None, transform: Transform | None = None, check: bool = True) -> None:
        self.root = None if root is None else Path(root).expanduser()
        self.transform, self.check = transform, check

    def load(self, split: str) -> Arrays:
        """-> x (N, 3, 32, 32) uint8, or of the transform's size; y (N,) int64; else UserError"""
        place = self._place(check_split(split))
        parts = [read_batch(place, name, DIGESTS[name] if self.check else "") for name in FILES[split]]
        x = np.concatenate([pixels for pixels, _ in parts])
        y = np.concatenate([labels for _, labels in parts])
        if self.transform is not None:
            x = self.transform.arrays(x)
        return Arrays(x, y, CLASS_NAMES)

    def places(self) -> Iterator[Path]:
        """Where the folder or the archive is looked for, in order."""
        for place in places(self.root, SUBFOLDERS):
            for name in (FOLDER, "", ARCHIVE):
                yield place / name

    def _place(self, split: str) -> Path:
        if found := self._find(split):
            return found
        reason = download("CIFAR10", self.root)
        if found := self._find(split):
            return found
        raise UserError(
            "CIFAR-10 is not on this machine"
            + (f" and could not be downloaded ({reason})" if reason else "")
            + f"; set data.root (or GAN_KIT_DATA) to the folder with {FOLDER}/ or {ARCHIVE}, "
            "or run once where the network can be reached"
        )

    def _find(self, split: str) -> Path | None:
        for place in self.places():
            if place.is_file() if place.name == ARCHIVE else all((place / name).is_file() for name in FILES[split]):
                return place
        return None


def read_batch(place: Path, name: str, digest: str = "") -> tuple[np.ndarray, np.ndarray]:
    """One file of the folder or archive `place` -> x (N, 3, 32, 32) uint8, y (N,) int64.

    Raises UserError naming the file when it is cut short, damaged, not pictures and classes, or of another digest.
    """
    path = place / name
    try:
        raw = _from_archive(place, name) if place.is_file() else _limited(path.open("rb"))
    except (OSError, EOFError, KeyError, zlib.error, tarfile.TarError) as e:
        raise UserError(f"{path} cannot be read ({e}); fetch it again") from e
    if digest and hashlib.md5(raw, usedforsecurity=False).hexdigest() != digest:
        raise UserError(f"{path} is not the file that was published; fetch it again, or set data.check=false")
    try:
        entry: Any = _Plain(io.BytesIO(raw), encoding="latin1").load()
        x = np.asarray(entry["data"])
        y = np.asarray(entry["labels"])
    except Exception as e:  # unpickling damaged bytes raises whatever it likes
        raise UserError(f"{path} is no batch of CIFAR-10 ({type(e).__name__}: {e}); fetch it again") from e
    if x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != 3072 or y.shape != x.shape[:1] or y.dtype.kind not in "iu":
        raise UserError(f"{path} holds {x.dtype}{x.shape} and {y.dtype}{y.shape}, not uint8 (N, 3072) and N classes")
    if len(y) and not 0 <= y.min() <= y.max() < len(CLASS_NAMES):
        raise UserError(f"{path} has classes from {y.min()} to {y.max()}, not 0 to 9 (is it CIFAR-100?)")
    return x.reshape(-1, 3, 32, 32), y.astype(np.int64)


def _from_archive(place: Path, name: str) -> bytes:
    with tarfile.open(place) as archive:
        member = archive.extractfile(f"{FOLDER}/{name}")
        if member is None:
            raise KeyError(f"{FOLDER}/{name} is no file")
        return _limited(member)


def _limited(file: Any) -> bytes:
    with file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise OSError(f"more than {MOST_BYTES:,} bytes")
    return raw


class _Plain(pickle.Unpickler):
    """Arrays and plain values: a pickle that names anything else, and so might run code, is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.ndarray.__reduce__(np.zeros(0))[0]  # wherever this NumPy has it
        if (module, name) == ("_codecs", "encode"):  # bytes, as Python 3 writes them for Python 2
            return lambda text, encoding: text.encode(encoding)
        raise pickle.UnpicklingError(f"it names {module}.{name}")
