"""Prepared data sets: memory-mapped shards with checksums, opened in milliseconds whatever their size."""

from __future__ import annotations

import bisect
import json
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gan_kit.data.arrays import Arrays
from gan_kit.files import sha256_of
from gan_kit.types import UserError

__all__ = ["INDEX", "Damaged", "Packed", "Shards", "Watch", "verify"]

INDEX = "dataset.json"
FORMAT = 1


class Damaged(UserError):
    """A data set's files are not what was written."""


class Watch:
    """Whether the files of a split, which are mapped into memory, are still what they were when they were opened.

    One that is written to or cut short in mid-run is found by its time and size, in a microsecond, before rows are
    read: past its new end a mapping kills the process. Only then is its checksum taken.

    files: path, SHA-256 and number of rows of each; cure: for the message
    skip: True tells of a damaged file once and has rows of the others stand in; False raises Damaged
    """

    def __init__(self, files: list[tuple[Path, str, int]], cure: str, skip: bool = False):
        self.files, self.cure, self.skip = files, cure, skip
        self.starts = np.cumsum([0] + [rows for _, _, rows in files])
        self.stamps = [_stamp(path) for path, _, _ in files]
        self.lost: set[int] = set()

    def standing_in(self, rows: np.ndarray) -> np.ndarray:
        """The row numbers, but for those of lost files: rows of the others in their place, always the same ones."""
        for number in range(len(self.files)):
            self._look(number)
        if not self.lost:
            return rows
        kept = [np.arange(a, b) for i, (a, b) in enumerate(pairwise(self.starts)) if i not in self.lost]
        others = np.concatenate(kept)
        which = np.searchsorted(self.starts, rows, side="right") - 1
        return np.where(np.isin(which, list(self.lost)), others[rows % len(others)], rows)

    def _look(self, number: int) -> None:
        path, sha256, _ = self.files[number]
        before, now = self.stamps[number], _stamp(path)
        if number in self.lost or now == before:
            return
        if now is None or before is None or now[0] != before[0]:
            return  # its name is gone, or another file's: the mapping holds the one that was opened
        if now[1] == before[1] and sha256_of(path) == sha256:
            self.stamps[number] = now  # touched only
            return
        what = "is cut short" if now[1] < before[1] else "is not what was written"
        if not self.skip or len(self.lost) + 1 == len(self.files):
            raise Damaged(f"{path} {what} since it was opened: {self.cure}, and go on with resume=")
        warnings.warn(f"{path} {what} since it was opened: it is left out from here on; {self.cure}", stacklevel=2)
        self.lost.add(number)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class Shards:
    """Arrays of one row shape end to end, as far as reading goes: len, shape, dtype, and rows by slice or indices."""

    def __init__(self, parts: list[np.ndarray]):
        self.parts = parts
        self.starts = [0]
        for part in parts:
            self.starts.append(self.starts[-1] + len(part))
        self.shape = (self.starts[-1], *parts[0].shape[1:])
        self.dtype = parts[0].dtype
        self.ndim = parts[0].ndim

    def __len__(self) -> int:
        return self.starts[-1]

    def __iter__(self) -> Iterator[np.ndarray]:
        for part in self.parts:
            yield from part

    def __getitem__(self, rows: Any) -> np.ndarray:
        """One row, a slice, or an array of row numbers or of booleans -> a copy of these rows."""
        if isinstance(rows, int | np.integer):
            row = range(len(self))[rows]
            part = bisect.bisect_right(self.starts, row) - 1
            return self.parts[part][row - self.starts[part]]
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        rows = np.asarray(rows)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        rows = np.where(rows < 0, rows + len(self), rows)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"rows from {rows.min()} to {rows.max()} of {len(self)}")
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        which = np.searchsorted(self.starts, rows, side="right") - 1
        for part in np.unique(which):
            here = which == part
            out[here] = self.parts[part][rows[here] - self.starts[part]]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = np.concatenate(self.parts)
        return whole if dtype is None else whole.astype(dtype)


