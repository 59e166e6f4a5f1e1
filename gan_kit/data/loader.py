"""Whole batches, their order a pure function of (seed, epoch), the position saved: exact resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gan_kit.types import UserError

__all__ = ["BatchLoader", "RawBatch"]

ORDER, FLIP, DRAW = 1, 2, 3


class RawBatch(NamedTuple):
    """What crosses to the device: a quarter of the bytes of the floats it becomes.

    x: (B, ...) as stored, uint8 pictures, int16 sounds or float32 vectors
    y: (B,) int64, (B, E) float32, or None
    flip: (B,) bool, which pictures to mirror, or None
    draws: (B, draws) float32 uniform in [0, 1), for random changes on the device, or None
    """

    x: Tensor
    y: Tensor | None
    flip: Tensor | None
    draws: Tensor | None = None


class BatchLoader:
    """One pass is len(self) batches: each row at most once, the order's last N % batch_size left out.

    batch_size is the global batch; rank r of w gets its r-th slice, so that the order does not depend on w.
    draws: uniform numbers that come with each sample, a pure function of (seed, epoch, position)
    endless: an iterator goes on into the next epoch. Lightning counts batches itself and may cut epochs short
    (limit_train_batches): the stream then runs on from the cut, in a resumed run too.
    checked: row numbers before they are read -> those to read

    Raises UserError for a batch size that the rows or the ranks cannot make.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray | None = None,
        *,
        batch_size: int,
        seed: int = 0,
        hflip: bool = False,
        draws: int = 0,
        rank: int = 0,
        world_size: int = 1,
        endless: bool = False,
        checked: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UserError(f"batch_size={batch_size} is no whole number from 1 on; set data.batch_size=64, say")
        if len(x) < batch_size:
            raise UserError(
                f"{len(x):,} samples do not fill a batch of {batch_size}; "
                f"set data.batch_size={max(len(x), 1)} or less, or add data"
            )
        if batch_size % world_size:
            raise UserError(
                f"batch_size={batch_size} does not divide among {world_size} processes, whose sum it is; "
                f"set data.batch_size={-(-batch_size // world_size) * world_size}"
            )
        if seed < 0:
            raise UserError(f"seed={seed} is negative; set seed=0 or more")
        self.x, self.y = x, y
        self.batch_size, self.seed, self.hflip, self.draws = batch_size, seed, hflip, draws
        self.rank, self.world_size, self.endless = rank, world_size, endless
        self.checked = checked
        self._epoch = 0
        self._position = 0  # batches of this epoch handed out
        self._restored = False
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.x) // self.batch_size

    def __iter__(self) -> Iterator[RawBatch]:
        # A generator, so nothing moves before a batch is asked for: Lightning makes iterators it never uses.
        ahead = self._position > 0 and not (self._restored or self.endless)
        self._restored = False
        if ahead or self._position >= len(self):
            self._next_epoch()
        while self._position < len(self):
            batch = self.batch(self._epoch, self._position)
            self._position += 1  # before yield: a checkpoint taken in this batch's step has it behind it
            yield batch
            if self.endless and self._position >= len(self):
                self._next_epoch()

    def batch(self, epoch: int, position: int) -> RawBatch:
        """This rank's slice of one batch, out of turn: reads nothing but its arguments, moves nothing."""
        share = self.batch_size // self.world_size
        mine = slice(self.rank * share, (self.rank + 1) * share)
        rows = self.order(epoch)[position * self.batch_size :][mine]
        if self.checked is not None:
            rows = self.checked(rows)
        flip = None
        if self.hflip:
            flip = torch.from_numpy(_bits(self.batch_size, self.seed, FLIP, epoch, position)[mine] >> 63 == 1)
        draws = None
        if self.draws:
            bits = _bits(self.batch_size * self.draws, self.seed, DRAW, epoch, position) >> 40  # what a float32 holds
            uniform = (bits / 2.0**24).astype(np.float32).reshape(self.batch_size, self.draws)
            draws = torch.from_numpy(uniform[mine])
        y = None if self.y is None else torch.from_numpy(self.y[rows])
        return RawBatch(torch.from_numpy(_take(self.x, rows)), y, flip, draws)

    def order(self, epoch: int) -> np.ndarray:
        """(N,) the permutation of all rows in this epoch, the same on every rank"""
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, np.argsort(_bits(len(self.x), self.seed, ORDER, epoch), kind="stable")
        return self._order[1]

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self._epoch,
            "position": self._position,
            "samples": len(self.x),
            "batch_size": self.batch_size,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises UserError when the state is of a stream over other data or other batches."""
        if state["samples"] != len(self.x):
            raise UserError(
                f"the checkpoint was made on {state['samples']:,} samples, here are {len(self.x):,}; "
                "resume with the same data, or start anew"
            )
        if state["batch_size"] != self.batch_size:
            raise UserError(
                f"the checkpoint was made with batch_size={state['batch_size']}, not {self.batch_size}; "
                f"set data.batch_size={state['batch_size']}"
            )
        self._epoch, self._position = int(state["epoch"]), int(state["position"])
        self._restored = True

    def _next_epoch(self) -> None:
        self._epoch, self._position = self._epoch + 1, 0


def _bits(n: int, *key: int) -> np.ndarray:
    """(n,) uint64, random and a pure function of the key; raw bits, whose stream no NumPy version changes."""
    return np.random.Philox(np.random.SeedSequence(key)).random_raw(n)


def _take(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    # Read in file order, hand over in drawn order: with sorted batches, ranks would get different classes
    # from data stored class by class.
    by_file = np.argsort(rows)
    out = np.empty((len(rows), *x.shape[1:]), x.dtype)
    out[by_file] = x[rows[by_file]]
    return out
