"""Multi-layer perceptrons over vectors, with optional classes by concatenation of a one-hot label."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.nn import Recorded
from gan_kit.types import Critique

__all__ = ["MLPDiscriminator", "MLPGenerator"]


def _stack(dims: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(dims):
        layers += [nn.Linear(a, b), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


def _with_label(x: Tensor, y: Tensor | None, num_classes: int) -> Tensor:
    return torch.cat([x, F.one_hot(y, num_classes).to(x)], dim=1) if num_classes and y is not None else x


class _MLP(Recorded, nn.Module):
    net: nn.Sequential

    def reset_parameters(self) -> None:
        """He-normal weights (He et al. 2015), biases 0."""
        for m in self.net:
            if isinstance(m, nn.Linear):
                nn.init.kaiming_normal_(m.weight, a=0.2)
                nn.init.zeros_(m.bias)


class MLPGenerator(_MLP):
    """z: (B, z_dim), y: (B,) or None -> (B, dims)"""

    def __init__(self, dims: int = 2, num_classes: int = 0, z_dim: int = 16, width: int = 128, depth: int = 3):
        super().__init__()
        self.z_dim, self.num_classes = z_dim, num_classes
        self.net = _stack([z_dim + num_classes, *[width] * depth, dims])
        self.reset_parameters()

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.net(_with_label(z, y, self.num_classes))


class MLPDiscriminator(_MLP):
    """x: (B, dims), y: (B,) or None -> Critique with one (B,) logit"""

    def __init__(self, dims: int = 2, num_classes: int = 0, width: int = 128, depth: int = 3):
        super().__init__()
        self.num_classes = num_classes
        self.net = _stack([dims + num_classes, *[width] * depth, 1])
        self.reset_parameters()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        return Critique([self.net(_with_label(x, y, self.num_classes)).squeeze(1)], [[]])
