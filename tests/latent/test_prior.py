"""Priors: their law, and truncation as a scale of the same draws."""

from __future__ import annotations

import pytest
import torch

from gan_kit.latent import Normal, Prior, Uniform
from gan_kit.noise import BatchNoise

priors = pytest.mark.parametrize("prior, std", [(Normal(), 1.0), (Uniform(), 3**-0.5)])


@priors
def test_mean_and_spread(prior: Prior, std: float) -> None:
    z = prior(BatchNoise((0,), 20_000), 8)
    assert z.shape == (20_000, 8)
    assert torch.allclose(z.mean(0), torch.zeros(8), atol=0.04)
    assert torch.allclose(z.std(0), torch.full((8,), std), atol=0.02)


def test_uniform_reaches_its_bounds_and_no_further() -> None:
    z = Uniform()(BatchNoise((0,), 20_000), 1)
    assert -1 <= z.min() < -0.99
    assert 0.99 < z.max() <= 1


@priors
@pytest.mark.parametrize("psi", [0.0, 0.5, 0.7])
def test_truncation_scales_the_same_draws(prior: Prior, std: float, psi: float) -> None:
    z = prior(BatchNoise((0,), 16), 8)
    assert torch.allclose(prior(BatchNoise((0,), 16), 8, psi), psi * z)
