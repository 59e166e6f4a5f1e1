"""Draws as pure functions: of the step and the place in the batch, or of the sample's number."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_kit.noise import BatchNoise, SampleNoise, mix

KEY = (3, 14, 1)


@given(cuts=st.lists(st.integers(0, 24), max_size=5), kind=st.sampled_from(["randn", "rand"]))
def test_parts_are_the_rows_of_the_whole_for_any_cut(cuts: list[int], kind: str) -> None:
    bounds = [0, *sorted(cuts), 24]
    whole = BatchNoise(KEY, 24)
    parts = [whole.part(start, stop) for start, stop in pairwise(bounds)]
    for shape in ((), (2,), (3, 4, 4)):  # three calls: the parts keep step with the whole
        expected = getattr(whole, kind)(*shape)
        assert expected.shape == (24, *shape)
        assert torch.equal(torch.cat([getattr(part, kind)(*shape) for part in parts]), expected)


@given(rank=st.integers(0, 3), start=st.integers(0, 5), width=st.integers(1, 3))
def test_parts_of_parts(rank: int, start: int, width: int) -> None:
    mine = BatchNoise(KEY, 32, rank * 8, rank * 8 + 8)
    part = mine.part(start, start + width)
    rows = slice(rank * 8 + start, rank * 8 + start + width)
    assert torch.equal(part.randn(5), BatchNoise(KEY, 32).randn(5)[rows])


def test_a_part_begins_at_the_first_call() -> None:
    whole = BatchNoise(KEY, 8)
    first = whole.randn(2)
    whole.rand(7)
    assert torch.equal(whole.part(2, 5).randn(2), first[2:5])


def test_each_call_is_a_draw_of_its_own_and_is_counted() -> None:
    noise = BatchNoise(KEY, 4)
    draws = [noise.randn(3), noise.randn(3), noise.rand(3)]
    assert noise.calls == 3
    assert not torch.equal(draws[0], draws[1])
    again = BatchNoise(KEY, 4)
    again.rand(100)  # what the first call drew, and how much of it, does not matter to the second
    assert torch.equal(again.randn(3), draws[1])


def test_again_repeats_draws_and_goes_on_where_it_was() -> None:
    noise, straight = BatchNoise(KEY, 4), BatchNoise(KEY, 4)
    first, second = noise.randn(3), noise.rand(2)
    with noise.again(0):
        assert torch.equal(noise.randn(3), first)
        assert torch.equal(noise.rand(2), second)
    with pytest.raises(RuntimeError, match="inside"), noise.again(1):
        raise RuntimeError("inside")
    straight.randn(3), straight.rand(2)
    assert noise.calls == 2
    assert torch.equal(noise.randn(3), straight.randn(3))


@pytest.mark.parametrize("other", [(3, 14, 0), (3, 15, 1), (4, 14, 1), (14, 3, 1)])
def test_another_key_draws_otherwise(other: tuple[int, ...]) -> None:
    a, b = BatchNoise(KEY, 1000).randn(1), BatchNoise(other, 1000).randn(1)
    assert abs((a * b).mean().item()) < 0.15


def test_draws_follow_their_law() -> None:
    normal, uniform = BatchNoise(KEY, 5000).randn(4), BatchNoise(KEY, 5000).rand(4)
    assert abs(normal.mean().item()) < 0.03
    assert normal.std().item() == pytest.approx(1, abs=0.02)
    assert 0 <= uniform.min() < 0.001
    assert 0.999 < uniform.max() < 1


@settings(max_examples=40)
@given(words=st.lists(st.integers(-(2**63), 2**64), min_size=1, max_size=4), bit=st.integers(0, 62), at=st.integers(0))
def test_mix_is_a_seed_and_avalanches(words: list[int], bit: int, at: int) -> None:
    seed = mix(*words)
    assert 0 <= seed < 2**63
    torch.Generator().manual_seed(seed)  # which torch takes
    other = list(words)
    other[at % len(words)] ^= 1 << bit
    assert 10 <= (seed ^ mix(*other)).bit_count() <= 53


def test_one_changed_bit_changes_half_of_mixs_bits() -> None:
    flips = [(mix(a, 7) ^ mix(a ^ (1 << bit), 7)).bit_count() for a in range(50) for bit in range(63)]
    assert np.mean(flips) == pytest.approx(31.5, abs=0.3)
    assert np.std(flips) == pytest.approx(63**0.5 / 2, abs=0.3)


def test_mix_tells_order_and_count_apart_and_small_words_do_not_collide() -> None:
    assert mix(1, 2) != mix(2, 1)
    assert mix(0) != mix(0, 0)
    assert len({mix(seed, step, phase) for seed in range(10) for step in range(1000) for phase in (0, 1)}) == 20_000


def test_a_sample_is_a_function_of_its_seed_and_number() -> None:
    def draw(seed: int, indices: list[int]) -> torch.Tensor:
        noise = SampleNoise(seed, indices)
        return torch.cat([noise.randn(3), noise.rand(2)], dim=1)

    whole = draw(5, list(range(10)))
    assert torch.equal(draw(5, [7, 2]), whole[[7, 2]])
    assert torch.equal(torch.cat([draw(5, [i]) for i in range(10)]), whole)
    assert not torch.equal(draw(6, [0]), whole[:1])
    assert len({tuple(row.tolist()) for row in whole}) == 10


def test_no_global_generator_is_touched() -> None:
    torch.manual_seed(4)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    for noise in (BatchNoise(KEY, 4), BatchNoise(KEY, 4).part(1, 3), SampleNoise(0, [1, 2])):
        first = noise.randn(3)
        torch.manual_seed(99)
        noise.rand(3)
        torch.manual_seed(4)
        assert first.shape[1] == 3
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # type: ignore[index]
    torch.manual_seed(1)
    a = BatchNoise(KEY, 4).randn(3)
    torch.manual_seed(2)
    assert torch.equal(BatchNoise(KEY, 4).randn(3), a)
