"""Processes that help: what they say comes in order, and one that dies is told."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from gan_kit.data.prepare.helpers import in_processes
from gan_kit.types import UserError


class Squares:
    def __init__(self, add: int, die_at: int = 10**9):
        self.add, self.die_at = add, die_at

    def __call__(self, x: int) -> tuple[int, int]:
        if x == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if x == -1:
            raise ValueError("no square")
        time.sleep(0.05 if x == 0 else 0)  # the first is the last to end
        return x * x + self.add, os.getpid()


def test_answers_come_in_order_and_from_other_processes(tmp_path: Path) -> None:
    found = list(in_processes(Squares(1), range(50), 2, tmp_path))
    assert [x for x, _ in found] == [x * x + 1 for x in range(50)]
    assert os.getpid() not in {pid for _, pid in found}


def test_a_process_that_is_killed_is_told_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"killed.*workers=1"):
        list(in_processes(Squares(0, 7), range(50), 2, tmp_path))


class NoRoom:
    def __init__(self, error: type[Exception]):
        self.error = error

    def __setstate__(self, state: dict[str, type[Exception]]) -> None:
        raise state["error"]("no room")

    def __call__(self, x: int) -> int:
        return x


def test_a_process_that_cannot_begin_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no memory"):
        list(in_processes(NoRoom(MemoryError), range(5), 2, tmp_path))
    with pytest.raises(OSError, match="no room"):
        list(in_processes(NoRoom(OSError), range(5), 2, tmp_path))


def test_an_error_comes_through(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no square"):
        list(in_processes(Squares(0), [1, -1, 2], 2, tmp_path))


class Arrays:
    def __init__(self, own: np.ndarray, mapped: np.memmap):
        self.empty, self.own, self.mapped, self.part = np.zeros(0), own, mapped, mapped[3:5]

    def __call__(self, i: int) -> tuple[float, bool, str]:
        assert self.empty.size == 0
        total = float(self.own.sum() + self.mapped.sum() + self.part.sum())
        return total, self.own.flags.writeable or self.mapped.flags.writeable, Path("/proc/self/maps").read_text()


def test_arrays_lie_in_one_file_that_all_processes_map(tmp_path: Path) -> None:
    own, path = np.asfortranarray(np.arange(12.0).reshape(3, 4)), tmp_path / "mapped.npy"
    np.save(path, np.arange(10, dtype=np.int16))
    found = list(in_processes(Arrays(own, np.load(path, mmap_mode="r")), range(4), 2, tmp_path))
    for total, writeable, maps in found:
        assert (total, writeable) == (66 + 45 + 7, False)
        assert f"{tmp_path}/shared-" in maps
        assert str(path) in maps
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_where_the_disk_is_full(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            list(in_processes(Arrays(np.zeros(2**14), np.zeros(3)), [0], 1, tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
