"""StyleGAN2: the modulated convolution against a naive one, styles, noise, truncation, published sizes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_kit.image.stylegan2 import (
    StyleGAN2Discriminator,
    StyleGAN2Generator,
    minibatch_std,
    modulated_conv2d,
)
from gan_kit.latent import Normal, draw
from gan_kit.noise import BatchNoise, SampleNoise
from gan_kit.types import DataSpec, UserError

SMALL: dict[str, Any] = {"size": 16, "channels": 1, "channel_base": 128, "channel_max": 16}


def generator(**more: Any) -> StyleGAN2Generator:
    torch.manual_seed(1)
    net = StyleGAN2Generator(**{**SMALL, "z_dim": 8, "w_dim": 8, "mapping_layers": 2, **more})
    for layer in net.convs:
        torch.nn.init.constant_(layer.strength, 0.5)  # type: ignore[arg-type]
    return net


def naive_filter(x: Tensor) -> Tensor:
    """(H + 3, W + 3) -> (H, W) by the 4x4 filter with gain 4"""
    row = torch.tensor([1.0, 3, 3, 1], dtype=x.dtype) / 8
    kernel = 4 * torch.outer(row, row)
    h, w = x.shape[1] - 3, x.shape[2] - 3
    return sum(kernel[i, j] * x[:, i : i + h, j : j + w] for i in range(4) for j in range(4))  # type: ignore[return-value]


def naive_modulated(x: Tensor, weight: Tensor, style: Tensor, demodulate: bool, up: bool) -> Tensor:
    """Equations 1 and 3, one sample after the other."""
    out = []
    for one, s in zip(x, style, strict=True):
        w = weight * s[None, :, None, None]
        if demodulate:
            w = w / (w.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if not up:
            out.append(F.conv2d(one[None], w, padding=w.shape[-1] // 2)[0])
            continue
        # zeros between the samples, the mirrored kernel over all that it reaches, then the filter: 2H + 1 -> 2H
        sparse = torch.zeros(one.shape[0], 2 * one.shape[1] - 1, 2 * one.shape[2] - 1, dtype=x.dtype)
        sparse[:, ::2, ::2] = one
        full = F.conv2d(F.pad(sparse, (2, 2, 2, 2))[None], w.flip(2, 3))[0]
        out.append(naive_filter(F.pad(full, (1, 1, 1, 1))))
    return torch.stack(out)


@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize("up, kernel", [(False, 1), (False, 3), (True, 3)])
def test_modulated_convolution_is_the_naive_one(up: bool, demodulate: bool, kernel: int) -> None:
    tensors = [torch.randn(3, 5, 6, 4), torch.randn(7, 5, kernel, kernel), torch.randn(3, 5) + 1]
    ours, naive = ([t.clone().requires_grad_() for t in tensors] for _ in range(2))
    x, expected = modulated_conv2d(*ours, demodulate, up), naive_modulated(*naive, demodulate, up)
    assert x.shape == expected.shape
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=1e-5)
    probe = torch.randn_like(x)
    for a, b in zip(
        torch.autograd.grad((x * probe).sum(), ours), torch.autograd.grad((expected * probe).sum(), naive), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("up", [False, True])
def test_modulated_convolution_has_second_derivatives(up: bool) -> None:
    tensors = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in [(2, 2, 3, 3), (2, 2, 3, 3), (2, 2)]]
    assert torch.autograd.gradgradcheck(lambda *t: modulated_conv2d(*t, up=up), tensors)


def test_demodulation_forgets_the_scale_of_style_and_weight() -> None:
    x, weight, style = torch.randn(2, 4, 8, 8), torch.randn(6, 4, 3, 3), torch.rand(2, 4) + 0.5
    once = modulated_conv2d(x, weight, style)
    torch.testing.assert_close(modulated_conv2d(x, weight * 3, style * 7), once, atol=1e-5, rtol=1e-5)


# At 1024x1024, the tables that public training logs of StyleGAN2-ADA print, layer by layer: discriminator 29,012,513,
# generator with 2 mapping layers 28,794,124, which is synthesis 28,268,812 and 262,656 a mapping layer (config F has
# 8). The others follow by the same rules: 256x256 with half the channels, and 32x32 of CIFAR-10
PUBLISHED = [
    ({"size": 1024}, {}, 30_370_060, 28_268_812, 29_012_513),
    ({"size": 256, "channel_base": 16384}, {}, 24_767_458, 22_666_210, 24_001_089),
    ({"size": 32, "mapping_layers": 2}, {"architecture": "plain"}, 19_947_539, 19_422_227, 20_720_641),
]


@pytest.mark.parametrize("of_g, of_d, g_total, synthesis, d_total", PUBLISHED)
def test_published_sizes(
    of_g: dict[str, Any], of_d: dict[str, Any], g_total: int, synthesis: int, d_total: int
) -> None:
    shared = {k: v for k, v in of_g.items() if k != "mapping_layers"}
    g, d = StyleGAN2Generator(**of_g), StyleGAN2Discriminator(**shared, **of_d)
    assert sum(p.numel() for p in g.parameters()) == g_total
    assert g_total - sum(p.numel() for p in g.layers.parameters()) == synthesis
    assert sum(p.numel() for p in d.parameters()) == d_total
    assert g.num_ws == 2 * math.log2(g.convs[-1].size) - 2  # type: ignore[arg-type,operator]


@pytest.mark.parametrize("architecture", ["skip", "residual"])
@pytest.mark.parametrize("classes", [0, 3])
def test_shapes_and_gradients(architecture: str, classes: int) -> None:
    g = generator(architecture=architecture, num_classes=classes)
    y = torch.tensor([0, 1, 2, 0]) if classes else None
    noise = BatchNoise((0,), 4)
    x = g(noise.randn(8), y, noise)
    assert x.shape == (4, 1, 16, 16)
    x.square().sum().backward()
    assert all(p.grad is not None for p in g.parameters())
    for critic in ("residual", "plain"):
        d = StyleGAN2Discriminator(**SMALL, num_classes=classes, architecture=critic)
        critique = d(x.detach(), y)
        assert critique.logits[0].shape == (4,)
        critique.logits[0].sum().backward()
        assert all(p.grad is not None for p in d.parameters())


def test_signals_keep_their_size_at_first() -> None:
    """What runtime scales, demodulation and √2 are for: features of variance about 1 in nets of any width."""
    for base in (256, 2048):
        g = generator(channels=3, channel_base=base, channel_max=64, mixing=0)
        d = StyleGAN2Discriminator(16, 3, channel_base=base, channel_max=64)
        x = g(torch.randn(64, 8), noise=BatchNoise((0,), 64))
        assert 0.5 < x.std() < 4  # three resolutions add up
        assert 0.2 < d(torch.randn(64, 3, 16, 16)).logits[0].std() + d.head.psi.weight.std() < 4
        w = g.mapping(torch.randn(256, 8))
        assert 0.5 < w.square().mean().sqrt() < 2


def test_noise_is_fixed_without_a_source_and_rows_of_one_draw_with_it() -> None:
    g = generator()
    z = BatchNoise((5,), 4).randn(8)
    assert torch.equal(g(z), g(z))
    assert not torch.equal(g(z, noise=BatchNoise((1,), 4)), g(z, noise=BatchNoise((2,), 4)))
    whole = g(z, noise=BatchNoise((1,), 4))
    halves = [g(z[a:b], noise=BatchNoise((1,), 4).part(a, b)) for a, b in ((0, 2), (2, 4))]
    torch.testing.assert_close(torch.cat(halves), whole, atol=1e-5, rtol=1e-5)


def test_samples_do_not_depend_on_their_batch() -> None:
    g = generator().eval()
    rows = [draw(g, Normal(), SampleNoise(0, range(a, b)), psi=0.7) for a, b in ((0, 1), (1, 4))]
    torch.testing.assert_close(torch.cat(rows), draw(g, Normal(), SampleNoise(0, range(4)), psi=0.7))


def test_truncation_draws_to_the_running_mean() -> None:
    g = generator()
    z = torch.randn(64, 8)
    means = [g.mapping(part).detach()[:, 0].mean(0) for part in z.split(32)]
    for part in z.split(32):
        g(part)
    torch.testing.assert_close(g.w_mean, 0.005 * (0.995 * means[0] + means[1]))
    g.eval()
    assert torch.equal(g(z[:2], psi=1.0), g.synthesis(g.mapping(z[:2])))
    same = g(z[:3], psi=0.0)
    torch.testing.assert_close(same[0], same[2])
    w = g.mapping(z[:2])
    torch.testing.assert_close(g(z[:2], psi=0.3), g.synthesis(g.w_mean + 0.3 * (w - g.w_mean)))
    before = g.w_mean.clone()
    g(z)
    assert torch.equal(g.w_mean, before)  # sampling leaves it


def test_style_mixing_takes_another_z_from_some_layer_on() -> None:
    g = generator(size=64, mixing=0.7)
    noise = BatchNoise((3,), 600)
    w = g.mapping(torch.randn(600, 8))
    other = g.mapping(BatchNoise((3,), 600).randn(8))
    mixed = g.mixed(w, None, noise)
    from_w = (mixed == w).all(2)
    assert torch.equal(from_w, from_w.cummin(1).values)  # first w, then the other
    assert torch.equal(torch.where(from_w[:, :, None], w, other), mixed)
    first = from_w.sum(1)
    assert first.min() == 1
    assert (first < g.num_ws).float().mean().item() == pytest.approx(0.7, abs=0.06)
    assert set(first.tolist()) == set(range(1, g.num_ws + 1))
    assert torch.equal(generator(mixing=0).mixed(w[:, :6], None, noise), w[:, :6])


def test_learning_rates_are_equal_and_the_mapping_has_a_hundredth() -> None:
    """Adam's first step moves a stored weight by lr, what is used by lr / √fan_in, in the mapping 1/100 of that."""
    g = generator()
    adam = torch.optim.Adam(g.parameters(), lr=0.1, betas=(0.0, 0.99))
    layer = g.layers[0]
    stored, used = layer.weight.detach().clone(), layer.weight.detach() * layer.weight_scale  # type: ignore[operator]
    g(torch.randn(8, 8)).sum().backward()
    adam.step()
    assert (layer.weight - stored).abs().max().item() == pytest.approx(0.1, rel=1e-3)  # type: ignore[operator]
    moved = (layer.weight * layer.weight_scale - used).abs().max().item()  # type: ignore[operator]
    assert moved == pytest.approx(0.1 * 0.01 * math.sqrt(2) / math.sqrt(8), rel=1e-3)
    assert stored.std() == pytest.approx(100, rel=0.3)


