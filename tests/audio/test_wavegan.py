"""WaveGAN: published sizes, shapes, classes, the laws of phase shuffle, and its noise under the training step."""

from __future__ import annotations

import copy
import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from gan_kit.adversarial import EMA, GAN, R1, R2, GradientPenalty, Relativistic, Wasserstein
from gan_kit.audio import WaveGANDiscriminator, WaveGANGenerator, phase_shuffle
from gan_kit.data import ArrayDataModule, Arrays
from gan_kit.latent import Uniform
from gan_kit.noise import BatchNoise
from gan_kit.types import UserError

TINY: dict[str, Any] = {"clip_samples": 256, "width": 2}


def count(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


# ---- nets -------------------------------------------------------------------------------------------------------


def test_the_published_sizes() -> None:
    with torch.device("meta"):
        G, D = WaveGANGenerator(), WaveGANDiscriminator()
    widths = [1024, 512, 256, 128, 64, 1]
    convs = sum(25 * a * b for a, b in itertools.pairwise(widths))
    assert count(G) == 101 * 16 * 1024 + convs + sum(widths[1:])
    assert count(D) == 16 * 1024 + 1 + convs + sum(widths[:-1])
    assert [layer.out_channels for layer in D.layers] == [64, 128, 256, 512, 1024]
    with torch.device("meta"):
        longer = WaveGANGenerator(clip_samples=65536)
    assert longer.first.out_features == 16 * 2048


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("clip_samples", [64, 128, 256, 512, 1024, 4096])
@pytest.mark.parametrize("conditioning", ["projection", "concatenation"])
def test_shapes(clip_samples: int, channels: int, num_classes: int, conditioning: str) -> None:
    sizes: dict[str, Any] = {"clip_samples": clip_samples, "channels": channels, "num_classes": num_classes, "width": 2}
    G, D = WaveGANGenerator(**sizes), WaveGANDiscriminator(**sizes, conditioning=conditioning)
    y = torch.arange(3) % num_classes if num_classes else None
    x = G(torch.rand(3, G.z_dim) * 2 - 1, y)
    assert x.shape == (3, channels, clip_samples)
    assert x.abs().max() <= 1
    critique = D(x, y, BatchNoise((0,), 3))
    assert [logit.shape for logit in critique.logits] == [(3,)]
    assert all(h.dim() == 3 and h.shape[0] == 3 for h in critique.features[0])
    assert critique.features[0][-1].shape[-1] == 16


@pytest.mark.parametrize("clip_samples", [16, 100, 16000, 24576])
def test_other_lengths_are_refused(clip_samples: int) -> None:
    for net in (WaveGANGenerator, WaveGANDiscriminator):
        with pytest.raises(UserError, match=f"clip_samples={clip_samples} is not 16 times a power of two"):
            net(clip_samples=clip_samples)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"conditioning": "sum"}, "choose 'projection'"),
        ({"shuffle": 16}, "shuffle=16"),
        ({"shuffle": -1}, "shuffle=-1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        WaveGANDiscriminator(**arguments)


def test_clips_of_another_length_are_refused() -> None:
    with pytest.raises(UserError, match="clips of 128 samples for a critic with clip_samples=256"):
        WaveGANDiscriminator(**TINY)(torch.zeros(1, 1, 128))


@pytest.mark.parametrize("conditioning", ["projection", "concatenation"])
def test_the_label_matters(conditioning: str) -> None:
    G = WaveGANGenerator(num_classes=3, **TINY)
    D = WaveGANDiscriminator(num_classes=3, conditioning=conditioning, **TINY)
    z, x = torch.randn(1, 100).expand(3, -1), torch.randn(1, 1, 256).expand(3, -1, -1)
    same, different = torch.zeros(3, dtype=torch.long), torch.arange(3)
    for answer in (lambda y: G(z, y).flatten(1), lambda y: D(x, y).logits[0][:, None]):
        assert torch.allclose(answer(same)[0], answer(same)[1], atol=1e-6)
        assert (answer(different)[0] - answer(different)[1]).abs().max() > 1e-4


@pytest.mark.parametrize("shuffle", [0, 2])
def test_gradients_reach_every_weight_and_the_sound(shuffle: int) -> None:
    G, D = WaveGANGenerator(num_classes=3, **TINY), WaveGANDiscriminator(num_classes=3, shuffle=shuffle, **TINY)
    y = torch.arange(3)
    x = G(torch.randn(3, 100), y).detach().requires_grad_()
    D(x, y, BatchNoise((0,), 3)).logits[0].sum().backward()
    D(G(torch.randn(3, 100), y), y).logits[0].square().sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().amax(dim=-1) > 0).all()
    for net in (G, D):
        for name, p in net.named_parameters():
            assert p.grad is not None, name
            assert p.grad.abs().max() > 0, name


def test_copies_are_equal_and_independent() -> None:
    G = WaveGANGenerator(**TINY)
    z, twin = torch.randn(2, 100), copy.deepcopy(G)
    assert torch.equal(G(z), twin(z))
    with torch.no_grad():
        G.first.bias.add_(1)
    assert not torch.equal(G(z), twin(z))


