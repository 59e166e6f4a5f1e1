"""Where published data sets lie, and how they come there."""

from __future__ import annotations

import http.client
import importlib
import os
import shutil
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from gan_kit.data.prepare.archives import tar_trap
from gan_kit.files import cache_home, laid_whole, sha256_of
from gan_kit.types import UserError

__all__ = ["download", "homes", "places", "told", "unpacked"]

TIMEOUT = 60  # seconds without a byte


def homes(root: str | Path | None) -> list[Path]:
    """The folders that data sets are looked for in, in order: root, $GAN_KIT_DATA, the cache. A download goes into
    the first of them; the cache, the last, is always there."""
    given = [home for home in (root, os.environ.get("GAN_KIT_DATA")) if home]
    return [Path(home).expanduser() for home in (*given, cache_home() / "data")]


def places(root: str | Path | None, subfolders: Sequence[str]) -> Iterator[Path]:
    """Each of these below each of the homes, in order."""
    for home in homes(root):
        for sub in subfolders:
            yield home / sub


def told(error: BaseException) -> str:
    """What went wrong on one line, to stand in brackets"""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def download(name: str, root: str | Path | None, package: str = "torchvision") -> str:
    """Let torchvision or torchaudio fetch the data set; -> why that failed, or an empty string."""
    home = homes(root)[0]
    try:
        datasets = importlib.import_module(f"{package}.datasets")
        home.mkdir(parents=True, exist_ok=True)
        getattr(datasets, name)(str(home), download=True)  # checks what came, by MD5 or SHA-256
    except Exception as e:  # no network, no such package, a full disk, a proxy's page: one cure
        return told(e)
    return ""


def unpacked(url: str, sha256: str, folder: str, root: str | Path | None) -> str:
    """Lay the archive's `folder` below the first home, whole or not at all; -> why that failed, or an empty string.

    The archive is taken from the homes if it lies there, and stays; else it is fetched, and gone when it is unpacked.
    Its checksum is compared before it is opened, and nothing of it is written outside.
    """
    name = url.rpartition("/")[2]
    home = homes(root)[0]
    try:
        if found := next((place for place in places(root, [name]) if place.is_file()), None):
            _extract(found, sha256, home / folder, f"{found} (remove it)")
            return ""
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download.", dir=home) as temporary:
            archive = Path(temporary) / name
            _fetch(url, archive)
            _extract(archive, sha256, home / folder, f"what came from {url}")
    except (OSError, EOFError, http.client.HTTPException, tarfile.TarError, UserError) as e:
        return told(e)  # no network, a proxy's page, a full disk, another archive
    return ""


def _fetch(url: str, to: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, to.open("wb") as file:
        length = answer.headers.get("Content-Length")
        bar = {"total": int(length) if length else None, "unit": "B", "unit_scale": True, "disable": None}
        with tqdm.wrapattr(answer, "read", desc=url.rpartition("/")[2], leave=False, **bar) as counted:
            shutil.copyfileobj(counted, file, 1 << 20)


def _extract(archive: Path, sha256: str, place: Path, shown: str) -> None:
    if sha256_of(archive) != sha256:
        raise UserError(f"{shown} is cut short or another archive, {archive.stat().st_size:,} bytes")
    with laid_whole(place) as part, tarfile.open(archive) as tar:
        for member in tar:  # tarfile's own filter came with Python 3.11.4; Debian 12 has 3.11.2
            if member.isdir():
                continue
            if trap := tar_trap(member):
                raise UserError(f"{shown} holds {member.name!r}: {trap}")
            file = tar.extractfile(member)
            assert file is not None  # it is a file
            to = part / member.name
            to.parent.mkdir(parents=True, exist_ok=True)
            with file, to.open("wb") as out:
                shutil.copyfileobj(file, out)
        inner = part / place.name
        if not inner.is_dir():
            raise UserError(f"{shown} holds no folder {place.name}")
        for entry in inner.iterdir():
            entry.rename(part / entry.name)
        inner.rmdir()
