"""Laws of the scores that published tools break: exact closed forms, calibrated errors, memorisation, lost modes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_kit.evaluate import functional as f
from gan_kit.evaluate.frechet import trace_of_root
from gan_kit.types import UserError


def normal(n: int, dims: int = 8, seed: int = 0, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    return torch.randn(n, dims, generator=torch.Generator().manual_seed(seed)) * scale + shift


def white(n: int, dims: int, seed: int) -> Tensor:
    """Samples with mean 0 and covariance I, exactly."""
    x = normal(n, dims, seed).double()
    return torch.linalg.qr(x - x.mean(0)).Q * (n - 1) ** 0.5


def clusters(n: int, seed: int, classes: int = 10, dims: int = 8, spread: float = 0.3) -> tuple[Tensor, Tensor]:
    y = torch.arange(n) % classes
    return normal(10, dims, 99, scale=3)[y] + normal(n, dims, seed, scale=spread), y


def nuclear(a: Tensor, b: Tensor) -> Tensor:
    """The Fréchet distance by the singular values of the centred features' inner products: without a covariance."""
    x, y = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (a, b))
    overlap = torch.linalg.svdvals(x @ y.T).sum()
    return (a.mean(0) - b.mean(0)).square().sum() + x.square().sum() + y.square().sum() - 2 * overlap


# ---- Fréchet --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, m", [(40, 60), (9, 60), (40, 9)])
def test_of_samples_with_known_moments_it_is_the_closed_form(n, m):
    dims, shift = 8, torch.arange(8.0).double()
    a = normal(dims, dims, 5).double()
    a = a @ a.T  # a symmetric positive map is the optimal transport: tr (I - A)²
    expected = shift.square().sum() + (torch.eye(dims) - a).square().sum()
    found = f.frechet_distance_of(white(n, dims, 1), white(m, dims, 2) @ a + shift)
    assert found.item() == pytest.approx(expected.item(), rel=1e-8)


def test_what_changes_no_distance():
    a, b = normal(50, 12, 1).double(), normal(40, 12, 2, 0.4, 1.5).double()
    turn = torch.linalg.qr(normal(12, 12, 3).double()).Q
    expected = f.frechet_distance_of(a, b).item()
    for x, y in ((a @ turn, b @ turn), (a + 7, b + 7), (a.flip(0), b.roll(3, 0)), (b, a)):
        assert f.frechet_distance_of(x, y).item() == pytest.approx(expected, rel=1e-9)
    assert f.frechet_distance_of(3 * a, 3 * b).item() == pytest.approx(9 * expected, rel=1e-9)


@pytest.mark.parametrize("n, m", [(10, 12), (10, 200), (200, 10), (33, 32), (200, 300)])
@pytest.mark.parametrize("dead", [0, 5])
def test_singular_covariances_and_features_that_never_vary(n, m, dead):
    a, b = normal(n, 32, 1).relu().double(), normal(m, 32, 2, 0.5).relu().double()
    a[:, :dead] = 0
    b[:, 3 : 3 + dead] = 1
    expected = nuclear(a, b)
    for found in (f.frechet_distance_of(a, b), f.frechet_distance(*f.mean_and_cov(a), *f.mean_and_cov(b))):
        assert found.item() == pytest.approx(expected.item(), rel=1e-8)
    for z in (a, b):
        _, cov = f.mean_and_cov(z)
        root = f.cov_root(cov)
        torch.testing.assert_close(root @ root.T, cov, rtol=0, atol=1e-12)
        assert f.frechet_distance(*f.mean_and_cov(z), *f.mean_and_cov(z)) < 1e-6
        assert f.frechet_distance_of(z, z) < 1e-6
    (m1, c1), (m2, c2) = f.mean_and_cov(a), f.mean_and_cov(b)
    with_root = f.frechet_distance(m1, c1, m2, c2, root1=f.cov_root(c1))
    assert with_root.item() == pytest.approx(f.frechet_distance(m1, c1, m2, c2).item(), rel=1e-9)


