"""The projected discriminator: what is frozen and where it is kept, the mixtures, heads, classes, and clear refusals.

Backbones have random weights here: the machinery is the same, no picture is judged.
"""

from __future__ import annotations

import copy
import functools
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_kit.adversarial import GAN, Hinge
from gan_kit.image import DCGANGenerator, ProjectedDiscriminator
from gan_kit.types import UserError

pytestmark = pytest.mark.filterwarnings("ignore:the discriminator's .* has RANDOM weights")


def built(**more: Any) -> ProjectedDiscriminator:
    return ProjectedDiscriminator(**{"size": 32, "backbone": "resnet18", "weights": "random", "width": 4, **more})


kept = functools.cache(built)


def D(**more: Any) -> ProjectedDiscriminator:
    """A copy of one built before: tracing a backbone takes a second"""
    return copy.deepcopy(kept(**more))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [32, 64])
def test_shapes(size: int, channels: int) -> None:
    critique = D(size=size, channels=channels)(torch.randn(2, channels, size, size))
    assert len(critique.logits) == len(critique.features) == 4
    places = [logits.shape[1] for logits in critique.logits]
    assert places[:3] == [16, 16, 16 if size == 64 else 4]
    assert all(logits.shape[0] == 2 for logits in critique.logits)


def test_what_is_frozen_is_neither_trained_nor_kept() -> None:
    net = D()
    backbone = net.__dict__["backbone"]
    inner = {id(p) for p in backbone.parameters()}
    assert inner
    assert not inner & {id(p) for p in net.parameters()}
    assert not any(p.requires_grad for p in backbone.parameters())
    assert all(p.requires_grad for p in net.parameters())
    state = net.state_dict()
    assert sum(v.numel() for v in state.values()) < 1e6 < sum(p.numel() for p in backbone.parameters())
    assert {f"across_{i}" for i in range(4)} | {f"down_{i}" for i in (1, 2, 3)} <= state.keys()
    net.train()(torch.zeros(2, 3, 32, 32))
    assert not any(m.training for m in backbone.modules())


def test_the_backbone_moves_along() -> None:
    net = D().double()
    assert next(net.__dict__["backbone"].parameters()).dtype == torch.float64
    assert net(torch.randn(1, 3, 32, 32, dtype=torch.float64)).logits[0].dtype == torch.float64


def test_a_state_makes_another_the_same() -> None:
    one, other = D(mixing_seed=1), D(mixing_seed=2)
    x = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(one(x).logits[0], other(x).logits[0])
    other.load_state_dict(one.state_dict())
    for a, b in zip(one.eval()(x).logits, other.eval()(x).logits, strict=True):
        torch.testing.assert_close(a, b)


def test_building_leaves_the_global_generator_alone_and_is_the_same_each_time() -> None:
    nets = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        nets.append(built())
    a, b = (torch.cat([p.flatten() for p in net.__dict__["backbone"].parameters()]) for net in nets)
    assert torch.equal(a, b)
    assert torch.equal(nets[0].down_1, nets[1].down_1)


def test_coarse_scales_reach_fine_mixtures_and_not_the_other_way() -> None:
    net = D()
    features = [torch.randn_like(f) for f in net.features(torch.randn(1, 3, 32, 32))]
    before = net.mixed(features)
    for changed in range(4):
        other = [f + (i == changed) for i, f in enumerate(features)]
        moved = [not torch.allclose(a, b) for a, b in zip(before, net.mixed(other), strict=True)]
        assert moved == [i <= changed for i in range(4)]
    spread = [m.std().item() for m in net.mixed([torch.randn(64, *f.shape[1:]) for f in features])]
    assert all(0.5 < s < 1.3 for s in spread)  # variance is kept, less what resampling smooths


def test_gradients_reach_the_picture_and_the_heads() -> None:
    net = D()
    x = torch.randn(2, 3, 32, 32, requires_grad=True)
    sum((logits.mean() for logits in net(x).logits), torch.zeros(())).backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(p.grad is not None for p in net.parameters())


