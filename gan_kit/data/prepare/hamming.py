"""Which of N binary codes differ in few bits, without looking at all pairs, and the clusters that such pairs make.

Multi-index hashing (Norouzi, Punjani and Fleet 2012, "Fast search in Hamming space with multi-index hashing",
section 2): cut the codes into m chunks; two codes within r = a m + b bits of each other differ by at most a bits in one
of the first b + 1 chunks, or by at most a - 1 bits in one of the others. So each chunk is a key into a table, each code
asks for all keys that near, and only what these buckets hold is compared in full.

Cost for N codes and a chunk of t bits with radius a: N sum_k C(t, k) questions, k <= a, and each meets N / 2^t codes
when bits are independent. m is chosen by that sum, with the collisions of a sample of the real codes in place of 2^-t;
with chunks of log2 N bits it grows as N to the power 1 + H(r / bits), H the binary entropy (their section 3.1), and
comparing all pairs is what is left for a large radius. Memory: the codes twice more, a table of 9 2^t + 8 N bytes with
2^t <= 4 N and as much for a moment, a block of candidates, and the pairs found. An `Index` can keep all chunks' tables,
for queries that come in parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np

from gan_kit.types import UserError

__all__ = ["Index", "clusters", "near_pairs"]

BLOCK = 1 << 15  # candidates compared, and codes asking, at once: few enough for a core's cache
SAMPLE = 4096  # codes whose collisions choose the chunks
WIDEST = 24  # bits of a key: a table of 128 MiB
ASK, COMPARE = 12.0, 20.0  # ns for one question, for one candidate
MOST = 200_000_000  # pairs
ROW = np.int32  # two thousand million codes are more than memory


class Chunk(NamedTuple):
    """The bits of a code that make a key, in which two codes may differ by `radius`. No bits: all pairs."""

    bits: tuple[int, ...]
    radius: int

    def masks(self) -> Iterator[int]:
        for k in range(min(self.radius, len(self.bits)) + 1):
            for flipped in combinations(range(len(self.bits)), k):
                yield sum(1 << b for b in flipped)

    @property
    def num_masks(self) -> int:
        return sum(math.comb(len(self.bits), k) for k in range(min(self.radius, len(self.bits)) + 1))

    def keys(self, codes: np.ndarray) -> np.ndarray:
        """(N, W) uint64 -> (N,) int64"""
        out = np.zeros(len(codes), np.uint64)
        for k, bit in enumerate(self.bits):
            out |= (codes[:, bit // 64] >> np.uint64(bit % 64) & np.uint64(1)) << np.uint64(k)
        return out.astype(np.int64)


def near_pairs(codes: np.ndarray, radius: int, progress: bool = False, most: int = MOST) -> np.ndarray:
    """Rows of codes that differ by at most `radius` bits: exact, nothing is missed.

    codes: (N, W) uint64, a code of 64 W bits a row -> (P, 2) int64, sorted, each pair (i, j) once, i < j; rows with
        equal codes come as a chain (i0, i1), (i1, i2), ..., and two different near codes as the pair of their first
        rows: N equal codes give N - 1 pairs, and what hangs together through the pairs is the same as through all
    most: so many pairs at the most

    Raises UserError for a radius that pairs everything with everything, or more than `most` pairs.
    """
    _check(codes, radius)
    first, group = _grouped(codes)
    order = np.argsort(group, kind="stable")
    equal = group[order[1:]] == group[order[:-1]]
    pairs = [np.stack([order[:-1][equal], order[1:][equal]], 1)]
    if radius and len(first) > 1:
        different = codes[first]
        plan = _plan(different, len(first), radius, itself=True)
        tables = (_Table(chunk, different) for chunk in plan)  # one at a time
        pairs.append(np.sort(first[_search(plan, tables, None, radius, progress, most)], axis=1))
    found = np.concatenate(pairs)
    return found[np.lexsort((found[:, 1], found[:, 0]))]


class Index:
    """Codes among which others are looked for, a part of them after another.

    codes: (N, W) uint64; radius: bits that may differ
    num_queries: about so many come at a time, which decides what is the fastest
    keep: tables stay for the next queries; without, each is made when it is asked, and one at a time lies in memory

    Raises UserError as `near_pairs` does.
    """

    def __init__(self, codes: np.ndarray, radius: int, num_queries: int, keep: bool = True):
        _check(codes, radius)
        self.width, self.radius = codes.shape[1], radius
        first, self._group = _grouped(codes)
        self._codes = codes[first]
        self._chunks = _plan(self._codes, num_queries, radius, itself=False) if len(first) else []
        self._kept = list(self._made()) if keep else None

    def _made(self) -> Iterator[_Table]:
        return (_Table(chunk, self._codes) for chunk in self._chunks)

    def near(self, queries: np.ndarray, progress: bool = False, most: int = MOST) -> np.ndarray:
        """(M, W) uint64 -> (P, 2) int64: all pairs (row of queries, row of codes) within the radius, sorted"""
        _check(queries)
        if queries.shape[1] != self.width:
            raise UserError(
                f"queries of {64 * queries.shape[1]} bits among codes of {64 * self.width} bits; make both alike"
            )
        tables = self._made() if self._kept is None else self._kept
        pairs = _expanded(_search(self._chunks, tables, queries, self.radius, progress, most), self._group, most)
        return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def clusters(n: int, pairs: np.ndarray) -> np.ndarray:
    """Connected components of n rows: (P, 2) pairs -> (n,) int64, the smallest row of each row's component."""
    pairs = np.asarray(pairs, np.int64).reshape(-1, 2)
    if pairs.size and (pairs.min() < 0 or pairs.max() >= n):
        raise ValueError(f"pairs of rows from {pairs.min()} to {pairs.max()} among {n} rows")
    root = np.arange(n)
    while len(pairs):  # every root with a smaller one beside it joins the smallest such, until none has one
        ends = root[pairs]
        apart = ends[:, 0] != ends[:, 1]
        pairs, ends = pairs[apart], ends[apart]
        np.minimum.at(root, ends.max(1), ends.min(1))
        while (root != (above := root[root])).any():
            root = above
    return root


