"""Files that are written whole or not at all, their checksums, and where caches lie. Imports no torch."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cache_home", "sha256_of", "write_whole", "written_whole"]


def cache_home() -> Path:
    """$GAN_KIT_CACHE, else ~/.cache/gan_kit."""
    return Path(os.environ.get("GAN_KIT_CACHE") or "~/.cache/gan_kit").expanduser()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path of this call's own to write to, which becomes `path` when the block ends well, and is gone otherwise.

    Processes that write the same file at once don't meet: the last one's stays, whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """A reader sees the old text or the new one."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")
