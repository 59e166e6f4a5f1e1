"""The generator's average: its half-life in samples, its warm-up, and that nobody else moves it."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn

from gan_kit.adversarial import EMA, GAN, Linear, NonSaturating
from gan_kit.types import Batch, UserError
from gan_kit.vector import MLPDiscriminator, MLPGenerator


def distance(a: nn.Module, b: nn.Module) -> float:
    return sum((p - q).square().sum().item() for p, q in zip(a.parameters(), b.parameters(), strict=True)) ** 0.5


@pytest.mark.parametrize("batch_size", [1, 7, 64, 100, 1000, 5000])
def test_after_a_half_life_the_distance_to_a_standing_net_is_halved(batch_size: int) -> None:
    """Whatever the batch size: also one that does not divide the half-life, or exceeds it."""
    net, average = nn.Linear(5, 3), nn.Linear(5, 3)
    ema, before, seen = EMA(1000, warmup=None), distance(net, average), 0
    while seen < 3000:
        ema.update(average, net, batch_size, seen)
        seen += batch_size
    assert distance(net, average) == pytest.approx(before * 0.5 ** (seen / 1000), rel=1e-3)


def test_the_net_itself_stays() -> None:
    net, average = nn.Linear(5, 3), nn.Linear(5, 3)
    before = copy.deepcopy(net.state_dict())
    EMA(100).update(average, net, 64, 1000)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


@pytest.mark.parametrize("seen, halflife", [(1_000, 50), (20_000, 1_000), (200_000, 10_000), (10**7, 10_000)])
def test_warm_up_limits_the_half_life_to_a_share_of_the_samples_seen(seen: int, halflife: float) -> None:
    assert EMA(10_000, warmup=0.05).decay(64, seen) == pytest.approx(0.5 ** (64 / halflife))
    assert EMA(10_000, warmup=None).decay(64, seen) == pytest.approx(0.5 ** (64 / 10_000))


def test_the_half_life_may_be_a_schedule() -> None:
    ema = EMA(Linear(0, 1000, 500), warmup=None)
    assert ema.decay(10, 0) == 0
    assert ema.decay(10, 250) == pytest.approx(0.5 ** (10 / 500))
    assert ema.decay(10, 10**6) == pytest.approx(0.5 ** (10 / 1000))


@pytest.mark.parametrize("ema, seen", [(EMA(0, warmup=None), 500), (EMA(10_000, warmup=0.05), 0)])
def test_no_half_life_copies(ema: EMA, seen: int) -> None:
    net, average = nn.Linear(5, 3), nn.Linear(5, 3)
    ema.update(average, net, 64, seen)
    assert distance(net, average) < 1e-6


def test_buffers_are_copied() -> None:
    net, average = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    net(torch.randn(8, 3) + 5)
    EMA(10**9, warmup=None).update(average, net, 1, 0)
    assert torch.equal(average.running_mean, net.running_mean)  # type: ignore[arg-type]
    assert torch.equal(average.running_var, net.running_var)  # type: ignore[arg-type]
    assert average.num_batches_tracked == 1


def test_a_negative_half_life_is_refused() -> None:
    with pytest.raises(UserError, match="halflife_samples=-5"):
        EMA(-5)


class Normed(MLPGenerator):
    """With batch-norm statistics, for what only nets with buffers show."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(width=width)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, z: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        return self.norm(super().forward(z, y))


def gan(ema: EMA | None) -> GAN:
    adam = partial(torch.optim.Adam, lr=1e-2)
    return GAN(Normed(), MLPDiscriminator(width=8), NonSaturating(), adam, adam, ema=ema)


def test_the_average_takes_no_gradients_and_stays_in_evaluation_mode() -> None:
    model = gan(EMA())
    model.train()
    assert model.generator.training
    assert not model.generator_ema.training
    assert not any(p.requires_grad for p in model.generator_ema.parameters())
    assert all(a is not b for a in model.generator.parameters() for b in model.generator_ema.parameters())
    model.eval().train()
    assert not model.generator_ema.training


def test_neither_optimiser_holds_the_average() -> None:
    model = gan(EMA())
    opt_g, opt_d = model.configure_optimizers()
    held = {id(p) for opt in (opt_g, opt_d) for group in opt.param_groups for p in group["params"]}
    assert held == {id(p) for net in (model.generator, model.discriminator) for p in net.parameters()}


def test_sampling_uses_the_average_and_returns_the_mode_it_found() -> None:
    from gan_kit.noise import SampleNoise

    model, plain = gan(EMA()), gan(None)
    with torch.no_grad():
        for p in model.generator.parameters():
            p.add_(1.0)
    model.train()
    plain.train()
    z = SampleNoise(0, range(5)).randn(16)
    assert torch.equal(model.sample(SampleNoise(0, range(5))), model.generator_ema(z))
    before = plain.generator.norm.running_mean.clone()
    alone = torch.cat([plain.sample(SampleNoise(0, [i])) for i in range(5)])
    assert torch.allclose(plain.sample(SampleNoise(0, range(5))), alone, atol=1e-6)  # statistics of no batch
    assert torch.equal(plain.generator.norm.running_mean, before)
    assert plain.generator.training
    assert not model.generator_ema.training


def test_the_average_is_saved_and_restored() -> None:
    model, other = gan(EMA()), gan(EMA())
    batch = Batch(torch.randn(8, 2), None)
    with torch.no_grad():
        for p in model.generator_ema.parameters():
            p.add_(batch.x.mean())
    assert distance(model.generator_ema, other.generator_ema) > 0.1
    other.load_state_dict(model.state_dict())
    assert distance(model.generator_ema, other.generator_ema) == 0
