"""Penalties against closed forms: critics whose gradients are known, for vectors, sounds and pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from gan_kit.adversarial import GAN, R1, R2, Cosine, DView, GradientPenalty, Linear, NonSaturating, Penalty
from gan_kit.image import DiffAugment
from gan_kit.noise import BatchNoise
from gan_kit.types import Batch, Critique, UserError
from gan_kit.vector import MLPDiscriminator, MLPGenerator

B = 6
SHAPES = [(2,), (1, 50), (3, 8, 8)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=["vector", "sound", "picture"])


def view(critique: Callable[[Tensor], Critique], shape: tuple[int, ...], n: int = B, seed: int = 0) -> DView:
    real, fake = torch.randn(n, *shape).requires_grad_(), torch.randn(n, *shape).requires_grad_()
    return DView(critique, real, fake, critique(real), critique(fake), BatchNoise((seed,), n))


def linear(w: Tensor) -> Callable[[Tensor], Critique]:
    return lambda x: Critique([(x * w).flatten(1).sum(1) + 3], [[]])


def quadratic(x: Tensor) -> Critique:
    """½‖x‖², whose gradient is x"""
    return Critique([x.square().flatten(1).sum(1) / 2], [[]])


@shapes
@pytest.mark.parametrize("penalty", [R1, R2])
def test_r1_and_r2_of_a_linear_critic_are_half_its_squared_weight(penalty: type[R1], shape: tuple[int, ...]) -> None:
    w = torch.randn(shape)
    value = penalty(0.7)(view(linear(w), shape), 0)
    assert value.item() == pytest.approx(0.7 * w.square().sum().item() / 2, rel=1e-5)


@shapes
def test_r1_looks_at_reals_and_r2_at_fakes(shape: tuple[int, ...]) -> None:
    v = view(quadratic, shape)
    for penalty, x in ((R1(1.0), v.real), (R2(1.0), v.fake)):
        norm = x.detach().flatten(1).square().sum(1)
        assert torch.allclose(penalty.formula(v), norm / 2, rtol=1e-5)
        assert penalty(v, 0).item() == pytest.approx(norm.mean().item() / 2, rel=1e-5)


@shapes
def test_gradient_penalty_of_a_linear_critic(shape: tuple[int, ...]) -> None:
    w = torch.randn(shape)
    value = GradientPenalty(10.0)(view(linear(w), shape), 0)
    assert value.item() == pytest.approx(10 * (w.norm().item() - 1) ** 2, rel=1e-5)


@shapes
def test_gradient_penalty_looks_at_one_point_on_each_line_from_real_to_fake(shape: tuple[int, ...]) -> None:
    v, rank = view(quadratic, shape, seed=5), len(shape)
    t = BatchNoise((5,), B).rand(*[1] * rank)
    between = (v.real + t * (v.fake - v.real)).detach()
    expected = (between.flatten(1).norm(dim=1) - 1).square()
    assert torch.allclose(GradientPenalty().formula(v), expected, rtol=1e-4)
    assert t.unique().numel() == B  # another point for each sample


def test_gradient_penalty_of_a_flat_critic_has_a_finite_gradient() -> None:
    w = torch.zeros(3, requires_grad=True)
    GradientPenalty()(view(linear(w), (3,)), 0).backward()
    assert w.grad is not None
    assert w.grad.isfinite().all()


def test_the_logits_of_several_sub_discriminators_and_of_patches_are_summed_before_the_norm() -> None:
    a, b = torch.randn(3, 8, 8), torch.randn(3, 8, 8)

    def critique(x: Tensor) -> Critique:
        return Critique([(x * a).flatten(1).sum(1), (x * b).sum(1)], [[], []])

    expected = (a + b).square().sum().item() / 2
    v = view(critique, (3, 8, 8))
    assert R1(1.0)(v, 0).item() == pytest.approx(expected, rel=1e-5)
    exact_in_the_mean = R1(1.0, finite_difference_sigma=0.1).formula(view(critique, (3, 8, 8), n=20_000)).mean()
    assert exact_in_the_mean.item() == pytest.approx(expected, rel=0.05)


class Scaling(nn.Module):
    """An augmentation that multiplies by c."""

    def __init__(self, c: float):
        super().__init__()
        self.c = c

    def forward(self, x: Tensor, p: float, noise: BatchNoise) -> Tensor:
        return x * self.c


class Linear1(nn.Module):
    def __init__(self, w: Tensor):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        return Critique([x @ self.w], [[]])


def gan_with(D: nn.Module, penalties: dict[str, Penalty], augment: nn.Module | None = None) -> GAN:
    sgd = partial(torch.optim.SGD, lr=0.1)
    return GAN(MLPGenerator(width=4), D, NonSaturating(), sgd, sgd, penalties, augment=augment)


@pytest.mark.parametrize("c", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("name, penalty", [("r1", R1(1.0)), ("r2", R2(1.0))])
def test_the_gradient_is_with_respect_to_the_unaugmented_data(name: str, penalty: Penalty, c: float) -> None:
    w = torch.tensor([0.3, -0.4])
    gan = gan_with(Linear1(w), {name: penalty}, Scaling(c))
    gan.d_loss(torch.randn(8, 2), None, gan.noise(0, 8))
    assert gan.scalars[f"penalty_{name}"].item() == pytest.approx(c**2 * 0.25 / 2, rel=1e-5)


def test_the_gradient_penalty_goes_through_the_augmentation_too() -> None:
    gan = gan_with(Linear1(torch.tensor([0.3, -0.4])), {"gp": GradientPenalty(1.0)}, Scaling(4.0))
    gan.d_loss(torch.randn(8, 2), None, gan.noise(0, 8))
    assert gan.scalars["penalty_gp"].item() == pytest.approx((4 * 0.5 - 1) ** 2, rel=1e-5)


@pytest.mark.parametrize("make", [R1, R2, GradientPenalty])
@pytest.mark.parametrize("every", [1, 2, 4, 5])
def test_a_lazy_penalty_averages_to_the_eager_one(make: type[Penalty], every: int) -> None:
    v = view(linear(torch.randn(2)), (2,))
    lazy, eager = make(0.3, every=every), make(0.3)
    steps = range(20)
    spent = sum(lazy(v, 0).item() for step in steps if lazy.due(step))
    assert spent == pytest.approx(20 * eager(v, 0).item(), rel=1e-5)
    assert [step for step in steps if lazy.due(step)] == list(range(0, 20, every))


def test_the_step_applies_a_lazy_penalty_on_its_steps_alone_and_shows_it_unscaled() -> None:
    gan = gan_with(Linear1(torch.tensor([3.0, 4.0])), {"r1": R1(2.0, every=3)})
    real = torch.randn(8, 2)
    for step in range(7):
        gan.step, gan.scalars = step, {}
        loss = gan.d_loss(real, None, gan.noise(0, 8))
        if step % 3 == 0:
            assert gan.scalars["penalty_r1"].item() == pytest.approx(25, rel=1e-5)
            assert (loss - gan.scalars["loss_d"]).item() == pytest.approx(75, rel=1e-5)
        else:
            assert "penalty_r1" not in gan.scalars
            assert torch.equal(loss, gan.scalars["loss_d"])


@shapes
def test_a_finite_difference_of_a_linear_critic_has_the_exact_norm_as_its_mean(shape: tuple[int, ...]) -> None:
    w = torch.randn(shape)
    n = 40_000 if len(shape) == 1 else 8_000
    estimate = R1(1.0, finite_difference_sigma=0.05).formula(view(linear(w), shape, n=n))
    exact = w.square().sum().item() / 2
    # ½(w·ε)² has mean ½‖w‖² and standard deviation ‖w‖²/√2
    assert abs(estimate.mean().item() - exact) < 5 * math.sqrt(2) * exact / math.sqrt(n)
    assert estimate.std().item() == pytest.approx(math.sqrt(2) * exact, rel=0.1)


@pytest.mark.parametrize("penalty", [R1, R2])
def test_a_finite_difference_approaches_the_exact_norm_as_sigma_shrinks(penalty: type[R1]) -> None:
    torch.manual_seed(1)
    D = MLPDiscriminator(width=16).double()
    x = torch.randn(1, 2).double().expand(50_000, 2)
    real, fake = x.clone().requires_grad_(), x.clone().requires_grad_()
    v = DView(D, real, fake, D(real), D(fake), BatchNoise((3,), len(x)))
    exact = penalty(1.0).formula(v)[0].item()
    near, far = (penalty(1.0, finite_difference_sigma=sigma).formula(v).mean().item() for sigma in (1e-4, 2.0))
    assert near == pytest.approx(exact, rel=0.03)
    assert abs(near - exact) < abs(far - exact)


def test_a_finite_difference_compares_under_one_and_the_same_augmentation() -> None:
    """Two draws of the augmentation differ by far more than σ: their difference over σ is no slope."""
    torch.manual_seed(0)
    w = torch.randn(1, 16, 16) / 16

    class D(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(w)

        def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
            return Critique([(x * self.w).flatten(1).sum(1)], [[]])

    class G(nn.Module):
        z_dim = 4

        def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
            return z.sum(1).view(-1, 1, 1, 1).expand(-1, 1, 16, 16).tanh()

    n, values = 4_000, {}
    for sigma in (None, 0.01):
        penalties: dict[str, Penalty] = {
            "r1": R1(1.0, finite_difference_sigma=sigma),
            "r2": R2(1.0, finite_difference_sigma=sigma),
        }
        gan = gan_with(D(), penalties, DiffAugment())
        gan.generator = G()
        gan.d_loss(torch.rand(n, 1, 16, 16) * 2 - 1, None, gan.noise(0, n))
        values[sigma] = [gan.scalars[f"penalty_{k}"].item() for k in penalties]
    assert values[0.01] == pytest.approx(values[None], rel=0.1)


def test_weights_may_be_schedules() -> None:
    v = view(linear(torch.tensor([3.0, 4.0])), (2,))
    for schedule in (Linear(1.0, 0.1, 1000), Cosine(0.05, 0.005, 1000)):
        for seen in (0, 250, 500, 1000, 5000):
            assert R1(schedule)(v, seen).item() == pytest.approx(schedule(seen) * 12.5, rel=1e-5)


@pytest.mark.parametrize("make", [R1, R2, GradientPenalty])
@pytest.mark.parametrize("arguments, named", [({"every": 0}, "every=0"), ({"weight": -0.5}, "weight=-0.5")])
def test_arguments_that_make_no_sense_are_refused(make: type[Penalty], arguments: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        make(**arguments)


@pytest.mark.parametrize("sigma", [0.0, -0.01])
def test_a_finite_difference_needs_a_positive_sigma(sigma: float) -> None:
    with pytest.raises(UserError, match=f"finite_difference_sigma={sigma}"):
        R1(finite_difference_sigma=sigma)


class Smooth(nn.Module):
    """A tiny critic without kinks, so that finite differences of its gradients converge."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 5), nn.Linear(5, 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        return Critique([self.b(self.a(x).tanh()).squeeze(1)], [[]])