def test_features_that_never_vary_on_one_side_only_are_left_out_of_the_overlap():
    a, b = normal(900, 600, 1).double(), normal(900, 600, 2, 0.3).double()
    a[:, :40], b[:, 20:60] = 0.5, 2.0
    (m1, c1), (m2, c2) = f.mean_and_cov(a), f.mean_and_cov(b)
    live = slice(60, None)
    varying = f.frechet_distance(m1[live], c1[live, live], m2[live], c2[live, live])
    rest = (m1 - m2)[:60].square().sum() + c1.diagonal()[:60].sum() + c2.diagonal()[:60].sum()
    assert f.frechet_distance(m1, c1, m2, c2).item() == pytest.approx((varying + rest).item(), rel=1e-10)
    kept = f.frechet_distance(m1, c1, m2, c2, root1=f.cov_root(c1))
    assert kept.item() == pytest.approx((varying + rest).item(), rel=1e-10)
    still, zero = torch.full((600,), 0.5).double(), torch.zeros(600, 600).double()
    expected = (m1 - still).square().sum() + c1.trace()
    assert f.frechet_distance(still, zero, m1, c1).item() == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("decades", [0, 3])
@pytest.mark.parametrize("dead", [0, 3])
def test_many_features_of_any_spectrum(decades, dead):
    scale = torch.logspace(0, -decades, 560).double()
    a, b = normal(900, 560, 1).double() * scale, normal(800, 560, 2, 0.3).double() * scale
    mix = torch.linalg.qr(normal(560, 560, 3).double()).Q
    a, b = a @ mix, b @ mix
    b[:, 7 : 7 + dead] = 1
    expected = nuclear(a, b).item()
    assert f.frechet_distance_of(a, b).item() == pytest.approx(expected, rel=1e-9)
    assert f.frechet_distance(*f.mean_and_cov(a), *f.mean_and_cov(b)).item() == pytest.approx(expected, rel=1e-9)
    assert f.frechet_distance(*f.mean_and_cov(b), *f.mean_and_cov(a)).item() == pytest.approx(expected, rel=1e-9)
    few = nuclear(a, b[:300]).item()  # a covariance with zeros, on either side
    assert f.frechet_distance(*f.mean_and_cov(a), *f.mean_and_cov(b[:300])).item() == pytest.approx(few, rel=1e-9)
    assert f.frechet_distance(*f.mean_and_cov(b[:300]), *f.mean_and_cov(a)).item() == pytest.approx(few, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-200, 1, 1e200])
def test_the_trace_of_a_root_is_the_integral_of_log_determinants(scale):
    n = 600
    steps = 2 * np.ones(n) * scale, -np.ones(n - 1) * scale  # eigenvalues 4 sin²(k π / 2 (n + 1)): the sum is closed
    found, singular = trace_of_root(*steps)
    assert found == pytest.approx((1 / np.tan(np.pi / (4 * (n + 1))) - 1) * scale**0.5, rel=1e-10)
    assert not singular

    values = np.logspace(0, -20, n) * scale
    found, singular = trace_of_root(values, np.zeros(n - 1))
    assert found == pytest.approx(np.sqrt(values).sum(), rel=1e-10)
    assert singular, "what is that small may be rounding"

    values[::2] = 0
    found, singular = trace_of_root(values, np.zeros(n - 1))
    assert found == pytest.approx(np.sqrt(values).sum(), rel=1e-10)
    assert singular

    path = np.full(n, 2.0), -np.ones(n - 1)  # a path's Laplacian has one zero
    path[0][[0, -1]] = 1
    found, singular = trace_of_root(*path)
    assert found == pytest.approx(2 * np.sin(np.arange(n) * np.pi / (2 * n)).sum(), rel=1e-9)
    assert singular
    assert trace_of_root(np.zeros(n), np.zeros(n - 1)) == (0, True)


