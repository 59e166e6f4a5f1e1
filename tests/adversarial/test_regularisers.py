"""SAN, DRAGAN, LeCam, consistency, orthogonality, classes, feature matching: closed forms at critics that are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.adversarial import (
    DRAGAN,
    GAN,
    SAN,
    ClassPenalty,
    ClassTerm,
    Consistency,
    CrossEntropy,
    DataToDataCrossEntropy,
    DView,
    FeatureMatching,
    GView,
    Hinge,
    LatentConsistency,
    LatentDiversity,
    LeCam,
    NonSaturating,
    OrthogonalPenalty,
    OrthogonalTerm,
)
from gan_kit.adversarial.orthogonal import off_orthogonality
from gan_kit.adversarial.penalties import Latent
from gan_kit.nn import ClassHead
from gan_kit.noise import BatchNoise
from gan_kit.types import Aux, Critique, UserError
from gan_kit.vector import MLPDiscriminator, MLPGenerator

B = 6
SHAPES = [(2,), (1, 50), (3, 8, 8)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=["vector", "sound", "picture"])


def linear(w: Tensor) -> Callable[[Tensor], Critique]:
    return lambda x: Critique([(x * w).flatten(1).sum(1) + 3], [[x.flatten(1)]])


def view(critique: Callable[[Tensor], Critique], shape: tuple[int, ...], n: int = B, **more: Any) -> DView:
    real, fake = torch.randn(n, *shape).requires_grad_(), torch.randn(n, *shape).requires_grad_()
    return DView(critique, real, fake, critique(real), critique(fake), BatchNoise((0,), n), **more)


def g_view(critique: Callable[[Tensor], Critique], G: Any = None, shape: tuple[int, ...] = (2,), **more: Any) -> GView:
    real, fake = torch.randn(B, *shape), torch.randn(B, *shape)
    noise = BatchNoise((0,), B)
    latent = Latent(torch.randn(B, 3), lambda z: z)
    return GView(G, critique, latent, noise, None, real, fake, critique(fake), critique(real), **more)


# ---- DRAGAN -----------------------------------------------------------------------------------------------------


@shapes
def test_dragan_of_a_linear_critic(shape: tuple[int, ...]) -> None:
    w = torch.randn(shape)
    value = DRAGAN(10.0)(view(linear(w), shape), 0)
    assert value.item() == pytest.approx(10 * (w.norm().item() - 1) ** 2, rel=1e-4)


def test_dragan_looks_about_the_reals_at_its_distance() -> None:
    v = view(lambda x: Critique([x.square().sum(1) / 2], [[]]), (3,))  # whose slope at x is x
    near = v.real.detach() + 0.1 * BatchNoise((0,), B).randn(3)
    assert torch.allclose(DRAGAN(sigma=0.1).formula(v), (near.norm(dim=1) - 1).square(), atol=1e-5)
    with pytest.raises(UserError, match="sigma=0"):
        DRAGAN(sigma=0)


# ---- SAN --------------------------------------------------------------------------------------------------------


class Headed(nn.Module):
    """A critic of vectors that ends in a head."""

    def __init__(self, num_classes: int = 0, kind: str = "projection", width: int = 16, null_class: bool = False):
        super().__init__()
        self.num_classes, self.null_class = num_classes, null_class
        self.body = nn.Sequential(nn.Linear(2, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2))
        self.head = ClassHead(width, num_classes, kind, null_class=null_class)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for layer in self.body[::2]:
            nn.init.kaiming_normal_(layer.weight, a=0.2)
            nn.init.zeros_(layer.bias)
        self.head.reset_parameters()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        h = self.body(x)
        logit, aux = self.head(h, y)
        return Critique([logit], [[h]], aux)


def gan(D: nn.Module, loss: Any = None, **arguments: Any) -> GAN:
    adam = partial(torch.optim.Adam, lr=1e-3)
    G = MLPGenerator(width=8, num_classes=getattr(D, "num_classes", 0))
    return GAN(G, D, loss or Hinge(), adam, adam, **arguments)


def test_san_is_the_wasserstein_loss_of_the_direction_and_the_rest_learns_from_the_loss_alone() -> None:
    D = Headed()
    step = gan(D, penalties={"san": SAN()})
    assert D.head.sliced
    real = torch.randn(8, 2)
    loss = step.d_loss(real, None, step.noise(0, 8))
    omega = F.normalize(D.head.psi.weight, dim=1)
    with torch.no_grad():
        fake = step.fakes(None, step.noise(0, 8))[0]
        h_real, h_fake = D.body(real) @ omega[0], D.body(fake) @ omega[0]
    assert step.scalars["penalty_san"].item() == pytest.approx((h_fake - h_real).mean().item(), abs=1e-5)
    assert step.scalars["loss_d"].item() == pytest.approx(Hinge().d(h_real, h_fake).item(), abs=1e-5)
    grads = torch.autograd.grad(loss, [D.head.psi.weight, *D.body.parameters()])
    # ω: the mean difference of features, as far as it is not along ω; the body: the hinge with ω held still
    difference = (D.body(fake).mean(0) - D.body(real).mean(0)).detach()
    along = difference - omega[0] * (omega[0] @ difference)
    assert torch.allclose(grads[0][0], along / D.head.psi.weight.norm(), atol=1e-5)
    still = Hinge().d(D.body(real) @ omega[0].detach(), D.body(fake) @ omega[0].detach())
    for a, b in zip(grads[1:], torch.autograd.grad(still, list(D.body.parameters())), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_san_refuses_a_discriminator_without_a_head() -> None:
    with pytest.raises(UserError, match=r"MLPDiscriminator does not end in a gan_kit[.]nn[.]ClassHead"):
        gan(MLPDiscriminator(), penalties={"san": SAN()})


# ---- LeCam ------------------------------------------------------------------------------------------------------


def logits(*values: list[float]) -> Critique:
    return Critique([torch.tensor(v) for v in values], [[] for _ in values])


def alone(x: Tensor) -> Tensor:
    return x


def test_lecam_pulls_each_side_towards_the_others_average() -> None:
    lecam = LeCam(1.0, halflife_samples=100)
    assert not lecam.formula(view(linear(torch.ones(2)), (2,))).any()  # nothing is known yet
    lecam.watch(logits([1.0, 3.0]), logits([-1.0, -1.0]))
    lecam.settle(alone, 2)
    lecam.watch(logits([4.0]), logits([1.0]))  # two micro-batches of different sizes are one batch
    lecam.watch(logits([1.0, 4.0]), logits([1.0, -2.0]))
    lecam.settle(alone, 100)
    assert lecam.average is not None
    assert torch.allclose(lecam.average[:, 0], torch.tensor([(2 + 3) / 2, (-1 + 0) / 2]))
    v = view(linear(torch.ones(2)), (2,))
    v.on_real, v.on_fake = logits([2.0, 0.0]), logits([0.0, 2.5])
    assert torch.allclose(lecam.formula(v), torch.tensor([2.5**2 + 2.5**2, 0.5**2 + 0]))


def test_lecam_keeps_sub_discriminators_apart_and_takes_patches_as_their_mean() -> None:
    lecam, on = LeCam(1.0), Critique([torch.ones(4), torch.arange(8.0).view(4, 2)], [[], []])
    lecam.watch(on, on)
    lecam.settle(alone, 4)
    assert lecam.average is not None
    assert lecam.average.tolist() == [[1, 3.5], [1, 3.5]]


def test_lecam_holds_logits_back() -> None:
    torch.manual_seed(0)
    size = {}
    for weight in (0.0, 1.0):
        D = MLPDiscriminator(width=16)
        step = gan(D, NonSaturating(), penalties={"lecam": LeCam(weight, 100)}, init_seed=0)
        opt = torch.optim.Adam(D.parameters(), 1e-2)
        for step.step in range(60):
            opt.zero_grad()
            step.d_loss(torch.randn(32, 2) + 3, None, step.noise(0, 32)).backward()
            opt.step()
            step.settle(32)
        size[weight] = (step.scalars["logits_real"] - step.scalars["logits_fake"]).item()
    assert 0 < size[1.0] < size[0.0] / 2


# ---- consistency ------------------------------------------------------------------------------------------------


class Adding(nn.Module):
    """An augmentation that adds one number a sample."""

    def forward(self, x: Tensor, p: float, noise: BatchNoise) -> Tensor:
        return x + noise.rand().view(-1, *[1] * (x.dim() - 1))


@shapes
@pytest.mark.parametrize("of", ["real", "fake"])
def test_consistency_of_a_linear_critic_is_what_the_change_is_worth_to_it(of: str, shape: tuple[int, ...]) -> None:
    w = torch.randn(shape)
    expected = (BatchNoise((0,), B).rand() * w.sum()).square()
    assert torch.allclose(Consistency(Adding(), of).formula(view(linear(w), shape)), expected, rtol=1e-3, atol=1e-4)


def test_consistency_looks_through_one_and_the_same_augmentation_of_ds_input() -> None:
    class Still(Adding):
        def forward(self, x: Tensor, p: float, noise: BatchNoise) -> Tensor:
            return x

    for of in ("real", "fake"):
        step = gan(MLPDiscriminator(width=8), penalties={"cr": Consistency(Still(), of)}, augment=Adding())
        step.d_loss(torch.randn(8, 2), None, step.noise(0, 8))
        assert step.scalars["penalty_cr"].item() == 0
    with pytest.raises(UserError, match="of='fakes'"):
        Consistency(Adding(), "fakes")


class Identity(nn.Module):
    """G(z) = z of two dimensions."""

    z_dim = 2

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return z


def test_zcr_of_linear_nets_is_known() -> None:
    w = torch.tensor([3.0, 4.0])
    v = view(linear(w), (2,))
    moved = BatchNoise((0,), B).randn(2)
    v.latent = Latent(v.fake.detach(), lambda z: z)
    assert torch.allclose(LatentConsistency(sigma=0.1).formula(v), (0.1 * moved @ w).square(), rtol=1e-3, atol=1e-5)
    g = g_view(linear(w))
    g.latent = Latent(g.fake, lambda z: z)
    assert torch.allclose(LatentDiversity(sigma=0.1).formula(g), -(0.1 * moved).square().mean(1), rtol=1e-3)
    with pytest.raises(UserError, match="sigma=0"):
        LatentConsistency(sigma=0)


def test_zcr_in_the_step_compares_the_same_noise_and_labels() -> None:
    class Noisy(Identity):
        takes_noise = True

        def forward(self, z: Tensor, y: Tensor | None = None, noise: Any = None) -> Tensor:
            return z + 100 * noise.randn(2)

    step = gan(MLPDiscriminator(width=8), penalties={"z": LatentConsistency(1.0)}, terms={"z": LatentDiversity(1.0)})
    step.generator = Noisy()
    step.d_loss(torch.randn(64, 2), None, step.noise(0, 64))
    step.g_loss(torch.randn(64, 2), None, step.noise(1, 64))
    assert step.scalars["term_z"].item() == pytest.approx(-(0.05**2), rel=0.3)
    assert 0 < step.scalars["penalty_z"].item() < 1


# ---- orthogonality ----------------------------------------------------------------------------------------------


def test_off_orthogonality_by_hand_and_zero_for_orthogonal_rows_of_any_length() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Embedding(7, 3))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 2], [3, 4]]))
    assert off_orthogonality(net).item() == pytest.approx(2 * 11**2)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[3.0, 4], [-8, 6]]))
    assert off_orthogonality(net).item() == pytest.approx(0, abs=1e-6)
    conv = nn.Conv2d(3, 4, 3)
    rows = conv.weight.detach().flatten(1)
    gram = rows @ rows.T
    assert off_orthogonality(conv).item() == pytest.approx((gram - gram.diag().diag()).square().sum().item(), rel=1e-5)
    with pytest.raises(UserError, match="ReLU has no weights"):
        off_orthogonality(nn.ReLU())


def test_orthogonal_regularisation_reaches_its_own_net() -> None:
    D = MLPDiscriminator(width=8)
    step = gan(D, penalties={"o": OrthogonalPenalty(0.5)}, terms={"o": OrthogonalTerm(0.25)})
    step.d_loss(torch.randn(8, 2), None, step.noise(0, 8))
    step.g_loss(torch.randn(8, 2), None, step.noise(1, 8))
    assert step.scalars["penalty_o"].item() == pytest.approx(0.5 * off_orthogonality(D).item(), rel=1e-5)
    assert step.scalars["term_o"].item() == pytest.approx(0.25 * off_orthogonality(step.generator).item(), rel=1e-5)


# ---- classes ----------------------------------------------------------------------------------------------------


def test_cross_entropy_by_hand_and_nothing_for_samples_without_a_label() -> None:
    critique = Critique([], [], Aux(logits=torch.tensor([[0.0, math.log(3)]] * 4)))
    loss = CrossEntropy()(critique, torch.tensor([0, 1, 2, -1]))
    assert torch.allclose(loss, torch.tensor([math.log(4), math.log(4 / 3), 0, 0]))
    with pytest.raises(UserError, match="conditioning=auxiliary"):
        CrossEntropy()(Critique([], []), torch.zeros(2))


def test_d2d_ce_is_the_papers_formula() -> None:
    f, v = F.normalize(torch.randn(B, 5), dim=1), F.normalize(torch.randn(3, 5), dim=1)
    y = torch.tensor([0, 1, 2, 0, 3, -1])  # the last two have no label
    loss = DataToDataCrossEntropy(0.5, 0.98, -0.02)(Critique([], [], Aux(embedding=f, proxies=v)), y)
    for i in range(4):
        a = math.exp(min((f[i] @ v[y[i]]).item() - 0.98, 0) / 0.5)
        b = sum(math.exp(max((f[i] @ f[j]).item() + 0.02, 0) / 0.5) for j in range(4) if y[j] != y[i])
        assert loss[i].item() == pytest.approx(-math.log(a / (a + b)), rel=1e-5)
    assert loss[4:].tolist() == [0, 0]
    with pytest.raises(UserError, match="conditioning=d2d-ce"):
        DataToDataCrossEntropy()(Critique([], []), y)


def test_d2d_ce_of_one_class_alone_is_zero_with_a_finite_gradient() -> None:
    f = F.normalize(torch.randn(B, 5), dim=1).requires_grad_()
    aux = Aux(embedding=f, proxies=F.normalize(torch.randn(3, 5), dim=1))
    loss = DataToDataCrossEntropy()(Critique([], [], aux), torch.zeros(B, dtype=torch.long))
    loss.sum().backward()
    assert not loss.any()
    assert f.grad is not None
    assert f.grad.isfinite().all()


@pytest.mark.parametrize(
    "kind, loss, least",
    # of D2D-CE: 48 of 64 are of other classes, each at exp(0) once they are far
    [("auxiliary", CrossEntropy(), 0.0), ("d2d-ce", DataToDataCrossEntropy(), math.log(49))],
    ids=["acgan", "reacgan"],
)
def test_d_learns_the_classes_and_asks_g_for_them(kind: str, loss: Any, least: float) -> None:
    D = Headed(4, kind, 32)
    step = gan(D, penalties={"c": ClassPenalty(loss)}, terms={"c": ClassTerm(loss)}, init_seed=0)
    opt = torch.optim.Adam(D.parameters(), 1e-2)
    y = torch.arange(64) % 4
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    real = corners[y] + 0.1 * torch.randn(64, 2)
    step.d_loss(real, y, step.noise(0, 64))
    at_first = step.scalars["penalty_c"].item()
    for step.step in range(80):
        opt.zero_grad()
        step.d_loss(real, y, step.noise(0, 64)).backward()
        opt.step()
    assert least <= step.scalars["penalty_c"].item() < least + (at_first - least) / 20
    assert loss(D(real, y), (y + 1) % 4).mean() > least + 1
    step.g_loss(real, y, step.noise(1, 64)).backward()
    assert step.scalars["term_c"] > 0
    assert all(p.grad is not None and p.grad.any() for p in step.generator.parameters())


def test_a_class_loss_without_labels_is_refused() -> None:
    step = gan(Headed(), penalties={"c": ClassPenalty(CrossEntropy())})
    with pytest.raises(UserError, match="needs labels, and the batch has none"):
        step.d_loss(torch.randn(4, 2), None, step.noise(0, 4))


# ---- feature matching -------------------------------------------------------------------------------------------


def test_feature_matching_compares_the_means() -> None:
    v = g_view(linear(torch.ones(2)))
    expected = (v.real.mean(0) - v.fake.mean(0)).square().mean()
    assert FeatureMatching(2.0)(v).item() == pytest.approx(2 * expected.item(), rel=1e-5)
    bare = g_view(lambda x: Critique([x.sum(1)], [[]]))
    with pytest.raises(UserError, match="shows no features"):
        FeatureMatching()(bare)


def test_feature_matching_gets_the_reals_critique_from_a_loss_that_does_not_need_it() -> None:
    step = gan(Headed(), NonSaturating(), terms={"f": FeatureMatching(1.0, every=2)})
    for step.step in range(2):
        step.scalars = {}
        step.g_loss(torch.randn(8, 2), None, step.noise(1, 8)).backward()
        assert ("term_f" in step.scalars) == (step.step == 0)
