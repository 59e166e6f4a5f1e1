"""A folder of pictures, decoded once into a memory-mapped file: the second start is instant."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_kit.data.arrays import SPLITS, Arrays, check_split
from gan_kit.data.transforms import Transform, to_chw
from gan_kit.files import cache_home
from gan_kit.types import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Folder"]

log = logging.getLogger(__name__)

CACHE_VERSION = 1  # raise it when the same files and settings come to give other pixels
EXTENSIONS = {
    ".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm",
    ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
# Pillow tries only these: it would hand an EPS named .png to Ghostscript
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
SIDECARS = {".csv", ".db", ".html", ".ini", ".json", ".log", ".md", ".txt", ".xml", ".yaml", ".yml"}
SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation"}
LISTED = 10  # files named in a message; the count is always told
CHUNK = 1024  # pictures decoded before they are written
STALE_SECONDS = 3 * 86_400


class Folder:
    """Pictures under `root`: one subfolder a class (searched to any depth), or all flat and without labels.

    transform: gives every picture one size
    channels: 3 (RGB), 1 (grey), or "auto": what the files are, which must agree
    labels: False takes pictures at any depth and reads no classes
    on_error: "fail" stops at files that cannot be read and lists them, "skip" leaves them out and lists them
    test_fraction: share of files held out, chosen by the hash of the relative path: adding files moves none
    cache_dir: else $GAN_KIT_CACHE, else ~/.cache/gan_kit
    workers: decoding threads, else one a core up to 8
    max_pixels: larger pictures are refused before they are decoded
    """

    def __init__(
        self,
        root: str | Path | None,
        transform: Transform | None,
        *,
        channels: int | str = 3,
        labels: bool = True,
        on_error: str = "fail",
        test_fraction: float = 0.05,
        cache_dir: str | Path | None = None,
        workers: int | None = None,
        max_pixels: int = 89_478_485,
    ) -> None:
        if root is None:
            raise UserError("no folder of pictures given; set data.root=/path/to/pictures")
        if transform is None:
            raise UserError("a folder's pictures need one size; give a transform, such as Resize(size=32)")
        if channels not in (1, 3, "auto"):
            raise UserError(f"channels={channels!r}; set data.channels to 1 (grey), 3 (RGB) or auto")
        if on_error not in ("fail", "skip"):
            raise UserError(f"no on_error={on_error!r}; have fail, skip")
        if not 0 <= test_fraction < 1:
            raise UserError(f"test_fraction={test_fraction}; set data.test_fraction from 0 to below 1")
        if workers is not None and workers < 1:
            raise UserError(f"workers={workers}; set data.workers=1 or more")
        if max_pixels < 1:
            raise UserError(f"max_pixels={max_pixels}; set data.max_pixels=1 or more")
        self.root = Path(root).expanduser()
        self.transform, self.channels, self.labels, self.on_error = transform, channels, labels, on_error
        self.test_fraction, self.max_pixels = test_fraction, max_pixels
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir else cache_home()
        self.workers = workers or min(8, os.cpu_count() or 1)

    def load(self, split: str) -> Arrays:
        """-> x (N, C, size, size) uint8, mapped from the cache; y (N,) int64, None when flat

        Raises UserError for no pictures, mixed layouts or channels, unreadable files, an unusable cache.
        """
        check_split(split)
        listing = scan(self.root, self.labels)
        entry = self.cache_dir / "folder" / self._key(listing)
        meta = _read_meta(entry)
        if meta is None:
            meta = self._build(listing, entry)
        if meta["broken"]:  # told after the cache is in place: with on_error=skip the next start need not decode
            self._report(meta["broken"], len(listing.files))
        n = meta["counts"][split]
        if n == 0:
            way = "higher" if split == "test" else "lower"
            raise UserError(
                f"{self.root}: none of {len(listing.files)} pictures fell in the {split} split; "
                f"set data.test_fraction {way} than {self.test_fraction}"
            )
        x = np.load(entry / f"{split}_x.npy", mmap_mode="r")
        y = np.load(entry / f"{split}_y.npy") if listing.classes else None
        return Arrays(x, y, listing.classes)

    def _key(self, listing: _Listing) -> str:
        import PIL

        settings = {
            "version": CACHE_VERSION,
            "pillow": PIL.__version__,
            "root": str(self.root.resolve()),
            "transform": self.transform.fingerprint,
            "channels": self.channels,
            "test_fraction": self.test_fraction,
            "max_pixels": self.max_pixels,
            "classes": listing.classes,
        }
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for file in listing.files:
            digest.update(f"{file.name}\0{file.size}\0{file.mtime_ns}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:24]

    def _build(self, listing: _Listing, entry: Path) -> dict[str, Any]:
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            _sweep(entry.parent)
            # beside its place, so that the rename stays on one disk; not mkdtemp, which shuts others out
            work = entry.parent / f".building-{uuid.uuid4().hex}"
            work.mkdir()
        except OSError as e:
            raise UserError(
                f"the picture cache {self.cache_dir} cannot be written ({e.strerror or e}); "
                "set data.cache_dir or GAN_KIT_CACHE to a folder that can"
            ) from e
        try:
            meta = self._fill(listing, work)
            (work / "meta.json").write_text(json.dumps(meta))
            if not _moved(work, entry):
                log.debug("another process was first to build %s", entry)
            return meta
        except OSError as e:
            raise UserError(
                f"the picture cache under {self.cache_dir} could not be filled ({e.strerror or e}); "
                "free some space, or set data.cache_dir or GAN_KIT_CACHE to another disk"
            ) from e
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _fill(self, listing: _Listing, work: Path) -> dict[str, Any]:
        """Decode all files into `work`; -> the counts and the broken files, as meta.json keeps them"""
        from tqdm import tqdm

        channels = self._agreed_channels(listing)
        decode = partial(decoded, channels=channels, transform=self.transform, max_pixels=self.max_pixels)
        shape = (channels, self.transform.size, self.transform.size)
        broken: list[tuple[str, str]] = []
        counts: dict[str, int] = {}
        parts = {split: [f for f in listing.files if self._split_of(f) == split] for split in SPLITS}
        with (
            ThreadPoolExecutor(self.workers) as pool,
            tqdm(total=len(listing.files), desc=f"reading {self.root.name}", unit="pic", disable=None) as bar,
        ):
            for split, files in parts.items():
                x = _Growing(work / f"{split}_x.npy", shape)
                y = []
                # a chunk at a time: what waits in memory is bounded, and the order is the listing's
                for start in range(0, len(files), CHUNK):
                    chunk = files[start : start + CHUNK]
                    good = []
                    for file, pixels in zip(chunk, pool.map(decode, [f.path for f in chunk]), strict=True):
                        bar.update()
                        if isinstance(pixels, str):
                            broken.append((file.name, pixels))
                        else:
                            good.append(pixels)
                            y.append(file.label)
                    x.extend(good)
                x.close()
                np.save(work / f"{split}_y.npy", np.array(y, np.int64))
                counts[split] = len(y)
        return {"counts": counts, "broken": broken, "shape": shape}

    def _split_of(self, file: _File) -> str:
        digest = hashlib.sha256(file.name.encode("utf-8", "surrogateescape")).digest()
        return "test" if int.from_bytes(digest[:8], "big") < self.test_fraction * 2**64 else "train"

    def _agreed_channels(self, listing: _Listing) -> int:
        if self.channels != "auto":
            return int(self.channels)
        with ThreadPoolExecutor(self.workers) as pool:
            kinds = list(pool.map(native_channels, [f.path for f in listing.files]))
        examples = {kind: f.name for f, kind in zip(listing.files, kinds, strict=True) if kind}
        if len(examples) > 1:
            count = Counter(kinds)
            raise UserError(
                f"{self.root} mixes {count[1]} grey pictures ({examples[1]}) and {count[3]} colour ones "
                f"({examples[3]}); set data.channels=3 or data.channels=1"
            )
        return next(iter(examples), 3)

    def _report(self, broken: Sequence[tuple[str, str]], total: int) -> None:
        lines = [f"  {name}: {reason}" for name, reason in broken[:LISTED]]
        if len(broken) > LISTED:
            lines.append(f"  and {len(broken) - LISTED} more")
        message = f"{len(broken)} of {total} pictures in {self.root} cannot be read"
        if self.on_error == "fail":
            cure = "mend or remove them, or leave them out with data.on_error=skip"
            raise UserError("\n".join([f"{message}; {cure}:", *lines]))
        if len(broken) == total:
            raise UserError("\n".join([f"{message}, none is left:", *lines]))
        warnings.warn("\n".join([f"{message} and are left out:", *lines]), UserWarning, stacklevel=4)


@dataclass(frozen=True)
class _File:
    path: Path
    name: str  # relative to the root, with /
    size: int
    mtime_ns: int
    label: int


@dataclass(frozen=True)
class _Listing:
    files: list[_File]
    classes: tuple[str, ...]


def scan(root: Path, labels: bool) -> _Listing:
    """All pictures under root by name, sorted, and the classes the layout gives (none when flat)."""
    if not root.exists():
        raise UserError(f"no folder {root}; set data.root to the folder of pictures")
    if not root.is_dir():
        raise UserError(f"{root} is a file; set data.root to the folder of pictures")
    others: Counter[str] = Counter()
    try:
        files = sorted(_walk(root, root, others, seen=set()), key=lambda f: f.name)
    except PermissionError as e:
        raise UserError(f"{e.filename} cannot be listed ({e.strerror}); let this user read it") from e
    if not files:
        found = f" (it holds {tally(others)})" if others else ""
        raise UserError(
            f"no picture in {root}{found}; set data.root to a folder with any of {tally(sorted(EXTENSIONS))}"
        )
    if unread := {ext: n for ext, n in others.items() if ext not in SIDECARS}:
        log.warning("%s: left out files that are no pictures known here: %s", root, tally(unread))
    if not labels:
        return _Listing(files, ())

    flat = [f for f in files if "/" not in f.name]
    classes = sorted(p.name for p in root.iterdir() if p.is_dir() and not _hidden(p.name))
    filled = {f.name.split("/")[0] for f in files} if len(flat) < len(files) else set()
    if not filled:
        return _Listing(files, ())
    if flat:
        raise UserError(
            f"{root} holds pictures ({flat[0].name}) beside class folders ({classes[0]}); "
            "move them into a class, or set data.labels=false to take all without classes"
        )
    if empty := [c for c in classes if c not in filled]:
        raise UserError(
            f"{root}: class folder {', '.join(empty[:LISTED])} holds no picture; fill or remove it, "
            "or set data.labels=false"
        )
    if {c.lower() for c in classes} <= SPLIT_NAMES:
        raise UserError(
            f"{root}: {', '.join(classes)} look like splits, not classes; set data.root={root / classes[0]} "
            "(the test split is cut from it), or data.labels=false to take all without classes"
        )
    index = {c: i for i, c in enumerate(classes)}
    labelled = [_File(f.path, f.name, f.size, f.mtime_ns, index[f.name.split("/")[0]]) for f in files]
    return _Listing(labelled, tuple(classes))


def _walk(folder: Path, root: Path, others: Counter[str], seen: set[str]) -> Iterable[_File]:
    real = os.path.realpath(folder)
    if real in seen:  # links may lead round in a circle
        return
    seen.add(real)
    with os.scandir(folder) as entries:
        for entry in entries:
            if _hidden(entry.name):
                continue
            path = Path(entry.path)
            if entry.is_dir():
                yield from _walk(path, root, others, seen)
            elif path.suffix.lower() not in EXTENSIONS:
                others[path.suffix.lower() or "files without an extension"] += 1
            else:
                try:
                    stat = entry.stat()
                    size, mtime_ns = stat.st_size, stat.st_mtime_ns
                except OSError:  # a link to nothing: decoding will tell
                    size, mtime_ns = -1, 0
                yield _File(path, path.relative_to(root).as_posix(), size, mtime_ns, 0)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def tally(counts: Iterable[str] | dict[str, int]) -> str:
    if isinstance(counts, dict):
        return ", ".join(f"{n} {ext}" for ext, n in sorted(counts.items()))
    return ", ".join(counts)


# Decoding


def decoded(path: Path, *, channels: int, transform: Transform, max_pixels: int) -> np.ndarray | str:
    """-> (C, size, size) uint8, or the reason why the file gives none"""
    try:
        with opened(path) as image:
            if image.width * image.height > max_pixels:
                return f"{image.width}x{image.height} is over data.max_pixels={max_pixels}"
            image.load()
            return to_chw(transform(upright(image, channels)))
    except UserError as e:  # the transform's settings are wrong, not the file
        raise UserError(f"{path}: {e}") from e
    except MemoryError:
        return "too large for memory"
    except Exception as e:  # a damaged file can raise almost anything from a decoder
        return _reason(e, path)


def upright(image: Image, channels: int) -> Image:
    """Any Pillow mode -> "L" (channels=1) or "RGB", turned as EXIF says, transparency laid on white."""
    from PIL import Image as pil
    from PIL import ImageOps

    with contextlib.suppress(Exception):  # damaged EXIF data does not spoil the pixels
        image = ImageOps.exif_transpose(image)
    mode = "L" if channels == 1 else "RGB"
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips instead of scaling
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError("32-bit integer pixels; save as 8 or 16 bits")
        image = pil.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels, whose range is unknown; save as 8 or 16 bits")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = pil.alpha_composite(pil.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert(mode)


def opened(path: Path) -> Image:
    from PIL import Image as pil

    pil.init()  # else the table of formats is not filled
    return pil.open(path, formats=[f for f in FORMATS if f in pil.OPEN])


def native_channels(path: Path) -> int | None:
    """1 or 3 by the file's header, None when it has none that can be read"""
    try:
        with opened(path) as image:
            return 1 if image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I") else 3
    except Exception:  # decoding will tell the reason
        return None


