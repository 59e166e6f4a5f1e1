"""Small generators whose latent spaces are known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """x = A z + b, (B, D) -> (B, F): SeFa and the Jacobian know its directions exactly"""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.z_dim, self.num_classes = weight.shape[1], 0
        self.layer = nn.Linear(*weight.shape[::-1])
        self.layer.weight.data = weight
        self.requires_grad_(False).eval()

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.layer(z)


class Styled(nn.Module):
    """w = tanh(Mz + E_y), one (1, 8, 8) picture: the sum of what each of four layers makes of its w."""

    z_dim, w_dim, num_ws = 6, 5, 4

    def __init__(self, num_classes: int = 0):
        super().__init__()
        self.num_classes = num_classes
        if num_classes:
            self.embed = nn.Embedding(num_classes, self.w_dim)
        self.map = nn.Linear(self.z_dim, self.w_dim)
        self.affines = nn.ModuleList(nn.Linear(self.w_dim, 64) for _ in range(self.num_ws))
        self.register_buffer("w_mean", torch.zeros(self.w_dim))
        self.requires_grad_(False).eval()

    def mapping(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.map(z) if y is None else self.map(z) + self.embed(y)
        return torch.tanh(h)[:, None].expand(-1, self.num_ws, -1)

    def synthesis(self, w: Tensor) -> Tensor:
        x = sum(affine(row).tanh() for affine, row in zip(self.affines, w.unbind(1), strict=True))
        return x.view(-1, 1, 8, 8) / 4

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.synthesis(self.mapping(z, y))