@pytest.mark.parametrize("n", [900, 400])
def test_moments_are_left_as_they_were(n):
    (m1, c1), (m2, c2) = given = [f.mean_and_cov(normal(n, 600, seed).double()) for seed in (1, 2)]
    root = f.cov_root(c1)
    before = [t.clone() for t in (m1, c1, m2, c2, root)]
    expected = f.frechet_distance_of(*(normal(n, 600, seed).double() for seed in (1, 2)))
    for root1 in (None, root):
        assert f.frechet_distance(*given[0], *given[1], root1=root1).item() == pytest.approx(expected.item(), rel=1e-9)
    for now, then in zip((m1, c1, m2, c2, root), before, strict=True):
        assert torch.equal(now, then)


def test_other_implementations_agree():
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc
    from torchmetrics.image.fid import _compute_fid

    a, b = normal(300, 20, 1).double(), normal(260, 20, 2, 0.3).double()
    (m1, c1), (m2, c2) = f.mean_and_cov(a), f.mean_and_cov(b)
    stats = [metric_fid.fid_features_to_statistics(x) for x in (a, b)]
    theirs = metric_fid.fid_statistics_to_metric(*stats, False)["frechet_inception_distance"]
    assert f.frechet_distance_of(a, b).item() == pytest.approx(theirs, rel=1e-9)
    assert f.frechet_distance_of(a, b).item() == pytest.approx(_compute_fid(m1, c1, m2, c2).item(), rel=1e-9)

    kid = metric_kid.kid_features_to_metric(a, b, kid_subsets=1, kid_subset_size=260, verbose=False, rng_seed=0)
    ours = f.kernel_distance(a[:260], b)
    same = metric_kid.kernel_mmd(a[:260].numpy(), b.numpy())
    assert ours.value == pytest.approx(same, rel=1e-9)
    assert ours.value == pytest.approx(kid["kernel_inception_distance_mean"], rel=0.5)

    logits = normal(100, 5, 3, scale=3)
    isc = metric_isc.isc_features_to_metric(logits, splits=1)["inception_score_mean"]
    assert f.inception_score(logits.double().softmax(1), splits=1).mean == pytest.approx(isc, rel=1e-9)

    prc = metric_prc.prc_features_to_metric(b.float(), a.float(), prc_neighborhood=3, verbose=False)
    ours_pr = f.precision_recall(a.float(), b.float(), k=3)
    assert ours_pr.precision.value == pytest.approx(prc["precision"], abs=1e-6)
    assert ours_pr.recall.value == pytest.approx(prc["recall"], abs=1e-6)


@pytest.mark.parametrize("n, dims", [(103, 5), (60, 80)])
def test_the_jackknife_is_that_of_distances_taken_anew(n, dims):
    real, fake = normal(300, dims, 1), normal(n, dims, 2, 0.3)
    value, stderr = f.frechet_with_error(real, fake, groups=7)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).tensor_split(7)
    left = []
    for rows in order:
        kept = torch.ones(n, dtype=torch.bool)
        kept[rows] = False
        left.append(f.frechet_distance_of(real, fake[kept]).item())
    assert value == pytest.approx(f.frechet_distance_of(real, fake).item(), rel=1e-9)
    assert stderr == pytest.approx(math.sqrt(6 * np.var(left)), rel=1e-6)


def test_extrapolation_leads_to_the_limit_and_its_error_is_honest():
    real = normal(30_000, 12, 1)
    found = [f.frechet_infinity(real, normal(800, 12, 10 + i), seed=i) for i in range(16)]
    values = np.array([x.value for x in found])
    plain = f.frechet_distance_of(real, normal(800, 12, 10)).item()
    assert abs(values.mean()) < 4 * values.std(ddof=1) / 4
    assert abs(values.mean()) < 0.15 * plain  # drawn with replacement it would be `plain`
    assert np.mean([x.stderr for x in found]) > 0.6 * values.std(ddof=1)
    for x in found:
        assert x.slope / 800 == pytest.approx(plain, rel=0.6)


