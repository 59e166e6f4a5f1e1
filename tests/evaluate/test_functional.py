"""Laws of the scores: closed forms, invariances, and what must be refused."""

from __future__ import annotations

import pytest
import torch

from gan_kit.evaluate import frechet_distance, mean_and_cov
from gan_kit.types import UserError


def spd(n: int, seed: int) -> torch.Tensor:
    a = torch.randn(n, 2 * n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a @ a.T / (2 * n)


def mean(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a: torch.Tensor, b: torch.Tensor | float, **kwargs: float) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=torch.float64), **kwargs)


def test_in_one_dimension_it_is_the_textbook_formula():
    d = frechet_distance(torch.tensor([1.0]), torch.tensor([[4.0]]), torch.tensor([3.0]), torch.tensor([[9.0]]))
    assert d.item() == pytest.approx((1 - 3) ** 2 + (2 - 3) ** 2, abs=1e-12)


def test_of_diagonal_gaussians_it_is_the_sum_over_axes():
    m1, m2, s1, s2 = mean(6, 0), mean(6, 1), mean(6, 2).exp(), mean(6, 3).exp()
    d = frechet_distance(m1, torch.diag(s1**2), m2, torch.diag(s2**2))
    close(d, ((m1 - m2) ** 2 + (s1 - s2) ** 2).sum())


@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_of_a_gaussian_and_its_scaled_copy(scale):
    c = spd(8, 0)
    close(frechet_distance(mean(8, 0), c, mean(8, 0), scale**2 * c), (1 - scale) ** 2 * c.trace())


def test_of_a_gaussian_and_its_image_under_a_positive_map():
    # a positive definite A is the optimal transport from N(0, C) to N(0, A C A): cost tr((I - A) C (I - A))
    a, c, zero = spd(7, 1), spd(7, 2), torch.zeros(7)
    rest = torch.eye(7, dtype=torch.float64) - a
    close(frechet_distance(zero, c, zero, a @ c @ a), (rest @ c @ rest).trace())


def test_of_itself_it_is_zero_and_it_is_symmetric():
    m1, c1, m2, c2 = mean(32, 0), spd(32, 1), mean(32, 2), spd(32, 3)
    close(frechet_distance(m1, c1, m1, c1), 0.0, atol=1e-10, rtol=0)
    close(frechet_distance(m1, c1, m2, c2), frechet_distance(m2, c2, m1, c1))


def test_rotating_and_moving_both_changes_nothing():
    m1, c1, m2, c2, shift = mean(12, 0), spd(12, 1), mean(12, 2), spd(12, 3), mean(12, 4)
    q, _ = torch.linalg.qr(spd(12, 5))
    close(
        frechet_distance(q @ m1 + shift, q @ c1 @ q.T, q @ m2 + shift, q @ c2 @ q.T),
        frechet_distance(m1, c1, m2, c2),
    )


def test_fewer_samples_than_features():
    # two planes at a right angle: nothing overlaps, so that the distance is the sum of both traces
    c1 = torch.diag(torch.tensor([2.0, 3.0, 0.0, 0.0]))
    c2 = torch.diag(torch.tensor([0.0, 0.0, 5.0, 7.0]))
    zero = torch.zeros(4)
    close(frechet_distance(zero, c1, zero, c2), 17.0)
    features = torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    m, c = mean_and_cov(features)
    close(frechet_distance(m, c, m, c), 0.0, atol=1e-5, rtol=0)


def test_of_samples_it_approaches_the_gaussians_own():
    g = torch.Generator().manual_seed(0)
    a = torch.randn(200_000, 3, generator=g) * torch.tensor([1.0, 2.0, 3.0])
    b = torch.randn(200_000, 3, generator=g) + torch.tensor([1.0, 0.0, 0.0])
    d = frechet_distance(*mean_and_cov(a), *mean_and_cov(b))
    assert d.item() == pytest.approx(1 + 0 + 1 + 4, rel=0.02)


def test_mean_and_cov_do_not_lose_digits_far_from_zero():
    x = torch.tensor([[1e4 + 1.0, 0.0], [1e4 - 1.0, 2.0], [1e4, 1.0]])  # float32
    m, c = mean_and_cov(x)
    assert m.dtype == c.dtype == torch.float64
    close(m, torch.tensor([1e4, 1.0]).double())
    close(c, torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double())


def test_what_is_refused():
    zero, one = torch.zeros(2), torch.eye(2)
    with pytest.raises(UserError, match="not finite"):
        frechet_distance(zero, one, torch.tensor([0.0, float("nan")]), one)
    with pytest.raises(UserError, match="one feature space"):
        frechet_distance(zero, one, torch.zeros(3), torch.eye(3))
    with pytest.raises(UserError, match="N >= 2"):
        mean_and_cov(torch.zeros(1, 4))
