"""State that adapts: p by the signs of D's logits; equal whatever the micro-batches; kept by checkpoints, bitwise."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from gan_kit.adversarial import EMA, GAN, AdaptiveP, LeCam, NonSaturating
from gan_kit.data import ArrayDataModule, Arrays
from gan_kit.image import ADA, R3GANDiscriminator, R3GANGenerator
from gan_kit.types import Critique, UserError
from gan_kit.vector import MLPDiscriminator, MLPGenerator


def critique(*logits: Tensor) -> Critique:
    return Critique(list(logits), [[] for _ in logits])


def alone(x: Tensor) -> Tensor:
    return x


def seen(p: AdaptiveP, *logits: float, batch: int = 100) -> float:
    on = critique(torch.tensor(logits))
    p.watch(on, on)
    p.settle(alone, batch)
    return p(0)


# ---- p ----------------------------------------------------------------------------------------------------------


def test_p_rises_while_d_is_too_sure_and_falls_else_and_stays_within_its_bounds() -> None:
    p = AdaptiveP(target=0.5, speed_samples=1000, every=1, most=0.25)
    sure, unsure = (1.0, 2.0, 3.0, 0.1), (1.0, 1.0, -1.0, -5.0)
    assert [round(seen(p, *sure), 6) for _ in range(4)] == [0.1, 0.2, 0.25, 0.25]
    assert [round(seen(p, *unsure), 6) for _ in range(4)] == [0.15, 0.05, 0, 0]
    assert p.sign == 0
    assert seen(p, 1.0, 1.0, 1.0, -1.0) == 0  # a mean sign of 0.5 is the target


@pytest.mark.parametrize("every", [1, 4])
def test_the_speed_is_in_samples_whatever_the_interval(every: int) -> None:
    p = AdaptiveP(speed_samples=1000, every=every)
    steps = [seen(p, 5.0, batch=50) for _ in range(8)]
    assert steps[-1] == pytest.approx(8 * 50 / 1000)
    assert sum(a != b for a, b in zip([0.0, *steps], steps, strict=False)) == 8 // every


def test_signs_of_all_ranks_micro_batches_and_sub_discriminators_count_alike() -> None:
    whole, parts, ranks = (AdaptiveP(every=1, speed_samples=10) for _ in range(3))
    a, b = torch.randn(12), torch.randn(12, 1, 3, 3)
    whole.watch(critique(a, b), critique(a, b))
    whole.settle(alone, 1)
    for rows in (slice(0, 5), slice(5, 12)):
        parts.watch(critique(a[rows], b[rows]), critique(a[rows], b[rows]))
    parts.settle(alone, 1)
    other = AdaptiveP(every=1)
    other.watch(critique(a[:6], b[:6]), critique(a, b))
    ranks.watch(critique(a[6:], b[6:]), critique(a, b))
    ranks.settle(lambda mine: (mine + other.sums) / 2, 1)
    assert whole.sign == parts.sign == ranks.sign
    assert whole.sign == pytest.approx(torch.cat([a, b.flatten()]).sign().mean().item())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"target": 1.0}, "target=1.0"),
        ({"speed_samples": 0}, "speed_samples=0"),
        ({"every": 0}, "every=0"),
        ({"start": 0.5, "most": 0.3}, "start=0.5, most=0.3"),
    ],
)
def test_values_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AdaptiveP(**arguments)


# ---- in the step ------------------------------------------------------------------------------------------------


class Noisy:
    def load(self, split: str) -> Arrays:
        rng = np.random.default_rng(0)
        return Arrays(rng.integers(0, 256, (40, 3, 8, 8), dtype=np.uint8), rng.integers(0, 3, 40), ("a", "b", "c"))


def pictorial(**arguments: Any) -> GAN:
    net: dict[str, Any] = {"size": 8, "num_classes": 3, "width": 16, "blocks": 1, "embed_dim": 8}
    sgd = partial(torch.optim.SGD, lr=0.05)
    arguments = {
        "penalties": {"lecam": LeCam(0.3, 30)},
        "augment": ADA(["blit", "geometry", "colour", "filter", "noise", "cutout"]),
        "augment_p": AdaptiveP(target=0.0, speed_samples=100, every=3, start=0.3),
        "pseudo_p": AdaptiveP(target=-0.5, speed_samples=200, every=2, start=0.3),
        **arguments,
    }
    nets = R3GANGenerator(**net, z_dim=8), R3GANDiscriminator(**net)
    return GAN(*nets, NonSaturating(), sgd, sgd, ema=EMA(100), init_seed=0, **arguments)


def fit(gan: GAN, steps: int, folder: Path | None = None, resume: Path | None = None) -> GAN:
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
    trainer.fit(gan, datamodule=ArrayDataModule(Noisy(), batch_size=8), ckpt_path=resume)
    if folder:
        trainer.save_checkpoint(folder / "last.ckpt")
    return gan


@pytest.mark.parametrize("stop", [2, 4, 7])
def test_a_resumed_training_is_bitwise_the_whole_one(stop: int, tmp_path: Path) -> None:
    """In the middle of an interval of p, and at its end; across the edge of an epoch of 4 or 5 steps."""
    whole = fit(pictorial(), 9)
    fit(pictorial(), stop, tmp_path)
    resumed = fit(pictorial(), 9, resume=tmp_path / "last.ckpt")
    assert all(torch.equal(v, resumed.state_dict()[k]) for k, v in whole.state_dict().items())
    assert whole.adaptive.keys() == {"augment_p", "pseudo_p", "penalty_lecam"}
    for name, state in whole.adaptive.items():
        other = resumed.adaptive[name].state_dict()
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(other[k])) for k, v in state.state_dict().items())
    assert whole.augment_p(0) not in (0, 0.3)  # type: ignore[operator]


def test_micro_batches_make_the_step_of_the_whole_batch() -> None:
    whole, parts = fit(pictorial(), 4), fit(pictorial(accumulate=3), 4)
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[key], value, rtol=1e-4, atol=1e-5, msg=key)
    assert whole.augment_p(0) == parts.augment_p(0)  # type: ignore[operator]


def test_the_curves_show_what_adapts() -> None:
    gan = fit(pictorial(), 3)
    names = {"augment_p", "augment_p_sign", "pseudo_p", "pseudo_p_sign", "penalty_lecam_real", "penalty_lecam_fake"}
    assert names <= gan.scalars.keys()
    assert gan.scalars["augment_p"].item() == pytest.approx(gan.augment_p(0))  # type: ignore[operator]


def test_a_checkpoint_without_the_state_begins_it_anew() -> None:
    checkpoint: dict[str, Any] = {}
    pictorial(penalties={}, augment_p=0.1, pseudo_p=0.0).on_save_checkpoint(checkpoint)
    gan = pictorial()
    gan.on_load_checkpoint(checkpoint)
    assert gan.augment_p(0) == 0.3  # type: ignore[operator]
    del checkpoint["gan"]["adaptive"]  # of an older version
    gan.on_load_checkpoint(checkpoint)


# ---- pseudo fakes -----------------------------------------------------------------------------------------------


class Seeing(MLPDiscriminator):
    def __init__(self) -> None:
        super().__init__(width=8)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        self.seen.append(x.detach())
        return super().forward(x, y)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_so_many_of_ds_reals_are_fakes_and_others_than_its_fakes(p: float) -> None:
    n = 2000
    adam = partial(torch.optim.Adam, lr=1e-3)
    D = Seeing()
    gan = GAN(MLPGenerator(width=8), D, NonSaturating(), adam, adam, pseudo_p=lambda _: p)
    real = torch.full((n, 2), 100.0)
    gan.d_loss(real, None, gan.noise(0, n))
    shown, fake = D.seen
    swapped = (shown != 100).any(1)
    assert swapped.float().mean().item() == pytest.approx(p, abs=4 * (p * (1 - p) / n) ** 0.5)
    assert not (shown == fake).all(1).any()


class Positive(nn.Module):
    def forward(self, x: Tensor, p: float, noise: Any) -> Tensor:
        return x


def test_p_reaches_the_augmentation_of_the_next_step() -> None:
    asked: list[float] = []

    class Asking(Positive):
        def forward(self, x: Tensor, p: float, noise: Any) -> Tensor:
            asked.append(p)
            return x

    p = AdaptiveP(target=-0.99, speed_samples=80, every=1)
    fit(pictorial(augment=Asking(), augment_p=p, pseudo_p=0.0, penalties={}), 2)
    assert asked[:3] == [0, 0, 0]  # reals, fakes, and G's fakes
    assert asked[3:] == [pytest.approx(0.1)] * 3
