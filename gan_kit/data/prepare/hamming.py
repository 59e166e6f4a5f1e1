"""Which of N binary codes differ in few bits, without looking at all pairs, and the clusters that such pairs make.

Multi-index hashing (Norouzi, Punjani and Fleet 2012, "Fast search in Hamming space with multi-index hashing",
section 2): cut the codes into m chunks; two codes within r = a m + b bits of each other differ by at most a bits in one
of the first b + 1 chunks, or by at most a - 1 bits in one of the others. So each chunk is a key into a table, each code
asks for all keys that near, and only what these buckets hold is compared in full.

Cost for N codes and a chunk of t bits with radius a: N sum_k C(t, k) questions, k <= a, and each meets N / 2^t codes
when bits are independent. m is chosen by that sum, with the collisions of a sample of the real codes in place of 2^-t;
with chunks of log2 N bits it grows as N to the power 1 + H(r / bits), H the binary entropy (their section 3.1), and
comparing all pairs is what is left for a large radius. Memory: the codes twice more, tables of 8 (2^t + 6 N) bytes with
2^t <= 4 N, a block of candidates, and the pairs found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np

from gan_kit.types import UserError

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["clusters", "near_pairs"]

BLOCK = 1 << 16  # candidates compared, and codes asking, at once: few enough for a core's cache
SAMPLE = 4096  # codes whose collisions choose the chunks
WIDEST = 24  # bits of a key: a table of 128 MiB
ASK, COMPARE = 12.0, 20.0  # ns for one question, for one candidate


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


def near_pairs(
    codes: np.ndarray,
    radius: int,
    queries: np.ndarray | None = None,
    progress: bool = False,
    most: int = 200_000_000,
) -> np.ndarray:
    """Rows of codes that differ by at most `radius` bits: exact, nothing is missed.

    codes: (N, W) uint64, a code of 64 W bits a row -> (P, 2) int64, sorted, each pair once

    Without queries, pairs (i, j) of rows with i < j. Rows with equal codes come as a chain (i0, i1), (i1, i2), ..., and
    two different near codes as the pair of their first rows: N equal codes give N - 1 pairs, and what hangs together
    through the pairs is the same as through all of them.
    queries: (M, W) uint64: then all pairs (row of queries, row of codes), each one of them
    most: so many pairs at the most

    Raises UserError for a radius that pairs everything with everything, or more than `most` pairs.
    """
    codes = _checked(codes)
    bits = 64 * codes.shape[1]
    if not 0 <= radius < bits:
        raise UserError(f"radius={radius} of codes of {bits} bits; set it from 0 to below {bits}")
    if queries is None:
        first, group = _grouped(codes)
        order = np.argsort(group, kind="stable")
        equal = group[order[1:]] == group[order[:-1]]
        chain = np.stack([order[:-1][equal], order[1:][equal]], 1)
        near = first[_search(codes[first], None, radius, progress, most)]
        near.sort(axis=1)
        pairs = np.concatenate([chain, near])
    else:
        queries = _checked(queries)
        if queries.shape[1] != codes.shape[1]:
            raise UserError(f"queries of {64 * queries.shape[1]} bits among codes of {bits} bits; make both alike")
        (first, group), (asks, asked) = _grouped(codes), _grouped(queries)
        pairs = _search(codes[first], queries[asks], radius, progress, most)
        pairs = _expanded(_expanded(pairs, 1, group, most), 0, asked, most)
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


def _checked(codes: np.ndarray) -> np.ndarray:
    if codes.dtype != np.uint64 or codes.ndim != 2 or codes.shape[1] == 0:
        raise UserError(f"codes of shape {codes.shape} and type {codes.dtype}; give (N, W) uint64 with W >= 1")
    return codes


def _grouped(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, W) -> first row of each of U different codes (U,), and which of the U each row is (N,)."""
    order = np.lexsort(codes.T)  # stable: the smallest row of equal ones comes first
    sorted_codes = codes[order]
    new = np.ones(len(codes), np.bool_)
    new[1:] = (sorted_codes[1:] != sorted_codes[:-1]).any(1)
    group = np.empty(len(codes), np.int64)
    group[order] = np.cumsum(new) - 1
    return order[new], group


def _expanded(pairs: np.ndarray, side: int, group: np.ndarray, most: int) -> np.ndarray:
    """Each pair once for every row in the group that its `side` names."""
    rows = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    ends = np.cumsum(sizes)
    times = sizes[pairs[:, side]]
    _check_most(int(times.sum()), most)
    out = np.repeat(pairs, times, axis=0)
    within = np.arange(len(out)) - np.repeat(np.cumsum(times) - times, times)
    out[:, side] = rows[(ends - sizes)[out[:, side]] + within]
    return out


