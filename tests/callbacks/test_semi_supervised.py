"""Few labels: which stay, what D does with the others, and the baseline that is printed beside it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from doors import run

from gan_kit.adversarial import GAN, ClassPenalty, CrossEntropy, NonSaturating
from gan_kit.callbacks import SemiSupervised
from gan_kit.data import DigitsData, RingData
from gan_kit.image import DCGANDiscriminator, DCGANGenerator
from gan_kit.types import UserError


def made(conditioning: str = "k+1") -> GAN:
    adam = partial(torch.optim.Adam, lr=2e-3)
    D = DCGANDiscriminator(8, 1, 10, width=16, norm="none", conditioning=conditioning)
    penalties = {"classes": ClassPenalty(CrossEntropy(), 10.0)}
    return GAN(DCGANGenerator(8, 1, width=8, z_dim=8), D, NonSaturating(), adam, adam, penalties, init_seed=0)


def fit(gan: GAN, data: Any, folder: Path, *callbacks: L.Callback, steps: int = 3) -> GAN:
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=-1, max_steps=steps, default_root_dir=folder, logger=False,
        callbacks=list(callbacks), enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(gan, datamodule=data)
    return gan


# ---- which labels stay --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [100, 37, 10, 3])
def test_so_many_labels_stay_evenly_over_classes(count: int) -> None:
    all_of_them, few = DigitsData(), DigitsData(labelled=count, seed=5)
    y = few.arrays("train").y
    assert y is not None
    kept = y >= 0
    assert kept.sum() == count
    assert np.ptp(np.bincount(y[kept], minlength=10)) <= 1
    assert (y[kept] == all_of_them.arrays("train").y[kept]).all()  # type: ignore[index]
    assert np.array_equal(y, DigitsData(labelled=count, seed=6).arrays("train").y)
    assert (few.arrays("test").y >= 0).all()  # type: ignore[operator]
    assert few.spec == all_of_them.spec
    assert few.arrays("train").fingerprint() != all_of_them.arrays("train").fingerprint()


def test_labels_that_are_held_out_stay() -> None:
    data = DigitsData(labelled=50, val_fraction=0.2)
    assert (data.arrays("val").y >= 0).all()  # type: ignore[operator]
    assert (data.arrays("train").y >= 0).sum() == 50  # type: ignore[operator]


@pytest.mark.parametrize("count, labels", [(0, True), (1498, True), (100, False)])
def test_labels_that_can_not_stay_are_refused(count: int, labels: bool) -> None:
    with pytest.raises(UserError, match=f"data.labelled={count}"):
        DigitsData(labelled=count, labels=labels).arrays("train")


# ---- what is learned of the others --------------------------------------------------------------------------


def test_the_adversarial_loss_moves_class_logits_of_samples_without_a_label() -> None:
    """-log D(x) with D = Z / (Z + 1): its gradient at the class logits is -(1 - D) softmax."""
    D = made().discriminator
    critique = D(torch.randn(4, 1, 8, 8), torch.full((4,), -1))
    logits = critique.aux.logits
    (gradient,) = torch.autograd.grad(torch.nn.functional.softplus(-critique.logits[0]).sum(), logits)
    real = critique.logits[0].sigmoid()[:, None]
    assert gradient.allclose(-(1 - real) * logits.softmax(1), atol=1e-6)


def test_a_loss_of_classes_leaves_out_what_has_none() -> None:
    D = made().discriminator
    critique, y = D(torch.randn(4, 1, 8, 8), None), torch.tensor([3, -1, -1, 7])
    losses = CrossEntropy()(critique, y)
    assert losses[1:3].tolist() == [0, 0]
    assert losses[[0, 3]].allclose(-critique.aux.logits.log_softmax(1)[[0, 3], [3, 7]])


# ---- the baseline -------------------------------------------------------------------------------------------


def test_both_accuracies_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = DigitsData(labelled=100, batch_size=64)
    watched = fit(made(), data, tmp_path, SemiSupervised(baseline_steps=150))
    told = json.loads((tmp_path / "semi_supervised.json").read_text())
    assert told["labelled"] == 100
    assert told["unlabelled"] == 1397
    assert told["count"] == 300
    assert told["baseline_accuracy"] > 0.7  # .8 of 150 steps; chance is .1
    assert f"{told['accuracy']:.4f} with 1,397 unlabelled samples" in capsys.readouterr().out
    alone = fit(made(), DigitsData(labelled=100, batch_size=64), tmp_path)
    for a, b in zip(watched.parameters(), alone.parameters(), strict=True):
        assert a.equal(b)  # looking changes nothing


@pytest.mark.parametrize(
    "gan, data, message",
    [
        (lambda: made("none"), lambda: DigitsData(labelled=100), "names no classes"),
        (made, lambda: DigitsData(labels=False), "needs classes"),
    ],
    ids=["a D without classes", "data without classes"],
)
def test_what_has_no_accuracy_is_refused_before_it_trains(gan: Any, data: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        fit(gan(), data(), tmp_path, SemiSupervised())


def test_points_have_no_few_labels_either() -> None:
    assert RingData().labelled is None


def test_the_experiment_says_both(tmp_path: Path) -> None:
    settings = [
        "+experiment=image/digits_semi",
        "debug=two_steps",
        "trainer=cpu",
        "callbacks.semi_supervised.baseline_steps=5",
    ]
    done = run("train", *settings, f"paths.output_dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "of the same network on the labelled ones alone" in done.stdout
    assert (tmp_path / "run" / "semi_supervised.json").is_file()
