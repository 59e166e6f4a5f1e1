"""Priors over z. `psi` < 1 draws nearer to the prior's mean: less varied, more typical samples."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from gan_kit.noise import Noise

__all__ = ["Normal", "Prior", "Uniform"]


class Prior(ABC):
    @abstractmethod
    def __call__(self, noise: Noise, z_dim: int, psi: float = 1.0) -> Tensor:
        """-> z (B, z_dim)"""


class Normal(Prior):
    """z ~ N(0, psi²)."""

    def __call__(self, noise: Noise, z_dim: int, psi: float = 1.0) -> Tensor:
        return noise.randn(z_dim) * psi


class Uniform(Prior):
    """z ~ U(-psi, psi)."""

    def __call__(self, noise: Noise, z_dim: int, psi: float = 1.0) -> Tensor:
        return (noise.rand(z_dim) * 2 - 1) * psi
