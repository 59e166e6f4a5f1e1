"""DCGAN and R3GAN: shapes, published numbers and initialisation, labels, gradients, state; perceptrons in vector/."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from gan_kit.image import DCGANDiscriminator, DCGANGenerator, R3GANDiscriminator, R3GANGenerator
from gan_kit.image.r3gan import Block, stage_widths
from gan_kit.types import UserError

SIZES = [8, 16, 32, 64, 128, 256]
PAIRS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "r3gan": (R3GANGenerator, R3GANDiscriminator, {"width": 16, "group_size": 4, "blocks": 1}),
    "r3gan dense": (R3GANGenerator, R3GANDiscriminator, {"width": 16, "group_size": None, "blocks": 1, "dense": True}),
    "r3gan strided": (
        R3GANGenerator,
        R3GANDiscriminator,
        {"width": 16, "group_size": None, "blocks": 1, "expansion": 0.5, "resample": "strided"},
    ),
    "dcgan": (DCGANGenerator, DCGANDiscriminator, {"width": 2}),
}
family = pytest.mark.parametrize("family", PAIRS)
classes = pytest.mark.parametrize("num_classes", [0, 10])


def pair(family: str, **arguments: Any) -> tuple[Any, Any]:
    G, D, tiny = PAIRS[family]
    return G(**tiny, **arguments), D(**tiny, **arguments)


def inputs(G: Any, n: int = 2) -> tuple[torch.Tensor, torch.Tensor | None]:
    return torch.randn(n, G.z_dim), torch.arange(n) % G.num_classes if G.num_classes else None


@family
@classes
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", SIZES)
def test_shapes(family: str, size: int, channels: int, num_classes: int) -> None:
    G, D = pair(family, size=size, channels=channels, num_classes=num_classes)
    z, y = inputs(G)
    x = G(z, y)
    assert x.shape == (2, channels, size, size)
    assert x.isfinite().all()
    critique = D(x, y)
    assert [logit.shape for logit in critique.logits] == [(2,)]
    assert [[h.shape[0] for h in hidden] for hidden in critique.features] == [[2]]


@pytest.mark.parametrize("family", ["r3gan", "r3gan strided"])
@pytest.mark.parametrize("patch, size", [(1, 8), (2, 16), (2, 32), (4, 32), (4, 64)])
def test_patches_work_at_a_fraction_of_the_size(patch: int, size: int, family: str) -> None:
    G, D = pair(family, size=size, num_classes=3, patch=patch)
    z, y = inputs(G)
    assert G(z, y).shape == (2, 3, size, size)
    assert D(G(z, y), y).logits[0].shape == (2,)
    assert len(G.widths) == len(D.widths) == int(math.log2(size // patch)) - 1
    small = pair(family, size=size // patch, num_classes=3)[0]
    assert len(small.stages) == len(G.stages)


# ---- R3GAN as published -----------------------------------------------------------------------------------------


def test_the_cifar_presets_generator_has_the_published_count() -> None:
    with torch.device("meta"):
        G = R3GANGenerator(size=32, channels=3, num_classes=10)
    assert sum(p.numel() for p in G.parameters()) == pytest.approx(20.8e6, rel=0.02)
    assert [len(stage) for stage in G.stages] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    "size, widths",
    [
        (32, [768] * 4),
        (64, [768] * 4 + [384]),
        (256, [768] * 4 + [384, 192, 96]),
    ],
)
def test_stage_widths_are_the_published_tables(size: int, widths: list[int]) -> None:
    assert stage_widths(size, 768) == widths


def test_last_width_doubles_downwards_to_the_width() -> None:
    assert stage_widths(64, 128, 2, last_width=32) == [128, 128, 64, 32]
    assert stage_widths(32, 128, 2, last_width=32) == [128, 64, 32]
    assert stage_widths(16, 100, last_width=64) == [100, 100, 64]


def test_the_published_block() -> None:
    block = Block(64, expansion=2, group_size=16)
    assert (block.w1.weight.shape, block.w2.weight.shape) == ((128, 64, 1, 1), (128, 16, 3, 3))
    assert (block.w3.weight.shape, block.w2.groups) == ((64, 128, 1, 1), 8)
    assert block.w3.bias is None
    assert {n for n, _ in block.named_parameters()} == {"w1.weight", "w2.weight", "w3.weight", "w1.bias", "w2.bias"}
    nn.init.normal_(block.w3.weight)
    nn.init.normal_(block.w1.bias)
    nn.init.normal_(block.w2.bias)
    x = torch.randn(2, 64, 4, 4)
    h = nn.functional.leaky_relu(nn.functional.conv2d(x, block.w1.weight) + block.w1.bias.view(1, -1, 1, 1), 0.2)
    h = nn.functional.leaky_relu(block.w2(h), 0.2)
    assert torch.allclose(block(x), x + block.w3(h), atol=1e-5)


@pytest.mark.parametrize("net", [R3GANGenerator, R3GANDiscriminator])
@pytest.mark.parametrize("blocks", [1, 2])
def test_initialisation_is_fix_up(net: Any, blocks: int) -> None:
    model = net(size=16, width=64, num_classes=4, blocks=blocks)
    found = [m for m in model.modules() if isinstance(m, Block)]
    assert len(found) == 3 * blocks
    for block in found:
        for conv in (block.w1, block.w2):
            fan_in, n = conv.weight[0].numel(), conv.weight.numel()
            expected = math.sqrt(2 / 1.04) * len(found) ** -0.25 / math.sqrt(fan_in)
            error = 4 / math.sqrt(2 * n)  # four standard errors of a normal sample's std
            assert conv.weight.std().item() == pytest.approx(expected, rel=error)
            assert abs(conv.weight.mean().item()) < 4 * expected / math.sqrt(n)
        assert not block.w3.weight.any()
        assert not block.w1.bias.any()
        assert not block.w2.bias.any()


@pytest.mark.parametrize("net", [R3GANGenerator, R3GANDiscriminator])
def test_the_layers_outside_of_blocks_keep_the_variance(net: Any) -> None:
    model = net(size=64, width=128, num_classes=4, group_size=16)
    inside = {id(p) for m in model.modules() if isinstance(m, Block) for p in m.parameters()}
    weights = {n: p for n, p in model.named_parameters() if id(p) not in inside}
    for name, weight in weights.items():
        expected = 1.0
        if name.endswith("weight") and "embed" not in name:
            expected = 1 / math.sqrt(weight[0].numel())
        if name == "embed.weight" and net is R3GANDiscriminator:
            expected = 1 / math.sqrt(64)
        assert weight.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * weight.numel())), name


def test_at_its_beginning_the_net_is_the_one_without_blocks() -> None:
    G, D = pair("r3gan", size=16, num_classes=3)
    z, y = inputs(G)
    x = G(z, y)
    logit = D(x, y).logits[0]
    for net in (G, D):
        for i in range(len(net.stages)):
            net.stages[i] = nn.Identity()
    assert torch.equal(G(z, y), x)
    assert torch.equal(D(x, y).logits[0], logit)


def test_ds_logit_is_the_dot_product_with_the_classes_embedding() -> None:
    _, D = pair("r3gan", size=8, num_classes=3, embed_dim=5)
    x = torch.randn(1, 3, 8, 8).expand(3, -1, -1, -1)
    logits, features, _ = D(x, torch.arange(3))
    assert torch.allclose(logits[0], D.embed.weight @ D.linear(features[0][0][0]), atol=1e-6)


# ---- DCGAN as published -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_dcgans_weights_are_drawn_from_n_0_002(norm: str) -> None:
    for net in (
        DCGANGenerator(32, width=32, num_classes=5),
        DCGANDiscriminator(32, width=32, num_classes=5, norm=norm),
    ):
        for m in net.modules():
            if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                assert m.weight.std().item() == pytest.approx(0.02, rel=5 / math.sqrt(2 * m.weight.numel()))
                assert m.bias is None or not m.bias.any()
            if isinstance(m, nn.BatchNorm2d):
                assert abs(m.weight.mean().item() - 1) < 0.02
                assert 0.005 < m.weight.std().item() < 0.04
                assert not m.bias.any()
        has_norm = any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
        assert has_norm == (isinstance(net, DCGANGenerator) or norm == "batch")


def test_dcgans_first_and_last_layers_are_not_normalised() -> None:
    G, D = DCGANGenerator(32, width=4), DCGANDiscriminator(32, width=4)
    assert isinstance(G.net[-1], nn.Tanh)
    assert isinstance(G.net[-2], nn.ConvTranspose2d)
    assert [type(m) for m in D.net[:3]] == [nn.Conv2d, nn.LeakyReLU, nn.Conv2d]
    x = G(torch.randn(4, 100) * 50)
    assert x.abs().max() <= 1


# ---- both -------------------------------------------------------------------------------------------------------


def stepped(G: Any, D: Any) -> None:
    """One descent of both. At the start R3GAN's W3 is zero, and lets no gradient through to W1, W2 and the biases."""
    z, y = inputs(G, 4)
    opt = torch.optim.SGD([*G.parameters(), *D.parameters()], lr=0.01)
    D(G(z, y), y).logits[0].sum().backward()
    opt.step()
    opt.zero_grad()