def _check(codes: np.ndarray, radius: int = 0) -> None:
    if codes.dtype != np.uint64 or codes.ndim != 2 or codes.shape[1] == 0:
        raise UserError(f"codes of shape {codes.shape} and type {codes.dtype}; give (N, W) uint64 with W >= 1")
    if not 0 <= radius < 64 * codes.shape[1]:
        bits = 64 * codes.shape[1]
        raise UserError(f"radius={radius} of codes of {bits} bits; set it from 0 to below {bits}")


def _grouped(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, W) -> first row of each of U different codes (U,), and which of the U each row is (N,)."""
    order = np.lexsort(codes.T)  # stable: the smallest row of equal ones comes first
    sorted_codes = codes[order]
    new = np.ones(len(codes), np.bool_)
    new[1:] = (sorted_codes[1:] != sorted_codes[:-1]).any(1)
    group = np.empty(len(codes), np.int64)
    group[order] = np.cumsum(new) - 1
    return order[new], group


def _expanded(pairs: np.ndarray, group: np.ndarray, most: int) -> np.ndarray:
    """Each pair once for every row in the group that its right side names."""
    rows = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    starts = np.cumsum(sizes) - sizes
    _check_most(int(sizes[pairs[:, 1]].sum()), most)
    which, places = _runs(starts[pairs[:, 1]], sizes[pairs[:, 1]])
    return np.stack([pairs[which, 0], rows[places]], 1)


class _Keyed:
    """Different codes in the order of their keys in one chunk, so that a bucket's lie side by side."""

    def __init__(self, chunk: Chunk, codes: np.ndarray):
        keys = chunk.keys(codes)
        order = np.argsort(keys.astype(np.uint16) if len(chunk.bits) <= 16 else keys, kind="stable")  # 16 by radix
        self.keys, self.rows = keys.astype(ROW)[order], order.astype(ROW)
        self.words = np.ascontiguousarray(codes[order].T)


class _Table(_Keyed):
    """The same to be asked: bucket k is `sizes[k]` codes from `starts[k]` on."""

    def __init__(self, chunk: Chunk, codes: np.ndarray):
        super().__init__(chunk, codes)
        self.chunk = chunk
        self.sizes = np.bincount(self.keys, minlength=1 << len(chunk.bits)).astype(ROW)
        self.filled = self.sizes > 0
        self.starts = np.cumsum(self.sizes, dtype=ROW)
        self.starts -= self.sizes


def _search(
    plan: list[Chunk], tables: Iterable[_Table], asked: np.ndarray | None, radius: int, progress: bool, most: int
) -> np.ndarray:
    """Within the radius: (row of `asked`, row of codes), or (i, j), i < j, among the codes themselves."""
    from tqdm import tqdm

    found, n = np.zeros(0, np.int64), 1
    keys = sum(c.num_masks for c in plan)
    with tqdm(total=keys, desc="near", unit="key", disable=None if progress and keys else True) as bar:
        for table in tables:
            n = len(table.rows)
            asking = table if asked is None else _Keyed(table.chunk, asked)
            new, total = [found], 0
            for mask in table.chunk.masks():
                for left, right in _meeting(table, asking, mask):
                    i, j = _compared(table, asking, left, right, radius)
                    if asking is table:  # another chunk may find them the other way round
                        i, j = np.minimum(i, j), np.maximum(i, j)
                    total += len(i)
                    _check_most(total, most)
                    new.append(i.astype(np.int64) * n + j)
                bar.update()
            found = np.unique(np.concatenate(new))  # one pair may be near in several chunks
            _check_most(len(found), most)
    return np.stack(np.divmod(found, n), 1)