class Packed:
    """A data set that `python -m gan_kit.prepare` has made.

    root: the folder with dataset.json
    skip: a shard that is damaged while it is in use is left out from then on, and a warning names it; else that is an
        error. At opening it is one in any case

    Raises UserError where it is not one, not finished, or not whole.
    """

    def __init__(self, root: str | Path, skip: bool = False):
        self.root, self.skip = Path(root).expanduser(), skip
        self.index = read_index(self.root)
        self._loaded: dict[str, Arrays] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split, count in self.index["counts"].items() if count)

    def load(self, split: str) -> Arrays:
        """-> x (N, C, H, W) uint8 or (N, C, T) int16, mapped from the disk; y (N,) int64, or None without labels"""
        if split not in self._loaded:
            self._loaded[split] = self._load(split)
        return self._loaded[split]

    def _load(self, split: str) -> Arrays:
        counts = self.index["counts"]
        if not counts.get(split):
            have = ", ".join(f"{name} ({count:,})" for name, count in counts.items() if count)
            raise UserError(
                f"{self.root} holds no {split} split: it has {have}; prepare it with {split}_fraction=0.05, say"
            )
        shape = tuple(self.index["shape"])
        parts, files = [], []
        for shard in self.index["shards"][split]:
            path = self.root / shard["file"]
            try:
                part = np.load(path, mmap_mode="r")
            except (OSError, ValueError, EOFError) as error:
                raise Damaged(f"{path} can't be read ({error}): {_cure(self.root)}") from error
            if part.shape != (shard["rows"], *shape) or part.dtype != self.index["dtype"]:
                raise Damaged(
                    f"{path} holds {part.shape} of {part.dtype}, the index says "
                    f"{(shard['rows'], *shape)} of {self.index['dtype']}: {_cure(self.root)}"
                )
            parts.append(part)
            files.append((path, shard["sha256"], len(part)))
        y = None
        if self.index["class_names"]:
            try:
                y = np.load(self.root / f"{split}-labels.npy")
            except (OSError, ValueError, EOFError) as error:
                raise Damaged(f"{self.root}: its labels can't be read ({error}): {_cure(self.root)}") from error
            if len(y) != counts[split]:
                raise Damaged(f"{self.root}: {len(y)} labels of {counts[split]} samples: {_cure(self.root)}")
        x: Any = parts[0] if len(parts) == 1 else Shards(parts)
        watch = Watch(files, _cure(self.root), self.skip)
        return Arrays(x, y, tuple(self.index["class_names"]), f"{self.index['sha256']}/{split}", watch.standing_in)


def read_index(root: Path) -> dict[str, Any]:
    path = root / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = (
            "preparing it was interrupted: run the same command again"
            if (root / ".preparing").is_dir()
            else ("make one with python -m gan_kit.prepare source=… out=…")
        )
        raise UserError(f"{root} is no prepared data set (it has no {INDEX}); {hint}") from None
    except (OSError, ValueError) as error:
        raise Damaged(f"{path} can't be read ({error}): {_cure(root)}") from error
    if index.get("format") != FORMAT:
        raise UserError(f"{path} is of format {index.get('format')}, this gan_kit reads {FORMAT}: prepare it anew")
    return index


def verify(root: str | Path, progress: bool = True) -> list[str]:
    """Compare every file of a data set with its checksum; -> what is wrong, one line each."""
    from tqdm import tqdm

    root = Path(root)
    index = read_index(root)
    files = [file for shards in index["shards"].values() for file in shards] + index.get("files", [])
    wrong = []
    for file in tqdm(files, desc="verifying", unit="file", disable=None if progress else True):
        path = root / file["file"]
        if not path.is_file():
            wrong.append(f"{file['file']} is missing")
        elif sha256_of(path) != file["sha256"]:
            wrong.append(f"{file['file']} is not what was written")
    return wrong


def _cure(root: Path) -> str:
    return f"python -m gan_kit.prepare verify={root} tells which files are damaged; prepare it anew"
