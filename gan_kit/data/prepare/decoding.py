"""All files decoded by a pool of processes, a segment at a time; what is on the disk already is left as it is."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gan_kit.data.prepare import segments
from gan_kit.data.prepare.segments import Limits, Segment
from gan_kit.data.prepare.types import Domain, Found

__all__ = ["decode_all"]

FILES_A_SEGMENT = 64
KEPT = 2**26  # bytes
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def decode_all(
    files: Sequence[Found],
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
    cuts = range(0, len(files), FILES_A_SEGMENT)
    todo = deque((start, min(start + FILES_A_SEGMENT, len(files))) for start in cuts)
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


def _worker() -> None:
    # decoders in C print what they think of damaged files; what is wrong with a file stands in its row
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    _keep_memory()


def _keep_memory() -> None:
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


def _processes(domain: Domain) -> Any:
    """Workers forked from a clean process that has the decoders loaded, not from ours with its threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, type(domain).__module__])
    return context