def test_extrapolation_starts_where_the_distance_is_a_line():
    real, fake = normal(20_000, 64, 1), normal(1200, 64, 2)
    found = f.frechet_infinity(real, fake, points=8)
    plain = f.frechet_distance_of(real, fake).item()
    assert abs(found.value) < 0.1 * plain
    curved = f.frechet_infinity(real, fake, points=8, least=20)  # fewer than dimensions
    assert abs(curved.value) > abs(found.value)


# ---- kernel distance, inception score -----------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_the_error_of_one_subset_foretells_the_spread_over_draws(shift):
    found = [f.kernel_distance(normal(150, 8, 2 * i), normal(150, 8, 2 * i + 1, shift)) for i in range(40)]
    spread = np.std([x.value for x in found], ddof=1)
    assert np.mean([x.stderr for x in found]) == pytest.approx(spread, rel=0.5)


def test_the_error_over_subsets_is_that_of_their_mean():
    a, b = normal(400, 8, 1), normal(300, 8, 2, 0.2)
    one = [f.kernel_distance(a, b, subsets=10, subset_size=60, seed=s) for s in range(12)]
    assert np.mean([x.stderr for x in one]) == pytest.approx(np.std([x.value for x in one], ddof=1), rel=0.7)
    assert f.kernel_distance(a, b, subset_size=60) == f.kernel_distance(a, b, subset_size=60)
    assert f.kernel_distance(a[:40], b[:30], subsets=3).stderr > 0  # clipped to 30


def test_the_inception_score_does_not_know_the_order_of_samples():
    p = torch.eye(10).repeat_interleave(100, 0) * 0.9 + 0.01
    whole = f.inception_score(p, splits=1).mean
    cut = f.inception_score(p, splits=10)
    assert cut.mean == pytest.approx(whole, rel=0.1)  # unshuffled, ten splits of a class each: 1
    assert cut.std > 0
    assert f.inception_score(p, splits=10, seed=0) == cut
    assert f.inception_score(p.repeat(2, 1), splits=1).mean == pytest.approx(whole)
    assert f.inception_score(p[torch.randperm(1000)], splits=1).mean == pytest.approx(whole)


# ---- precision and recall -----------------------------------------------------------------------------------


def test_precision_and_recall_swap_with_the_sides():
    a, b = normal(200, 6, 1), normal(170, 6, 2, 0.5)
    one, other = f.precision_recall(a, b), f.precision_recall(b, a)
    assert one.precision == other.recall
    assert one.recall == other.precision
    whole = f.prdc(a, b, 3)
    assert (one.precision.value, one.recall.stderr) == (whole.precision, whole.recall_stderr)
    dc = f.density_coverage(a, b)
    assert (dc.density.value, dc.coverage.value) == f.prdc(a, b, 5)[2:4]
    assert one.precision.stderr == pytest.approx(math.sqrt(whole.precision * (1 - whole.precision) / 170))


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_exact_copies_count_wherever_they_lie(shift):
    x = normal(150, 64, 1, shift)
    found = f.prdc(x, x.clone())
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    twice = x[:20].repeat(6, 1)  # each ball has radius 0 and holds its five copies: strictly, nothing
    assert f.prdc(twice, twice, k=5)[:4] == (1, 1, pytest.approx(6 / 5), 1)


def test_what_is_shrunk_loses_recall_and_what_is_blown_up_loses_precision():
    real, _ = clusters(1500, 1)
    good, shrunk, blown = (clusters(1500, 2 + i, spread=s)[0] for i, s in enumerate((0.3, 0.12, 0.9)))
    fine, small, large = (f.prdc(real, x) for x in (good, shrunk, blown))
    assert small.precision >= fine.precision
    assert small.recall < fine.recall - 0.3
    assert large.precision < fine.precision - 0.3
    assert large.density < fine.density - 0.3


