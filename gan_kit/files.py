"""Files that are written whole or not at all, their checksums, and where caches lie. Imports no torch."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cache_home", "laid_whole", "one_at_a_time", "sha256_of", "write_whole", "written_whole"]


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


@contextmanager
def laid_whole(place: Path) -> Iterator[Path]:
    """A new folder beside `place` to fill, which becomes `place` when the block ends well, and is gone otherwise.

    Where another process was first, its folder stays: for content that is the same each time.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        yield part
        part.chmod(0o755)
        try:
            part.rename(place)
        except OSError:
            if not (place.is_dir() and any(place.iterdir())):
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def one_at_a_time(lock: Path, waiting: str = "") -> Iterator[None]:
    """Within, no other process (or thread) is within by the same file; `waiting` is said to who has to wait.

    The lock goes with its process, also when that is killed; where the file system knows no locks, nobody waits.
    """
    import fcntl

    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                print(waiting, file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass
        yield
