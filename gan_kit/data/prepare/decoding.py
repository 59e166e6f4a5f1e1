"""All files decoded by a pool of processes, a segment at a time; what is on the disk already is left as it is."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np

from gan_kit.data.prepare import segments
from gan_kit.data.prepare.found import FoundFiles
from gan_kit.data.prepare.segments import Limits, Segment
from gan_kit.data.prepare.types import Domain, Found

__all__ = ["decode_all", "keep_memory", "load_decoders"]

FILES_A_SEGMENT = 64
BYTES_A_SEGMENT = 2**25  # of files; also a 16th of what is left, so that no process is the last by far, but
LEAST_BYTES = 2**20
KEPT = 2**26  # bytes
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def decode_all(
    files: FoundFiles,
    domain: Domain,
    limits: Limits,
    folder: Path,
    workers: int,
    keep_x: bool = True,
    progress: bool = True,
) -> list[tuple[int, Path]]:
    """-> (number of its first file, segment's file), in order, whatever the number of workers

    A file that ends its process (a crash in C code, no memory, a hang) costs its segment: that is halved until the
    file is found, and told as broken.
    """
    from pebble import ProcessExpired, ProcessPool
    from tqdm import tqdm

    done: list[tuple[int, Path]] = []
    todo = deque(_cuts(files.sizes()))
    under_way: deque[tuple[int, int, Path, Any]] = deque()
    pool = ProcessPool(workers, initializer=_worker, context=_processes(domain))
    bar = tqdm(total=len(files), desc="decoding", unit="file", disable=None if progress else True)
    try:
        while todo or under_way:
            if todo and len(under_way) < 3 * workers:
                start, stop = todo.popleft()
                path = folder / f"{start:09d}-{_key(files[start:stop], domain, limits, keep_x)}.npz"
                if segments.load(path, with_samples=False) is None:
                    task = pool.schedule(_decode_to, (path, files[start:stop], domain, limits, keep_x))
                    under_way.append((start, stop, path, task))
                    continue
            else:
                start, stop, path, task = under_way.popleft()
                try:
                    task.result()
                except ProcessExpired as died:
                    if stop - start > 1:
                        middle = (start + stop) // 2
                        todo.extendleft([(middle, stop), (start, middle)])
                        continue
                    _blame(path, files[start], died.exitcode, limits)
            done.append((start, path))
            bar.update(stop - start)
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()
        bar.close()
    return sorted(done)


def _cuts(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Files [start, stop) of each segment, by nothing but their sizes: whoever goes on cuts alike"""
    left = sum(sizes)
    start = held = 0
    most = max(LEAST_BYTES, min(BYTES_A_SEGMENT, left // 16))
    for i, size in enumerate(sizes):
        if i > start and (i - start == FILES_A_SEGMENT or held + size > most):
            yield start, i
            left -= held
            start, held = i, 0
            most = max(LEAST_BYTES, min(BYTES_A_SEGMENT, left // 16))
        held += size
    if sizes:
        yield start, len(sizes)


def _worker() -> None:
    # decoders in C print what they think of damaged files; what is wrong with a file stands in its row
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    keep_memory()


def keep_memory() -> None:
    """A picture's pages are used for the next one. glibc would hand them back to the system after each, only to have
    them cleared and mapped anew: a fifth of the time at 512 x 512. At most KEPT of memory stay so."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, min(KEPT, 2**25))  # 32 MiB is the most that glibc takes
        mallopt(_M_TRIM_THRESHOLD, KEPT)


def _decode_to(path: Path, files: Sequence[Found], domain: Domain, limits: Limits, keep_x: bool) -> None:
    segments.save(segments.decode(files, domain, limits, own_process=True), path, keep_x)


def _blame(path: Path, found: Found, exitcode: int, limits: Limits) -> None:
    """A file that took its process with it becomes a row like any other."""
    late = f"decoding did not stop after {limits.seconds:g} s"
    reason = late if exitcode == 1 else f"the decoder died of it (exit status {exitcode})"
    row = {"name": found.name, "part": "", "kind": found.kind, "status": "broken", "reason": reason}
    segments.save(Segment([row], None, None, np.zeros((0, 16), np.uint8), np.zeros(0)), path)


def _key(files: Sequence[Found], domain: Domain, limits: Limits, keep_x: bool) -> str:
    """Names a segment by all that decides its content: another setting or a changed file is another segment."""
    listed = "\n".join(f"{f.name}\0{f.size}\0{f.mtime_ns}\0{f.kind}" for f in files)
    told = f"{domain!r} {domain.version} {limits} {keep_x}\n{listed}"
    return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def load_decoders(domain: Domain) -> None:
    """Begin to load them in the process that workers will be forked from; returns at once."""
    _processes(domain)
    forkserver.ensure_running()


def _processes(domain: Domain) -> Any:
    """Workers forked from a clean process that has the decoders loaded, not from ours with its threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, type(domain).__module__])
    return context
