"""The one place that calls a generator: who is given noise, who truncates, on which draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_kit.latent import Normal, Uniform, draw, generate
from gan_kit.noise import BatchNoise


class Plain(nn.Module):
    z_dim = 3

    def forward(self, z: Tensor, y: Tensor | None = None) -> Any:
        return z, y


class Own(Plain):
    takes_noise = truncates = True

    def forward(self, z: Tensor, y: Tensor | None = None, noise: Any = None, psi: float = 1.0) -> Any:
        return z, noise.randn(2), psi


@pytest.mark.parametrize("prior", [Normal(), Uniform()])
@pytest.mark.parametrize("psi", [1.0, 0.5])
def test_a_plain_generator_has_its_prior_truncated(prior: Any, psi: float) -> None:
    y = torch.arange(4)
    z, label = draw(Plain(), prior, BatchNoise((0,), 4), y, psi)
    assert torch.equal(z, prior(BatchNoise((0,), 4), 3, psi))
    assert label is y


def test_one_that_truncates_on_its_own_gets_all_of_z_and_psi_and_noise_after_it() -> None:
    noise = BatchNoise((0,), 4)
    z, own, psi = draw(Own(), Normal(), BatchNoise((0,), 4), None, 0.5)
    assert torch.equal(z, noise.randn(3))
    assert torch.equal(own, noise.randn(2))
    assert psi == 0.5


def test_generate_is_draw_from_a_given_z() -> None:
    noise = BatchNoise((0,), 4)
    z = Normal()(noise, 3)
    again = generate(Own(), z, noise)
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(
        again, draw(Own(), Normal(), BatchNoise((0,), 4)), strict=True))  # fmt: skip
