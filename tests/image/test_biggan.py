"""BigGAN: published counts and tables, where z and the class go, state, training through the core."""

from __future__ import annotations

import copy
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gan_kit
from gan_kit import bundle
from gan_kit.adversarial import GAN, R1, Hinge
from gan_kit.image import BigGANDiscriminator, BigGANGenerator, ResNetDiscriminator, ResNetGenerator
from gan_kit.latent import Normal
from gan_kit.nn import SelfAttention2d, SpectralNorm, raw_weight
from gan_kit.noise import BatchNoise
from gan_kit.types import DataSpec, UserError


def pair(size: int = 32, channels: int = 3, num_classes: int = 3, **more: Any) -> tuple[Any, Any]:
    arguments: dict[str, Any] = {"width": 8, "attention": 16, **more}
    return (
        BigGANGenerator(size, channels, num_classes, **arguments),
        BigGANDiscriminator(size, channels, num_classes, **arguments),
    )


def inputs(G: Any, n: int = 4) -> tuple[Tensor, Tensor | None]:
    return torch.randn(n, G.z_dim), torch.arange(n) % G.num_classes if G.num_classes else None


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    "size, channels, num_classes",
    [
        (32, 1, 10),
        (64, 3, 0),
        pytest.param(128, 4, 2, marks=pytest.mark.slow),
        pytest.param(256, 3, 3, marks=pytest.mark.slow),
    ],
)
def test_shapes(size: int, channels: int, num_classes: int) -> None:
    G, D = pair(size, channels, num_classes)
    z, y = inputs(G, 2)
    x = G(z, y)
    assert x.shape == (2, channels, size, size)
    assert x.abs().max() <= 1
    assert D(x, y).logits[0].shape == (2,)


# ---- as published -------------------------------------------------------------------------------------------------


def test_the_imagenet_128_pair_has_the_published_count() -> None:
    """Brock et al. 2019, table 1: 158.3 million, both nets together (ch 96, shared embedding, skip-z)."""
    with torch.device("meta"):
        G, D = BigGANGenerator(128, 3, 1000), BigGANDiscriminator(128, 3, 1000)
    assert count(G) + count(D) == pytest.approx(158.3e6, rel=1e-3)
    assert (count(G), count(D)) == (by_hand_g(128, 96, 1000, 64), by_hand_d(128, 96, 1000, 64))
    assert G.z_dim == 120


@pytest.mark.parametrize("width, attention, millions", [(64, None, 4.3), (96, 16, 9.4)])
def test_the_cifar_generators_have_the_published_counts(width: int, attention: int | None, millions: float) -> None:
    """4.3 million in the author's PyTorch code (its issue 78), 9.4 in StudioGAN's benchmark (Kang et al. 2021)."""
    with torch.device("meta"):
        G = BigGANGenerator(32, 3, 10, width=width, attention=attention)
    assert count(G) / 1e6 == pytest.approx(millions, abs=0.05)
    assert G.z_dim == 80


CHANNELS = {  # the paper's tables 4 to 6, in units of ch; 64 the author's code
    64: ((16, 16, 8, 4, 2), (1, 2, 4, 8, 16)),
    128: ((16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16)),
    256: ((16, 16, 8, 8, 4, 2, 1), (1, 2, 4, 8, 8, 16, 16)),
}


