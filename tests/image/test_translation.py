"""pix2pix's and CycleGAN's networks: published sizes, receptive fields, what a patch sees, any size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gan_kit.image import PatchDiscriminator, ResNetTranslator, UNetTranslator
from gan_kit.types import UserError


def millions(net: nn.Module) -> float:
    return sum(p.numel() for p in net.parameters()) / 1e6


def test_published_sizes() -> None:
    with torch.device("meta"):
        assert millions(UNetTranslator(256)) == pytest.approx(54.414, abs=0.01)
        assert millions(ResNetTranslator(blocks=9)) == pytest.approx(11.378, abs=0.01)
        assert millions(ResNetTranslator(blocks=6)) == pytest.approx(7.838, abs=0.01)
        assert millions(PatchDiscriminator(6, norm="batch")) == pytest.approx(2.769, abs=0.01)
        assert millions(PatchDiscriminator(3)) == pytest.approx(2.765, abs=0.01)


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("make", [UNetTranslator, ResNetTranslator])
def test_a_picture_becomes_one_of_its_size(make: Any, norm: str) -> None:
    more = {"size": 32} if make is UNetTranslator else {"blocks": 1}
    net = make(width=4, norm=norm, **more)
    b = net(torch.randn(2, 3, 32, 32))
    assert b.shape == (2, 3, 32, 32)
    assert b.abs().max() <= 1
    b.square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_the_resnet_takes_other_sizes_than_it_was_trained_at() -> None:
    net = ResNetTranslator(width=4, blocks=1)
    assert net(torch.randn(1, 3, 40, 24)).shape == (1, 3, 40, 24)
    with pytest.raises(UserError, match="30x24: sides must be multiples of 4"):
        net(torch.randn(1, 3, 24, 30))


def test_the_u_net_hands_details_across() -> None:
    net = UNetTranslator(32, width=4, norm="none")
    a = torch.randn(1, 3, 32, 32)
    inner: list[torch.Tensor] = []
    net.ups[-1].register_forward_hook(lambda _, given, out: torch.zeros_like(out))
    net.ups[0].register_forward_hook(lambda _, given, out: inner.append(given[0]))
    assert (net(a) - net(a + 0.1 * torch.randn_like(a))).abs().max() > 1e-6  # with the way through the middle cut
    assert inner[0].shape[1] == 8  # as many channels from below as from beside


@pytest.mark.parametrize("layers, side", [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_its_patch_and_no_more(layers: int, side: int) -> None:
    D = PatchDiscriminator(1, width=4, layers=layers, norm="none")
    assert D.patch == side
    size = 2 * side + 2 * 2**layers
    x = torch.randn(1, 1, size, size, requires_grad=True)
    logits = D(x).logits[0]
    middle = logits.shape[1] // 2
    (grad,) = torch.autograd.grad(logits[0, middle, middle], x)
    seen = grad[0, 0].abs().sum(0).nonzero()
    assert seen.max() - seen.min() + 1 == side


def test_features_and_maps() -> None:
    critique = PatchDiscriminator(6, width=4)(torch.randn(2, 6, 256, 256))
    assert critique.logits[0].shape == (2, 30, 30)
    assert len(critique.features[0]) == 4


@pytest.mark.parametrize("kind", ["none", "projection", "concat", "auxiliary", "d2d-ce"])
def test_classes_shift_all_patches_of_a_sample_alike(kind: str) -> None:
    D = PatchDiscriminator(3, num_classes=4, width=4, layers=1, conditioning=kind)
    x = torch.randn(2, 3, 32, 32)
    one, other = (D(x, torch.full((2,), k)) for k in (0, 1))
    shift = (one.logits[0] - other.logits[0]).flatten(1)
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), atol=1e-5, rtol=1e-4)
    assert (shift.abs().max() > 1e-4) == (kind in ("projection", "concat"))
    assert (one.aux is not None) == (kind in ("auxiliary", "d2d-ce"))


def test_spectral_norm_bounds_every_layer() -> None:
    D = PatchDiscriminator(3, width=8, layers=2, norm="none", spectral=True)
    for m in D.modules():
        if isinstance(m, nn.Conv2d):
            assert torch.linalg.matrix_norm(m.weight.flatten(1), 2).item() == pytest.approx(1, rel=0.1)
    torch.manual_seed(0)
    D.reset_parameters()
    first = D(torch.ones(1, 3, 32, 32)).logits[0]
    torch.manual_seed(0)
    D.reset_parameters()
    torch.testing.assert_close(D(torch.ones(1, 3, 32, 32)).logits[0], first)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: UNetTranslator(48), "depth=5 can't halve 48x48"),
        (lambda: UNetTranslator(32, depth=6), "depth=6 can't halve 32x32"),
        (lambda: UNetTranslator(32, norm="layer"), "no norm='layer'; have instance, batch, none"),
        (lambda: ResNetTranslator(blocks=0), "blocks=0"),
        (lambda: PatchDiscriminator(layers=0), "layers=0"),
        (lambda: PatchDiscriminator(width=4)(torch.zeros(1, 3, 16, 16)), "too small for layers=3"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