def test_three_of_ten_classes_dropped():
    real, y = clusters(1500, 1)
    whole, z = clusters(1500, 2)
    left = z < 7
    fine, fewer = f.prdc(real, whole), f.prdc(real, whole[left])
    assert fewer.recall == pytest.approx(0.7 * fine.recall, abs=0.05)
    assert fewer.coverage == pytest.approx(0.7 * fine.coverage, abs=0.05)
    assert fewer.precision == pytest.approx(fine.precision, abs=0.05)
    assert f.modes_covered(z, 10).number == 10
    assert f.modes_covered(z[left], 10).covered == tuple(range(7))
    assert set(f.class_frechet_distances(real, y, whole[left], z[left])) == set(range(7))


# ---- memorisation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_copies_are_counted(share):
    train, held, fake = (normal(n, 16, i) for i, n in enumerate((1500, 1500, 800)))
    n = int(share * 800)
    fake[:n] = train[torch.randint(1500, (n,))]
    copies = f.copy_share(train, fake, held)
    assert copies.value == pytest.approx(share + 0.01 * (1 - share), abs=4 * 0.0036 + 1e-3)
    real = f.authenticity(train, held).value
    assert f.authenticity(train, fake).value == pytest.approx(real * (1 - share), abs=0.07)
    ct = f.data_copying_ct(train, held, fake)
    assert ct.value < -5 if share else abs(ct.value) < 3
    assert sum(part for part, _ in ct.cells) == pytest.approx(1)
    distance = f.memorisation_distance(train, fake)
    assert distance == pytest.approx((1 - share) * f.memorisation_distance(train, held), rel=0.1, abs=1e-9)


def test_the_copy_share_of_held_out_data_is_calibrated_and_knows_its_error():
    train, held = normal(500, 6, 1), normal(300, 6, 2)
    assert f.copy_share(train, held, held).value == pytest.approx(0.01)
    draws = [f.copy_share(train, normal(300, 6, 20 + 2 * i), normal(300, 6, 21 + 2 * i)) for i in range(30)]
    assert np.mean([x.value for x in draws]) == pytest.approx(0.012, abs=0.006)
    few = f.copy_share(train, normal(300, 6, 3), held[:20])  # the hundredth of twenty is a guess
    assert few.stderr > 0.04
    dirty = torch.cat([train[:30], held])  # held-out data that hold training samples
    assert f.copy_share(train, normal(200, 6, 4), dirty).value == 0
    assert f.copy_share(train, train[:200], dirty).value == 1


def test_authenticity_asks_the_training_sample_for_its_own_neighbour():
    # fakes' spacing must not matter, only that of the training data
    train = torch.tensor([[0.0], [4.0], [100.0], [101.0]])
    assert f.authenticity(train, torch.tensor([[1.0], [1.0], [1.0]])).value == 0  # 1 away, its own are 4 apart
    assert f.authenticity(train, torch.tensor([[98.0], [98.0]])).value == 1  # 2 away, its own are 1 apart
    double = torch.tensor([[0.0], [0.0], [5.0]])
    assert f.authenticity(double, torch.tensor([[0.1], [0.1]])).value == 1  # a duplicate is a neighbour at 0
    assert f.authenticity(double, torch.tensor([[0.0], [0.0]])).value == 0


def test_the_authenticity_of_real_data_grows_with_the_dimensions():
    one, many = (f.authenticity(normal(2000, d, 1), normal(1000, d, 2)).value for d in (1, 16))
    assert one == pytest.approx(1 / 3, abs=0.05)
    assert many == pytest.approx(0.68, abs=0.05)