def test_pictures_are_scaled_as_the_backbone_was_trained() -> None:
    net = D()
    seen: list[Tensor] = []
    net.__dict__["backbone"].forward = seen.append
    net.features(torch.stack([torch.full((3, 32, 32), -1.0), torch.full((3, 32, 32), 1.0)]))
    torch.testing.assert_close(seen[0][0, :, 0, 0], torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]))
    torch.testing.assert_close(seen[0][1, :, 0, 0], torch.tensor([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]))
    net.input_size = 48
    net.features(torch.zeros(1, 3, 32, 32))
    assert seen[1].shape == (1, 3, 48, 48)


@pytest.mark.parametrize("kind", ["none", "projection", "concat", "auxiliary", "d2d-ce"])
def test_classes_shift_all_places_alike(kind: str) -> None:
    net = D(num_classes=3, conditioning=kind).eval()
    x = torch.randn(2, 3, 32, 32)
    one, other = (net(x, torch.full((2,), k)) for k in (0, 1))
    for a, b in zip(one.logits, other.logits, strict=True):
        shift = a - b
        torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), atol=1e-4, rtol=1e-3)
        assert (shift.abs().max() > 1e-4) == (kind in ("projection", "concat"))
    assert (one.aux is not None) == (kind in ("auxiliary", "d2d-ce"))


def test_it_trains_the_heads_and_the_generator() -> None:
    adam = partial(torch.optim.Adam, lr=1e-3)
    gan = GAN(DCGANGenerator(32, width=4, z_dim=8), D(), Hinge(), adam, adam, init_seed=0)
    before = copy.deepcopy(gan.discriminator.state_dict())
    frozen = [p.clone() for p in gan.discriminator.__dict__["backbone"].parameters()]
    opt_g, opt_d = gan.configure_optimizers()
    assert sum(len(g["params"]) for g in opt_d.param_groups) == len(list(gan.discriminator.heads.parameters()))
    x = torch.rand(4, 3, 32, 32) * 2 - 1
    gan.d_loss(x, None, gan.noise(0, 4)).backward()
    opt_d.step()
    gan.g_loss(x, None, gan.noise(1, 4)).backward()
    assert all(p.grad is not None for p in gan.generator.parameters())
    moved = {
        k for k, v in gan.discriminator.state_dict().items() if v.is_floating_point() and not torch.equal(v, before[k])
    }
    assert moved
    assert all(name.startswith("heads.") for name in moved)
    assert all(
        torch.equal(a, b) for a, b in zip(frozen, gan.discriminator.__dict__["backbone"].parameters(), strict=True)
    )


@pytest.mark.parametrize("backbone", ["efficientnet_b0", "convnext_tiny", "mobilenet_v3_small"])
def test_torchvisions_stages_are_found(backbone: str) -> None:
    shapes = [f.shape[2] for f in D(size=64, backbone=backbone).features(torch.zeros(1, 3, 64, 64))]
    assert shapes == [16, 8, 4, 2]


def test_timms_stages_are_found() -> None:
    pytest.importorskip("timm")
    net = D(size=64, backbone="tf_efficientnet_lite0", library="timm")
    assert [f.shape[2] for f in net.features(torch.zeros(1, 3, 64, 64))] == [16, 8, 4, 2]
    with pytest.raises(UserError, match="has no network 'nope'"):
        D(backbone="nope", library="timm")


def test_random_weights_are_said_aloud() -> None:
    with pytest.warns(UserWarning, match="RANDOM weights: that is for tests"):
        built()


def test_weights_that_cannot_be_had_are_told_with_their_address(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    with pytest.raises(
        UserError, match=r"resnet18 are not on this machine .*no route to host.*fetch https://.*resnet18"
    ):
        built(weights="imagenet")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"channels": 4}, "channels=4"),
        ({"size": 16}, "16x16 is too small for a backbone; set discriminator.input_size"),
        ({"weights": "best"}, "no weights='best'; have imagenet, random"),
        ({"library": "keras"}, "no library='keras'; have torchvision, timm"),
        ({"backbone": "nope"}, "torchvision has no classifier 'nope'"),
        ({"backbone": "vit_b_16"}, "vit_b_16 has no maps at 1/4 of the size"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        D(**arguments)


def test_pictures_of_other_channels_are_refused() -> None:
    with pytest.raises(UserError, match="pictures of 1 channels, for a discriminator of 3"):
        D()(torch.zeros(1, 1, 32, 32))
