"""Laws of the order: pure in (seed, epoch), a permutation, cut by rank, resumed where it stood."""

from __future__ import annotations

from itertools import chain, islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_kit.data import BatchLoader
from gan_kit.types import UserError


def numbered(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.float32)[:, None]


def rows(batches) -> list[list[int]]:
    return [batch.x[:, 0].int().tolist() for batch in batches]


@given(n=st.integers(1, 60), batch_size=st.integers(1, 60), seed=st.integers(0, 2**63))
@settings(max_examples=30)
def test_an_epoch_sees_no_row_twice_and_all_that_fill_batches(n: int, batch_size: int, seed: int) -> None:
    if batch_size > n:
        n, batch_size = batch_size, n
    loader = BatchLoader(numbered(n), batch_size=batch_size, seed=seed)
    for _ in range(2):
        seen = list(chain.from_iterable(rows(loader)))
        assert len(seen) == len(set(seen)) == n // batch_size * batch_size == len(loader) * batch_size


def test_epochs_differ_seeds_differ_and_equal_seeds_agree() -> None:
    def first_two(seed: int):
        loader = BatchLoader(numbered(50), batch_size=5, seed=seed)
        return rows(loader), rows(loader)

    a, b = first_two(0)
    assert a != b
    assert (a, b) == first_two(0)
    assert first_two(1)[0] != a


def test_the_global_generators_have_no_say_and_are_left_alone() -> None:
    loader = BatchLoader(numbered(50), batch_size=5, hflip=True)
    np.random.seed(1)
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = loader.batch(0, 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    np.random.seed(2)
    assert torch.equal(loader.batch(0, 0).x, first.x)
    assert torch.equal(loader.batch(0, 0).flip, first.flip)


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_ranks_side_by_side_make_the_global_batch(world_size: int) -> None:
    y = np.arange(40)
    settings = {"batch_size": 12, "seed": 4, "hflip": True}
    whole = BatchLoader(numbered(40), y, **settings)
    ranks = [BatchLoader(numbered(40), y, rank=r, world_size=world_size, **settings) for r in range(world_size)]
    for batch, *parts in zip(whole, *ranks, strict=True):
        assert torch.equal(torch.cat([p.x for p in parts]), batch.x)
        assert torch.equal(torch.cat([p.y for p in parts]), batch.y)
        assert torch.equal(torch.cat([p.flip for p in parts]), batch.flip)


def test_each_rank_of_data_stored_by_class_sees_all_classes() -> None:
    y = np.repeat([0, 1], 500)
    loader = BatchLoader(numbered(1000), y, batch_size=100, rank=0, world_size=2)
    share = np.mean([batch.y.float().mean() for batch in loader])
    assert 0.4 < share < 0.6


def test_labels_stay_with_their_rows() -> None:
    y = np.arange(30) * 7
    for batch in BatchLoader(numbered(30), y, batch_size=8):
        assert torch.equal(batch.y, batch.x[:, 0].long() * 7)
        assert batch.y.dtype == torch.int64


def test_flips_are_fair_coins_apart_from_the_order() -> None:
    loader = BatchLoader(numbered(2000), batch_size=100, hflip=True)
    flips = torch.stack([batch.flip for batch in loader])
    assert 0.45 < flips.float().mean() < 0.55
    assert len({tuple(f.tolist()) for f in flips}) == len(flips)
    assert next(iter(BatchLoader(numbered(9), batch_size=3))).flip is None


@pytest.mark.parametrize("cut", range(13))
def test_a_restored_loader_goes_on_where_the_first_stood(cut: int) -> None:
    def stream(loader: BatchLoader):
        while True:
            for batch in loader:
                yield rows([batch])[0]

    first = BatchLoader(numbered(22), batch_size=5, seed=1)  # 4 batches an epoch
    whole = stream(first)
    list(islice(whole, cut))
    state = first.state_dict()
    second = BatchLoader(numbered(22), batch_size=5, seed=1)
    second.load_state_dict(state)
    assert list(islice(stream(second), 9)) == list(islice(whole, 9))


def test_after_a_restore_a_pass_is_the_rest_of_the_epoch_then_whole_ones() -> None:
    loader = BatchLoader(numbered(22), batch_size=5)
    iterator = iter(loader)
    head = rows(islice(iterator, 3))
    state = loader.state_dict()
    rest = rows(iterator)
    loader.load_state_dict(state)
    assert rows(loader) == rest
    assert len(head) + len(rest) == len(loader) == len(rows(loader))


def test_an_endless_iterator_runs_through_the_epochs() -> None:
    plain, endless = (BatchLoader(numbered(22), batch_size=5, endless=e) for e in (False, True))
    want = rows(plain) + rows(plain) + rows(plain)
    assert rows(islice(iter(endless), 6)) + rows(islice(iter(endless), 6)) == want


def test_a_pass_left_midway_is_not_taken_up_again() -> None:
    loader = BatchLoader(numbered(22), batch_size=5)
    next(iter(loader))
    assert rows(loader) == [loader.batch(1, i).x[:, 0].int().tolist() for i in range(4)]


def test_an_iterator_that_is_never_used_moves_nothing() -> None:
    a, b = (BatchLoader(numbered(22), batch_size=5) for _ in range(2))
    for _ in range(3):
        iter(a)
    assert rows(a) == rows(b)


def test_the_state_is_plain_numbers() -> None:
    state = BatchLoader(numbered(9), batch_size=3).state_dict()
    assert all(type(value) is int for value in state.values())


@pytest.mark.parametrize(
    "n, batch_size, message",
    [(21, 5, "22 samples, here are 21"), (22, 4, r"batch_size=5, not 4; set data\.batch_size=5")],
)
def test_a_state_of_another_stream_is_refused(n: int, batch_size: int, message: str) -> None:
    state = BatchLoader(numbered(22), batch_size=5).state_dict()
    with pytest.raises(UserError, match=message):
        BatchLoader(numbered(n), batch_size=batch_size).load_state_dict(state)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"batch_size": 23}, r"22 samples do not fill a batch of 23; set data\.batch_size=22"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 8.0}, r"batch_size=8\.0"),
        ({"batch_size": 7, "world_size": 2}, r"does not divide among 2 .* set data\.batch_size=8"),
        ({"batch_size": 7, "seed": -1}, "seed=-1"),
    ],
)
def test_impossible_settings_name_the_cure(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        BatchLoader(numbered(22), **settings)
