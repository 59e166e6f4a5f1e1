"""Multi-layer perceptrons over vectors, with classes (one-hot) or vectors of a condition beside what they are given."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.nn import Recorded
from gan_kit.types import Critique, UserError

__all__ = ["MLPDiscriminator", "MLPGenerator"]


def _stack(dims: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(dims):
        layers += [nn.Linear(a, b), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


def _with_label(x: Tensor, y: Tensor | None, num_classes: int, vector_dim: int) -> Tensor:
    if vector_dim:
        if y is None or y.shape != (len(x), vector_dim):
            have = "nothing" if y is None else f"y of shape {tuple(y.shape)}"
            raise UserError(f"this network is conditioned on vectors of {vector_dim}, and was given {have}")
        return torch.cat([x, y.to(x)], dim=1)
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
    """z: (B, z_dim), y: (B,), (B, vector_dim) or None -> (B, dims)"""

    def __init__(
        self,
        dims: int = 2,
        num_classes: int = 0,
        z_dim: int = 16,
        width: int = 128,
        depth: int = 3,
        vector_dim: int = 0,
    ):
        super().__init__()
        self.z_dim, self.num_classes, self.vector_dim = z_dim, num_classes, vector_dim
        self.net = _stack([z_dim + num_classes + vector_dim, *[width] * depth, dims])
        self.reset_parameters()

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.net(_with_label(z, y, self.num_classes, self.vector_dim))


class MLPDiscriminator(_MLP):
    """x: (B, dims), y: as of `MLPGenerator` -> Critique with one (B,) logit"""

    def __init__(self, dims: int = 2, num_classes: int = 0, width: int = 128, depth: int = 3, vector_dim: int = 0):
        super().__init__()
        self.num_classes, self.vector_dim = num_classes, vector_dim
        self.net = _stack([dims + num_classes + vector_dim, *[width] * depth, 1])
        self.reset_parameters()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        return Critique([self.net(_with_label(x, y, self.num_classes, self.vector_dim)).squeeze(1)], [[]])
