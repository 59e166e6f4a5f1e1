"""ADA's operations: exact moves, the published distributions, how often each strikes, and what passes through."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_kit.image import ADA
from gan_kit.image.ada import BAND_POWER, GROUPS, OPS, Dice, band_gains
from gan_kit.noise import BatchNoise
from gan_kit.types import UserError

ALL = tuple(GROUPS)


def noise(n: int, seed: int = 0) -> BatchNoise:
    return BatchNoise((seed,), n)


def struck(policy: str, x: Tensor, p: float, seed: int = 0) -> Tensor:
    out = ADA([policy])(x, p, noise(len(x), seed))
    return ((out - x).abs() > 1e-4).flatten(1).any(1)


# ---- the module -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [*OPS, *ALL])
@pytest.mark.parametrize("shape", [(6, 1, 8, 8), (6, 3, 8, 16), (6, 4, 9, 7), (6, 2, 16, 16)])
def test_any_channels_and_sides(op: str, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    out = ADA([op])(x, 1.0, noise(6))
    assert out.shape == x.shape
    assert out.isfinite().all()
    still = (op == "hue" and shape[1] != 3) or (op == "saturation" and shape[1] == 1)
    assert torch.allclose(out, x, atol=1e-6) == still


def test_p_zero_is_the_identity_and_draws_nothing() -> None:
    x, draws = torch.rand(4, 3, 8, 8), noise(4)
    assert ADA(ALL)(x, 0.0, draws) is x
    assert draws.calls == 0


def test_a_groups_strength_multiplies_its_p_and_no_others() -> None:
    x = torch.rand(1, 3, 8, 8).expand(4000, -1, -1, -1).contiguous()
    ada = ADA(["contrast", "scale"], strengths={"colour": 0.5})
    moved = ada(x, 0.6, noise(4000)) - ADA(["scale"])(x, 0.6, noise(4000))  # scaled in the same way: drawn first
    assert abs((moved.abs() > 1e-4).flatten(1).any(1).float().mean().item() - 0.3) < 0.04
    same = ADA(ALL, strengths=dict.fromkeys(ALL, 1.0))(x[:8], 0.6, noise(8))
    assert torch.equal(same, ADA(ALL)(x[:8], 0.6, noise(8)))
    assert torch.equal(ADA(["colour"], strengths={"colour": 0.0})(x[:8], 1.0, noise(8)), x[:8])


@pytest.mark.parametrize("strengths, said", [({"color": 0.5}, "no such group"), ({"colour": 2.0}, "between 0 and 1")])
def test_strengths_that_are_none(strengths: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ADA(strengths=strengths)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("p", [0.2, 0.7, 1.0])
def test_each_op_strikes_with_its_probability(op: str, p: float) -> None:
    n = 1500
    x = torch.rand(1, 3, 8, 8).expand(n, -1, -1, -1).contiguous()
    # half of the flips, a quarter of the turns, the shifts by none of 3 x 3 and half of the luma flips do nothing
    # the filter has four chances, a cutout always hits
    share = {"flip": p / 2, "luma_flip": p / 2, "quarter_turns": p * 3 / 4, "shift": p * 3 / 4}
    expected = share.get(op, 1 - (1 - p) ** 4 if op == "filter" else p)
    found = struck(op, x, p).float().mean().item()
    assert abs(found - expected) <= 4 * (max(expected * (1 - expected), 1e-3) / n) ** 0.5 + 0.01


def test_a_sample_that_is_not_struck_is_left_to_the_bit_by_warp_and_filter() -> None:
    x = torch.rand(64, 3, 8, 8)
    for group in ("blit", "geometry", "filter"):
        out = ADA([group])(x, 0.1, noise(64))
        same = (out == x).flatten(1).all(1)
        assert 16 < same.sum() < 64


def test_a_samples_augmentation_does_not_depend_on_the_micro_batch() -> None:
    x, augment = torch.rand(8, 3, 16, 16), ADA(ALL)
    whole = augment(x, 0.6, noise(8))
    parts = [augment(x[a:b], 0.6, noise(8).part(a, b)) for a, b in ((0, 3), (3, 8))]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-5)


@pytest.mark.parametrize("group", ALL)
def test_gradients_and_gradients_of_gradients_pass(group: str) -> None:
    x = (torch.rand(2, 3, 6, 6, dtype=torch.float64) + 0.1).requires_grad_()
    augment = ADA([group])

    def curved(x: Tensor) -> Tensor:
        return augment(x, 1.0, noise(2)).pow(3).sum((1, 2, 3))

    assert torch.autograd.gradcheck(curved, x)
    small = x.detach()[:, :, :3, :3].clone().requires_grad_()
    assert torch.autograd.gradgradcheck(curved, small)


def test_half_precision_is_left_aside() -> None:
    x = torch.rand(4, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        inside = ADA(ALL)(x, 1.0, noise(4))
    assert torch.equal(inside, ADA(ALL)(x, 1.0, noise(4)))


def test_groups_are_their_ops_and_unknown_ones_are_refused() -> None:
    assert ADA(["blit"]).ops == ADA(["flip", "quarter_turns", "shift"]).ops
    assert ADA(ALL).ops == frozenset(OPS)
    with pytest.raises(UserError, match=r"no such augmentation \['zoom'\]; have .*'scale'"):
        ADA(["zoom", "flip"])


# ---- exact moves ------------------------------------------------------------------------------------------------


def moves(side: int, h: int | None = None) -> Tensor:
    """Each place a number of its own."""
    h = h or side
    return torch.arange(h * side, dtype=torch.float32).view(1, 1, h, side)


def test_flips_and_turns_are_exact_and_come_equally_often() -> None:
    n, x = 4000, moves(5)
    turns = [torch.rot90(x, k, (2, 3))[0] for k in range(4)]
    out = ADA(["quarter_turns"])(x.expand(n, -1, -1, -1), 1.0, noise(n))
    counts = [(out == t).flatten(1).all(1).sum().item() for t in turns]
    assert sum(counts) == n
    assert all(abs(c - n / 4) < 5 * (n * 3 / 16) ** 0.5 for c in counts)
    flipped = ADA(["flip"])(x.expand(n, -1, -1, -1), 1.0, noise(n))
    assert ((flipped == x).flatten(1).all(1) | (flipped == x.flip(3)).flatten(1).all(1)).all()


def test_an_oblong_picture_makes_half_turns() -> None:
    n, x = 400, moves(5, 3)
    out = ADA(["quarter_turns"])(x.expand(n, -1, -1, -1), 1.0, noise(n))
    half = (out == torch.rot90(x, 2, (2, 3))).flatten(1).all(1)
    assert ((out == x).flatten(1).all(1) | half).all()
    assert abs(half.sum() - n / 2) < 50


def test_shifts_are_by_whole_pixels_up_to_an_eighth_and_mirror_at_the_edge() -> None:
    n, x = 3000, moves(16, 24)
    out = ADA(["shift"])(x.expand(n, -1, -1, -1), 1.0, noise(n))[:, 0]
    down, right = 12 - out[:, 12, 8] // 16, 8 - out[:, 12, 8] % 16
    assert down.unique().tolist() == list(range(-3, 4))
    assert right.unique().tolist() == [-2, -1, 0, 1, 2]
    for i in range(40):
        rows = torch.arange(24) - int(down[i])
        columns = torch.arange(16) - int(right[i])
        rows = torch.where(rows < 0, -1 - rows, torch.where(rows > 23, 47 - rows, rows))
        columns = torch.where(columns < 0, -1 - columns, torch.where(columns > 15, 31 - columns, columns))
        assert torch.equal(out[i], x[0, 0][rows][:, columns])


# ---- the warp's parameters --------------------------------------------------------------------------------------


def maps(op: str, n: int = 1000, side: int = 24) -> tuple[Tensor, Tensor]:
    """(n, 2, 2) and (n, 2): where the middle of the result comes from, read off pictures of their own coordinates."""
    ramp = torch.arange(side) - (side - 1) / 2
    x = torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side)])
    out = ADA([op])(x.expand(n, -1, -1, -1), 1.0, noise(n))
    a, b = side // 2 - 1, side // 2
    right, down = (
        out[:, :, a : b + 1, b].mean(2) - out[:, :, a : b + 1, a].mean(2),
        (out[:, :, b, a : b + 1].mean(2) - out[:, :, a, a : b + 1].mean(2)),
    )
    return torch.stack([right, down], 2), out[:, :, a : b + 1, a : b + 1].mean((2, 3))


def test_scale_is_lognormal() -> None:
    matrix, shift = maps("scale")
    assert torch.allclose(matrix[:, 0, 0], matrix[:, 1, 1], atol=1e-3)
    assert matrix[:, 0, 1].abs().max() < 1e-3
    size = -matrix[:, 0, 0].log2()
    assert size.std().item() == pytest.approx(0.2, rel=0.1)
    assert abs(size.mean()) < 0.02
    assert shift.abs().max() < 1e-3


def test_stretch_keeps_the_area() -> None:
    matrix, _ = maps("stretch")
    assert torch.allclose(torch.linalg.det(matrix), torch.ones(len(matrix)), atol=3e-3)
    assert matrix[:, 0, 0].log2().std().item() == pytest.approx(0.2, rel=0.1)


def test_rotations_are_of_all_angles() -> None:
    matrix, shift = maps("rotation")
    assert torch.allclose(matrix @ matrix.mT, torch.eye(2).expand_as(matrix), atol=3e-3)
    assert torch.allclose(torch.linalg.det(matrix), torch.ones(len(matrix)), atol=3e-3)
    angle = torch.atan2(matrix[:, 0, 1], matrix[:, 0, 0])
    assert angle.std().item() == pytest.approx(2 * math.pi / math.sqrt(12), rel=0.05)
    assert shift.abs().max() < 1e-3


def test_fractional_shifts_are_an_eighth_in_the_mean_square() -> None:
    matrix, shift = maps("fraction")
    near = shift.abs().amax(1) < 6  # farther ones see the mirror image
    assert torch.allclose(matrix[near], torch.eye(2).expand_as(matrix[near]), atol=2e-2)
    assert shift[:, 0].abs().median().item() == pytest.approx(0.6745 * 3, rel=0.15)
    assert abs(torch.corrcoef(shift.T)[0, 1]) < 0.1


# ---- colours ----------------------------------------------------------------------------------------------------


def colours(op: str, *colour: float, n: int = 4000) -> Tensor:
    """(n, C): what becomes of one colour"""
    x = torch.tensor(colour).view(1, -1, 1, 1).expand(n, -1, 2, 2)
    return ADA([op])(x, 1.0, noise(n))[:, :, 0, 0]


@pytest.mark.parametrize("grey", [(0.4,), (0.4, 0.4, 0.4)])
def test_brightness_contrast_and_luma_flip_of_grey(grey: tuple[float, ...]) -> None:
    assert (colours("brightness", *grey) - 0.4).std().item() == pytest.approx(0.2, rel=0.05)
    assert (colours("contrast", *grey) / 0.4).log2().std().item() == pytest.approx(0.5, rel=0.05)
    flipped = colours("luma_flip", *grey) / 0.4
    assert torch.allclose(flipped.abs(), torch.ones_like(flipped), atol=1e-6)
    assert abs(flipped.mean()) < 0.05


def test_hue_turns_about_grey_and_saturation_scales_the_distance_from_it() -> None:
    rgb = torch.tensor([0.9, 0.2, -0.4])
    away = rgb - rgb.mean()
    hue = colours("hue", *rgb.tolist())
    assert torch.allclose(hue.mean(1), rgb.mean().expand(len(hue)), atol=1e-5)
    turned = hue - rgb.mean()
    assert torch.allclose(turned.norm(dim=1), away.norm().expand(len(hue)), atol=1e-5)
    cosine = turned @ away / away.norm() ** 2
    assert abs(cosine.mean()) < 0.05
    assert cosine.square().mean().item() == pytest.approx(0.5, abs=0.03)
    pale = colours("saturation", *rgb.tolist()) - rgb.mean()
    gain = pale @ away / away.norm() ** 2
    assert torch.allclose(pale, gain[:, None] * away, atol=1e-4)
    assert gain.log2().std().item() == pytest.approx(1, rel=0.05)
    assert torch.allclose(colours("hue", 0.5, 0.5, 0.5), torch.full((4000, 3), 0.5), atol=1e-5)
    # a luma flip turns the grey part round and keeps the colour
    flipped = colours("luma_flip", *rgb.tolist())
    assert torch.allclose(flipped - flipped.mean(1, keepdim=True), away.expand(4000, 3), atol=1e-5)


# ---- filter, noise, cutout --------------------------------------------------------------------------------------


def test_filters_leave_the_expected_power_as_it_is() -> None:
    n = 2000
    dice = Dice(frozenset(OPS), 1.0, noise(n), torch.zeros(n, 1, 2, 2))
    gains, struck = band_gains(dice)
    assert struck.all()
    one = Dice(frozenset(OPS), 0.0, noise(n), torch.zeros(n, 1, 2, 2))
    assert torch.allclose(band_gains(one)[0], torch.ones(n, 4), atol=1e-6)
    single = torch.exp2(torch.randn(n))
    power = torch.tensor(BAND_POWER)
    t = torch.ones(n, 4)
    t[:, 2] = single
    t = t / (t.square() @ power).sqrt()[:, None]
    assert torch.allclose(t.square() @ power, torch.ones(n), atol=1e-5)
    assert (gains > 0).all()


def test_noise_is_normal_of_a_half_normal_strength() -> None:
    n = 1500
    out = ADA(["noise"])(torch.zeros(n, 3, 8, 8), 1.0, noise(n))
    sigma = out.flatten(1).std(1)
    assert sigma.square().mean().sqrt().item() == pytest.approx(0.1, rel=0.1)
    assert (sigma < 0.0676).float().mean().item() == pytest.approx(0.5, abs=0.05)  # the median of |N(0, 0.1)|


def test_a_cutout_is_half_a_side_and_lies_anywhere() -> None:
    n = 2000
    holes = ADA(["cutout"])(torch.ones(n, 2, 16, 12), 1.0, noise(n)) == 0
    assert torch.equal(holes[:, 0], holes[:, 1])
    heights, widths = holes[:, 0].any(2).sum(1), holes[:, 0].any(1).sum(1)
    assert (holes[:, 0].sum((1, 2)) == heights * widths).all()
    assert heights.max() == 8
    assert widths.max() == 6
    assert heights.min() >= 4
    assert holes.any(0).all()


def test_policies_from_a_config_are_lists_or_tuples() -> None:
    x: Any = torch.rand(2, 3, 8, 8)
    a, b = ADA(["flip", "hue"]), ADA(("hue", "flip"))
    assert torch.equal(a(x, 1.0, noise(2)), b(x, 1.0, noise(2)))
    assert repr(a) == "ADA(flip, hue)"