def test_minibatch_std_closed_form() -> None:
    x = torch.randn(8, 3, 4, 4)
    out = minibatch_std(x, 4)
    assert out.shape == (8, 4, 4, 4)
    assert torch.equal(out[:, :3], x)
    for i in range(2):  # sample i is with i + 2, i + 4, i + 6
        expected = x[i::2].std(0, correction=0).mean()
        torch.testing.assert_close(out[i::2, 3], expected.expand(4, 4, 4), atol=1e-5, rtol=1e-5)
    assert minibatch_std(torch.ones(4, 2, 4, 4))[:, 2].max() <= 1.01e-4
    assert minibatch_std(x[:6], 4)[0, 3, 0, 0].isclose(x[:6:2].std(0, correction=0).mean(), atol=1e-5)  # groups of 3
    assert minibatch_std(x[:1], 4).isfinite().all()


def test_a_critic_without_groups_judges_each_sample_alone() -> None:
    x = torch.randn(4, 1, 16, 16)
    d = StyleGAN2Discriminator(**SMALL, mbstd_group=0)
    torch.testing.assert_close(d(x).logits[0][:2], d(x[:2]).logits[0])
    grouped = StyleGAN2Discriminator(**SMALL)
    assert not torch.allclose(grouped(x).logits[0][:2], grouped(x[:2]).logits[0])


