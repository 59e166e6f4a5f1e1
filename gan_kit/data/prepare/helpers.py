"""Work on parts of what was decoded, by processes beside this one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any, TypeVar

from gan_kit.data.prepare.decoding import keep_memory
from gan_kit.types import UserError

__all__ = ["in_processes"]

A = TypeVar("A")
B = TypeVar("B")


def in_processes(
    make: Callable[..., Callable[[A], B]], told: tuple[Any, ...], parts: Iterable[A], workers: int
) -> Iterator[B]:
    """What `make(*told)`, made once in each process, says of each part, in order.

    Raises UserError where a process is killed or lacks memory. After an error, also Ctrl-C, no further part is begun.
    """
    from pebble import ProcessExpired, ProcessPool

    context = multiprocessing.get_context("forkserver")  # a clean process, as decoders'
    pool = ProcessPool(workers, initializer=_begin, initargs=(make, told), context=context)
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


_make: Callable[[], Callable[[Any], Any]]


def _begin(make: Callable[..., Callable[[Any], Any]], told: tuple[Any, ...]) -> None:
    global _make
    keep_memory()
    _make = cache(partial(make, *told))  # with the first part, whose error comes to whom it concerns


def _said(part: Any) -> Any:
    return _make()(part)
