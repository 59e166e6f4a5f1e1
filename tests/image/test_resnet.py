"""SNGAN's, WGAN-GP's and SAGAN's ResNets: published sizes, counts by hand, a naive forward pass, state, refusals."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gan_kit
from gan_kit import bundle
from gan_kit.image import ResNetDiscriminator, ResNetGenerator
from gan_kit.latent import Normal
from gan_kit.nn import SelfAttention2d, SpectralNorm, raw_weight
from gan_kit.types import DataSpec, UserError

KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sngan": ({}, {}),
    "wgan_gp": ({"plan": "wgan_gp"}, {"plan": "wgan_gp", "spectral": False}),
    "sagan": ({"spectral": True, "attention": 16}, {"attention": 16}),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def pair(kind: str, size: int = 32, channels: int = 3, num_classes: int = 0, width: int | None = 8, **more: Any) -> Any:
    g, d = KINDS[kind]
    arguments = {"size": size, "channels": channels, "num_classes": num_classes, "width": width, **more}
    return ResNetGenerator(**arguments, **g), ResNetDiscriminator(**arguments, **d)


def inputs(G: Any, n: int = 4) -> tuple[Tensor, Tensor | None]:
    return torch.randn(n, G.z_dim), torch.arange(n) % G.num_classes if G.num_classes else None


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@kinds
@pytest.mark.parametrize(
    "size, channels, num_classes",
    [
        (32, 1, 10),
        (64, 4, 0),
        pytest.param(128, 3, 2, marks=pytest.mark.slow),
        pytest.param(256, 1, 0, marks=pytest.mark.slow),
    ],
)
def test_shapes(kind: str, size: int, channels: int, num_classes: int) -> None:
    G, D = pair(kind, size, channels, num_classes)
    z, y = inputs(G, 2)
    x = G(z, y)
    assert x.shape == (2, channels, size, size)
    assert x.abs().max() <= 1
    logits, features, aux = D(x, y)
    assert [logit.shape for logit in logits] == [(2,)]
    assert features[0][0].shape[0] == 2
    assert aux is None


# ---- as published -------------------------------------------------------------------------------------------------

SNGAN = {  # G's and D's channels: Miyato et al. 2018, tables 3 (32) and 6 (128); the authors' code for 64 and 256
    32: ([256] * 4, [128] * 4),
    64: ([1024, 512, 256, 128, 64], [64, 128, 256, 512, 1024]),
    128: ([1024, 1024, 512, 256, 128, 64], [64, 128, 256, 512, 1024, 1024]),
    256: ([1024, 1024, 512, 512, 256, 128, 64], [64, 128, 256, 512, 512, 1024, 1024]),
}


def conv(a: int, b: int, k: int) -> int:
    return a * b * k * k + b


@pytest.mark.parametrize("size", SNGAN)
@pytest.mark.parametrize("classes", [0, 10])
def test_sngan_has_the_published_channels_and_the_count_by_hand(size: int, classes: int) -> None:
    with torch.device("meta"):
        G, D = ResNetGenerator(size, 3, classes), ResNetDiscriminator(size, 3, classes)
    g, d = SNGAN[size]
    assert (G.widths, D.widths) == (g, d)
    per_norm = 2 * (classes or 1)  # a gain and a bias, of each class
    blocks = sum(conv(a, b, 3) + conv(b, b, 3) + conv(a, b, 1) + per_norm * (a + b) for a, b in itertools.pairwise(g))
    assert count(G) == (128 + 1) * 16 * g[0] + blocks + 2 * g[-1] + conv(g[-1], 3, 3)
    ins = [3, *d[:-1]]
    downs = int(math.log2(size)) - {32: 3, 64: 1, 128: 2, 256: 2}[size]  # down to 8x8, 2x2, 4x4
    expected = 0
    for i, (a, b) in enumerate(zip(ins, d, strict=True)):
        hidden = b if i == 0 else a
        expected += conv(a, hidden, 3) + conv(hidden, b, 3) + (conv(a, b, 1) if i < downs or a != b else 0)
    assert count(D) == expected + d[-1] + 1 + classes * d[-1]


def test_the_counts_of_the_cifar_nets_in_figures() -> None:
    with torch.device("meta"):
        assert count(ResNetGenerator(32)) == 4_276_739
        assert count(ResNetDiscriminator(32)) == 1_053_825
        # Gulrajani et al. 2017, appendix F: all of 128 channels
        assert count(ResNetGenerator(32, plan="wgan_gp")) == 1_204_483
        assert count(ResNetDiscriminator(32, plan="wgan_gp", spectral=False)) == 1_053_825


def test_wgan_gps_64_has_the_published_channels_stem_norm_and_head() -> None:
    G, D = ResNetGenerator(64, plan="wgan_gp"), ResNetDiscriminator(64, plan="wgan_gp", spectral=False)
    assert G.widths == [512, 512, 256, 128, 64]
    assert D.widths == [64, 128, 256, 512, 512]
    assert isinstance(D.stem, nn.Conv2d)
    assert D.head.psi.in_features == 512 * 4 * 4
    assert sum(isinstance(m, nn.GroupNorm) for m in D.modules()) == 2 * 4 + 1
    assert not any(isinstance(m, SpectralNorm) for m in D.modules())


def test_sngan_normalises_all_layers_of_d_and_none_of_g() -> None:
    G, D = pair("sngan", num_classes=3)
    assert not any(isinstance(m, SpectralNorm) for m in G.modules())
    for m in D.modules():
        if isinstance(m, nn.Conv2d | nn.Linear | nn.Embedding):
            assert torch.linalg.matrix_norm(m.weight.flatten(1), 2) < 1.5


def test_sagan_has_attention_at_its_resolution_in_both_and_spectral_norm_in_g() -> None:
    G, D = pair("sagan", 64)
    for net, width in ((G, G.widths[2]), (D, D.widths[1])):  # 16x16: G's second block, D's second
        (found,) = (m for m in net.modules() if isinstance(m, SelfAttention2d))
        assert found.query.in_channels == width
        assert any(isinstance(m, SpectralNorm) for m in net.modules())
    sides = []
    for net in (G, D):
        for m in net.attention.values():
            m.register_forward_hook(lambda m, given, out: sides.append(out.shape[-1]))
    z, _ = inputs(G)
    D(G(z))
    assert sides == [16, 16]


def naive_g(G: ResNetGenerator, z: Tensor, y: Tensor | None) -> Tensor:
    more = () if y is None else (y,)
    x = G.linear(z).view(len(z), -1, 4, 4)
    for block in G.blocks:
        h = F.interpolate(F.relu(block.norm1(x, *more)), scale_factor=2)
        h = F.conv2d(h, block.conv1.weight, block.conv1.bias, padding=1)
        h = F.conv2d(F.relu(block.norm2(h, *more)), block.conv2.weight, block.conv2.bias, padding=1)
        short = F.conv2d(F.interpolate(x, scale_factor=2), block.shortcut.weight, block.shortcut.bias)
        x = h + short
    return torch.tanh(F.conv2d(F.relu(G.norm(x)), G.to_pixels.weight, G.to_pixels.bias, padding=1))


def naive_d(D: ResNetDiscriminator, x: Tensor) -> Tensor:
    """The shortcut of the first block pools first, those of others last, as published."""
    x = D.stem(x)
    for block in D.blocks:
        h = F.conv2d(x if block.first else F.relu(block.norm1(x)), block.conv1.weight, block.conv1.bias, padding=1)
        h = F.conv2d(F.relu(block.norm2(h)), block.conv2.weight, block.conv2.bias, padding=1)
        x = block.shortcut(x)
        x = F.avg_pool2d(h, 2) + F.avg_pool2d(x, 2) if block.down else h + x
    x = F.relu(D.norm(x))
    return x.flatten(1) if D.pool == "flat" else x.sum((2, 3)) if D.pool == "sum" else x.mean((2, 3))


@pytest.mark.parametrize("kind", ["sngan", "wgan_gp"])
@pytest.mark.parametrize("size", [32, 64])
def test_the_joined_convolutions_make_no_difference(kind: str, size: int) -> None:
    G, D = (net.double() for net in pair(kind, size, num_classes=3))
    z, y = inputs(G)
    x = G(z.double(), y)
    assert torch.allclose(x, naive_g(G, z.double(), y), atol=1e-10)
    assert torch.allclose(D(x, y).features[0][0], naive_d(D, x), atol=1e-10)


# ---- in training --------------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("num_classes", [0, 3])
def test_gradient_reaches_every_parameter(kind: str, num_classes: int) -> None:
    G, D = pair(kind, num_classes=num_classes)
    for m in (*G.modules(), *D.modules()):
        if isinstance(m, SelfAttention2d):
            nn.init.ones_(m.gamma)  # at 0 nothing passes to its convolutions
    z, y = inputs(G, 6)
    F.softplus(-D(G(z, y), y).logits[0]).sum().backward()
    for net in (G, D):
        dead = [
            n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
        ]
        assert not dead


@kinds
def test_double_backward_through_d(kind: str) -> None:
    _, D = pair(kind, num_classes=3)
    x, y = torch.randn(3, 3, 32, 32, requires_grad=True), torch.arange(3)
    (slope,) = torch.autograd.grad(D(x, y).logits[0].sum(), x, create_graph=True)
    slope.square().sum().backward()
    without = [n for n, p in D.named_parameters() if "bias" not in n and "gamma" not in n and "attention" not in n]
    grads = dict(D.named_parameters())
    assert all(grads[n].grad is not None and grads[n].grad.any() for n in without)


@kinds
def test_a_seed_fixes_the_weights_and_reset_parameters_draws_all_of_them_anew(kind: str) -> None:
    torch.manual_seed(5)
    nets = pair(kind, num_classes=3)
    torch.manual_seed(5)
    for a, b in zip(nets, pair(kind, num_classes=3), strict=True):
        assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
        with torch.no_grad():
            for v in (*a.parameters(), *a.buffers()):
                v.fill_(77)
        a.reset_parameters()
        assert not any((v == 77).any() for v in a.state_dict().values())
        torch.manual_seed(9)
        a.reset_parameters()
        torch.manual_seed(9)
        b.reset_parameters()
        assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_initialisation_is_glorots_wider_in_blocks() -> None:
    G = ResNetGenerator(32, width=32)
    for m in G.modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(m.weight)
            gain = math.sqrt(2) if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) and m is not G.to_pixels else 1
            expected = gain * math.sqrt(2 / (fan_in + fan_out))
            assert m.weight.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * m.weight.numel()))
            assert not m.bias.any()


@kinds
def test_copies_are_equal_and_independent(kind: str) -> None:
    G, D = pair(kind, num_classes=3)
    z, y = inputs(G)
    D(G(z, y), y).logits[0].sum().backward()  # the state is one in the midst of training
    for net, given in ((G.eval(), (z, y)), (D.eval(), (torch.randn(4, 3, 32, 32), y))):
        copied = copy.deepcopy(net)
        fresh = type(net)(**net.init_args).eval()
        fresh.load_state_dict(net.state_dict())
        out = [m(*given) for m in (net, copied, fresh)]
        out = [o if isinstance(o, Tensor) else o.logits[0] for o in out]
        assert torch.equal(out[0], out[1])
        assert torch.equal(out[0], out[2])
        with torch.no_grad():
            next(copied.parameters()).add_(1)
        assert not torch.equal(next(copied.parameters()), next(net.parameters()))


@pytest.mark.parametrize("kind", ["sngan", "sagan"])
def test_a_bundle_gives_back_the_generator(kind: str, tmp_path: Path) -> None:
    G, _ = pair(kind, channels=1, num_classes=2)
    z, y = inputs(G)
    G(z, y).sum().backward()
    bundle.save(tmp_path / "b", G, Normal(), DataSpec((1, 32, 32), 2))
    assert torch.equal(gan_kit.load(tmp_path / "b").generator(z, y), G.eval()(z, y))


@kinds
def test_samples_do_not_see_each_other_in_evaluation(kind: str) -> None:
    G, D = (net.eval() for net in pair(kind, num_classes=3))
    z, y = inputs(G)
    x = G(z, y)
    assert torch.allclose(torch.cat([G(z[i : i + 1], y[i : i + 1]) for i in range(4)]), x, atol=1e-5)
    alone = torch.cat([D(x[i : i + 1], y[i : i + 1]).logits[0] for i in range(4)])
    assert torch.allclose(alone, D(x, y).logits[0], atol=1e-4)


def test_bfloat16_autocast_runs() -> None:
    G, D = pair("sagan", num_classes=3)
    z, y = inputs(G)
    with torch.autocast("cpu", torch.bfloat16):
        D(G(z, y), y).logits[0].float().sum().backward()
    assert all(raw_weight(m).grad.isfinite().all() for m in D.modules() if isinstance(m, nn.Conv2d))


# ---- labels -------------------------------------------------------------------------------------------------------


def test_labels_matter_and_the_null_class_is_one_more() -> None:
    G, D = pair("sngan", num_classes=3, null_class=True)
    G.eval(), D.eval()
    for m in G.modules():
        if isinstance(m, nn.Embedding):
            nn.init.normal_(m.weight)
            assert m.num_embeddings == 4
    z = torch.randn(1, G.z_dim).expand(4, -1)
    x = G(z, torch.arange(4))
    assert len({tuple(image.flatten().tolist()) for image in x}) == 4
    assert torch.allclose(G(z, torch.full((4,), -1)), x[3].expand(4, -1, -1, -1), atol=1e-6)
    assert torch.allclose(G(z), x[3].expand(4, -1, -1, -1), atol=1e-6)
    same = torch.randn(1, 3, 32, 32).expand(4, -1, -1, -1)
    assert D(same, torch.arange(4)).logits[0].unique().numel() == 4


@pytest.mark.parametrize("conditioning", ["none", "concat", "auxiliary", "d2d-ce"])
def test_d_takes_every_kind_of_conditioning(conditioning: str) -> None:
    D = ResNetDiscriminator(32, num_classes=3, width=8, conditioning=conditioning)
    logits, _, aux = D(torch.randn(2, 3, 32, 32), torch.arange(2))
    assert logits[0].shape == (2,)
    assert (aux is not None) == (conditioning in ("auxiliary", "d2d-ce"))


@pytest.mark.parametrize(
    "net, arguments, message",
    [
        (ResNetGenerator, {"size": 16}, "size 16 is not a power of two from 32 to 256"),
        (ResNetDiscriminator, {"size": 48}, "size 48 is not a power of two from 32 to 256"),
        (ResNetGenerator, {"plan": "resnet50"}, "no plan='resnet50'; have sngan, wgan_gp"),
        (ResNetGenerator, {"widths": [8, 8]}, r"widths=\[8, 8\] are 2 numbers, but this net has 4 stages"),
        (ResNetGenerator, {"attention": 4}, "attention=4: this net has blocks at 8, 16, 32"),
        (ResNetDiscriminator, {"attention": 32}, "attention=32: this net has blocks at 16, 8"),
        (ResNetDiscriminator, {"pool": "max"}, "pool='max': choose"),
        (ResNetDiscriminator, {"norm": "batch"}, "norm='batch': choose"),
        (ResNetDiscriminator, {"width": 1, "attention": 16}, "1 channels, which are no multiple of 8"),
    ],
)
def test_nets_that_cannot_be_built_are_refused(net: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        net(**arguments)


def test_labels_that_are_missing_are_told() -> None:
    G, _ = pair("sngan", num_classes=3)
    with pytest.raises(UserError, match="one of 3 classes; give labels"):
        G(torch.randn(2, 128))
