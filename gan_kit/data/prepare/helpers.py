"""Work on parts of what was decoded, by processes beside this one."""

from __future__ import annotations

import io
import mmap
import multiprocessing
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from gan_kit.data.prepare.decoding import keep_memory
from gan_kit.types import UserError

__all__ = ["in_processes", "is_mapped"]

A = TypeVar("A")
B = TypeVar("B")
ALIGNED = 64  # bytes: a line of a core's cache


def in_processes(work: Callable[[A], B], parts: Iterable[A], workers: int, folder: Path) -> Iterator[B]:
    """What `work` says of each part, in order, as processes ask it.

    Its arrays lie in one file in `folder` meanwhile, which all processes map, so that a machine with many cores holds
    them once; a file that `work` has mapped itself is mapped by them too.

    Raises UserError where a process is killed or lacks memory. After an error, also Ctrl-C, no further part is begun.
    """
    from pebble import ProcessExpired, ProcessPool

    context = multiprocessing.get_context("forkserver")  # a clean process, as decoders'
    with tempfile.NamedTemporaryFile(dir=folder, prefix="shared-") as file:
        told = _written(work, file)
        del work  # what is in the file need not be in memory as well
        pool = ProcessPool(workers, initializer=_begin, initargs=(file.name, *told), context=context)
        try:
            for future in [pool.schedule(_said, (part,)) for part in parts]:
                yield future.result()
            pool.close()
        except (ProcessExpired, MemoryError) as e:
            raise UserError(
                "a helping process was killed or had no memory; make room and run the same command again, it goes on "
                "where it stopped, or prepare with workers=1"
            ) from e
        finally:
            pool.stop()
            pool.join()


def is_mapped(array: np.ndarray) -> bool:
    """Whether it is all of a mapped file's array, which another process can map too."""
    return isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap)  # a slice's base is an array


class _Pickler(pickle.Pickler):
    def reducer_override(self, thing: Any) -> Any:
        if is_mapped(thing):
            return np.memmap, (str(thing.filename), thing.dtype, "r", thing.offset, thing.shape)
        return NotImplemented


def _written(work: Any, file: IO[bytes]) -> tuple[bytes, list[tuple[int, int]]]:
    """Its arrays go to the file (PEP 574) -> what else it is, and where each array begins and ends"""
    rest, spans = io.BytesIO(), []

    def write(array: pickle.PickleBuffer) -> None:
        with array.raw() as raw:
            file.write(bytes(-file.tell() % ALIGNED))
            spans.append((file.tell(), file.tell() + raw.nbytes))
            file.write(raw)

    _Pickler(rest, protocol=5, buffer_callback=write).dump(work)
    file.write(b"\0")  # an empty file cannot be mapped
    file.flush()
    return rest.getvalue(), spans


def _read(path: str, rest: bytes, spans: list[tuple[int, int]]) -> Any:
    with open(path, "rb") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return pickle.loads(rest, buffers=[whole[start:stop] for start, stop in spans])


_work: Callable[[], Callable[[Any], Any]]


def _begin(*told: Any) -> None:
    global _work
    keep_memory()
    _work = cache(partial(_read, *told))  # with the first part, whose error comes to whom it concerns


def _said(part: Any) -> Any:
    return _work()(part)