def test_the_z_score_is_that_of_mann_and_whitney():
    from scipy.stats import mannwhitneyu

    train = normal(300, 2, 1)
    held, fake = normal(120, 2, 2), normal(90, 2, 3, scale=0.8).mul(10).round().div(10)
    fake[:20] = train[:20]  # ties
    found = f.data_copying_ct(train, held, fake, cells=1)
    d_held, d_fake = (f.nearest(x, train)[0][:, 0].numpy() for x in (held, fake))
    test = mannwhitneyu(d_fake, d_held, use_continuity=False, method="asymptotic", alternative="less")
    assert 0.5 * math.erfc(-found.value / math.sqrt(2)) == pytest.approx(test.pvalue, rel=1e-6)


def test_copies_within_one_cell_weigh_what_the_cell_weighs():
    train, _ = clusters(1000, 1, classes=2)
    held, _ = clusters(600, 2, classes=2)
    fake, y = clusters(600, 3, classes=2)
    fake[y == 0] = train[:600:2]
    found = f.data_copying_ct(train, held, fake, cells=2)
    low, high = sorted(z for _, z in found.cells)
    assert low < -10
    assert abs(high) < 4
    assert found.value == pytest.approx((low + high) / 2, rel=0.05)


def test_a_few_real_samples_copied_by_all_fakes():
    real = normal(500, 16, 1)
    fake = real[:5].repeat(40, 1)
    # averaged over the reals instead of the fakes most have nothing near them, and the copies go unseen
    assert f.memorisation_distance(real, fake) < 1e-12
    assert f.memorisation_distance(fake, real) > 0.2
    assert f.memorisation_distance(real, 3 * fake) < 1e-12  # a cosine
    assert f.mifid(2.0, f.memorisation_distance(real, fake)) > 1e9
    assert f.mifid(2.0, f.memorisation_distance(real, normal(200, 16, 2))) == 2.0


# ---- classes, diversity ---------------------------------------------------------------------------------------


def test_modes_against_the_datas_own_shares():
    reference = torch.tensor([0.5, 0.3, 0.2])
    y = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    assert f.modes_covered(y, 3, reference=reference).kl == pytest.approx(0, abs=1e-6)
    rare = torch.tensor([0] * 79 + [1] * 20 + [2])
    assert f.modes_covered(rare, 3, reference=reference).covered == (0, 1)  # 1 % is below a tenth of 20 %
    assert f.modes_covered(rare, 3, reference=reference, least=0.01).number == 3
    assert f.modes_covered(torch.eye(3)[rare], 3).number == f.modes_covered(rare, 3).number


def test_diversity_is_the_share_of_the_variance():
    real, y = clusters(400, 1, classes=4)
    centres = torch.stack([real[y == k].mean(0) for k in range(4)])[y]
    found = f.intra_class_diversity(centres + (real - centres) / 2, y, real, y)
    assert found.mean == pytest.approx(0.25, rel=1e-4)
    assert set(found.per_class) == set(range(4))


def test_clumps_keep_the_variance_and_lose_the_distance_to_the_nearest():
    real, y = clusters(400, 1, classes=4)
    other, y2 = clusters(400, 2, classes=4)
    found = f.neighbour_distances(other, y2, real, y)
    assert found.mean == pytest.approx(1, abs=0.05)
    assert abs(found.mean - 1) < 4 * found.stderr
    assert f.neighbour_distances(2 * other, y2, real, y).mean == pytest.approx(2 * found.mean)
    few = torch.cat([other[y2 == k][:10].repeat(10, 1) for k in range(4)])  # ten pictures a class, ten times each
    labels = torch.arange(4).repeat_interleave(100)
    assert f.intra_class_diversity(few, labels, real, y).mean > 0.7
    assert f.neighbour_distances(few, labels, real, y).mean == 0
    # at equal numbers: of half as many, the nearest lie further apart, on both sides
    half = f.neighbour_distances(other[::2], y2[::2], real, y)
    assert half.mean == pytest.approx(1, abs=0.1)
    with pytest.raises(UserError, match="lie apart"):
        f.neighbour_distances(other, y2, torch.zeros_like(real), y)


