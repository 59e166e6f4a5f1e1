"""DiffAugment: closed forms under fixed draws, where things move, how often, and that gradients pass twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gan_kit.adversarial import GAN, R1, NonSaturating
from gan_kit.image import DiffAugment
from gan_kit.image.augment import colour, cutout, translation
from gan_kit.noise import BatchNoise
from gan_kit.types import Critique, UserError
from gan_kit.vector import MLPDiscriminator

OPS = ["colour", "translation", "cutout"]


class Fixed:
    """A Noise whose every draw is the row given, or the one number."""

    def __init__(self, *row: float, n: int = 1) -> None:
        self.row, self.n = torch.tensor(row), n

    def rand(self, *shape: int) -> Tensor:
        return self.row.expand(self.n, *shape) if shape else self.row[:1].expand(self.n)

    randn = rand


def on(n: int = 1) -> Tensor:
    return torch.ones(n, 1, 1, 1)


def noise(n: int, seed: int = 0) -> BatchNoise:
    return BatchNoise((seed,), n)


# ---- colour -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("u", [0.0, 0.25, 0.5, 1.0])
def test_brightness_adds(u: float, strength: float) -> None:
    x = torch.rand(1, 3, 4, 6)
    assert torch.allclose(colour(x, on(), Fixed(u, 0.5, 0.5), strength), x + (u - 0.5) * strength, atol=1e-6)


@pytest.mark.parametrize("u, factor", [(0.0, 0.0), (0.5, 1.0), (1.0, 2.0), (0.75, 1.5)])
def test_saturation_scales_the_distance_from_grey(u: float, factor: float) -> None:
    x = torch.rand(1, 3, 4, 6)
    grey = (x[:, :1] + x[:, 1:2] + x[:, 2:]) / 3
    assert torch.allclose(colour(x, on(), Fixed(0.5, u, 0.5), 1.0), grey + factor * (x - grey), atol=1e-6)


def test_saturation_leaves_grey_pictures_as_they_are() -> None:
    x = torch.rand(1, 1, 4, 6)
    assert torch.allclose(colour(x, on(), Fixed(0.5, 0.0, 0.5), 1.0), x, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("u, factor", [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5)])
def test_contrast_scales_the_distance_from_the_mean(u: float, factor: float, channels: int) -> None:
    x = torch.rand(2, channels, 4, 6)
    mean = x.flatten(1).mean(1).view(2, 1, 1, 1)
    moved = colour(x, on(2), Fixed(0.5, 0.5, u, n=2), 1.0)
    assert torch.allclose(moved, mean + factor * (x - mean), atol=1e-6)


# ---- translation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("u_h, u_w", [(0.0, 0.0), (0.5, 0.5), (0.999, 0.0), (0.3, 0.8)])
def test_translation_moves_by_whole_pixels_and_never_wraps(u_h: float, u_w: float) -> None:
    h, w = 16, 24  # up to 2 rows, 3 columns
    x = torch.rand(1, 3, h, w)
    down, right = int(u_h * 5) - 2, int(u_w * 7) - 3
    expected = torch.full((1, 3, h, w), -1.0)
    for i in range(h):
        for j in range(w):
            if 0 <= i + down < h and 0 <= j + right < w:
                expected[:, :, i, j] = x[:, :, i + down, j + right]
    assert torch.equal(translation(x, on(), Fixed(u_h, u_w), 1.0), expected)


def test_all_shifts_up_to_an_eighth_come_equally_often() -> None:
    n, side = 8000, 16
    x = torch.full((1, 1, side, side), -1.0)
    x[0, 0, 8, 8] = 1
    moved = translation(x.expand(n, -1, -1, -1), on(n), noise(n), 1.0)
    places = moved.flatten(1).argmax(1)
    rows, cols = places // side - 8, places % side - 8
    for shifts in (rows, cols):
        counts = torch.bincount(shifts + 2, minlength=5)
        assert len(counts) == 5
        assert (counts - n / 5).abs().max() < 5 * (n * 0.16) ** 0.5
    assert abs((rows * cols).float().mean().item()) < 0.15  # the axes are drawn apart


def test_a_strength_shortens_the_reach() -> None:
    x = torch.rand(1, 1, 32, 32)
    moved = translation(x, on(), Fixed(0.999, 0.5), 0.5)  # 2 of 32 rows, not 4
    assert torch.equal(moved[:, :, :-2], x[:, :, 2:])


# ---- cutout -----------------------------------------------------------------------------------------------------


def test_a_hole_in_the_middle_is_exactly_half_a_side() -> None:
    x = torch.rand(1, 3, 8, 12) + 1
    cut = cutout(x, on(), Fixed(0.5, 0.5), 1.0)
    hole = torch.zeros(8, 12, dtype=torch.bool)
    hole[2:6, 3:9] = True
    assert not cut[:, :, hole].any()
    assert torch.equal(cut[:, :, ~hole], x[:, :, ~hole])


@pytest.mark.parametrize("h, w", [(8, 8), (8, 12), (7, 9), (28, 28)])
def test_a_hole_is_a_box_of_at_most_half_a_side_and_reaches_everywhere(h: int, w: int) -> None:
    n = 3000
    holes = cutout(torch.ones(n, 1, h, w), on(n), noise(n), 1.0)[:, 0] == 0
    side_h, side_w = int(h / 2 + 0.5), int(w / 2 + 0.5)
    heights, widths = holes.any(2).sum(1), holes.any(1).sum(1)
    assert (holes.sum((1, 2)) == heights * widths).all()  # a box
    assert heights.max() == side_h
    assert widths.max() == side_w
    assert heights.min() >= side_h // 2  # its centre lies within the picture
    assert holes.any(0).all()
    assert not holes.all(0).any()


# ---- the module -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (4, 3, 8, 16), (4, 4, 9, 7)])
def test_any_channels_and_sides(op: str, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    out = DiffAugment([op])(x, 1.0, noise(4))
    assert out.shape == x.shape
    assert out.isfinite().all()
    changed = (out != x).flatten(1).any(1)
    assert changed.any()


def test_p_zero_is_the_identity_and_draws_nothing() -> None:
    x, draws = torch.rand(4, 3, 8, 8), noise(4)
    assert DiffAugment()(x, 0.0, draws) is x
    assert draws.calls == 0


@pytest.mark.parametrize("p", [0.0, 0.1, 0.55, 1.0])
@pytest.mark.parametrize("op", ["colour", "cutout"])
def test_each_sample_is_struck_with_probability_p(op: str, p: float) -> None:
    n = 4000
    x = torch.rand(1, 3, 8, 8).expand(n, -1, -1, -1).contiguous() + 0.5
    struck = ((DiffAugment([op])(x, p, noise(n)) - x).abs() > 1e-5).flatten(1).any(1).float().mean().item()
    assert abs(struck - p) <= 4 * (p * (1 - p) / n) ** 0.5 + 1e-9


def test_a_sample_that_is_not_struck_is_left_as_it_is() -> None:
    class Missed(Fixed):
        def rand(self, *shape: int) -> Tensor:
            return torch.rand(4, *shape) if shape else torch.tensor([0.2, 0.8, 0.8, 0.2])

    x = torch.rand(4, 3, 16, 16)
    out = DiffAugment()(x, 0.5, Missed())
    assert torch.allclose(out[1:3], x[1:3], atol=1e-6)
    assert not torch.allclose(out[0], x[0], atol=0.05)
    assert not torch.allclose(out[3], x[3], atol=0.05)


def test_ops_strike_independently_of_one_another() -> None:
    n = 4000
    x = torch.rand(1, 3, 8, 8).expand(n, -1, -1, -1).contiguous() + 0.5
    out = DiffAugment(["colour", "cutout"])(x, 0.5, noise(n))
    cut = (out == 0).flatten(1).any(1)
    coloured = ((out - x).abs() > 1e-5).logical_and(out != 0).flatten(1).any(1)
    both = (cut & coloured).float().mean().item()
    assert abs(both - 0.25) < 4 * (0.1875 / n) ** 0.5


def test_a_samples_augmentation_does_not_depend_on_the_micro_batch() -> None:
    x, augment = torch.rand(8, 3, 16, 16), DiffAugment()
    whole = augment(x, 0.7, noise(8))
    parts = [augment(x[a:b], 0.7, noise(8).part(a, b)) for a, b in ((0, 3), (3, 8))]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("op", OPS)
def test_gradients_and_gradients_of_gradients_pass(op: str) -> None:
    x = (torch.rand(2, 3, 8, 8, dtype=torch.float64) + 0.1).requires_grad_()
    augment = DiffAugment([op])

    def curved(x: Tensor) -> Tensor:
        return augment(x, 1.0, noise(2)).pow(3).sum((1, 2, 3))

    assert torch.autograd.gradcheck(curved, x)
    (grad,) = torch.autograd.grad(curved(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(grad.square().sum(), x)
    assert (second != 0).any()
    small = x.detach()[:, :, :3, :3].clone().requires_grad_()
    assert torch.autograd.gradgradcheck(curved, small)


class Recording(MLPDiscriminator):
    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        self.inputs.append(x.detach())
        return Critique([x.flatten(1).sum(1) * self.net[0].bias[0]], [[]])


def test_reals_and_fakes_are_augmented_apart_in_both_halves_of_the_step() -> None:
    class Still(torch.nn.Module):
        """Always the same picture, which is the real one too: all that differs is the augmentation."""

        z_dim = 2

        def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
            return picture.expand(len(z), -1, -1, -1)

    picture = torch.rand(1, 3, 16, 16)
    D, n = Recording(), 16
    sgd: Any = torch.optim.SGD
    gan = GAN(Still(), D, NonSaturating(), sgd, sgd, {"r1": R1()}, augment=DiffAugment())
    real = picture.repeat(n, 1, 1, 1)
    gan.d_loss(real, None, gan.noise(0, n))
    gan.g_loss(real, None, gan.noise(1, n))
    on_real, on_fake, in_g = D.inputs
    for a, b in ((on_real, on_fake), (on_fake, in_g), (on_real, in_g)):
        assert not any(torch.allclose(x, y, atol=1e-3) for x, y in zip(a, b, strict=True))


def test_p_may_be_a_schedule_of_the_samples_seen() -> None:
    D, n = Recording(), 8
    sgd: Any = torch.optim.SGD
    gan = GAN(
        torch.nn.Identity(),
        D,
        NonSaturating(),
        sgd,
        sgd,
        augment=DiffAugment(["colour"]),
        augment_p=lambda seen: float(seen >= 100),
    )
    real = torch.rand(n, 3, 8, 8)
    for seen, untouched in ((0, True), (99, True), (100, False)):
        gan.samples_seen = seen
        gan.critic(None, gan.noise(0, n))(real)
        assert torch.equal(D.inputs[-1], real) == untouched


def test_unknown_ops_and_strengths_are_refused_with_those_there_are() -> None:
    with pytest.raises(
        UserError, match=r"no such augmentation \['color'\]; have \['colour', 'cutout', 'translation'\]"
    ):
        DiffAugment(["color"])
    with pytest.raises(UserError, match=r"no such augmentation \['blur'\]"):
        DiffAugment(blur=0.5)
    for strength in (0.0, -1.0, 1.5):
        with pytest.raises(UserError, match=f"'colour': {strength}"):
            DiffAugment(colour=strength)