@pytest.mark.parametrize(
    "penalty",
    [R1(0.7), R2(0.7), GradientPenalty(0.7), R1(0.7, finite_difference_sigma=0.1)],
    ids=["r1", "r2", "gp", "finite difference"],
)
def test_the_second_order_gradient_reaches_all_weights_of_d_and_is_right(penalty: Penalty) -> None:
    torch.manual_seed(3)
    D = Smooth().double()
    real, fake = torch.randn(4, 2).double(), torch.randn(4, 2).double()

    def value() -> Tensor:
        r, f = real.clone().requires_grad_(), fake.clone().requires_grad_()
        # sq_grad_norm works in fp32 as the training does: 1e-7 relative noise, so steps of 1e-3
        return penalty(DView(D, r, f, D(r), D(f), BatchNoise((0,), 4)), 0).double()

    names, params = zip(*D.named_parameters(), strict=True)
    grads = torch.autograd.grad(value(), params, allow_unused=True)
    step = 1e-3
    for name, p, grad in zip(names, params, grads, strict=True):
        if name == "b.bias":
            assert grad is None or not grad.any()  # a constant has no slope
            continue
        numeric = torch.zeros_like(p)
        with torch.no_grad():
            for i in range(p.numel()):
                flat = p.view(-1)
                flat[i] += step
                above = value_of(value)
                flat[i] -= 2 * step
                below = value_of(value)
                flat[i] += step
                numeric.view(-1)[i] = (above - below) / (2 * step)
        assert grad is not None, name
        assert grad.norm() > 1e-3, name
        assert torch.allclose(grad, numeric, atol=2e-4), name


def value_of(value: Callable[[], Tensor]) -> float:
    with torch.enable_grad():
        return value().item()


def test_a_penalty_gives_the_generator_no_gradient() -> None:
    gan = gan_with(MLPDiscriminator(width=8), {"r1": R1(), "r2": R2(), "gp": GradientPenalty()})
    batch = Batch(torch.randn(8, 2), None)
    gan.d_loss(batch.x, None, gan.noise(0, 8)).backward()
    assert all(p.grad is None for p in gan.generator.parameters())
    assert any(p.grad is not None and p.grad.any() for p in gan.discriminator.parameters())
