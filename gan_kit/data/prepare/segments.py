"""A run of files decoded in a worker process, and what came of them on the disk: the unit that a resumed run keeps."""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import json
import os
import signal
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from gan_kit.data.prepare.reading import read
from gan_kit.data.prepare.types import Domain, Found, Item, Unusable
from gan_kit.files import written_whole
from gan_kit.types import UserError

__all__ = ["Limits", "Segment", "decode", "load", "save"]


@dataclass(frozen=True)
class Limits:
    """What one file may cost.

    seconds: a decoder that takes longer is stopped; one that cannot be stopped ends its process a quarter later
    file_bytes: larger files are not read
    """

    seconds: float = 60.0
    file_bytes: int = 2**30


@dataclass(frozen=True)
class Segment:
    """What became of files [start, stop) of a listing.

    rows: one a sample or unusable file, in order: a manifest's row as far as it is known; a sample has "at", its place
    among the N samples of
    x: (N, ...), signatures: (N, ...), digests: (N, 16) uint8, quality: (N,) float64
    """

    rows: list[dict[str, Any]]
    x: np.ndarray | None
    signatures: np.ndarray | None
    digests: np.ndarray
    quality: np.ndarray


class _Slow(BaseException):
    """Raised by a timer in the middle of a decoder, whose own `except Exception` shall not have it."""


def decode(files: Sequence[Found], domain: Domain, limits: Limits, own_process: bool = False) -> Segment:
    """All samples of these files. One that is no good is a row with its reason; nothing that it does is raised.

    own_process: a decoder that hangs in C code may end this process
    """
    rows: list[dict[str, Any]] = []
    items: list[Item] = []
    with _Watch(limits.seconds, own_process) as watch:
        for found in files:
            row: dict[str, Any] = {"name": found.name, "part": "", "kind": found.kind}
            made: list[Item] = []
            try:
                with watch.one_file():
                    data = read(found, limits.file_bytes)
                    row["sha256"] = hashlib.sha256(data).hexdigest()
                    made = list(domain.items(data, found))
                    if not made:
                        raise Unusable("it holds nothing to decode")
            except Unusable as reason:
                rows.append({**row, "status": "broken", "reason": str(reason)})
                continue
            except _Slow:
                rows.append({**row, "status": "broken", "reason": f"decoding took longer than {limits.seconds:g} s"})
                continue
            except MemoryError:
                rows.append({**row, "status": "broken", "reason": "too large for memory"})
                continue
            except UserError:  # of a setting, not of the file
                raise
            except Exception as error:  # a decoder's own, which no domain foresaw
                told = " ".join(str(error).split())
                rows.append({**row, "status": "broken", "reason": f"decoding failed ({type(error).__name__}: {told})"})
                continue
            for item in made:
                rows.append({**row, "part": item.part, "at": len(items)})
                items.append(item)
    items = domain.finished(items)
    for row in rows:
        if "at" in row:
            item = items[row["at"]]
            row |= {
                "actions": list(item.actions), "flags": list(item.flags), "facts": item.facts, "quality": item.quality,
            }  # fmt: skip
    return Segment(
        rows,
        np.stack([i.x for i in items]) if items else None,
        np.stack([i.signature for i in items]) if items else None,
        np.frombuffer(b"".join(i.digest for i in items), np.uint8).reshape(-1, 16),
        np.array([i.quality for i in items], np.float64),
    )


class _Watch:
    """Stops a file's decoder after `seconds`; where C code does not listen, the whole process a quarter later.

    The second needs a thread a time it is set, so it is not set anew for each small file.
    """

    def __init__(self, seconds: float, may_exit: bool):
        self.seconds = seconds
        self.works = threading.current_thread() is threading.main_thread()
        self.may_exit = self.works and may_exit
        self.set_at = -float("inf")
        self.nowhere: IO[str] | None = None

    def __enter__(self) -> _Watch:
        if self.works:
            self.before = signal.signal(signal.SIGALRM, self._ring)
        return self

    def __exit__(self, *_: object) -> None:
        if self.works:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self.before)
        if self.nowhere:
            faulthandler.cancel_dump_traceback_later()
            self.nowhere.close()

    @contextlib.contextmanager
    def one_file(self) -> Iterator[None]:
        if not self.works:
            yield
            return
        now = time.monotonic()
        if self.may_exit and now - self.set_at > self.seconds / 8:
            self.nowhere = self.nowhere or open(os.devnull, "w")  # noqa: SIM115
            self.set_at = now
            faulthandler.dump_traceback_later(1.25 * self.seconds, exit=True, file=self.nowhere)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    @staticmethod
    def _ring(*_: object) -> None:
        raise _Slow


def save(segment: Segment, path: Path, with_samples: bool = True) -> None:
    """Raises OSError where the disk is full; then there is no file."""
    arrays: dict[str, Any] = {"digests": segment.digests, "quality": segment.quality}
    arrays["rows"] = np.frombuffer("\n".join(json.dumps(r) for r in segment.rows).encode(), np.uint8)
    if segment.signatures is not None:
        arrays["signatures"] = segment.signatures
    if segment.x is not None and with_samples:
        arrays["x"] = segment.x
    with written_whole(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)


def load(path: Path, with_samples: bool = True) -> Segment | None:
    """None for a file that is not there or not whole: every array has its checksum in the archive."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = set(archive.files)
            rows = [json.loads(line) for line in archive["rows"].tobytes().decode().split("\n") if line]
            x = archive["x"] if with_samples and "x" in names else None
            signatures = archive["signatures"] if "signatures" in names else None
            return Segment(rows, x, signatures, archive["digests"], archive["quality"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
