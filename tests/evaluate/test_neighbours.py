"""Laws of the neighbour search: whatever the block, the type and the scale, it finds what all differences say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gan_kit.evaluate.neighbours import nearest, radii
from gan_kit.types import UserError


def brute(a: Tensor, b: Tensor, exclude_self: bool = False) -> Tensor:
    d = (a.double()[:, None] - b.double()).square().sum(2).sqrt()
    return d.fill_diagonal_(torch.inf) if exclude_self else d


def scattered(kind: str, n: int, dims: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dims, generator=g, dtype=torch.float64)
    match kind:
        case "far":  # from the origin
            return x + 1e5
        case "needles":  # pairs a hair apart: fp32 products can't rank what lies within a bundle
            return (
                torch.randn(8, dims, generator=torch.Generator().manual_seed(9)).double()[torch.arange(n) % 8] * 100
                + 1e-7 * x
            )
        case "ties":
            return (x > 0).double()
        case "copies":
            return x[torch.arange(n) % 5]
    return x


@pytest.mark.parametrize("kind", ["plain", "far", "needles", "ties", "copies"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("k", [1, 4])
def test_they_are_those_of_all_differences(kind, dtype, k):
    a, b = scattered(kind, 70, 6, 1).to(dtype), scattered(kind, 230, 6, 2).to(dtype)
    expected = brute(a, b).topk(k, largest=False).values
    distances, rows = nearest(a, b, k, block=32)
    torch.testing.assert_close(distances, expected, rtol=1e-8, atol=0)
    torch.testing.assert_close(brute(a, b).gather(1, rows), expected, rtol=1e-8, atol=0)
    assert all(len(set(row)) == k for row in rows.tolist())


@pytest.mark.parametrize("kind", ["plain", "needles", "copies"])
def test_none_is_its_own_neighbour(kind):
    x = scattered(kind, 150, 6, 1).float()
    for queries in (x, x[:40]):
        distances, rows = nearest(queries, x, 3, exclude_self=True, block=16)
        assert not (rows == torch.arange(len(queries))[:, None]).any()
        expected = brute(x, x, exclude_self=True)[: len(queries)].topk(3, largest=False).values
        torch.testing.assert_close(distances, expected, rtol=1e-8, atol=0)
    assert radii(x, 3).equal(nearest(x, x, 3, exclude_self=True)[0][:, 2])


def test_copies_are_at_zero_however_many():
    x = torch.randn(400, 256) + 50  # torch.cdist as it comes gives a distance to nearly half of them
    assert (nearest(x, x)[0] == 0).all()
    many = x[:1].repeat(100, 1)
    assert (nearest(many, many, 60, exclude_self=True)[0] == 0).all()


def test_all_others_are_neighbours():
    x = torch.randn(12, 3)
    distances, rows = nearest(x, x, 11, exclude_self=True)
    assert distances.isfinite().all()
    assert rows.sort(1).values.tolist() == [[j for j in range(12) if j != i] for i in range(12)]


def test_no_queries():
    distances, rows = nearest(torch.zeros(0, 3), torch.zeros(4, 3), 2)
    assert distances.shape == rows.shape == (0, 2)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: nearest(torch.zeros(2, 3), torch.zeros(2, 4)), "one extractor"),
        (lambda: nearest(torch.zeros(3), torch.zeros(2, 3)), "one extractor"),
        (lambda: nearest(torch.zeros(2, 3), torch.zeros(4, 3), 5), "k=5 neighbours of 4"),
        (lambda: nearest(torch.zeros(4, 3), torch.zeros(4, 3), 4, exclude_self=True), "but itself"),
        (lambda: nearest(torch.zeros(5, 3), torch.zeros(4, 3), exclude_self=True), "5 queries"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(UserError, match=words):
        call()