def test_the_null_class_stands_for_no_class() -> None:
    g = generator(num_classes=3, null_class=True)
    z = torch.randn(2, 8)
    assert torch.equal(g.mapping(z, None), g.mapping(z, torch.tensor([-1, 3])))
    assert not torch.equal(g.mapping(z, None), g.mapping(z, torch.tensor([0, 1])))
    with pytest.raises(UserError, match="3 classes"):
        generator(num_classes=3)(z)


def test_weights_are_those_of_the_seed() -> None:
    for net in (generator(num_classes=2), StyleGAN2Discriminator(**SMALL, num_classes=2)):
        states = []
        for _ in range(2):
            torch.manual_seed(4)
            net.reset_parameters()
            states.append({k: v.clone() for k, v in net.state_dict().items()})
        assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
        rebuilt = type(net)(**net.init_args)
        rebuilt.load_state_dict(net.state_dict())
        args = (torch.ones(2, 8),) if isinstance(net, StyleGAN2Generator) else (torch.ones(2, 1, 16, 16),)
        y = torch.tensor([0, 1])
        mine, theirs = net.eval()(*args, y), rebuilt.eval()(*args, y)
        a, b = (mine, theirs) if isinstance(mine, Tensor) else (mine.logits[0], theirs.logits[0])
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda: StyleGAN2Generator(48), "48 is not a power of two"),
        (lambda: StyleGAN2Generator(32, architecture="orig"), "have skip, residual"),
        (lambda: StyleGAN2Generator(32, mixing=1.5), "mixing=1.5"),
        (lambda: StyleGAN2Generator(64, channel_base=32), "channel_base=32"),
        (lambda: StyleGAN2Discriminator(32, architecture="skip"), "have residual, plain"),
        (lambda: StyleGAN2Discriminator(32, mbstd_group=-1), "mbstd_group=-1"),
    ],
)
def test_mistakes_are_told(build: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build()


@pytest.mark.slow
def test_it_learns_two_means() -> None:
    """Dark and bright pictures: after some hundred steps both come out, and no others."""
    from functools import partial

    from gan_kit.adversarial import EMA, GAN, R1, NonSaturating, PathLength
    from gan_kit.trained import TrainedGAN

    shape = {"size": 8, "channels": 1, "channel_base": 128, "channel_max": 16}
    adam = partial(torch.optim.Adam, lr=2e-3, betas=(0.0, 0.99))
    gan = GAN(
        StyleGAN2Generator(**shape, z_dim=8, w_dim=16, mapping_layers=2, mixing=0.0),
        StyleGAN2Discriminator(**shape),
        NonSaturating(),
        adam,
        adam,
        penalties={"r1": R1(0.1, every=16)},
        terms={"path_length": PathLength()},
        ema=EMA(2000),
        init_seed=0,
    )
    opt_g, opt_d = gan.configure_optimizers()
    rng = torch.Generator().manual_seed(0)
    for _ in range(400):
        bright = torch.randint(0, 2, (32, 1, 1, 1), generator=rng) * 1.6 - 0.8
        real = bright + 0.05 * torch.randn(32, 1, 8, 8, generator=rng)
        for opt, phase, loss_of in ((opt_d, 0, gan.d_loss), (opt_g, 1, gan.g_loss)):
            opt.zero_grad()
            loss_of(real, None, gan.noise(phase, 32)).backward()
            opt.step()
        gan.settle(32)
        gan.ema.update(gan.generator_ema, gan.generator, 32, gan.samples_seen)  # type: ignore[union-attr]
        gan.step, gan.samples_seen = gan.step + 1, gan.samples_seen + 32
    x = TrainedGAN(gan.generator_ema, Normal(), DataSpec((1, 8, 8))).sample(200)
    means = x.mean((1, 2, 3))
    assert 0.15 < (means > 0).float().mean() < 0.85
    assert (means.abs() - 0.8).abs().mean() < 0.2
