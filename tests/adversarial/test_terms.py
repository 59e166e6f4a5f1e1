"""G's half of the step: terms, the best of the fakes, labels that are dropped or missing."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from test_regularisers import Headed
from torch import Tensor, nn

from gan_kit.adversarial import GAN, GView, Linear, NonSaturating, Relativistic, Term
from gan_kit.types import Critique, UserError
from gan_kit.vector import MLPDiscriminator, MLPGenerator


def toy(loss: Any = None, G: nn.Module | None = None, D: nn.Module | None = None, **arguments: Any) -> GAN:
    adam = partial(torch.optim.Adam, lr=1e-3)
    return GAN(
        G or MLPGenerator(width=8), D or MLPDiscriminator(width=8), loss or NonSaturating(), adam, adam, **arguments
    )


class Square(Term):
    """x²"""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.views: list[GView] = []

    def formula(self, view: GView) -> Tensor:
        self.views.append(view)
        return view.fake.square().sum(1)


def test_a_term_adds_its_weight_times_its_formula_on_its_steps_of_g() -> None:
    term = Square(Linear(0.0, 1.0, 100), every=2)
    gan = toy(terms={"square": term}, n_critic=3)
    gan.samples_seen = 50
    for gan.step in range(0, 12, 3):
        gan.scalars = {}
        loss = gan.g_loss(torch.randn(8, 2), None, gan.noise(1, 8))
        if gan.step in (0, 6):
            mean = term.views[-1].fake.square().sum(1).mean().item()
            assert gan.scalars["term_square"].item() == pytest.approx(0.5 * mean, rel=1e-5)
            assert (loss - gan.scalars["loss_g"]).item() == pytest.approx(mean, rel=1e-4)
        else:
            assert "term_square" not in gan.scalars
            assert torch.equal(loss, gan.scalars["loss_g"])


def test_a_view_shows_what_was_made_and_of_what() -> None:
    term = Square(1.0)
    gan, real = toy(terms={"s": term}), torch.randn(8, 2)
    gan.g_loss(real, None, gan.noise(1, 8))
    (view,) = term.views
    assert view.generator is gan.generator
    assert view.real is real
    assert view.on_real is None
    assert torch.equal(view.latent.generate(view.latent.z), view.fake)
    assert torch.equal(view.critique(view.fake).logits[0], view.on_fake.logits[0])
    term.sees_real = True
    gan.g_loss(real, None, gan.noise(1, 8))
    assert term.views[1].on_real is not None
    assert not term.views[1].on_real.logits[0].requires_grad


def test_a_term_refuses_a_generator_before_the_training() -> None:
    class Picky(Square):
        def prepare(self, generator: Any) -> None:
            raise UserError(f"not of {type(generator).__name__}")

    with pytest.raises(UserError, match="not of MLPGenerator"):
        toy(terms={"p": Picky(1.0)})
    with pytest.raises(UserError, match="term every=0"):
        Square(1.0, every=0)


# ---- the best of the fakes --------------------------------------------------------------------------------------


def first_axis(x: Tensor, y: Tensor | None = None) -> Critique:
    return Critique([x[:, 0], x[:, :1, None].expand(-1, 1, 3)], [[], []])


@pytest.mark.parametrize("share, k", [(1.0, 8), (0.5, 4), (0.01, 1)])
def test_g_learns_from_the_fakes_with_the_highest_logits(share: float, k: int) -> None:
    gan = toy(top_k=Linear(1.0, share, 100))
    gan.samples_seen = 100
    x = torch.randn(8, 2, requires_grad=True)
    best = gan.best(None, first_axis(x))[1]
    gan.adversarial(gan.loss.g, None, best).backward()
    assert x.grad is not None
    assert set(x.grad[:, 0].nonzero()[:, 0].tolist()) == set(x[:, 0].topk(k).indices.tolist())


def test_the_reals_opposite_stay_opposite() -> None:
    gan = toy(Relativistic(), top_k=0.5)
    real, fake = torch.randn(8, 2), torch.randn(8, 2)
    on_real, on_fake = gan.best(first_axis(real), first_axis(fake))
    assert on_real is not None
    rows = [fake[:, 0].tolist().index(v) for v in on_fake.logits[0].tolist()]
    assert torch.equal(on_real.logits[0], real[rows, 0])


# ---- labels -----------------------------------------------------------------------------------------------------


class Labelled(nn.Module):
    z_dim, num_classes, null_class = 2, 3, True

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 2)
        self.ys: list[Tensor] = []

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        assert y is not None
        self.ys.append(y)
        return z + self.embed(y)


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_labels_are_dropped_for_both_nets_at_once_and_missing_ones_are_the_null_class(p: float) -> None:
    n = 4000
    G = Labelled()
    gan = toy(G=G, D=Headed(3, null_class=True), label_dropout=p)
    y = torch.arange(n) % 4 - 1  # -1: no label
    asked: list[Tensor] = []
    critic = gan.critic

    def watched(y: Any, noise: Any) -> Any:
        asked.append(y)
        return critic(y, noise)

    gan.critic = watched  # type: ignore[method-assign]
    for half, phase in ((gan.d_loss, 0), (gan.g_loss, 1)):
        half(torch.randn(n, 2), y, gan.noise(phase, n))
        assert torch.equal(G.ys[-1], asked[-1])
        null = asked[-1] == 3
        assert null[y < 0].all()
        kept = y >= 0
        assert null[kept].float().mean().item() == pytest.approx(p, abs=4 * (p * (1 - p) / n) ** 0.5)
        assert torch.equal(asked[-1][kept & ~null], y[kept & ~null])
    if 0 < p < 1:
        assert not torch.equal(asked[0], asked[1])  # each half drops others


def test_dropping_labels_needs_a_null_class_in_both_nets() -> None:
    for G, D in ((Labelled(), Headed(3)), (MLPGenerator(num_classes=3), Headed(3, null_class=True))):
        with pytest.raises(UserError, match=r"label_dropout=0.1 needs a class .*null_class=True"):
            toy(G=G, D=D, label_dropout=0.1)
    with pytest.raises(UserError, match=r"label_dropout=1[.]5"):
        toy(label_dropout=1.5)


def test_nets_without_a_null_class_get_the_labels_as_they_are() -> None:
    y = torch.arange(4)
    assert toy().labels(y, toy().noise(0, 4)) is y