def test_the_vendi_score_counts_what_differs():
    x = normal(30, 12, 1)
    from_samples = torch.nn.functional.normalize(x.double(), dim=1)
    values = torch.linalg.eigvalsh(from_samples @ from_samples.T / 30).clamp(min=1e-300)
    assert f.vendi_score(x) == pytest.approx(float((-values * values.log()).sum().exp()))
    assert f.vendi_score(x.repeat(3, 1)) == pytest.approx(f.vendi_score(x))  # copies add nothing
    assert f.vendi_score(x * torch.rand(30, 1)) == pytest.approx(f.vendi_score(x))
    assert f.vendi_score(x[:5].repeat(6, 1)) < f.vendi_score(x)
    assert 1 <= f.vendi_score(x) <= 12


# ---- all of them ----------------------------------------------------------------------------------------------

Y = torch.arange(60) % 3
ALL: dict[str, Callable[[Tensor, Tensor], object]] = {
    "mean_and_cov": lambda a, b: f.mean_and_cov(a),
    "frechet_distance_of": f.frechet_distance_of,
    "frechet_with_error": f.frechet_with_error,
    "frechet_infinity": f.frechet_infinity,
    "class_frechet_distances": lambda a, b: f.class_frechet_distances(a, Y, b, Y),
    "kernel_distance": lambda a, b: f.kernel_distance(a, b, subsets=2, subset_size=20),
    "prdc": f.prdc,
    "nearest": f.nearest,
    "authenticity": f.authenticity,
    "copy_share": lambda a, b: f.copy_share(a, b, a),
    "data_copying_ct": lambda a, b: f.data_copying_ct(a, b, b),
    "memorisation_distance": f.memorisation_distance,
    "intra_class_diversity": lambda a, b: f.intra_class_diversity(a, Y, b, Y),
    "neighbour_distances": lambda a, b: f.neighbour_distances(a, Y, b, Y),
    "vendi_score": lambda a, b: f.vendi_score(b),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_features_of_any_type_stay_as_they_are(name, dtype):
    a, b = normal(60, 6, 1).to(dtype), normal(60, 6, 2, 0.5).to(dtype)
    before = a.clone(), b.clone()
    ALL[name](a, b)
    assert a.equal(before[0])
    assert b.equal(before[1])


@pytest.mark.parametrize("name", [n for n in ALL if n not in ("mean_and_cov", "nearest")])
def test_what_is_not_finite_is_refused(name):
    for bad in (torch.nan, torch.inf):
        x = normal(60, 6, 1)
        x[7, 2] = bad
        with pytest.raises(UserError, match="not finite"):
            ALL[name](x, x)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: f.frechet_with_error(normal(9), normal(9), groups=1), "groups=1"),
        (lambda: f.frechet_infinity(normal(9), normal(9), least=9), "least < 9"),
        (lambda: f.class_frechet_distances(normal(60), Y, normal(9), Y), r"labels \(60,\)"),
        (lambda: f.class_frechet_distances(normal(60), Y, normal(60), Y + 3), "no class"),
        (lambda: f.intra_class_diversity(normal(9), Y, normal(60), Y), r"labels \(60,\)"),
        (lambda: f.kernel_distance(normal(9), normal(9), subsets=0), "subsets=0"),
        (lambda: f.inception_score(torch.full((9, 2), 0.5), splits=10), "splits=10"),
        (lambda: f.prdc(normal(9), normal(9), k=0), "k=0"),
        (lambda: f.precision_recall(normal(9), normal(3)), "k=3"),
        (lambda: f.data_copying_ct(normal(9), normal(9), normal(9), cells=0), "cells=0"),
        (lambda: f.modes_covered(torch.arange(3), 3, reference=[0.5, 0.5]), "3 shares"),
        (lambda: f.vendi_score(normal(9), kernel="rbf"), "'rbf'"),
        (lambda: f.vendi_score(torch.zeros(9, 4)), "zero"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(UserError, match=words):
        call()