def _meeting(table: _Table, asking: _Keyed, mask: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places of those that ask, and of codes whose keys differ from theirs in the bits of `mask`."""
    itself = asking is table
    for at in range(0, len(asking.keys), BLOCK):
        some = asking.keys[at : at + BLOCK].astype(np.int64)
        wanted = some ^ mask
        there = table.filled.take(wanted)
        if itself and mask:
            there &= wanted > some  # each two buckets meet once
        rows = np.flatnonzero(there)  # of truths: of numbers it takes four times as long
        wanted = wanted[rows]
        starts, counts = table.starts[wanted], table.sizes[wanted]
        if itself and not mask:  # the rest of its own bucket
            counts = starts + counts - (rows + at + 1)
            rows = rows[counts > 0]
            starts, counts = rows + at + 1, counts[counts > 0]
        yield rows + at, starts
        more = np.flatnonzero(counts > 1)  # few, as there are about as many buckets as codes
        for which, right in _blocks(starts[more] + 1, counts[more] - 1):
            yield rows[more[which]] + at, right


def _blocks(starts: np.ndarray, counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`_runs`, about BLOCK places at a time, and no more than BLOCK and one run's."""
    ends = np.cumsum(counts, dtype=np.int64)
    a = 0
    while a < len(counts):
        b = max(a + 1, int(np.searchsorted(ends, (ends[a - 1] if a else 0) + BLOCK, side="right")))
        which, places = _runs(starts[a:b], counts[a:b])
        yield which + a, places
        a = b


def _runs(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R,) runs start .. start + count - 1 one after another: which run, and the place"""
    which = np.repeat(np.arange(len(counts)), counts)
    return which, np.arange(len(which)) + (starts - (np.cumsum(counts, dtype=np.int64) - counts))[which]


def _compared(
    table: _Table, asking: _Keyed, left: np.ndarray, right: np.ndarray, radius: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of those candidates that are within the radius."""
    distance: np.ndarray | None = None
    for x, y in zip(asking.words, table.words, strict=True):
        ones = _ones(x[left] ^ y[right])
        distance = ones if distance is None else distance + ones
        near = np.flatnonzero(distance <= radius)  # a word is enough to turn most away
        left, right, distance = left[near], right[near], distance[near].astype(np.int64)
    return asking.rows[left], table.rows[right]


def _plan(codes: np.ndarray, num_queries: int, radius: int, itself: bool) -> list[Chunk]:
    """The chunks that cost least; one without bits compares all pairs."""
    n, bits = len(codes), 64 * codes.shape[1]
    # bits are dealt out at random: those side by side often agree (pixels, frames), and would make a poor key
    dealt = np.random.default_rng(0).permutation(bits).tolist()
    sample = codes[np.linspace(0, n - 1, min(n, SAMPLE)).astype(np.int64)]
    widest = min(WIDEST, max(8, n.bit_length() + 1))
    share = 0.5 if itself else 1.0

    def cost(chunk: Chunk) -> float:
        _, counts = np.unique(chunk.keys(sample), return_counts=True)
        pairs = max(1, len(sample) * (len(sample) - 1))
        collision = max(0.5 ** len(chunk.bits), float((counts * (counts - 1)).sum()) / pairs)
        return chunk.num_masks * num_queries * (ASK + share * COMPARE * n * collision)

    best = [Chunk((), 0)]
    least = cost(best[0])
    for m in range(1, radius + 2):
        a, b = divmod(radius, m)
        edges = [bits * k // m for k in range(m + 1)]
        plan = []
        for k in range(m if a else b + 1):
            plan.append(Chunk(tuple(dealt[edges[k] : edges[k + 1]][:widest]), a if k <= b else a - 1))
        if sum(c.num_masks for c in plan) * num_queries * ASK < least and (total := sum(map(cost, plan))) < least:
            best, least = plan, total
    return best


def _ones(x: np.ndarray) -> np.ndarray:
    """Bits set in each uint64."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        return np.bitwise_count(x)
    table = np.array([i.bit_count() for i in range(1 << 16)], np.uint8)
    return table[x.view(np.uint16).reshape(*x.shape, 4)].sum(-1)


def _check_most(pairs: int, most: int) -> None:
    if pairs > most:
        raise UserError(f"more than {most:,} near pairs; lower the radius, or leave out what is near to everything")
