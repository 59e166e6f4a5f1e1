"""Train, val and test by cluster of alike samples: no near-duplicate crosses, and adding data moves almost nothing.

Each cluster has a place u in [0, 1), the hash of the seed and of one member's key: test below `test`, val from
1 - `val` on, train between. Nothing else is asked, so that unrelated data never moves a cluster, and changing one
fraction never moves what the other holds. The price: of a class of n clusters, test · n ± sqrt(test (1 - test) n) are
in test. A rule that bounds this has to look at the other clusters, and so moves some when others come; `exact` does.

When a sample joins a cluster of m, the member with the smallest key speaks for all. The place is new only if that is
the newcomer, once in m + 1 times. Where two clusters grow together, one keeps its split. "The lowest u of all" or a
vote would move less, but would send large clusters to test more often than small ones, or hardly ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gan_kit.types import UserError

__all__ = ["SPLITS", "Leak", "assign_splits", "leaks"]

SPLITS = ("train", "val", "test")  # a cluster given to several goes to the last of them


def assign_splits(
    clusters: np.ndarray,
    keys: Sequence[str | bytes] | np.ndarray,
    labels: np.ndarray,
    fractions: Mapping[str, float],
    seed: int = 0,
    given: Sequence[str | None] | None = None,
    exact: bool = False,
) -> np.ndarray:
    """-> (N,) names of splits, one for all of a cluster; the order of the rows does not matter

    clusters: (N,) int64; keys: N, a content hash each (text, bytes or (N,) void), the same whenever the set is prepared
    labels: (N,) int64, -1 for none. No class is left without a train cluster: the nearest to train's range is taken
    fractions: of the clusters, e.g. {"val": 0.05, "test": 0.05}; the rest is train
    given: a split or None for each row: from folders, or of the last time. Its cluster follows; test before val before
        train where a cluster has several (see leaks). Fractions cut only what is not given
    exact: each class has its share to within one cluster, the lowest and highest u taken. Adding k clusters then moves
        about sqrt(k · test) old ones, and none when `given` tells what the splits were

    Raises UserError for fractions that leave no train, and splits that are not known.
    """
    test, val = _fraction(fractions, "test"), _fraction(fractions, "val")
    if unknown := fractions.keys() - set(SPLITS[1:]):
        raise UserError(f"no split {sorted(unknown)} to cut; have val, test (train is the rest)")
    if test + val >= 1:
        raise UserError(f"val={val} and test={test} leave nothing to train on; set them to less than 1 together")
    clusters, labels = np.asarray(clusters, np.int64), np.asarray(labels, np.int64)
    if not len(clusters) == len(keys) == len(labels) == (len(clusters) if given is None else len(given)):
        raise ValueError(f"{len(clusters)} clusters, {len(keys)} keys, {len(labels)} labels: one of each a row")
    if not len(clusters):
        return np.empty(0, "<U5")

    rank = np.fromiter((_hashed(_told(key)) for key in keys), np.uint64, len(keys))
    order = np.lexsort((labels.view(np.uint64), rank, clusters))  # as uint64, no label comes after all labels
    first = np.flatnonzero(np.diff(clusters[order], prepend=clusters[order[0]] - 1))
    speakers = order[first]
    seeded = f"{seed}\0".encode()
    u = np.fromiter((_hashed(seeded + _told(keys[i])) for i in speakers), np.uint64, len(speakers)) / 2.0**64
    stratum = labels[speakers]

    split = np.full(len(speakers), -1, np.int64)
    if given is not None:
        split = np.maximum.reduceat(_codes(given)[order], first)
    free = split < 0
    if exact:
        _fill_shares(split, u, stratum, val, test)
    else:
        split[free] = np.select([u[free] < test, u[free] >= 1 - val], [2, 1], 0)
    _keep_a_train_cluster(split, u, stratum, free, val, test)
    rows = np.empty(len(clusters), np.int64)
    rows[order] = np.repeat(split, np.diff(first, append=len(clusters)))
    return np.array(SPLITS)[rows]


@dataclass(frozen=True)
class Leak:
    """A cluster whose members were given to several splits.

    rows: its members that were given to one; splits: to which; split: which one it goes to
    """

    cluster: int
    rows: tuple[int, ...]
    splits: tuple[str, ...]
    split: str

    @property
    def out_of_place(self) -> tuple[int, ...]:
        """The rows to drop, if the splits are to keep what they were given and nothing else"""
        return tuple(row for row, split in zip(self.rows, self.splits, strict=True) if split != self.split)


def leaks(clusters: np.ndarray, given: Sequence[str | None]) -> list[Leak]:
    """Clusters that span given splits, by number: the same picture in train and test"""
    clusters, codes = np.asarray(clusters, np.int64), _codes(given)
    rows = np.flatnonzero(codes >= 0)
    if not len(rows):
        return []
    rows = rows[np.argsort(clusters[rows], kind="stable")]
    first = np.flatnonzero(np.diff(clusters[rows], prepend=clusters[rows[0]] - 1))
    several = np.minimum.reduceat(codes[rows], first) < np.maximum.reduceat(codes[rows], first)
    found = []
    ends = np.append(first[1:], len(rows))
    for members in (rows[start:end] for start, end in zip(first[several], ends[several], strict=True)):
        split = SPLITS[codes[members].max()]
        of = tuple(SPLITS[code] for code in codes[members])
        found.append(Leak(int(clusters[members[0]]), tuple(members.tolist()), of, split))
    return found


def _fraction(fractions: Mapping[str, float], name: str) -> float:
    value = fractions.get(name, 0.0)
    if not 0 <= value < 1:
        raise UserError(f"{name}={value}; set the fraction of {name} from 0 to below 1")
    return value


def _told(key: str | bytes | np.void) -> bytes:
    if isinstance(key, str):
        return key.encode("utf-8", "surrogateescape")
    return key if isinstance(key, bytes) else key.tobytes()


def _hashed(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def _codes(given: Sequence[str | None]) -> np.ndarray:
    """-> (N,) int64 places in SPLITS, -1 for None"""
    code: dict[str | None, int] = {None: -1} | {split: i for i, split in enumerate(SPLITS)}
    try:
        return np.array([code[split] for split in given], np.int64)
    except KeyError as e:
        raise UserError(f"no split {e.args[0]!r}; have {', '.join(SPLITS)}") from None


def _fill_shares(split: np.ndarray, u: np.ndarray, stratum: np.ndarray, val: float, test: float) -> None:
    """Give the free clusters (-1) of each class what its shares lack, the lowest u to test, the highest to val.

    Shares are rounded over all classes together: of 100 classes of five, a test of 0.05 takes 25, not none.
    """
    owed = np.zeros(2)
    for label in np.unique(stratum):
        rows = np.flatnonzero(stratum == label)
        rows = rows[np.argsort(u[rows], kind="stable")]
        before, owed = owed, owed + len(rows) * np.array([val, test])
        for code, share in zip((1, 2), np.floor(owed + 1e-9) - np.floor(before + 1e-9), strict=True):
            free = rows[split[rows] < 0]
            lacking = max(int(share) - int((split[rows] == code).sum()), 0)
            split[free[:lacking] if code == 2 else free[len(free) - lacking :]] = code
    split[split < 0] = 0


def _keep_a_train_cluster(
    split: np.ndarray, u: np.ndarray, stratum: np.ndarray, free: np.ndarray, val: float, test: float
) -> None:
    for label in np.setdiff1d(stratum, stratum[split == 0]):
        rows = np.flatnonzero((stratum == label) & free)
        if len(rows):
            away = np.maximum(test - u[rows], u[rows] - (1 - val))
            split[rows[np.argmin(away)]] = 0
