"""Laws of the splits: no cluster crosses, the order of rows is nothing, what is added moves (almost) nothing."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_kit.data.prepare.splits import SPLITS, assign_splits, leaks
from gan_kit.types import UserError

HALF = {"val": 0.2, "test": 0.3}


def key(i: int) -> str:
    return hashlib.sha256(str(i).encode()).hexdigest()


@st.composite
def sets(draw, max_size: int = 60):
    """clusters, keys, labels, given, fractions, seed; labels may differ inside a cluster"""
    n = draw(st.integers(1, max_size))
    clusters = np.array(draw(st.lists(st.integers(-3, 20), min_size=n, max_size=n)), np.int64)
    labels = np.array(draw(st.lists(st.integers(-1, 4), min_size=n, max_size=n)), np.int64)
    own = draw(st.lists(st.sampled_from([None, *SPLITS]), min_size=n, max_size=n))
    told = draw(st.sampled_from([None, own]))
    test = draw(st.floats(0, 0.6))
    val = draw(st.floats(0, 0.39))
    return clusters, [key(i) for i in range(n)], labels, told, {"val": val, "test": test}, draw(st.integers(0, 99))


@given(sets(), st.booleans())
def test_no_cluster_crosses(case, exact: bool) -> None:
    clusters, keys, labels, told, fractions, seed = case
    splits = assign_splits(clusters, keys, labels, fractions, seed, told, exact)
    assert set(splits) <= set(SPLITS)
    for cluster in np.unique(clusters):
        assert len(set(splits[clusters == cluster])) == 1


@given(sets(), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_the_numbers_of_clusters_are_nothing(case, exact: bool, random) -> None:
    clusters, keys, labels, told, fractions, seed = case
    splits = assign_splits(clusters, keys, labels, fractions, seed, told, exact)
    order = list(range(len(clusters)))
    random.shuffle(order)
    renamed = {cluster: random.random() for cluster in clusters.tolist()}
    rank = {cluster: i for i, cluster in enumerate(sorted(renamed, key=renamed.__getitem__))}
    again = assign_splits(
        np.array([rank[clusters[i]] for i in order]),
        [keys[i] for i in order],
        labels[order],
        fractions,
        seed,
        None if told is None else [told[i] for i in order],
        exact,
    )
    assert (again == splits[order]).all()


@given(sets(), st.integers(1, 40))
def test_unrelated_data_moves_nothing(case, more: int) -> None:
    clusters, keys, labels, told, fractions, seed = case
    labels = labels * 0  # classes of several clusters; the rule for tiny ones is below
    clusters, keys = np.append(clusters, 98), [*keys, key(10**6)]
    labels, told = np.append(labels, 0), None if told is None else [*told, "train"]  # the class has a train cluster
    told = told or [None] * (len(clusters) - 1) + ["train"]
    before = assign_splits(clusters, keys, labels, fractions, seed, told)
    after = assign_splits(
        np.append(clusters, 100 + np.arange(more) // 2),
        keys + [key(1000 + i) for i in range(more)],
        np.append(labels, np.arange(more) % 3),
        fractions,
        seed,
        told + [None] * more,
    )
    assert (after[: len(clusters)] == before).all()


@given(sets(), sets())
def test_what_was_given_the_last_time_stays_whatever_is_added(case, other) -> None:
    clusters, keys, labels, _, fractions, seed = case
    first = assign_splits(clusters, keys, labels, fractions, seed, exact=True)
    more = len(other[0])
    second = assign_splits(
        np.append(clusters, 100 + other[0]),
        keys + [key(1000 + i) for i in range(more)],
        np.append(labels, other[2]),
        fractions,
        seed,
        [*first.tolist(), *[None] * more],
        exact=True,
    )
    assert (second[: len(first)] == first).all()


@given(sets())
def test_every_class_keeps_a_train_cluster(case) -> None:
    clusters, keys, labels, _, fractions, seed = case
    labels = np.array([labels[np.flatnonzero(clusters == c)[0]] for c in clusters])  # one label a cluster
    for exact in (False, True):
        splits = assign_splits(clusters, keys, labels, fractions, seed, exact=exact)
        for label in np.unique(labels):
            assert "train" in splits[labels == label]


def test_the_only_thing_that_added_data_moves_is_a_class_that_was_all_held_out() -> None:
    n = 20_000
    labels = np.arange(n) // 2  # classes of two
    keys = [key(i) for i in range(n)]
    before = assign_splits(np.arange(n), keys, labels, HALF)
    after = assign_splits(np.arange(n + n // 2), keys + [key(n + i) for i in range(n // 2)],
                          np.append(labels, np.arange(n // 2)), HALF)[:n]  # fmt: skip
    unforced = assign_splits(np.arange(n), keys, np.zeros(n, int), HALF)
    moved = np.flatnonzero(before != after)
    assert (before[moved] == "train").all()
    assert (unforced[moved] != "train").all()
    assert (after[moved] == unforced[moved]).all()


def test_sizes_follow_the_fractions_as_chance_allows() -> None:
    n, classes = 100_000, 10
    labels = np.arange(n) % classes
    splits = assign_splits(np.arange(n), [key(i) for i in range(n)], labels, {"val": 0.05, "test": 0.1}, seed=3)
    for name, share in (("val", 0.05), ("test", 0.1)):
        expected, spread = share * n / classes, np.sqrt(share * (1 - share) * n / classes)
        counts = np.bincount(labels[splits == name], minlength=classes)
        assert (np.abs(counts - expected) < 4 * spread).all()
    assert (splits == "train").mean() == pytest.approx(0.85, abs=0.01)


def test_large_clusters_are_held_out_as_often_as_small_ones() -> None:
    sizes = np.array([1, 2, 5, 20] * 3000)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    n = len(clusters)
    splits = assign_splits(clusters, [key(i) for i in range(n)], np.zeros(n, int), {"test": 0.2})
    firsts = splits[np.cumsum(sizes) - 1]
    for size in (1, 2, 5, 20):
        assert (firsts[sizes == size] == "test").mean() == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / 3000))


def test_a_newcomer_in_a_cluster_of_m_moves_it_once_in_m_plus_1_times_at_most() -> None:
    n = 6000
    for m in (1, 3, 9):
        old = np.repeat(np.arange(n), m)
        keys = [key(i) for i in range(n * m)]
        before = assign_splits(old, keys, old * 0, HALF)[::m]
        grown = assign_splits(np.append(old, np.arange(n)), keys + [key(10**6 + i) for i in range(n)],
                              np.zeros(n * (m + 1), int), HALF)[: n * m : m]  # fmt: skip
        differ = 1 - (0.2**2 + 0.3**2 + 0.5**2)  # two draws that are not the same split
        assert (before != grown).mean() == pytest.approx(differ / (m + 1), abs=0.02)


def test_where_clusters_grow_together_one_of_them_stays() -> None:
    keys = [key(i) for i in range(400)]
    apart = np.arange(400) // 2
    together = np.arange(400) // 4
    before = assign_splits(apart, keys, apart * 0, HALF)
    after = assign_splits(together, keys, apart * 0, HALF)
    for i in range(0, 400, 4):
        assert after[i] in (before[i], before[i + 2])


def test_one_fraction_does_not_move_what_the_other_holds() -> None:
    n = 5000
    case = np.arange(n), [key(i) for i in range(n)], np.zeros(n, int)
    small, large = (assign_splits(*case, {"val": 0.1, "test": test}) for test in (0.1, 0.3))
    assert ((small == "val") == (large == "val")).all()
    assert (large[small == "test"] == "test").all()


def test_seeds_give_other_splits() -> None:
    n = 5000
    case = np.arange(n), [key(i) for i in range(n)], np.zeros(n, int), {"test": 0.2}
    a, b = assign_splits(*case, 0) == "test", assign_splits(*case, 1) == "test"
    assert (a & b).mean() == pytest.approx(0.04, abs=0.01)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=30), st.floats(0.01, 0.3), st.floats(0.01, 0.3), st.integers(0, 9)
)
def test_exact_shares_are_within_one_cluster_in_each_class_and_overall(sizes, val, test, seed) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    n = len(labels)
    splits = assign_splits(
        np.arange(n), [key(i) for i in range(n)], labels, {"val": val, "test": test}, seed, exact=True
    )
    for name, share in (("val", val), ("test", test)):
        counts = np.bincount(labels[splits == name], minlength=len(sizes))
        several = np.array(sizes) > 1  # a lone cluster is train's
        assert (np.abs(counts - share * np.array(sizes))[several] <= 1 + 1e-6).all()
    assert ("train" in splits[labels == 0]) or sizes[0] == 0


def test_exact_moves_about_the_root_of_what_is_added() -> None:
    n, more = 20_000, 2_000
    keys = [key(i) for i in range(n + more)]
    before = assign_splits(np.arange(n), keys[:n], np.zeros(n, int), {"test": 0.1}, exact=True)
    after = assign_splits(np.arange(n + more), keys, np.zeros(n + more, int), {"test": 0.1}, exact=True)[:n]
    assert (before == "test").sum() == n // 10
    assert (before != after).sum() <= 4 * np.sqrt(0.1 * more)


# Given splits


def test_given_splits_stay_and_test_wins_where_a_cluster_has_several() -> None:
    clusters = np.array([0, 0, 1, 1, 2, 2, 2, 3, 4])
    told = ["train", "train", "train", "test", "val", "train", None, "val", None]
    splits = assign_splits(clusters, [key(i) for i in range(9)], np.zeros(9, int), {}, given=told)
    assert splits.tolist() == ["train"] * 2 + ["test"] * 2 + ["val"] * 3 + ["val", "train"]
    first, second = leaks(clusters, told)
    assert (first.cluster, first.rows, first.splits, first.split) == (1, (2, 3), ("train", "test"), "test")
    assert first.out_of_place == (2,)
    assert (second.cluster, second.rows, second.split, second.out_of_place) == (2, (4, 5), "val", (5,))
    assert leaks(clusters, [None] * 9) == leaks(clusters, ["test"] * 9) == leaks(np.array([], int), []) == []


@given(sets())
def test_leaks_are_all_there_is_to_given_splits_that_moved(case) -> None:
    clusters, keys, labels, _, fractions, seed = case
    told = [SPLITS[label % 3] if label >= 0 else None for label in labels]
    splits = assign_splits(clusters, keys, labels, fractions, seed, told)
    moved = {i for i, split in enumerate(told) if split is not None and splits[i] != split}
    assert moved == {row for leak in leaks(clusters, told) for row in leak.out_of_place}


# Settings


@pytest.mark.parametrize(
    "fractions, message",
    [
        ({"test": 1.0}, r"test=1\.0"), ({"val": -0.1}, r"val=-0\.1"),
        ({"val": 0.5, "test": 0.5}, "nothing to train on"),
        ({"train": 0.5}, r"no split \['train'\] to cut; have val, test"),
        ({"test": float("nan")}, "test=nan"),
    ],
)  # fmt: skip
def test_bad_fractions_name_the_value(fractions, message: str) -> None:
    with pytest.raises(UserError, match=message):
        assign_splits(np.arange(2), ["a", "b"], np.zeros(2, int), fractions)


def test_unknown_splits_and_nothing_at_all() -> None:
    with pytest.raises(UserError, match="no split 'eval'; have train, val, test"):
        assign_splits(np.arange(1), ["a"], np.zeros(1, int), {}, given=["eval"])
    with pytest.raises(ValueError, match="one of each a row"):
        assign_splits(np.arange(2), ["a"], np.zeros(2, int), {})
    assert assign_splits(np.empty(0, int), [], np.empty(0, int), {"test": 0.5}).tolist() == []
    assert assign_splits(np.arange(1), [b"\0\xff"], np.array([-1]), {"test": 0.9}).tolist() == ["train"]