def attention_by_hand(c: int) -> int:
    return 2 * c * (c // 8) + 2 * c * (c // 2) + 1


def by_hand_g(size: int, ch: int, classes: int, attention: int) -> int:
    w = [ch * n for n in CHANNELS[size][0]]
    total = 128 * classes + (20 + 1) * 16 * w[0] + 2 * w[-1] + 9 * w[-1] * 3 + 3
    for i, (a, b) in enumerate(itertools.pairwise(w)):
        total += 9 * a * b + 9 * b * b + a * b + 3 * b  # two 3x3, the shortcut, their biases
        total += 2 * (128 + 20) * (a + b)  # gain and bias of both norms
        total += attention_by_hand(b) if 8 * 2**i == attention else 0
    return total


def by_hand_d(size: int, ch: int, classes: int, attention: int) -> int:
    w = [3, *(ch * n for n in CHANNELS[size][1])]
    downs = len(w) - 1 - (size > 64)
    total = w[-1] + 1 + classes * w[-1]
    for i, (a, b) in enumerate(itertools.pairwise(w)):
        total += 9 * a * b + 9 * b * b + 2 * b + (a * b + b if i < downs or a != b else 0)
        total += attention_by_hand(b) if size // 2 ** (i + 1) == attention and i < downs else 0
    return total


@pytest.mark.parametrize("size", CHANNELS)
def test_channels_and_counts_of_every_size(size: int) -> None:
    side = min(64, size // 2)
    with torch.device("meta"):
        G = BigGANGenerator(size, 3, 7, width=16, attention=side)
        D = BigGANDiscriminator(size, 3, 7, width=16, attention=side)
    assert G.widths == [16 * n for n in CHANNELS[size][0]]
    assert D.widths == [16 * n for n in CHANNELS[size][1]]
    assert G.z_dim == 20 * len(G.widths)
    assert count(G) == by_hand_g(size, 16, 7, side)
    assert count(D) == by_hand_d(size, 16, 7, side)


def test_all_layers_but_the_embedding_are_normalised_and_orthogonal() -> None:
    G, D = pair()
    for net in (G, D):
        for name, m in net.named_modules():
            if isinstance(m, nn.Conv2d | nn.Linear) or (isinstance(m, nn.Embedding) and name != "embed"):
                assert isinstance(m.parametrizations["weight"][0], SpectralNorm), name
                w = raw_weight(m).flatten(1)
                w = w if w.shape[0] <= w.shape[1] else w.T
                assert torch.allclose(w @ w.T, torch.eye(len(w)), atol=1e-4), name


def test_each_part_of_z_reaches_its_own_block_on() -> None:
    G, _ = pair(64, num_classes=3)
    G.eval()
    seen: list[Tensor] = []
    for block in G.blocks:
        block.register_forward_hook(lambda m, given, out: seen.append(out.detach()))
    z, y = inputs(G, 1)
    G(z, y)
    before, seen[:] = list(seen), []
    for part in range(1, G.parts):
        moved = z.clone()
        moved[:, 20 * part : 20 * (part + 1)] += 1
        G(moved, y)
        assert [not torch.equal(a, b) for a, b in zip(before, seen, strict=True)] == [
            i >= part - 1 for i in range(G.parts - 1)
        ]
        seen.clear()


# ---- in training --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [0, 3])
def test_gradients_of_first_and_second_order_reach_every_parameter(num_classes: int) -> None:
    G, D = pair(num_classes=num_classes)
    for m in (*G.modules(), *D.modules()):
        if isinstance(m, SelfAttention2d):
            nn.init.ones_(m.gamma)
    z, y = inputs(G, 6)
    x = G(z, y)
    logit = D(x, y).logits[0]
    (slope,) = torch.autograd.grad(logit.sum(), x, create_graph=True)
    (F.softplus(-logit).sum() + slope.square().sum()).backward()
    for net in (G, D):
        dead = [
            n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
        ]
        assert not dead


def test_reset_parameters_draws_everything_anew() -> None:
    torch.manual_seed(5)
    nets = pair()
    torch.manual_seed(5)
    for a, b in zip(nets, pair(), strict=True):
        assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
        with torch.no_grad():
            for v in (*a.parameters(), *a.buffers()):
                v.fill_(77)
        a.reset_parameters()
        assert not any((v == 77).any() for v in a.state_dict().values())


def test_copies_and_bundles_are_the_net(tmp_path: Path) -> None:
    G, _ = pair(channels=1, num_classes=2)
    z, y = inputs(G)
    G(z, y).sum().backward()
    expected = G.eval()(z, y)
    assert torch.equal(copy.deepcopy(G)(z, y), expected)
    bundle.save(tmp_path / "b", G, Normal(), DataSpec((1, 32, 32), 2))
    assert torch.equal(gan_kit.load(tmp_path / "b").generator(z, y), expected)


def gan_of(kind: str, **more: Any) -> GAN:
    if kind == "biggan":
        G, D = pair(num_classes=3)
    else:
        G, D = ResNetGenerator(32, 3, 3, width=8), ResNetDiscriminator(32, 3, 3, width=8)
    adam = partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.9), fused=True)
    return GAN(G, D, Hinge(), adam, adam, init_seed=0, **more)


@pytest.mark.parametrize("kind", ["sngan", "biggan"])
def test_ds_gradient_of_micro_batches_is_the_whole_batchs(kind: str) -> None:
    """One power iteration an update: all passes of a step see one D. (G's batch norm couples samples; D has none.)"""
    grads = []
    real, fake, y = torch.randn(4, 3, 32, 32), torch.randn(4, 3, 32, 32), torch.arange(4) % 3
    for cuts in ([(0, 4)], [(0, 2), (2, 4)]):
        gan = gan_of(kind)
        for m in gan.discriminator.modules():
            if isinstance(m, SelfAttention2d):
                nn.init.constant_(m.gamma, 0.1)  # its convolutions' gradients are zeros at 0
        for _ in range(2):  # the second step has an iteration that is due
            gan.discriminator.zero_grad()
            for a, b in cuts:
                loss = gan.critic_loss(real[a:b], fake[a:b], y[a:b], BatchNoise((0,), 4, a, b))
                (loss * (b - a) / 4).backward()
        grads.append([p.grad for p in gan.discriminator.parameters()])
    for a, b in zip(*grads, strict=True):
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["sngan", "biggan"])
def test_a_finite_difference_is_taken_of_one_and_the_same_d(kind: str) -> None:
    """With an iteration a pass, D would move between its two evaluations by more than σ times its slope."""
    gan = gan_of(kind)
    real, fake, y = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32), torch.arange(2)
    gan.critic_loss(real, fake, y, BatchNoise((0,), 2)).backward()
    with torch.no_grad():
        for p in gan.discriminator.parameters():
            p.add_(0.1 * torch.randn_like(p))  # an update after which the iteration has far to go
    gan.discriminator.zero_grad()
    gan.penalties = {"r1": R1(1.0, finite_difference_sigma=1e-3)}
    gan.critic_loss(real, fake, y, BatchNoise((0,), 2))
    by_difference = gan.scalars["penalty_r1"]
    slopes = []
    for i in range(2):
        x = real[i : i + 1].clone().requires_grad_()
        (g,) = torch.autograd.grad(gan.discriminator(x, y[i : i + 1]).logits[0].sum(), x)
        slopes.append(g.square().sum())
    # (ε·g)² has mean ‖g‖² and a χ² spread; a D that moved would be out by orders of magnitude
    assert 1e-3 < by_difference / (torch.stack(slopes).mean() / 2) < 12


def test_z_that_cannot_be_cut_is_refused() -> None:
    with pytest.raises(UserError, match="z_dim=100 can't be cut into 6 equal parts; set z_dim=96"):
        BigGANGenerator(128, width=8, z_dim=100)


@pytest.mark.parametrize("net", [BigGANGenerator, BigGANDiscriminator])
@pytest.mark.parametrize("size", [16, 48, 512])
def test_odd_sizes_are_refused(net: Any, size: int) -> None:
    with pytest.raises(UserError, match=f"size {size} is not a power of two from 32 to 256"):
        net(size)