@family
@classes
@pytest.mark.parametrize("size", [8, 64])
def test_gradient_reaches_every_parameter(family: str, size: int, num_classes: int) -> None:
    G, D = pair(family, size=size, num_classes=num_classes)
    stepped(G, D)
    # every class, or its embedding has no gradient
    z, y = torch.randn(12, G.z_dim), torch.arange(12) % num_classes if num_classes else None
    nn.functional.softplus(-D(G(z, y), y).logits[0]).sum().backward()
    dead = [
        n
        for net in (G, D)
        for n, p in net.named_parameters()
        if p.grad is None or not p.grad.any() or not p.grad.isfinite().all()
    ]
    assert not dead
    if num_classes:
        assert (G.embed.weight.grad.norm(dim=1) > 0).all()
        assert (D.embed.weight.grad.norm(dim=1) > 0).all()


@family
def test_double_backward_through_d_reaches_its_weights(family: str) -> None:
    G, D = pair(family, size=16, num_classes=3)
    if family == "dcgan":
        D = DCGANDiscriminator(16, num_classes=3, width=2, norm="none")
    stepped(G, D)
    x, y = torch.randn(3, 3, 16, 16, requires_grad=True), torch.arange(3)
    (grad,) = torch.autograd.grad(D(x, y).logits[0].sum(), x, create_graph=True)
    grad.square().sum().backward()
    # biases bend nothing but the kinks; the label enters as a factor in both critics
    without = [n for n, p in D.named_parameters() if "bias" not in n and (p.grad is None or not p.grad.any())]
    assert not without


