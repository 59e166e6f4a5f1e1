"""Vectors that go with pictures, such as embeddings of their captions or attributes: a file of them, by file name."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gan_kit.data.arrays import Arrays
from gan_kit.data.prepare.label_table import plain_path
from gan_kit.data.prepare.scan import shown
from gan_kit.types import UserError

__all__ = ["Conditions"]

LISTED = 5


class Conditions:
    """Vectors of named files.

    path: an .npz with `names` (N,) and `vectors` (N, E); or a .csv, its first column names, all others numbers, with a
        line of headings. Names are paths from the pictures' folder, or file names where only one file has them, with or
        without their extension.

    Raises UserError for a file that is not so: vectors of unequal length, no finite numbers, a name twice.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            raise UserError(f"there is no file conditions={self.path}; give an .npz or .csv of vectors by file name")
        if self.path.suffix.lower() not in (".npz", ".csv"):
            raise UserError(f"conditions={self.path}: give an .npz (names, vectors) or a .csv (a name, then numbers)")
        names, self.vectors = (_from_npz if self.path.suffix.lower() == ".npz" else _from_csv)(self.path)
        if not len(names) or not self.vectors.shape[1]:
            raise UserError(f"{self.path} holds no vectors; give one a file")
        bad = np.flatnonzero(~np.isfinite(self.vectors).all(1))
        if len(bad):
            raise UserError(f"{self.path}: the vectors of {_few([names[i] for i in bad])} hold NaN or inf; mend them")
        self.rows: dict[str, int] = {}
        for i, name in enumerate(map(plain_path, names)):
            if name in self.rows:
                raise UserError(f"{self.path} has two vectors for {shown(name)}; leave one")
            self.rows[name] = i

    def of(self, names: Sequence[str]) -> np.ndarray:
        """(len(names), E) float32: the vectors of files, by their paths from the folder.

        Raises UserError for files without a vector.
        """
        bare: dict[str, int] = {}  # of what the table calls by a bare name; -1 for a name that several files have
        for name in set(map(plain_path, names)):
            for short in {base := name.rpartition("/")[2], os.path.splitext(base)[0], os.path.splitext(name)[0]}:
                bare[short] = bare.get(short, 0) + 1
        found, lost = [], []
        for name in names:
            path = plain_path(name)
            base = path.rpartition("/")[2]
            shorter = (short for short in (os.path.splitext(path)[0], base, os.path.splitext(base)[0]))
            at = self.rows.get(path)
            if at is None:
                at = next((self.rows[s] for s in shorter if s in self.rows and bare.get(s) == 1), None)
            if at is None:
                lost.append(name)
            else:
                found.append(at)
        if lost:
            have = _few(list(self.rows))
            raise UserError(
                f"{self.path} has no vector for {len(lost)} of {len(names)} pictures: {_few(lost)} (it has {have}); "
                f"add them, or take the pictures out"
            )
        return self.vectors[found]


def with_vectors(arrays: Arrays, y: np.ndarray) -> Arrays:
    """The samples with their vectors, (N, E), in the place of classes."""
    told = hashlib.sha256(np.ascontiguousarray(y).data).hexdigest()[:16]
    return replace(arrays, y=y, class_names=(), sha256=arrays.sha256 and f"{arrays.sha256}/vectors {told}")


def packed_names(root: Path, split: str, count: int) -> list[str]:
    """The files that the rows of a packed split came from, by its manifest."""
    names: list[str | None] = [None] * count
    try:
        with (root / "manifest.jsonl").open(encoding="utf-8") as manifest:
            for row in map(json.loads, manifest):
                if row.get("status") == "kept" and row.get("split") == split:
                    names[row["row"]] = row["name"]
    except (OSError, ValueError, IndexError, TypeError, KeyError) as error:
        raise UserError(f"{root}: its manifest can't be read ({error}); prepare it anew") from error
    if None in names:
        raise UserError(f"{root}: its manifest does not name all samples of {split}; prepare it anew")
    return names  # type: ignore[return-value]


def _from_npz(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} can't be read ({error}); save it with np.savez(path, names=…, vectors=…)") from error
    if missing := {"names", "vectors"} - arrays.keys():
        raise UserError(f"{path} has no array {sorted(missing)[0]!r}, only {', '.join(arrays) or 'none'}")
    names, vectors = arrays["names"], arrays["vectors"]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(f"{path}: names must be (N,) text, not {names.shape} of {names.dtype}; np.array(list_of_str)")
    if vectors.ndim != 2 or len(vectors) != len(names) or vectors.dtype.kind not in "fiub":
        raise UserError(
            f"{path}: vectors must be ({len(names)}, E) numbers, one row a name, not {vectors.shape} of {vectors.dtype}"
        )
    return names.tolist(), vectors.astype(np.float32)


def _from_csv(path: Path) -> tuple[list[str], np.ndarray]:
    names, rows = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            headings = next(reader, [])
            for row in reader:
                if not row:
                    continue
                if len(row) != len(headings):
                    raise UserError(
                        f"{path}, line {reader.line_num}: a vector of {len(row) - 1}, where the headings have "
                        f"{len(headings) - 1}; all must be of one length"
                    )
                names.append(row[0])
                rows.append([float(cell) for cell in row[1:]])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} can't be read ({error}); write it as UTF-8 CSV") from error
    except UserError:  # which is a ValueError too
        raise
    except ValueError as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}; all but the first column are numbers") from error
    return names, np.array(rows, np.float32).reshape(len(rows), max(len(headings) - 1, 0))


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(shown(name) for name in names[:LISTED]) + more
