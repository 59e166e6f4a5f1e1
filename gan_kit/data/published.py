"""Data sets that torchvision downloads."""

from __future__ import annotations

import os
from pathlib import Path

from gan_kit.files import cache_home

__all__ = ["download"]


def download(name: str, root: str | Path | None) -> str:
    """Fetch the data set into root, $GAN_KIT_DATA or the cache; -> why that failed, or an empty string."""
    home = root or os.environ.get("GAN_KIT_DATA") or cache_home() / "data"
    try:
        from torchvision import datasets

        getattr(datasets, name)(str(Path(home).expanduser()), download=True)  # checks the files' MD5
    except Exception as e:  # no network, no torchvision, a full disk, a proxy's page: one cure
        return " ".join(f"{type(e).__name__}: {e}".split())[:200]
    return ""
