"""Three digits to a picture: a thousand modes, and what counts them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from doors import run

import gan_kit
from gan_kit.adversarial import EMA, GAN, NonSaturating
from gan_kit.callbacks import Guardian
from gan_kit.data import Digits, Resize, StackedDigits, StackedDigitsData
from gan_kit.evaluate import ClassifierFeatures, ConvClassifier, StackedClassifier, stacked_classifier
from gan_kit.evaluate.functional import modes_covered
from gan_kit.image import DCGANDiscriminator, DCGANGenerator
from gan_kit.latent import Normal
from gan_kit.pictures import to_uint8
from gan_kit.trained import TrainedGAN
from gan_kit.types import UserError


def test_all_modes_are_there_equally_often_and_each_channel_is_its_digit() -> None:
    source = StackedDigits(count=3000)
    train, test = source.load("train"), source.load("test")
    assert train.x.shape == (3000, 3, 8, 8)
    assert test.x.shape == (1000, 3, 8, 8)
    assert len(train.class_names) == 1000
    assert train.class_names[507] == "507"
    for arrays, split in ((train, "train"), (test, "test")):
        assert arrays.y is not None
        assert np.ptp(np.bincount(arrays.y, minlength=1000)) == 0
        digits = Digits().load(split)
        known = {x.tobytes(): k for x, k in zip(digits.x[:, 0], digits.y, strict=True)}  # type: ignore[arg-type]
        for i in range(0, len(arrays.x), 97):
            of = [known[np.ascontiguousarray(arrays.x[i, c]).tobytes()] for c in range(3)]
            assert of[0] * 100 + of[1] * 10 + of[2] == arrays.y[i]


def test_they_are_the_same_ones_each_time() -> None:
    x = StackedDigits(count=1500).load("train").x
    assert np.array_equal(x, StackedDigits(count=1500).load("train").x)
    assert not np.array_equal(x, StackedDigits(count=1500, seed=1).load("train").x)
    assert StackedDigits(Resize(16), count=1500).load("train").x.shape == (1500, 3, 16, 16)


@pytest.mark.parametrize("given", [{"count": 999}, {"seed": -1}])
def test_stacked_digits_that_can_not_be_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(UserError, match=next(iter(given))):
        StackedDigits(**given)  # type: ignore[arg-type]


def test_a_triples_probability_is_the_product_of_its_channels() -> None:
    one = ClassifierFeatures(ConvClassifier((1, 8, 8), 10, width=4, dims=6))
    net = StackedClassifier(one)
    x = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    found = net.extract(x)
    assert found.features.shape == (5, net.dims) == (5, 18)
    assert found.probabilities is not None
    assert found.probabilities.sum(1).allclose(torch.ones(5), atol=1e-5)
    p = [one.extract(x[:, c : c + 1]).probabilities for c in range(3)]
    assert found.probabilities[:, 472].allclose(p[0][:, 4] * p[1][:, 7] * p[2][:, 2])  # type: ignore[index]
    assert found.features[:, 6:12].equal(one.extract(x[:, 1:2]).features)
    with pytest.raises(UserError, match="three channels"):
        net.extract(x[:, :1])


def test_only_stacked_data_are_counted_so() -> None:
    with pytest.raises(UserError, match="data=stacked_digits"):
        stacked_classifier(SimpleNamespace())


@pytest.mark.slow
def test_the_judge_counts_real_modes_and_misses_those_that_are_left_out() -> None:
    data = StackedDigitsData(Resize(16))
    judge = stacked_classifier(data, progress=False)
    test = data.arrays("test")
    assert test.y is not None
    found = judge.probabilities(torch.from_numpy(test.x)).argmax(1)
    assert (found.numpy() == test.y).mean() > 0.93
    assert modes_covered(found, 1000).number > 950
    some = found[torch.from_numpy(test.y < 300)]
    assert 280 < modes_covered(some, 1000).number < 400


# ---- trainings, counted in the same way -----------------------------------------------------------------------


def counted(gan: Any, judge: StackedClassifier) -> int:
    """How many modes 10,000 samples cover"""
    found = torch.cat([judge.probabilities(to_uint8(x)).argmax(1) for x in gan.batches(10_000, batch_size=500)])
    return modes_covered(found, 1000).number


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_the_experiment_finds_nine_modes_in_ten_and_is_left_in_peace(tmp_path: Path) -> None:
    """988 after 116,672 samples of its 200,000 (seed 0), some 75 s of one core."""
    settings = ["+experiment=image/stacked_digits", "trainer=cpu", "logger=none", "budget_samples=120_000"]
    done = run("train", *settings, f"paths.output_dir={tmp_path / 'run'}", cwd=tmp_path, seconds=900)
    assert done.returncode == 0, done.stderr
    assert "docs/train.md" not in done.stdout + done.stderr  # what a warning of the guardian ends in
    judge = stacked_classifier(StackedDigitsData(Resize(16)), progress=False)
    assert counted(gan_kit.load(tmp_path / "run"), judge) >= 900


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_a_rate_that_is_too_large_without_a_penalty_loses_modes_and_is_told_of(tmp_path: Path) -> None:
    adam = partial(torch.optim.Adam, lr=1e-2, betas=(0.9, 0.999), fused=True)
    nets = DCGANGenerator(16, z_dim=64, width=16), DCGANDiscriminator(16, width=16, norm="none")
    gan = GAN(*nets, NonSaturating(), adam, adam, ema=EMA(2000), init_seed=0)
    data = StackedDigitsData(Resize(16), labels=False)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=-1, max_steps=400, default_root_dir=tmp_path, logger=False,
        callbacks=[Guardian(every_samples=6400, grace_looks=1)], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"(collapse|overfitting) at .*docs/train\.md"):  # D is far ahead of a stuck G
        trainer.fit(gan, datamodule=data)
    judge = stacked_classifier(StackedDigitsData(Resize(16)), progress=False)
    assert counted(TrainedGAN(gan.generator_ema, Normal(), data.spec), judge) < 300  # 61, seed 0
