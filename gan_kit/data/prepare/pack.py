"""Samples into memory-mapped shards: one .npy after another for each split, written once, checksums told at the end."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO, Any

import numpy as np

__all__ = ["ShardWriter"]


class ShardWriter:
    """Rows of one shape into NAME-00000.npy, NAME-00001.npy, ... of at most `shard_bytes` each.

    A header has room for its row count, so that rows are streamed and never gathered.
    """

    def __init__(self, folder: Path, name: str, shape: tuple[int, ...], dtype: Any, shard_bytes: int):
        self.folder, self.name, self.shape, self.dtype = folder, name, tuple(shape), np.dtype(dtype)
        row = max(1, int(np.prod(shape)) * self.dtype.itemsize)
        self.rows_a_shard = max(1, shard_bytes // row)
        self.shards: list[dict[str, Any]] = []
        self.count = 0
        self._file: IO[bytes] | None = None

    def write(self, rows: np.ndarray) -> None:
        """rows: (n, *shape)"""
        while len(rows):
            if self._file is None:
                self._open()
            assert self._file is not None
            part = rows[: self.rows_a_shard - self._in_shard]
            data = np.ascontiguousarray(part).data
            self._file.write(data)
            self._in_shard += len(part)
            self.count += len(part)
            rows = rows[len(part) :]
            if self._in_shard == self.rows_a_shard:
                self._finish()

    def close(self) -> list[dict[str, Any]]:
        """-> [{"file", "rows", "sha256"}], as dataset.json lists them"""
        if self._file is not None:
            self._finish()
        return self.shards

    def _open(self) -> None:
        self._path = self.folder / f"{self.name}-{len(self.shards):05d}.npy"
        self._file = self._path.open("wb")
        self._in_shard = 0
        self._header(0)

    def _header(self, count: int) -> None:
        # NumPy pads the header so that the first axis can grow in place
        assert self._file is not None
        descr = np.lib.format.dtype_to_descr(self.dtype)
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": descr, "fortran_order": False, "shape": (count, *self.shape)}
        )

    def _finish(self) -> None:
        assert self._file is not None
        self._file.seek(0)
        self._header(self._in_shard)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        with self._path.open("rb") as file:  # what lies on the disk, not what was meant to
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.shards.append({"file": self._path.name, "rows": self._in_shard, "sha256": digest})
