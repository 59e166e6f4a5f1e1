"""Data sets that torchvision and torchaudio download."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from gan_kit.files import cache_home

__all__ = ["download"]


def download(name: str, root: str | Path | None, package: str = "torchvision") -> str:
    """Fetch the data set into root, $GAN_KIT_DATA or the cache; -> why that failed, or an empty string."""
    home = Path(root or os.environ.get("GAN_KIT_DATA") or cache_home() / "data").expanduser()
    try:
        datasets = importlib.import_module(f"{package}.datasets")
        home.mkdir(parents=True, exist_ok=True)
        getattr(datasets, name)(str(home), download=True)  # checks what came, by MD5 or SHA-256
    except Exception as e:  # no network, no such package, a full disk, a proxy's page: one cure
        return " ".join(f"{type(e).__name__}: {e}".split())[:200]
    return ""
