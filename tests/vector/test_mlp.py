"""Perceptrons: shapes, labels, gradients, and their initialisation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gan_kit.vector import MLPDiscriminator, MLPGenerator

classes = pytest.mark.parametrize("num_classes", [0, 5])


@classes
@pytest.mark.parametrize("dims, depth", [(2, 1), (7, 3)])
def test_shapes_and_gradients(dims: int, depth: int, num_classes: int) -> None:
    G, D = MLPGenerator(dims, num_classes, width=8, depth=depth), MLPDiscriminator(dims, num_classes, 8, depth)
    z, y = torch.randn(6, G.z_dim), torch.arange(6) % 5 if num_classes else None
    x = G(z, y)
    assert x.shape == (6, dims)
    (logit,) = D(x, y).logits
    assert logit.shape == (6,)
    logit.sum().backward()
    assert all(p.grad is not None and p.grad.any() for net in (G, D) for p in net.parameters())
    assert sum(isinstance(m, nn.Linear) for m in G.modules()) == depth + 1


def test_the_label_changes_the_output() -> None:
    G, D = MLPGenerator(num_classes=3), MLPDiscriminator(num_classes=3)
    z = torch.randn(1, 16).expand(3, -1)
    x = G(z, torch.arange(3))
    assert x[:, 0].unique().numel() == 3
    assert D(x[:1].expand(3, -1), torch.arange(3)).logits[0].unique().numel() == 3


def test_weights_are_he_normal_and_reset() -> None:
    for net in (MLPGenerator(width=256), MLPDiscriminator(width=256)):
        torch.nn.init.constant_(net.net[0].weight, 5.0)
        net.reset_parameters()
        for m in net.net:
            if isinstance(m, nn.Linear):
                expected = math.sqrt(2 / 1.04 / m.in_features)
                assert m.weight.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * m.weight.numel()))
                assert not m.bias.any()