@family
def test_the_label_changes_the_output_of_both(family: str) -> None:
    G, D = pair(family, size=16, num_classes=3)
    G.eval(), D.eval()
    z = torch.randn(1, G.z_dim).expand(3, -1)
    x = G(z, torch.arange(3))
    assert len({tuple(image.flatten().tolist()) for image in x}) == 3
    same = torch.randn(1, 3, 16, 16).expand(3, -1, -1, -1)
    assert D(same, torch.arange(3)).logits[0].unique().numel() == 3


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_samples_do_not_see_each_other(norm: str) -> None:
    G, D = pair("r3gan", size=16)
    if norm == "batch":  # DCGAN, in evaluation mode
        G, D = (net.eval() for net in pair("dcgan", size=16))
    z, _ = inputs(G, 5)
    x = G(z)
    assert torch.allclose(torch.cat([G(z[i : i + 1]) for i in range(5)]), x, atol=1e-5)
    alone = torch.cat([D(x[i : i + 1]).logits[0] for i in range(5)])
    assert torch.allclose(alone, D(x).logits[0], atol=1e-5)


@family
def test_a_seed_fixes_the_weights_and_reset_parameters_draws_all_of_them_anew(family: str) -> None:
    torch.manual_seed(5)
    nets = pair(family, size=16, num_classes=3)
    torch.manual_seed(5)
    again = pair(family, size=16, num_classes=3)
    for a, b in zip(nets, again, strict=True):
        assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
        with torch.no_grad():
            for v in a.state_dict().values():
                v.fill_(77)
        a.reset_parameters()
        assert not any((v == 77).any() for v in a.state_dict().values())
        # the same draws in the same order, but for what the modules' own constructors drew before
        torch.manual_seed(9)
        a.reset_parameters()
        torch.manual_seed(9)
        b.reset_parameters()
        assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


