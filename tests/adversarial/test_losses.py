"""The losses at logits worked out by hand, and the laws that name them."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from gan_kit.adversarial import (
    GAN,
    Hinge,
    LeastSquares,
    Loss,
    NonSaturating,
    Relativistic,
    RelativisticAverage,
    Wasserstein,
)
from gan_kit.types import Critique
from gan_kit.vector import MLPDiscriminator, MLPGenerator

ALL = [NonSaturating(), Hinge(), LeastSquares(), Wasserstein(), Relativistic(), RelativisticAverage()]
LOG2 = math.log(2)


def name(loss: Loss) -> str:
    return type(loss).__name__


def s(x: float) -> float:
    return math.log1p(math.exp(x))


# real = (2, 0), fake = (-1, 3): each value below is the paper's formula, by hand
BY_HAND = [
    (NonSaturating(), (s(-2) + s(0) + s(-1) + s(3)) / 2, (s(1) + s(-3)) / 2),
    (Hinge(), (0 + 1) / 2 + (0 + 4) / 2, -(-1 + 3) / 2),
    (LeastSquares(), (1 + 1) / 4 + (1 + 9) / 4, (4 + 4) / 4),
    (Wasserstein(), (-1 + 3) / 2 - (2 + 0) / 2, -(-1 + 3) / 2),
    (Relativistic(), (s(-3) + s(3)) / 2, (s(3) + s(-3)) / 2),
    # both means are 1
    (RelativisticAverage(), (s(-1) + s(1) + s(-2) + s(2)) / 2, (s(2) + s(-2) + s(1) + s(-1)) / 2),
]


@pytest.mark.parametrize("loss, d, g", BY_HAND, ids=lambda v: name(v) if not isinstance(v, float) else "")
def test_the_losses_are_their_papers_formulas(loss: Loss, d: float, g: float) -> None:
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 3.0])
    assert loss.d(real, fake).item() == pytest.approx(d, abs=1e-6)
    assert loss.g(real, fake).item() == pytest.approx(g, abs=1e-6)


def test_the_logistic_losses_are_worth_log_two_a_term_where_d_knows_nothing() -> None:
    nothing = torch.zeros(5)
    assert NonSaturating().d(nothing, nothing).item() == pytest.approx(2 * LOG2)
    assert NonSaturating().g(None, nothing).item() == pytest.approx(LOG2)
    assert Relativistic().d(nothing, nothing).item() == pytest.approx(LOG2)


@pytest.mark.parametrize("beyond", [1.0, 1.5, 40.0])
def test_hinge_is_zero_and_flat_beyond_its_margin(beyond: float) -> None:
    real, fake = torch.full((4,), beyond).requires_grad_(), torch.full((4,), -beyond).requires_grad_()
    loss = Hinge().d(real, fake)
    loss.backward()
    assert loss.item() == 0
    assert real.grad is not None
    assert not real.grad.any()
    assert not fake.grad.any()  # type: ignore[union-attr]


def test_hinge_has_slope_one_within_its_margin() -> None:
    real, fake = torch.tensor([0.5]).requires_grad_(), torch.tensor([-0.5]).requires_grad_()
    Hinge().d(real, fake).backward()
    assert (real.grad.item(), fake.grad.item()) == (-1, 1)  # type: ignore[union-attr]


def test_relativistic_g_is_d_with_the_sides_exchanged() -> None:
    real, fake = torch.randn(16), torch.randn(16)
    loss = Relativistic()
    assert torch.equal(loss.d(real, fake), loss.g(fake, real))
    # softplus(t) - softplus(-t) = t: what D loses more than G is the mean advantage of the fakes
    assert torch.allclose(loss.d(real, fake) - loss.g(real, fake), (fake - real).mean(), atol=1e-6)


def test_relativistic_compares_fake_i_with_real_i() -> None:
    real, fake = torch.tensor([0.0, 10.0]), torch.tensor([0.0, 10.0])
    assert Relativistic().d(real, fake).item() == pytest.approx(LOG2)
    assert Relativistic().d(real, fake.flip(0)).item() == pytest.approx((s(10) + s(-10)) / 2)


@pytest.mark.parametrize("loss", [Relativistic(), RelativisticAverage(), Wasserstein()], ids=name)
def test_losses_of_differences_ignore_a_constant(loss: Loss) -> None:
    real, fake = torch.randn(16, dtype=torch.float64), torch.randn(16, dtype=torch.float64)
    assert torch.allclose(loss.d(real + 7, fake + 7), loss.d(real, fake))
    if loss.g_sees_real:
        assert torch.allclose(loss.g(real + 7, fake + 7), loss.g(real, fake))


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 1, 4, 4)])
@pytest.mark.parametrize("loss", ALL, ids=name)
def test_real_is_high(loss: Loss, shape: tuple[int, ...]) -> None:
    """D's gradient lifts every real logit and lowers every fake one; G's lifts the fakes: patches too."""
    real, fake = (torch.rand(shape) - 0.5).requires_grad_(), (torch.rand(shape) - 0.5).requires_grad_()
    if name(loss) == "LeastSquares":
        fake = torch.rand(shape).add(0.1).requires_grad_()  # it pulls fakes *to* 0: from above it lowers
    d_real, d_fake = torch.autograd.grad(loss.d(real, fake), [real, fake])
    assert (d_real < 0).all()
    assert (d_fake > 0).all()
    fake = fake.detach().sub(0.2).requires_grad_()
    (g_fake,) = torch.autograd.grad(loss.g(real, fake), fake)
    assert (g_fake < 0).all()


@pytest.mark.parametrize("loss", ALL, ids=name)
def test_g_sees_real_says_whether_the_generators_loss_needs_the_reals(loss: Loss) -> None:
    real, fake = torch.randn(4, requires_grad=True), torch.randn(4)
    takes = loss.g(real, fake).requires_grad
    assert takes == loss.g_sees_real
    if not loss.g_sees_real:
        assert torch.isfinite(loss.g(None, fake))


@pytest.mark.parametrize("loss", ALL, ids=name)
@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_extreme_logits_stay_finite_with_finite_gradients(loss: Loss, logit: float) -> None:
    real, fake = torch.full((2,), logit).requires_grad_(), torch.full((2,), -logit).requires_grad_()
    value = loss.d(real, fake) + loss.g(real, fake)
    value.backward()
    assert value.isfinite()
    assert real.grad.isfinite().all()  # type: ignore[union-attr]
    assert fake.grad.isfinite().all()  # type: ignore[union-attr]


@pytest.mark.parametrize("loss", ALL, ids=name)
def test_several_sub_discriminators_add_up(loss: Loss) -> None:
    adam = partial(torch.optim.Adam, lr=1e-3)
    gan = GAN(MLPGenerator(width=4), MLPDiscriminator(width=4), loss, adam, adam)
    shapes = [(8,), (8, 1, 3, 3), (8, 5)]  # a scalar critic, a patch critic, one over frames
    reals, fakes = [torch.randn(s) for s in shapes], [torch.randn(s) for s in shapes]

    def whole(formula: str, on_real: list[Tensor] | None) -> Tensor:
        critique = None if on_real is None else Critique(on_real, [])
        return gan.adversarial(getattr(loss, formula), critique, Critique(fakes, []))

    one_by_one = [(loss.d(r, f), loss.g(r, f)) for r, f in zip(reals, fakes, strict=True)]
    assert torch.allclose(whole("d", reals), sum(d for d, _ in one_by_one))  # type: ignore[arg-type]
    assert torch.allclose(whole("g", reals if loss.g_sees_real else None), sum(g for _, g in one_by_one))  # type: ignore[arg-type]
