"""Processes that help: what they say comes in order, and one that dies is told."""

from __future__ import annotations

import os
import signal
import time

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


def test_answers_come_in_order_and_from_other_processes() -> None:
    found = list(in_processes(Squares, (1,), range(50), 2))
    assert [x for x, _ in found] == [x * x + 1 for x in range(50)]
    assert os.getpid() not in {pid for _, pid in found}


def test_a_process_that_is_killed_is_told_with_a_cure() -> None:
    with pytest.raises(UserError, match=r"killed.*workers=1"):
        list(in_processes(Squares, (0, 7), range(50), 2))


class NoRoom:
    def __init__(self, error: type[Exception]):
        raise error("no room")

    def __call__(self, x: int) -> int:
        return x


def test_a_process_that_cannot_begin_is_told() -> None:
    with pytest.raises(UserError, match="no memory"):
        list(in_processes(NoRoom, (MemoryError,), range(5), 2))
    with pytest.raises(OSError, match="no room"):
        list(in_processes(NoRoom, (OSError,), range(5), 2))


def test_an_error_comes_through() -> None:
    with pytest.raises(ValueError, match="no square"):
        list(in_processes(Squares, (0,), [1, -1, 2], 2))
