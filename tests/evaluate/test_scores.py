"""Laws of the scores beyond the Fréchet distance of given moments: closed forms, invariances, other implementations."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_kit.evaluate import functional as f
from gan_kit.evaluate.neighbours import nearest, radii
from gan_kit.types import UserError


def gaussian(n: int, dims: int = 8, seed: int = 0, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    return torch.randn(n, dims, generator=torch.Generator().manual_seed(seed)) * scale + shift


def clusters(n: int, classes: list[int], seed: int = 0, dims: int = 8, spread: float = 0.3) -> tuple[Tensor, Tensor]:
    centres = torch.randn(10, dims, generator=torch.Generator().manual_seed(99)) * 3
    y = torch.tensor(classes)[torch.arange(n) % len(classes)]
    return centres[y] + gaussian(n, dims, seed) * spread, y


# ---- neighbours -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, m, k, block", [(50, 70, 1, 16), (300, 90, 5, 7), (9, 4000, 3, 64)])
def test_neighbours_are_those_of_all_distances(n, m, k, block):
    a, b = gaussian(n, 5, 1), gaussian(m, 5, 2)
    whole = torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")
    expected = whole.topk(k, largest=False)
    distances, indices = nearest(a, b, k, block=block)
    torch.testing.assert_close(distances, expected.values)
    assert indices.equal(expected.indices)


def test_a_copy_is_at_distance_zero_exactly_even_far_from_the_origin():
    x = gaussian(500, 64) + 1000.0
    distances, indices = nearest(x[:50], x)
    assert (distances == 0).all()
    assert indices[:, 0].equal(torch.arange(50))


def test_no_sample_is_its_own_neighbour_but_a_duplicate_is():
    x = gaussian(40)
    x[7] = x[3]
    distances, indices = nearest(x, x, 1, exclude_self=True, block=16)
    assert not (indices[:, 0] == torch.arange(40)).any()
    assert distances[7, 0] == distances[3, 0] == 0
    assert indices[7, 0] == 3
    assert radii(x, 1)[3] == 0


@pytest.mark.parametrize("k", [0, 41])
def test_more_neighbours_than_there_are(k):
    with pytest.raises(UserError, match="neighbours"):
        nearest(gaussian(5), gaussian(40), k)


# ---- Fréchet --------------------------------------------------------------------------------------------------


def test_a_set_is_at_distance_zero_of_itself():
    x = gaussian(500, 16)
    assert f.frechet_distance_of(x, x) < 1e-6
    few = gaussian(20, 64)
    assert f.frechet_distance_of(few, few) < 1e-6


@pytest.mark.parametrize("n, m", [(20, 30), (5, 60), (64, 10)])
def test_few_samples_in_many_dimensions_agree_with_the_covariances(n, m):
    a, b = gaussian(n, 96, 1), gaussian(m, 96, 2, shift=0.3)
    moments = f.frechet_distance(*f.mean_and_cov(a), *f.mean_and_cov(b))
    torch.testing.assert_close(f.frechet_distance_of(a, b), moments, rtol=1e-6, atol=1e-6)


def test_against_scipys_square_root():
    from scipy.linalg import sqrtm

    a, b = gaussian(400, 24, 1), gaussian(300, 24, 2, 0.5, 1.5)
    (m1, c1), (m2, c2) = f.mean_and_cov(a), f.mean_and_cov(b)
    root = sqrtm((c1 @ c2).numpy()).real
    expected = float((m1 - m2).square().sum() + c1.trace() + c2.trace()) - 2 * np.trace(root)
    assert f.frechet_distance_of(a, b).item() == pytest.approx(expected, rel=1e-6)


def test_moments_of_large_offsets_and_many_chunks():
    x = (gaussian(9000, 4).double() + 1e6).to(torch.float64)
    before = x.clone()
    mean, cov = f.mean_and_cov(x)
    assert x.equal(before)  # the caller's features stay as they are
    np.testing.assert_allclose(cov.numpy(), np.cov(x.numpy().T), rtol=1e-6)
    np.testing.assert_allclose(mean.numpy(), x.numpy().mean(0), rtol=1e-12)


def test_the_jackknife_foretells_the_spread_over_draws():
    real = gaussian(4000, 6, 1)
    draws = [f.frechet_with_error(real, gaussian(1000, 6, 10 + i, 0.3)) for i in range(30)]
    spread = float(np.std([value for value, _ in draws], ddof=1))
    assert np.mean([stderr for _, stderr in draws]) == pytest.approx(spread, rel=0.4)
    value, _ = draws[0]
    assert value == pytest.approx(f.frechet_distance_of(real, gaussian(1000, 6, 10, 0.3)).item(), rel=1e-9)


def test_extrapolated_to_infinity_one_distribution_is_at_no_distance_of_itself():
    real = gaussian(40_000, 16, 1)
    fakes = gaussian(2000, 16, 2)
    plain = f.frechet_distance_of(real, fakes).item()
    found = f.frechet_infinity(real, fakes)
    assert abs(found.value) < 0.35 * plain  # with replacement it would come to `plain`
    assert found.slope / 2000 == pytest.approx(plain, rel=0.4)


def test_classes_are_compared_with_their_own():
    a, y = clusters(600, list(range(5)), 1)
    b, z = clusters(600, list(range(5)), 2)
    b[z == 3] += 2
    found = f.class_frechet_distances(a, y, b, z)
    assert set(found) == set(range(5))
    assert max(found, key=lambda k: found[k]) == 3
    assert found[3] == pytest.approx(4 * 8, rel=0.2)


# ---- kernel distance, inception score -----------------------------------------------------------------------


def test_the_kernel_distance_is_torchmetrics():
    from torchmetrics.image.kid import poly_mmd

    a, b = gaussian(100, 16, 1).double(), gaussian(100, 16, 2, 0.4).double()
    theirs = poly_mmd(a, b, degree=3, gamma=None, coef=1.0).item()
    ours = f.kernel_distance(a, b, subsets=1, subset_size=100).value
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_the_kernel_distance_is_unbiased():
    found = f.kernel_distance(gaussian(5000, 8, 1), gaussian(5000, 8, 2), subsets=200, subset_size=50)
    assert abs(found.value) < 5 * found.stderr
    apart = f.kernel_distance(gaussian(500, 8, 1), gaussian(500, 8, 2, 1.0), subsets=20, subset_size=100)
    assert apart.value > 20 * apart.stderr


def test_the_inception_score_of_known_predictions():
    sure = torch.eye(10).repeat(100, 1)
    assert f.inception_score(sure, splits=1).mean == pytest.approx(10)
    assert f.inception_score(torch.full((100, 10), 0.1)).mean == pytest.approx(1)


def test_samples_in_the_order_of_their_classes_score_as_shuffled_ones():
    ordered = torch.eye(10).repeat_interleave(100, 0)
    assert f.inception_score(ordered, splits=10).mean > 9.5  # cut without a shuffle, each split is one class: 1


def test_as_many_splits_as_asked_for():
    p = torch.rand(21, 5, generator=torch.Generator().manual_seed(0)).softmax(1)
    assert f.inception_score(p, splits=21).std == pytest.approx(0, abs=1e-12)
    with pytest.raises(UserError, match="splits=22"):
        f.inception_score(p, splits=22)
    with pytest.raises(UserError, match="softmax"):
        f.inception_score(torch.randn(20, 5))


# ---- precision and recall -----------------------------------------------------------------------------------


def test_precision_and_recall_are_those_of_prdc():
    from prdc import compute_prdc

    a, b = gaussian(300, 6, 1), gaussian(250, 6, 2, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = compute_prdc(a.double().numpy(), b.double().numpy(), nearest_k=5)
    ours = f.prdc(a, b, k=5)
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(ours, name) == pytest.approx(theirs[name], abs=1e-9), name


def test_blocks_and_order_change_nothing():
    a, b = gaussian(300, 6, 1), gaussian(250, 6, 2, 0.5)
    whole = f.prdc(a, b)
    assert f.prdc(a, b, block=17) == whole
    assert f.prdc(a[torch.randperm(300)], b[torch.randperm(250)])[:4] == pytest.approx(whole[:4])


def test_copies_have_full_precision_and_recall():
    x = gaussian(200)
    assert f.prdc(x, x.clone())[:2] == (1, 1)
    assert f.prdc(x.repeat(2, 1), x.repeat(2, 1), k=1).precision == 1  # duplicates: balls of radius 0


def test_dropped_classes_cost_recall_and_noise_costs_precision():
    real, _ = clusters(2000, list(range(10)), 1)
    good, _ = clusters(2000, list(range(10)), 2)
    dropped, _ = clusters(2000, list(range(7)), 3)
    noisy, _ = clusters(2000, list(range(10)), 4, spread=1.2)
    fine, fewer, worse = (f.prdc(real, x) for x in (good, dropped, noisy))
    assert fewer.recall < fine.recall - 0.2
    assert fewer.coverage < fine.coverage - 0.2
    assert abs(fewer.precision - fine.precision) < 0.05
    assert worse.precision < fine.precision - 0.3


# ---- memorisation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_copycats_are_found_and_held_out_data_are_not(share):
    train, held, fresh = gaussian(2000, 12, 1), gaussian(1000, 12, 2), gaussian(1000, 12, 3)
    copies = fresh.clone()
    n = int(share * len(copies))
    copies[:n] = train[:n] + 1e-3 * gaussian(n, 12, 4)
    assert f.copy_share(train, copies, held).value == pytest.approx(share, abs=0.05)
    assert f.copy_share(train, fresh, held).value < 0.03
    assert f.data_copying_ct(train, held, copies).value < -5
    assert abs(f.data_copying_ct(train, held, fresh).value) < 4
    assert f.authenticity(train, copies).value < f.authenticity(train, fresh).value - 0.4 * share
    # which the distance likes: no farther than fresh samples are
    assert f.frechet_distance_of(held, copies) < 1.3 * f.frechet_distance_of(held, fresh)


def test_authenticity_looks_at_the_training_neighbours_own_distance():
    train = torch.tensor([[0.0], [1.0], [10.0]])
    fake = torch.tensor([[0.5], [0.9], [9.5], [30.0]])
    # nearest: 0 or 1 (own distance 1), 1 (1), 10 (9), 10 (9)
    assert f.authenticity(train, fake).value == pytest.approx(1 / 4)


def test_the_memorisation_distance_is_over_fakes_and_copies_pay():
    real = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert f.memorisation_distance(real, torch.tensor([[2.0, 0.0]])) == pytest.approx(0)
    assert f.memorisation_distance(real, torch.tensor([[1.0, 1.0]])) == pytest.approx(1 - 1 / math.sqrt(2))
    assert f.mifid(3.0, 0.0) > 1e6 > f.mifid(3.0, 0.05) > f.mifid(3.0, 0.2) == 3.0


# ---- classes ------------------------------------------------------------------------------------------------


def test_modes_and_their_evenness():
    even = f.modes_covered(torch.arange(100) % 10, 10)
    assert (even.number, even.kl) == (10, pytest.approx(0, abs=1e-12))
    seven = f.modes_covered(torch.arange(700) % 7, 10)
    assert seven.number == 7
    assert seven.covered == tuple(range(7))
    assert seven.kl == pytest.approx(math.log(10 / 7))
    assert f.modes_covered(torch.eye(4)[torch.tensor([0, 2])], 4).covered == (0, 2)
    with pytest.raises(UserError, match="labels must be"):
        f.modes_covered(torch.tensor([10]), 10)


def test_diversity_within_classes():
    x, y = clusters(500, [0, 1], 1)
    assert f.intra_class_diversity(x, y, x, y).mean == pytest.approx(1)
    still = x.clone()
    still[y == 1] = still[y == 1][0]
    found = f.intra_class_diversity(still, y, x, y)
    assert found.per_class[1] == pytest.approx(0, abs=1e-9)
    assert found.mean == pytest.approx(0.5)


@pytest.mark.parametrize("n, dims", [(4, 16), (40, 4)])
def test_the_vendi_score_counts_orthogonal_groups(n, dims):
    x = torch.eye(dims)[torch.arange(n) % 4]
    assert f.vendi_score(x) == pytest.approx(4)
    assert f.vendi_score(torch.ones(n, dims)) == pytest.approx(1)


# ---- refused ------------------------------------------------------------------------------------------------

NAN = torch.full((10, 8), float("nan"))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: f.frechet_distance_of(gaussian(1), gaussian(9)), "N >= 2"),
        (lambda: f.frechet_distance_of(gaussian(9), NAN), "NaN"),
        (lambda: f.frechet_distance_of(gaussian(9, 4), gaussian(9, 5)), "4, 5 dimensions"),
        (lambda: f.kernel_distance(gaussian(9), NAN), "NaN"),
        (lambda: f.kernel_distance(gaussian(9), gaussian(9), subset_size=1), "subset_size=1"),
        (lambda: f.prdc(gaussian(9), gaussian(4)), "more than 5"),
        (lambda: f.authenticity(gaussian(9), NAN), "NaN"),
        (lambda: f.copy_share(gaussian(9), gaussian(9), gaussian(9), quantile=1.5), "quantile"),
        (lambda: f.frechet_infinity(gaussian(9), gaussian(9), points=2), "points"),
        (lambda: f.vendi_score(NAN), "NaN"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(UserError, match=words):
        call()