def _reason(error: Exception, path: Path) -> str:
    from PIL import UnidentifiedImageError

    if not path.exists():
        return "a link to nothing"
    if path.stat().st_size == 0:
        return "an empty file"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture of a known format"
    return " ".join(str(error).split()) or type(error).__name__


# The cache


class _Growing:
    """A .npy file written a chunk at a time, its length told at the end: broken files leave no holes."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.shape, self.count = shape, 0
        self.file = path.open("wb")
        self._write_header()

    def extend(self, rows: list[np.ndarray]) -> None:
        self.file.write(np.stack(rows).tobytes() if rows else b"")
        self.count += len(rows)

    def close(self) -> None:
        self.file.seek(0)
        self._write_header()
        self.file.close()

    def _write_header(self) -> None:
        # NumPy pads the header so that the first axis can grow in place
        np.lib.format.write_array_header_1_0(
            self.file, {"descr": "|u1", "fortran_order": False, "shape": (self.count, *self.shape)}
        )


def _read_meta(entry: Path) -> dict[str, Any] | None:
    """The entry's meta.json if all its files are there and whole, else None."""
    try:
        meta = json.loads((entry / "meta.json").read_text())
        for split in SPLITS:
            n = meta["counts"][split]
            if np.load(entry / f"{split}_y.npy").shape != (n,):
                return None
            if n and np.load(entry / f"{split}_x.npy", mmap_mode="r").shape != (n, *meta["shape"]):
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return meta


def _moved(work: Path, entry: Path) -> bool:
    """Rename work to entry; False when another process has put a whole one there first."""
    for _ in range(3):
        try:
            os.rename(work, entry)
        except OSError:
            if not entry.exists():
                raise
            if _read_meta(entry) is not None:
                return False
            # damaged since it was written: out of the way by rename, so that no reader meets half a folder
            aside = entry.parent / f".damaged-{uuid.uuid4().hex}"
            with contextlib.suppress(FileNotFoundError):  # another process did it
                os.rename(entry, aside)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            return True
    raise OSError(f"{entry} is in the way")


def _sweep(home: Path) -> None:
    """Remove what killed processes left half built, days ago."""
    for left in [*home.glob(".building-*"), *home.glob(".damaged-*")]:
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