def _search(codes: np.ndarray, queries: np.ndarray | None, radius: int, progress: bool, most: int) -> np.ndarray:
    """Pairs among U different codes (i < j is not promised), or between different queries and different codes."""
    from tqdm import tqdm

    n = len(codes)
    if n == 0 or (queries is not None and len(queries) == 0):
        return np.zeros((0, 2), np.int64)
    if queries is None and (n == 1 or radius == 0):
        return np.zeros((0, 2), np.int64)
    plan = _plan(codes, n if queries is None else len(queries), radius, queries is None)
    found = np.zeros(0, np.int64)
    with tqdm(total=sum(c.num_masks for c in plan), desc="near", unit="key", disable=None if progress else True) as bar:
        for chunk in plan:
            new, total = [found], 0
            for pairs in _through(chunk, codes, queries, radius, bar):
                total += len(pairs)
                _check_most(total, most)
                new.append(pairs)
            found = np.unique(np.concatenate(new))  # one pair may be near in several chunks
            _check_most(len(found), most)
    return np.stack(np.divmod(found, n), 1)


def _through(
    chunk: Chunk, codes: np.ndarray, queries: np.ndarray | None, radius: int, bar: tqdm[NoReturn]
) -> Iterator[np.ndarray]:
    """Near pairs whose keys differ in few bits, as left N + right, a block at a time."""
    n = len(codes)
    keys = chunk.keys(codes)
    order = _order(keys, chunk)
    keys = keys[order]
    columns = np.ascontiguousarray(codes[order].T)  # a bucket's codes lie side by side
    table = np.zeros((1 << len(chunk.bits)) + 1, np.int64)  # bucket k is rows table[k] to table[k + 1] of them
    np.cumsum(np.bincount(keys, minlength=1 << len(chunk.bits)), out=table[1:])
    if queries is None:
        asking, left_order, left_columns = keys, order, columns
    else:
        asking = chunk.keys(queries)
        left_order = _order(asking, chunk)
        asking = asking[left_order]
        left_columns = np.ascontiguousarray(queries[left_order].T)
    for mask in chunk.masks():
        for at in range(0, len(asking), BLOCK):
            some = asking[at : at + BLOCK]
            wanted = some ^ mask
            start, stop = table[wanted], table[wanted + 1]
            if queries is None and mask == 0:
                start = np.arange(at + 1, at + len(some) + 1)  # the rest of its own bucket
            elif queries is None:
                stop = np.where(wanted > some, stop, start)  # each two buckets meet once
            for asks, right in _blocks(start, stop):
                left, right = _compared(left_columns, columns, asks + at, right, radius)
                i, j = left_order[left], order[right]
                yield i * n + j if queries is not None else np.minimum(i, j) * n + np.maximum(i, j)
        bar.update()


def _order(keys: np.ndarray, chunk: Chunk) -> np.ndarray:
    small = keys.astype(np.uint16) if len(chunk.bits) <= 16 else keys  # which NumPy sorts by radix
    return np.argsort(small, kind="stable")


def _blocks(start: np.ndarray, stop: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Candidates (row, start[row] .. stop[row] - 1) of all rows, about BLOCK at a time, at most BLOCK + N."""
    counts = stop - start
    rows = np.flatnonzero(counts)
    counts, starts = counts[rows], start[rows]
    ends = np.cumsum(counts)
    a = 0
    while a < len(rows):
        done = ends[a - 1] if a else 0
        b = max(a + 1, int(np.searchsorted(ends, done + BLOCK, side="right")))
        times = counts[a:b]
        left = np.repeat(rows[a:b], times)
        right = np.arange(len(left)) + np.repeat(starts[a:b] - (ends[a:b] - times - done), times)
        yield left, right
        a = b


def _compared(
    a: np.ndarray, b: np.ndarray, left: np.ndarray, right: np.ndarray, radius: int
) -> tuple[np.ndarray, np.ndarray]:
    """Those candidates within the radius; a, b: (W, N) uint64."""
    distance = np.zeros(len(left), np.int64)
    for x, y in zip(a, b, strict=True):
        distance += _ones(x[left] ^ y[right])
        near = distance <= radius  # a word is enough to turn most away
        left, right, distance = left[near], right[near], distance[near]
    return left, right


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
