"""What a generator made it can be brought to make again."""

from __future__ import annotations

import pytest
import torch
from latent_nets import Linear, Styled

from gan_kit.audio import WaveGANGenerator
from gan_kit.image import R3GANGenerator
from gan_kit.latent import Latent, Normal, Uniform, invert
from gan_kit.latent.inversion import pyramid, spectra
from gan_kit.types import UserError


@pytest.mark.parametrize("space", ["z", "w", "w+"])
def test_a_generated_picture_is_found_again(space):
    latent = Latent(Styled(3), Normal(), space[0])
    codes = latent.codes(2, seed=5)
    target = latent.decode(codes)
    found = invert(latent, target, space, steps=150, candidates=64)
    assert (found.x - target).square().mean() < 5e-3 * target.var()
    assert found.codes.values.shape == codes.values.shape
    assert latent.decode(found.codes).equal(found.x)
    if space == "w":
        assert found.codes.values.std(1).max() < 1e-6  # one style for all layers


@pytest.mark.parametrize("prior", [Normal(), Uniform()])
def test_the_code_of_a_linear_generator_is_the_one(prior):
    latent = Latent(Linear(torch.randn(20, 4) / 8), prior)
    codes = latent.codes(3)
    found = invert(latent, latent.decode(codes), steps=300, pull=0.0)
    torch.testing.assert_close(found.codes.values, codes.values, atol=0.02, rtol=0)
    if isinstance(prior, Uniform):
        assert found.codes.values.abs().max() <= 1


def test_the_class_is_found_with_the_code_or_given():
    net = R3GANGenerator(8, 1, 3, 16, 8, widths=[8, 8], blocks=1, expansion=1, group_size=None, tanh=True)
    net.embed.weight.data *= 5
    latent = Latent(net.eval().requires_grad_(False), Normal())
    target = latent.decode(latent.codes(3, [0, 1, 2]))
    assert invert(latent, target, steps=60, candidates=256).codes.y.tolist() == [0, 1, 2]
    assert invert(latent, target, label=2, steps=5, candidates=8).codes.y.tolist() == [2, 2, 2]


def test_the_curve_falls_and_ends_at_the_distance():
    latent = Latent(Styled(), Normal())
    target = latent.decode(latent.codes(2))
    seen = []
    found = invert(
        latent, target, steps=20, candidates=8, progress=lambda step, distance: seen.append((step, distance))
    )
    assert found.curve.shape == (21, 2)
    assert (found.curve.diff(dim=0) <= 0).all()
    assert found.curve[-1].equal(found.distance)
    assert [step for step, _ in seen] == list(range(21))
    assert invert(latent, target, steps=20, candidates=8).codes.values.equal(found.codes.values)


def test_a_sound_is_found_by_its_spectra():
    latent = Latent(WaveGANGenerator(256, z_dim=6, width=4).eval().requires_grad_(False), Normal())
    target = latent.decode(latent.codes(1))
    found = invert(latent, target, steps=100, candidates=64, restarts=2)
    assert found.distance < 0.2 * found.curve[0]


def test_distances_are_mean_squares_over_scales():
    x, y = torch.rand(2, 3, 2, 16, 16)
    x[0], y[0] = 0.25, 0.75
    d = (pyramid(x) - pyramid(y)).square().sum(1)
    assert float(d[0]) == pytest.approx(0.25 * 3)  # at 16, 8 and 4 pixels a side
    assert spectra(torch.rand(2, 1, 300)).shape[0] == 2
    assert pyramid(torch.rand(4, 7)).shape == (4, 7)


@pytest.mark.parametrize(
    "more, says",
    [
        ({"space": "v"}, "no space 'v'; have z, w, w"),
        ({"target": torch.zeros(1, 3, 8, 8)}, r"targets have shape \(3, 8, 8\), this generator makes \(1, 8, 8\)"),
        ({"steps": 0}, "steps=0 must be at least 1"),
    ],
)
def test_refusals(more, says):
    with pytest.raises(UserError, match=says):
        invert(Latent(Styled(), Normal()), **{"target": torch.zeros(1, 1, 8, 8), "candidates": 8, **more})


def test_w_of_a_net_with_z_alone_is_refused():
    with pytest.raises(UserError, match="no w, only z"):
        invert(Latent(Linear(torch.eye(4)), Normal()), torch.zeros(1, 4), "w+")