@family
def test_copies_are_equal_and_independent(family: str) -> None:
    G, D = pair(family, size=16, num_classes=3)
    z, y = inputs(G)
    for net, arguments in ((G.eval(), (z, y)), (D.eval(), (torch.randn(2, 3, 16, 16), y))):
        net(*arguments)
        copied = copy.deepcopy(net)
        assert copied.init_args == net.init_args
        fresh = type(net)(**net.init_args).eval()
        fresh.load_state_dict(net.state_dict())
        out = [m(*arguments) for m in (net, copied, fresh)]
        out = [o if isinstance(o, torch.Tensor) else o.logits[0] for o in out]
        assert torch.equal(out[0], out[1])
        assert torch.equal(out[0], out[2])
        with torch.no_grad():
            next(copied.parameters()).add_(1)
        assert not torch.equal(next(copied.parameters()), next(net.parameters()))


@family
@pytest.mark.parametrize("size", [4, 12, 33, 512, 0])
def test_odd_sizes_are_refused(family: str, size: int) -> None:
    for net in PAIRS[family][:2]:
        with pytest.raises(UserError, match=f"size {size} is not a power of two from 8 to 256"):
            net(size=size)


@pytest.mark.parametrize("net", [R3GANGenerator, R3GANDiscriminator])
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"size": 8, "patch": 2}, "patch=2 does not fit 8x8"),
        ({"size": 32, "patch": 3}, "patch=3 does not fit 32x32"),
        ({"size": 16, "widths": [32, 32]}, r"widths=\[32, 32\] has 2 stages, but 16x16 .* take 3"),
        ({"size": 32, "widths": [32] * 4, "patch": 2}, "has 4 stages, .* patch=2 take 3"),
        ({"size": 8, "width": 20}, "40 inner channels are not whole groups of 16"),
        (
            {"size": 16, "blocks": [1] * 4},
            r"blocks=\[1, 1, 1, 1\]: give a number from 0, or one for each of the 3 stages",
        ),
        ({"size": 16, "last_width": 0}, "last_width=0; give the last stage a channel or more"),
        ({"size": 8, "blocks": -1}, "blocks=-1: give a number from 0"),
        (
            {"size": 16, "patch": 2, "resample": "strided", "pixel_kernel": 3},
            "pixel_kernel=3 has no place in a strided net of patch=2, .* is 4x4; leave it 1",
        ),
        ({"size": 8, "resample": "nearest"}, "resample='nearest': choose 'bilinear', as published, or 'strided'"),
    ],
)
def test_nets_that_cannot_be_built_are_refused(net: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        net(**arguments)


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(UserError, match="norm='layer': choose 'batch' or 'none'"):
        DCGANDiscriminator(norm="layer")


def test_a_larger_pixel_kernel_and_tanh_are_options_of_r3gan() -> None:
    G = R3GANGenerator(16, 1, 0, widths=[16, 16], patch=2, group_size=None, pixel_kernel=3, tanh=True)
    nn.init.constant_(G.to_pixels[0].weight, 100.0)
    x = G(torch.randn(3, G.z_dim))
    assert x.shape == (3, 1, 16, 16)
    assert x.abs().max() == 1
    with pytest.raises(UserError, match="expansion=0 of 16 channels leaves none"):
        R3GANGenerator(16, 1, 0, widths=[16, 16], patch=2, group_size=None, expansion=0)
    with pytest.raises(UserError, match="pixel_kernel=2"):
        R3GANGenerator(16, 1, pixel_kernel=2)


def test_blocks_may_stand_where_they_are_cheap() -> None:
    for net in (R3GANGenerator, R3GANDiscriminator):
        model = net(16, 1, widths=[16, 8, 8], blocks=[2, 1, 0], group_size=None)
        assert [len(stage) for stage in model.stages] == [2, 1, 0]
        assert [len(stage) for stage in net(32, 1, width=8, blocks=[1], group_size=None).stages] == [1, 0, 0, 0]


@pytest.mark.parametrize("patch", [1, 2])
@torch.no_grad()
def test_strided_transitions_keep_the_variance(patch: int) -> None:
    """He's initialisation for a leaky ReLU: second moments stay through transitions, inside of the picture's edges."""
    torch.manual_seed(0)
    G = R3GANGenerator(32, 64, 0, widths=[256] * (5 - patch), blocks=0, patch=patch, resample="strided")
    D = R3GANDiscriminator(32, 64, 0, widths=[256] * (5 - patch), blocks=0, patch=patch, resample="strided")
    x = torch.randn(4, 256, 16, 16)
    for transition in (G.ups[0], D.downs[0]):
        assert transition(x)[:, :, 1:-1, 1:-1].square().mean() == pytest.approx(1, rel=0.1)
    if patch == 2:
        assert G.to_pixels(x)[:, :, 1:-1, 1:-1].square().mean() == pytest.approx(1, rel=0.1)
        pixels = torch.randn(4, 64, 32, 32)
        assert D.from_pixels(pixels)[:, :, 1:-1, 1:-1].square().mean() == pytest.approx(1, rel=0.1)


def test_a_strided_net_learns_its_way_from_and_to_pixels() -> None:
    G = R3GANGenerator(16, 1, 0, widths=[8, 4], patch=2, blocks=0, resample="strided", tanh=True)
    D = R3GANDiscriminator(16, 1, 0, widths=[8, 4], patch=2, blocks=0, resample="strided")
    assert [tuple(m.weight.shape) for m in G.modules() if isinstance(m, nn.ConvTranspose2d)] == [
        (8, 4, 4, 4),
        (4, 1, 4, 4),
    ]
    assert D.from_pixels[0].weight.shape == (4, 1, 4, 4)
    assert D.downs[0][0].weight.shape == (8, 4, 4, 4)
    nn.init.constant_(G.to_pixels[0][0].weight, 100.0)
    assert G(torch.randn(3, G.z_dim)).abs().max() == 1


@pytest.mark.parametrize("dense", [False, True])
def test_what_z_can_change_of_the_first_map(dense: bool) -> None:
    """Published, one number a channel; dense, as many as z has."""
    G = R3GANGenerator(8, 1, 0, z_dim=24, widths=[4, 4], blocks=1, group_size=None, dense=dense)
    seen: list[torch.Tensor] = []
    G.stages[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    G(torch.randn(200, 24, generator=torch.Generator().manual_seed(0)))
    assert seen[0].shape == (200, 4, 4, 4)
    assert int(torch.linalg.matrix_rank(seen[0].flatten(1), rtol=1e-4)) == (24 if dense else 4)
    assert 0.5 < seen[0].std() < 2


@pytest.mark.parametrize("dense", [False, True])
def test_the_head_of_the_critic(dense: bool) -> None:
    """Published, each channel's window is its own."""
    D = R3GANDiscriminator(8, 1, 0, widths=[4, 4], blocks=1, group_size=None, dense=dense)
    maps = torch.zeros(1, 4, 4, 4)
    maps[0, 1] = 1.0
    D.stages[0].register_forward_hook(lambda *_: maps)
    (features,) = D(torch.zeros(1, 1, 8, 8)).features[0]
    assert bool((features[0, [0, 2, 3]] == 0).all()) != dense
    assert features[0, 1] != 0
