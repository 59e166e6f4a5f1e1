"""Conditional batch norm, and spectral normalisation with one power iteration an update."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gan_kit.nn import ConditionalBatchNorm2d, Conv2d, ConvDown, ConvUp, SpectralNorm, raw_weight, spectral_norm
from gan_kit.types import UserError

# ---- conditional batch norm ---------------------------------------------------------------------------------------


def test_with_classes_it_is_a_batch_norm_a_class() -> None:
    norm = ConditionalBatchNorm2d(3, num_classes=2)
    x, y = torch.randn(4, 3, 5, 5) * 3 + 1, torch.tensor([0, 1, 1, 0])
    assert torch.allclose(norm(x, y), F.batch_norm(x, None, None, training=True), atol=1e-6)  # gain 1, bias 0
    nn.init.normal_(norm.gain.weight)
    nn.init.normal_(norm.bias.weight)
    out = norm(x, y)
    for i, k in enumerate(y):
        expected = F.batch_norm(x, None, None, norm.gain.weight[k], norm.bias.weight[k], training=True)[i]
        assert torch.allclose(out[i], expected, atol=1e-5)


def test_with_vectors_gain_and_bias_are_linear_in_them_around_one_and_zero() -> None:
    norm = ConditionalBatchNorm2d(3, vector_dim=5)
    x, c = torch.randn(4, 3, 5, 5), torch.randn(4, 5)
    plain = F.batch_norm(x, None, None, training=True)
    assert torch.allclose(norm(x, torch.zeros(4, 5)), plain, atol=1e-6)
    gain, bias = 1 + c @ norm.gain.weight.T, c @ norm.bias.weight.T
    assert torch.allclose(norm(x, c), plain * gain[:, :, None, None] + bias[:, :, None, None], atol=1e-5)


def test_in_evaluation_it_uses_running_statistics() -> None:
    norm = ConditionalBatchNorm2d(3, num_classes=2, momentum=1.0)
    x, y = torch.randn(64, 3, 5, 5) * 3 + 1, torch.arange(64) % 2
    trained = norm(x, y)
    norm.eval()
    assert torch.allclose(norm(x, y), trained, atol=1e-2)
    assert torch.allclose(norm(x[:1], y[:1]), norm(x, y)[:1], atol=1e-6)
    norm.reset_parameters()
    assert torch.allclose(norm(x, y), x, atol=1e-4)


def test_its_maps_may_be_spectrally_normalised() -> None:
    norm = ConditionalBatchNorm2d(3, vector_dim=5, spectral=True)
    for layer in (norm.gain, norm.bias):
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("given", [{}, {"num_classes": 2, "vector_dim": 3}])
def test_it_takes_classes_or_vectors(given: dict[str, int]) -> None:
    with pytest.raises(UserError, match="a conditional norm takes one of them"):
        ConditionalBatchNorm2d(3, **given)


# ---- spectral normalisation ---------------------------------------------------------------------------------------

LAYERS = {
    "linear": lambda: nn.Linear(7, 5),
    "one": lambda: nn.Linear(7, 1),
    "embedding": lambda: nn.Embedding(4, 6),
    "conv": lambda: Conv2d(3, 5, 3),
    "channels_last": lambda: Conv2d(3, 5, 3).to(memory_format=torch.channels_last),
    "down": lambda: ConvDown(3, 5),
    "up": lambda: ConvUp(3, 5),
}


def sigma(weight: torch.Tensor) -> torch.Tensor:
    return torch.linalg.matrix_norm(weight.flatten(1), 2)


@pytest.mark.parametrize("name", LAYERS)
def test_the_largest_singular_value_becomes_one(name: str) -> None:
    layer = spectral_norm(LAYERS[name]())
    for _ in range(200):  # updates that change nothing: the iteration converges
        layer.weight.sum().backward()
        layer.zero_grad()
    assert sigma(layer.weight).item() == pytest.approx(1, abs=1e-4)
    assert torch.allclose(layer.weight * sigma(raw_weight(layer)), raw_weight(layer), atol=1e-4)


@pytest.mark.parametrize("how", [{"foreach": True}, {"foreach": False}, {"fused": True}], ids=str)
@pytest.mark.parametrize("to_none", [True, False])
def test_each_update_takes_one_iteration(how: dict[str, bool], to_none: bool) -> None:
    layer = spectral_norm(nn.Linear(8, 6))
    norm, x = layer.parametrizations.weight[0], torch.randn(2, 8)
    optimizer = torch.optim.Adam(layer.parameters(), 0.1, **how)
    for step in range(3):
        optimizer.zero_grad(set_to_none=to_none)
        u, weight = norm.u, raw_weight(layer).detach()
        for _ in range(2):  # micro-batches of two passes each
            (layer(x).square().sum() + layer(x + 1).sin().sum()).backward()
        expected = F.normalize(weight @ F.normalize(u @ weight, dim=0), dim=0) if step else u
        assert torch.allclose(norm.u, expected, atol=1e-6)
        optimizer.step()
        u = norm.u
        with torch.no_grad():
            layer(x)  # samples for the other player
        layer.requires_grad_(False)
        layer(x.requires_grad_()).sum().backward()  # the other player's gradient
        layer.requires_grad_(True)
        layer.eval()
        layer(x)
        layer.train()
        assert norm.u is u


@pytest.mark.parametrize("kind", ["conv", "down"])
def test_several_passes_and_second_derivatives_give_torchs_gradients(kind: str) -> None:
    layer = spectral_norm(LAYERS[kind]())
    norm: SpectralNorm = layer.parametrizations.weight[0]
    x, other = torch.randn(2, 3, 6, 6, requires_grad=True), torch.randn(2, 3, 6, 6)

    def loss(forward) -> torch.Tensor:
        out = forward(x)
        (slope,) = torch.autograd.grad(out.tanh().sum(), x, create_graph=True)
        return out.tanh().mean() + forward(other).sin().mean() + slope.square().sum()

    loss(layer).backward()
    ours = raw_weight(layer).grad
    weight = raw_weight(layer).detach().requires_grad_()

    def plain(x: torch.Tensor) -> torch.Tensor:
        s = norm.u @ weight.permute(0, 2, 3, 1).flatten(1) @ norm.v
        if kind == "conv":
            return F.conv2d(x, weight / s, layer.bias)
        return F.avg_pool2d(F.conv2d(x, weight / s, layer.bias, padding=1), 2)

    loss(plain).backward()
    assert torch.allclose(ours, weight.grad, atol=1e-5)


@pytest.mark.parametrize("due", [True, False])
def test_a_saved_layer_goes_on_as_if_it_had_not_stopped(due: bool) -> None:
    layer, x = spectral_norm(nn.Linear(8, 6)), torch.randn(2, 8)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    if due:
        layer(x).square().sum().backward()
        optimizer.step()
    again = spectral_norm(nn.Linear(8, 6))
    again.load_state_dict(layer.state_dict())
    other = torch.optim.SGD(again.parameters(), 0.1)
    for _ in range(3):
        for net, opt in ((layer, optimizer), (again, other)):
            opt.zero_grad()
            net(x).square().sum().backward()
            opt.step()
        assert torch.equal(layer.parametrizations.weight[0].u, again.parametrizations.weight[0].u)
        assert torch.equal(raw_weight(layer), raw_weight(again))


def test_copies_are_equal_and_independent() -> None:
    layer = spectral_norm(nn.Linear(8, 6))
    copied = copy.deepcopy(layer)
    assert torch.equal(layer.weight, copied.weight)
    before = layer.weight.detach().clone()
    with torch.no_grad():
        raw_weight(copied).copy_(torch.randn(6, 8))
    copied.weight.sum().backward()
    assert torch.equal(layer.weight, before)
    assert not layer.parametrizations.weight[0].due


def test_autocast_leaves_the_norm_in_full_precision() -> None:
    layer = spectral_norm(nn.Linear(64, 64))
    expected = layer.weight
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.weight, expected)
        assert layer(torch.randn(2, 64)).dtype == torch.bfloat16


# ---- convolutions with their resampling ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 3, 2, 6)])
def test_the_joined_convolutions_are_the_two_they_stand_for(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    down, up = ConvDown(3, 5).double(), ConvUp(3, 5).double()
    for layer, plain in (
        (down, lambda x: F.avg_pool2d(F.conv2d(x, down.weight, down.bias, padding=1), 2)),
        (up, lambda x: F.conv2d(F.interpolate(x, scale_factor=2), up.weight, up.bias, padding=1)),
    ):
        assert torch.allclose(layer(x), plain(x), atol=1e-12)
        for mine, theirs in zip(
            torch.autograd.grad(layer(x).sin().sum(), [x, *layer.parameters()]),
            torch.autograd.grad(plain(x).sin().sum(), [x, *layer.parameters()]),
            strict=True,
        ):
            assert torch.allclose(mine, theirs, atol=1e-10)
    assert torch.autograd.gradgradcheck(lambda x: down(x).pow(2), x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: up(x).pow(2), x, fast_mode=True)
