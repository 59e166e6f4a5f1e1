"""The transformer pair: shapes, symmetries, steering, initialisation, and the derivatives that penalties take."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from gan_kit.image import ViTDiscriminator, ViTGenerator
from gan_kit.image.vit import Attention, rotary, turned
from gan_kit.types import UserError

TINY: dict[str, Any] = {"size": 16, "width": 16, "depth": 2, "heads": 2}
variants = pytest.mark.parametrize(
    "variant", [{}, {"positions": "learned"}, {"mlp": "gelu"}, {"patch": 4}, {"channels": 1}], ids=str
)


def pair(num_classes: int = 3, **more: Any) -> tuple[Any, Any]:
    return ViTGenerator(num_classes=num_classes, **TINY, **more), ViTDiscriminator(
        num_classes=num_classes, **TINY, **more
    )


@variants
@pytest.mark.parametrize("num_classes", [0, 3])
def test_shapes(variant: dict[str, Any], num_classes: int) -> None:
    G, D = pair(num_classes, **variant)
    y = torch.tensor([0, 2]) if num_classes else None
    x = G(torch.randn(2, G.z_dim), y)
    assert x.shape == (2, variant.get("channels", 3), 16, 16)
    critique = D(x, y)
    assert critique.logits[0].shape == (2,)
    assert critique.features[0][0].shape == (2, 16)


def test_rotary_scores_depend_on_the_offset_alone() -> None:
    cos, sin = rotary(5, 8)
    q, k = torch.randn(8), torch.randn(8)
    at_q, at_k = turned(q, cos, sin), turned(k, cos, sin)  # (25, 8)
    scores = (at_q @ at_k.T).reshape(5, 5, 5, 5)
    torch.testing.assert_close(scores[0, 0, 2, 1], scores[2, 3, 4, 4])
    torch.testing.assert_close(scores[1, 1, 1, 1], (q * k).sum())
    assert abs(scores[0, 0, 2, 1] - scores[0, 0, 1, 2]) > 1e-3  # rows and columns are told apart
    torch.testing.assert_close(at_q.norm(dim=1), q.norm().expand(25))


def test_attention_is_its_formula() -> None:
    attention = Attention(16, 2)
    h = torch.randn(2, 9, 16)
    q, k, v = (t.reshape(2, 9, 2, 8).transpose(1, 2) for t in attention.to_qkv(h).chunk(3, dim=-1))
    q, k = (t / t.square().mean(-1, keepdim=True).add(torch.finfo(t.dtype).eps).sqrt() for t in (q, k))
    mixed = (q @ k.transpose(-1, -2) / math.sqrt(8)).softmax(-1) @ v
    expected = attention.out(mixed.transpose(1, 2).reshape(2, 9, 16))
    torch.testing.assert_close(attention(h, None), expected)


def test_without_positions_the_critic_would_not_see_where_patches_are() -> None:
    for positions, moved in (("rotary", True), ("learned", True)):
        D = ViTDiscriminator(**TINY, positions=positions)
        x = torch.randn(2, 3, 16, 16)
        rolled = x.flip(-1).unflatten(3, (8, 2)).flip(-1).flatten(3)  # the same patches, their columns in reverse
        assert (not torch.allclose(D(x).logits[0], D(rolled).logits[0], atol=1e-5)) == moved
        if D.positions is not None:
            torch.nn.init.zeros_(D.positions)
            torch.testing.assert_close(D(x).logits[0], D(rolled).logits[0])


def test_z_and_class_steer_every_pixel() -> None:
    G, _ = pair()
    z = torch.randn(64, G.z_dim)
    x = G(z, torch.zeros(64, dtype=torch.int64))
    assert x.std(0).min() > 0.05
    other = G(z, torch.ones(64, dtype=torch.int64))
    assert (x - other).abs().mean() > 0.05
    assert 0.3 < x.std() < 3  # about as wide as data in [-1, 1]
    assert ViTGenerator(**TINY, tanh=True)(z).abs().max() <= 1


def test_initialisation_is_the_seeds() -> None:
    for net in pair():
        weights = []
        for _ in range(2):
            torch.manual_seed(3)
            net.reset_parameters()
            weights.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
        assert torch.equal(*weights)


@variants
def test_the_second_derivative_is_there_and_right(variant: dict[str, Any]) -> None:
    D = ViTDiscriminator(**TINY, **variant).double()
    x = torch.randn(2, variant.get("channels", 3), 16, 16, dtype=torch.float64, requires_grad=True)
    weight = D.blocks[0].attention.to_qkv.weight

    def squared_slope() -> torch.Tensor:
        (grad,) = torch.autograd.grad(D(x).logits[0].sum(), x, create_graph=True)
        return grad.square().sum()

    (exact,) = torch.autograd.grad(squared_slope(), weight)
    direction, step = torch.randn_like(weight), 1e-5
    with torch.no_grad():
        weight += step * direction
    above = squared_slope().item()
    with torch.no_grad():
        weight -= 2 * step * direction
    below = squared_slope().item()
    assert (exact * direction).sum().item() == pytest.approx((above - below) / (2 * step), rel=1e-4)


def test_attention_is_written_out_only_where_a_second_derivative_may_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    D = ViTDiscriminator(**TINY)
    x = torch.randn(1, 3, 16, 16)
    seen = []
    real = torch.nn.functional.scaled_dot_product_attention

    def watched(*args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(torch.backends.cuda.flash_sdp_enabled())  # sdpa_kernel turns it off for the block
        return real(*args, **kwargs)

    monkeypatch.setattr("gan_kit.image.vit.F.scaled_dot_product_attention", watched)

    def fused() -> bool:
        now = set(seen)
        seen.clear()
        return now.pop()

    D(x)
    assert fused()
    D(x.requires_grad_())
    assert not fused()
    D.requires_grad_(False)(x)  # the generator's half: D is frozen
    assert fused()
    D.requires_grad_(True)
    D.attention = "fused"
    D(x)
    assert fused()
    with torch.no_grad():
        D.attention = "math"
        D(x)
    assert not fused()


def test_both_kernels_agree() -> None:
    D = ViTDiscriminator(**TINY)
    x = torch.randn(3, 3, 16, 16)
    with sdpa_kernel(SDPBackend.MATH):
        exact = D(x).logits[0]
    torch.testing.assert_close(D(x).logits[0], exact, atol=1e-5, rtol=1e-4)


def test_gated_and_plain_mlps_have_as_many_weights() -> None:
    nets = [ViTDiscriminator(size=16, width=96, depth=1, heads=2, mlp=kind) for kind in ("gelu", "swiglu")]
    counts = [sum(p.numel() for p in D.blocks[0].mlp.parameters()) for D in nets]
    assert counts[1] == pytest.approx(counts[0], rel=0.02)


def test_a_sample_does_not_see_its_batch() -> None:
    G, D = pair()
    z, y = torch.randn(4, G.z_dim), torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(G(z, y)[:1], G(z[:1], y[:1]), atol=1e-5, rtol=1e-4)
    x = G(z, y)
    torch.testing.assert_close(D(x, y).logits[0][:1], D(x[:1], y[:1]).logits[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["none", "projection", "concat", "auxiliary", "d2d-ce"])
def test_every_conditioning(kind: str) -> None:
    D = ViTDiscriminator(num_classes=3, conditioning=kind, **TINY)
    critique = D(torch.randn(2, 3, 16, 16), torch.tensor([0, 1]))
    assert critique.logits[0].shape == (2,)
    assert (critique.aux is not None) == (kind in ("auxiliary", "d2d-ce"))


def test_the_null_class_is_one_more() -> None:
    G, D = pair(null_class=True)
    assert G.null_class
    assert D.null_class
    y = torch.tensor([3, 0])
    assert D(G(torch.randn(2, G.z_dim), y), y).logits[0].shape == (2,)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"patch": 3}, "patch=3 does not divide 16x16"),
        ({"heads": 3}, "width=16 does not make heads=3"),
        ({"heads": 8}, "heads=8 of a multiple of 4"),
        ({"depth": 0}, "depth=0"),
        ({"positions": "sine"}, "no positions='sine'; have rotary, learned"),
        ({"mlp": "relu"}, "no mlp='relu'"),
        ({"attention": "flash"}, "no attention='flash'; have auto, fused, math"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    for kind in (ViTGenerator, ViTDiscriminator):
        with pytest.raises(UserError, match=message):
            kind(**{**TINY, **arguments})
