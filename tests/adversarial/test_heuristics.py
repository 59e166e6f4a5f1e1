"""The suggestions give back the published settings, and move the right way between them."""

from __future__ import annotations

import pytest

from gan_kit.adversarial.heuristics import gamma_r1, gamma_relativistic, halflife, learning_rate, suggestions
from gan_kit.types import UserError


@pytest.mark.parametrize("size, gamma", [(32, 0.05), (64, 2.0), (256, 150.0)])
def test_r3gans_settings_come_back(size: int, gamma: float) -> None:
    assert gamma_relativistic(size) == pytest.approx(gamma)


def test_stylegan2s_settings_come_back() -> None:
    assert gamma_r1(256, 64) == pytest.approx(0.2048)
    assert gamma_r1(1024, 32) == pytest.approx(6.5536)
    assert halflife(32) == 10_000
    assert learning_rate(768) == pytest.approx(2e-4)


def test_larger_samples_want_a_larger_weight_and_wider_nets_a_smaller_rate() -> None:
    sizes = (8, 16, 32, 48, 64, 128, 256, 512)
    for weights in ([gamma_relativistic(s) for s in sizes], [gamma_r1(s, 32) for s in sizes]):
        assert weights == sorted(weights)
    assert learning_rate(64) >= learning_rate(128) > learning_rate(512)


@pytest.mark.parametrize("samples, p", [(300, 0.6), (8_000, 0.3), (60_000, 0.0)])
def test_small_data_want_augmentation(samples: int, p: float) -> None:
    found = suggestions(32, 64, samples, width=128, relativistic=True)
    assert found["p"].value == p
    for s in found.values():
        assert s.low <= s.value <= s.high
        assert s.why


@pytest.mark.parametrize("given", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_nothing_is_suggested_for_nothing(given: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match="=0 must be"):
        suggestions(*given)
