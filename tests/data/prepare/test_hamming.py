"""Near codes against all pairs, and the clusters they make."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_kit.data.prepare import hamming
from gan_kit.data.prepare.hamming import Index, clusters, near_pairs
from gan_kit.types import UserError


def random_codes(n: int, words: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 64, (n, words), dtype=np.uint64)


def flipped(code: np.ndarray, bits) -> np.ndarray:
    code = code.copy()
    for b in bits:
        code[b // 64] ^= np.uint64(1) << np.uint64(b % 64)
    return code


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.unpackbits((a[:, None] ^ b[None]).view(np.uint8), axis=-1).sum(-1)


def brute(codes: np.ndarray, radius: int) -> np.ndarray:
    i, j = np.nonzero(np.triu(distances(codes, codes) <= radius, 1))
    return np.stack([i, j], 1)


def planted(n: int, words: int, radius: int, seed: int, zeros: float = 0.0) -> np.ndarray:
    """Different codes; half of them are a few bits, more or less than the radius, from an earlier one.

    zeros: share of the bits that are rarely set
    """
    rng = np.random.default_rng(seed)
    bits = rng.random((n, 64 * words)) < np.where(rng.random(64 * words) < zeros, 0.02, 0.5)
    for i in range((n + 1) // 2, n):
        bits[i] = bits[rng.integers(0, i)]
        bits[i, rng.choice(64 * words, rng.integers(1, min(64 * words, radius + 4)), replace=False)] ^= True
    return np.unique(np.packbits(bits, axis=1).view(np.uint64), axis=0)


@settings(max_examples=60)
@given(
    n=st.integers(0, 300),
    words=st.integers(1, 4),
    radius=st.integers(0, 40),
    seed=st.integers(0, 1000),
    zeros=st.sampled_from([0.0, 0.8]),
)
def test_the_pairs_are_those_of_all_pairs(n: int, words: int, radius: int, seed: int, zeros: float) -> None:
    codes = planted(n, words, radius, seed, zeros)
    np.random.default_rng(seed).shuffle(codes)
    pairs = near_pairs(codes, radius)
    assert pairs.dtype == np.int64
    np.testing.assert_array_equal(pairs, brute(codes, radius).reshape(-1, 2))


@settings(max_examples=40)
@given(n=st.integers(0, 80), m=st.integers(0, 40), radius=st.integers(0, 20), seed=st.integers(0, 1000))
def test_queries_get_every_row_that_is_near(n: int, m: int, radius: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool = planted(60, 2, radius, seed)
    codes, queries = pool[rng.integers(0, len(pool), n)], pool[rng.integers(0, len(pool), m)]
    expected = np.stack(np.nonzero(distances(queries, codes) <= radius), 1)
    for keep in (True, False):
        np.testing.assert_array_equal(Index(codes, radius, max(1, m), keep).near(queries), expected)


@settings(max_examples=40)
@given(n=st.integers(0, 120), radius=st.integers(0, 12), seed=st.integers(0, 1000))
def test_with_equal_codes_the_clusters_are_those_of_all_pairs(n: int, radius: int, seed: int) -> None:
    pool = planted(20, 1, radius, seed)
    codes = pool[np.random.default_rng(seed).integers(0, len(pool), n)]
    pairs, every = near_pairs(codes, radius), brute(codes, radius)
    assert len(pairs) <= len(every)
    assert {tuple(p) for p in pairs} <= {tuple(p) for p in every}
    np.testing.assert_array_equal(clusters(n, pairs), clusters(n, every))


@pytest.mark.parametrize("radius, m", [(3, 2), (5, 3), (10, 4), (10, 11), (31, 12)])
def test_every_plan_finds_every_pair(radius: int, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only the cheapest one: keys cut short, radii of a and a - 1."""
    codes = planted(300, 3, radius, seed=m)
    a, b = divmod(radius, m)
    plan = [hamming.Chunk(tuple(range(k, 192, m))[:12], a if k <= b else a - 1) for k in range(m)]
    monkeypatch.setattr(hamming, "_plan", lambda *_, **__: [c for c in plan if c.radius >= 0])
    monkeypatch.setattr(hamming, "BLOCK", 100)
    np.testing.assert_array_equal(near_pairs(codes, radius), brute(codes, radius))


