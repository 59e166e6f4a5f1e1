"""Weights of published networks: found on the disk or downloaded, and never used unless their checksum is right."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

from tqdm import tqdm

from gan_kit.files import cache_home, sha256_of, written_whole
from gan_kit.types import UserError

__all__ = ["find_weights"]


def find_weights(name: str, url: str, sha256: str, path: Path | str | None = None, timeout: float = 20.0) -> Path:
    """The file of weights: `path`, else in $GAN_KIT_WEIGHTS, else in the cache, else downloaded there.

    sha256: of the file, or the first digits of it
    Raises UserError for a file of another checksum, and where it is nowhere and can't be downloaded.
    """
    home = os.environ.get("GAN_KIT_WEIGHTS")
    cached = cache_home() / "weights" / name
    places = [Path(path).expanduser()] if path else [*([Path(home).expanduser() / name] if home else []), cached]
    for place in places:
        if place.is_file():
            if (found := sha256_of(place)).startswith(sha256):
                return place
            raise UserError(
                f"{place} has SHA-256 {found[:12]}…, {name} has {sha256[:12]}…: is it whole? Fetch it again from {url}"
            )
    if path:
        raise UserError(f"there is no file {path}; fetch {url} (SHA-256 {sha256[:12]}…)")
    try:
        with written_whole(cached) as part:
            _download(url, part, timeout)
            if not (found := sha256_of(part)).startswith(sha256):
                raise UserError(f"{url} gave a file of SHA-256 {found[:12]}…, not {sha256[:12]}…: a proxy's page?")
    except OSError as error:
        raise UserError(
            f"{name} is not on this machine and could not be downloaded ({error}): fetch {url} elsewhere and put it "
            f"into {home or cached.parent} (or name a folder in GAN_KIT_WEIGHTS); SHA-256 {sha256}"
            f"{'…' if len(sha256) < 64 else ''}; extractor=lite0 needs no download"
        ) from error
    return cached


def _download(url: str, part: Path, timeout: float) -> None:
    with urllib.request.urlopen(url, timeout=timeout) as answer, part.open("wb") as file:
        total = int(answer.headers.get("Content-Length") or 0) or None
        with tqdm(total=total, unit="B", unit_scale=True, desc=part.name.split(".")[1], disable=None) as bar:
            while block := answer.read(1 << 20):
                file.write(block)
                bar.update(len(block))
        if total and file.tell() != total:
            raise OSError(f"{file.tell():,} of {total:,} bytes came")