# ---- phase shuffle ----------------------------------------------------------------------------------------------


def test_no_shift_is_identity() -> None:
    x = torch.randn(3, 2, 1, 9)
    assert torch.equal(phase_shuffle(x, torch.zeros(3, dtype=torch.long)), x)


def test_shifts_move_and_mirror_at_the_ends() -> None:
    x = torch.arange(6.0).view(1, 1, 6).expand(4, 1, 6)
    y = phase_shuffle(x, torch.tensor([1, 2, -1, -2]))
    assert y[:, 0].tolist() == [
        [1, 0, 1, 2, 3, 4],
        [2, 1, 0, 1, 2, 3],
        [1, 2, 3, 4, 5, 4],
        [2, 3, 4, 5, 4, 3],
    ]


@pytest.mark.parametrize("shift", [-2, -1, 1, 2])
def test_a_shift_and_its_opposite_cancel_away_from_the_ends(shift: int) -> None:
    x, s = torch.randn(2, 3, 20), torch.full((2,), shift)
    back = phase_shuffle(phase_shuffle(x, s), -s)
    assert torch.equal(back[..., 4:-4], x[..., 4:-4])


def test_a_constant_stays_and_shifts_have_no_mean() -> None:
    x = torch.full((50, 1, 16), 0.3)
    D = WaveGANDiscriminator(clip_samples=16384, width=1, shuffle=2)
    shifts = D.shifts(BatchNoise((0,), 5000))
    assert shifts is not None
    assert shifts.shape == (5000, 4)
    assert torch.equal(phase_shuffle(x, shifts[:50, 0]), x)
    counts = torch.stack([(shifts == s).sum() for s in range(-2, 3)])
    assert counts.sum() == shifts.numel()
    assert (counts / shifts.numel() - 0.2).abs().max() < 0.01
    assert shifts.float().mean().abs() < 0.03


def test_gradients_of_all_orders_pass() -> None:
    x = torch.randn(2, 2, 8, dtype=torch.float64, requires_grad=True)
    shift = torch.tensor([2, -1])
    assert torch.autograd.gradcheck(lambda x: phase_shuffle(x.sin(), shift), x)
    assert torch.autograd.gradgradcheck(lambda x: phase_shuffle(x.sin(), shift), x)


def test_shifts_are_a_function_of_the_noise_alone() -> None:
    D, x = WaveGANDiscriminator(**TINY), torch.randn(6, 1, 256)

    def logits(key: int | None, start: int = 0, stop: int = 6) -> Tensor:
        noise = None if key is None else BatchNoise((key,), 6, start, stop)
        return D(x[start:stop], None, noise).logits[0]

    assert torch.equal(logits(1), logits(1))
    assert not torch.allclose(logits(1), logits(2))
    assert not torch.allclose(logits(1), logits(None))
    assert torch.allclose(logits(1), torch.cat([logits(1, 0, 2), logits(1, 2, 6)]), atol=1e-6)


# ---- under the step ---------------------------------------------------------------------------------------------


class Tones:
    """Sounds of one sine each."""

    def load(self, split: str) -> Arrays:
        rng = np.random.default_rng(0)
        t, f = np.arange(256), rng.uniform(0.01, 0.1, (64, 1, 1))
        return Arrays((np.sin(2 * np.pi * f * t) * 127 + 128).astype(np.uint8), None)


class SoundModule(ArrayDataModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch._replace(x=batch.x.float() / 127.5 - 1)


def trained(steps: int, **arguments: Any) -> GAN:
    adam = partial(torch.optim.SGD, lr=0.01)
    gan = GAN(
        WaveGANGenerator(**TINY),
        WaveGANDiscriminator(**TINY),
        arguments.pop("loss", Relativistic()),
        adam,
        adam,
        prior=Uniform(),
        init_seed=0,
        **arguments,
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=-1,
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(gan, datamodule=SoundModule(Tones(), batch_size=8))
    return gan


def furthest(a: GAN, b: GAN) -> float:
    return max((v - b.state_dict()[k]).abs().max().item() for k, v in a.state_dict().items())


@pytest.mark.parametrize(
    "recipe",
    [
        {"loss": Wasserstein(), "penalties": {"gp": GradientPenalty()}, "n_critic": 5},
        {"loss": Relativistic(), "penalties": {"r1": R1(0.1, every=2), "r2": R2(0.1, every=2)}, "ema": EMA(50)},
        {"loss": Relativistic(), "penalties": {"r1": R1(0.1, finite_difference_sigma=0.1)}},
    ],
    ids=["wgan_gp", "modern", "finite difference"],
)
def test_micro_batches_make_the_step_of_the_whole_batch_with_phase_shuffle(recipe: dict[str, Any]) -> None:
    whole, parts = (trained(3, accumulate=n, **recipe) for n in (1, 4))
    assert furthest(whole, trained(1, **recipe)) > 1e-4
    assert furthest(whole, parts) < 1e-6


def test_a_seed_fixes_the_training_bitwise() -> None:
    a, b, other = (trained(3, seed=seed) for seed in (1, 1, 2))
    assert furthest(a, b) == 0
    assert furthest(a, other) > 0