def test_radius_0_is_equality_and_equal_codes_are_a_chain() -> None:
    a, b = random_codes(2, 4)
    assert near_pairs(np.stack([a, b, a, a, b]), 0).tolist() == [[0, 2], [1, 4], [2, 3]]
    assert Index(np.stack([a, b]), 0, 3).near(np.stack([b, a, b])).tolist() == [[0, 1], [1, 0], [2, 1]]


def test_all_equal_codes_cost_no_more_than_different_ones() -> None:
    n = 100_000
    pairs = near_pairs(np.zeros((n, 4), np.uint64), 10)
    np.testing.assert_array_equal(pairs, np.stack([np.arange(n - 1), np.arange(1, n)], 1))
    assert (clusters(n, pairs) == 0).all()


@pytest.mark.parametrize("distance", [0, 1, 7, 8, 9, 64, 255])
def test_the_radius_is_inclusive(distance: int) -> None:
    (a,) = random_codes(1, 4)
    codes = np.stack([a, flipped(a, range(distance))])
    assert len(near_pairs(codes, 8)) == (distance <= 8)
    assert len(near_pairs(codes, 255)) == 1


def test_codes_in_one_line_are_neighbours_only() -> None:
    """Gray's way through 64 bits: code k has the first k bits set."""
    codes = np.array([[(1 << k) - 1] for k in range(65)], np.uint64)
    assert near_pairs(codes, 1).tolist() == [[k, k + 1] for k in range(64)]
    assert len(near_pairs(codes, 3)) == 64 + 63 + 62
    assert set(clusters(65, near_pairs(codes, 1))) == {0}


def test_many_codes_in_one_bucket_are_compared_block_by_block() -> None:
    """Codes that differ in few places only: every chunk but one is the same for all."""
    codes = np.zeros((1000, 4), np.uint64)
    codes[:, 2] = np.arange(1000)
    np.testing.assert_array_equal(near_pairs(codes, 1), brute(codes, 1))


@pytest.mark.parametrize("n", [0, 1])
def test_none_and_one(n: int) -> None:
    codes = random_codes(n, 2)
    assert near_pairs(codes, 5).shape == (0, 2)
    assert Index(codes, 5, 1).near(codes).tolist() == [[i, i] for i in range(n)]
    assert Index(codes, 5, 1).near(random_codes(0, 2)).shape == (0, 2)
    assert clusters(n, near_pairs(codes, 5)).tolist() == list(range(n))


def test_mistakes_are_named() -> None:
    codes = random_codes(3, 1)
    for radius in (-1, 64, 100):
        with pytest.raises(UserError, match=rf"radius={radius} .* below 64"):
            near_pairs(codes, radius)
    with pytest.raises(UserError, match="uint64"):
        near_pairs(codes.astype(np.int64), 3)
    with pytest.raises(UserError, match="128 bits among codes of 64 bits"):
        Index(codes, 3, 3).near(random_codes(3, 2))
    with pytest.raises(UserError, match="more than 2 near pairs"):
        near_pairs(np.arange(4, dtype=np.uint64)[:, None], 3, most=2)
    with pytest.raises(ValueError, match="among 3 rows"):
        clusters(3, np.array([[0, 3]]))


def test_clusters_are_named_by_their_first_row() -> None:
    assert clusters(6, np.array([[4, 5], [1, 4], [0, 2]])).tolist() == [0, 1, 0, 3, 1, 1]
    assert clusters(3, np.zeros((0, 2), np.int64)).tolist() == [0, 1, 2]


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_clusters_are_those_of_union_find(case: tuple[int, list[tuple[int, int]]]) -> None:
    n, pairs = case
    label = list(range(n))
    for i, j in pairs:
        low, high = sorted((label[i], label[j]))
        label = [low if x == high else x for x in label]
    assert clusters(n, np.array(pairs)).tolist() == label


def test_old_numpy_counts_bits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    x = random_codes(50, 1)[:, 0]
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert hamming._ones(x).tolist() == [int(v).bit_count() for v in x]
