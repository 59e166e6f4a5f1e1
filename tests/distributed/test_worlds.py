"""One process with 64 samples, two with 32, four with 16, and four micro-batches of 16: the same training."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from doors import _CONTEXT
from ranks import environment, free_port

from gan_kit.adversarial import (
    EMA,
    GAN,
    R1,
    R2,
    AdaptiveP,
    GradientPenalty,
    Hinge,
    LeCam,
    NonSaturating,
    Relativistic,
    Wasserstein,
)
from gan_kit.callbacks import Budget, Evaluation, MetricsLog
from gan_kit.data import ArrayDataModule, Digits, DigitsData, PadTo, RingData
from gan_kit.data.arrays import Arrays
from gan_kit.evaluate import RandomFeatures
from gan_kit.image import ADA, DCGANDiscriminator, DCGANGenerator, DiffAugment, R3GANDiscriminator, R3GANGenerator
from gan_kit.noise import SampleNoise
from gan_kit.strategies import DataParallel
from gan_kit.vector import MLPDiscriminator, MLPGenerator

BATCH, STEPS = 64, 5
R3: Any = {"size": 16, "channels": 1, "num_classes": 10, "width": 8, "blocks": 1, "expansion": 1, "group_size": None}
DC: Any = {"size": 16, "channels": 1, "width": 8}


def r3gan() -> Any:
    return R3GANGenerator(**R3), R3GANDiscriminator(**R3)


def mlp() -> Any:
    return MLPGenerator(width=32), MLPDiscriminator(width=32)


def plain() -> Any:
    return R3GANGenerator(**R3 | {"num_classes": 0}), DCGANDiscriminator(**DC, norm="none")


def conditioned() -> Any:
    on: Any = {"num_classes": 0, "vector_dim": 64, "null_class": True}
    return R3GANGenerator(**R3 | on), DCGANDiscriminator(**DC | on, norm="none")


class OfSmallOnes:
    """Digits, each with its own 8 x 8 pixels as the vector that it is conditioned on."""

    def load(self, split: str) -> Arrays:
        small, large = Digits().load(split), Digits(PadTo(16)).load(split)
        return Arrays(large.x, (small.x.reshape(-1, 64) / 127.5 - 1).astype(np.float32))


RECIPES: dict[str, Any] = {
    "relativistic R1 R2, classes": lambda: (r3gan(), Relativistic(), {"r1": R1(0.5), "r2": R2(0.5)}, {}),
    "lazy R1, augmented, classes": lambda: (
        (r3gan()), NonSaturating(), {"r1": R1(0.5, every=2)}, {"augment": DiffAugment(("translation", "cutout"))}
    ),
    "WGAN-GP, two critic steps": lambda: (plain(), Wasserstein(), {"gp": GradientPenalty()}, {"n_critic": 2}),
    "R1 by finite differences, clipped": lambda: (
        mlp(), NonSaturating(), {"r1": R1(0.5, finite_difference_sigma=0.01)}, {"clip_d": 0.5, "clip_g": 0.5}
    ),
    "LeCam, adaptive ADA and APA, classes": lambda: (
        r3gan(), NonSaturating(), {"lecam": LeCam(0.3, 200)},
        {
            "augment": ADA(), "augment_p": AdaptiveP(0.0, 400, every=2, start=0.3),
            "pseudo_p": AdaptiveP(-0.5, 400, every=2, start=0.3),
        },
    ),
    "hinge, clipped": lambda: (plain(), Hinge(), {}, {"clip_d": 0.1}),
    "R1, vectors, some without": lambda: (
        conditioned(), NonSaturating(), {"r1": R1(0.5, every=2)}, {"label_dropout": 0.2}
    ),
}  # fmt: skip


def make(recipe: str, accumulate: int, init_seed: int) -> tuple[GAN, Any]:
    (g, d), loss, penalties, more = RECIPES[recipe]()
    adam = partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.99), eps=1e-3)  # a small eps blows up rounding of zeros
    gan = GAN(g, d, loss, adam, adam, penalties, ema=EMA(100), accumulate=accumulate, init_seed=init_seed, **more)
    if isinstance(g, MLPGenerator):
        return gan, RingData(batch_size=BATCH, labels=False, val_fraction=0.1)
    if getattr(g, "vector_dim", 0):
        return gan, ArrayDataModule(OfSmallOnes(), BATCH, hflip=True, val_fraction=0.1)
    return gan, DigitsData(PadTo(16), BATCH, labels=bool(getattr(g, "num_classes", 0)), hflip=True, val_fraction=0.1)


def fit(
    recipe: str,
    folder: Path,
    rank: int = 0,
    world: int = 1,
    port: int = 0,
    accumulate: int = 1,
    kind: type[DataParallel] = DataParallel,
    precision: Any = "32-true",
) -> None:
    if world > 1:
        os.environ.update({k: str(v) for k, v in environment(rank, world, port).items()})
        torch.set_num_threads(1)
    gan, data = make(recipe, accumulate, init_seed=rank)  # other ranks' own weights must give way to rank 0's
    trainer = L.Trainer(
        accelerator="cpu",
        precision=precision,
        devices=world,
        strategy=kind(timeout_minutes=1) if world > 1 else "auto",
        max_epochs=-1,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[
            Budget(STEPS * BATCH),
            Evaluation(2 * BATCH, RandomFeatures(8, 1), num_samples=50, batch_size=7),
            MetricsLog(2),
        ]
        if not isinstance(data, RingData)
        else [Budget(STEPS * BATCH), MetricsLog(2)],
    )
    trainer.fit(gan, datamodule=data)
    y = torch.arange(6) % 10 if getattr(gan.generator, "num_classes", 0) else None
    if getattr(gan.generator, "vector_dim", 0):
        y = torch.linspace(-1, 1, 6 * 64).view(6, 64)
    found = {
        "state": gan.state_dict(),
        "samples": gan.float().sample(SampleNoise(0, range(6)), y),
        "seen": gan.samples_seen,
    }
    torch.save(found, folder / f"{rank}.pt")


def together(target: Any, *given: tuple[Any, ...]) -> None:
    """A process for each, which are to end well."""
    processes = [_CONTEXT.Process(target=target, args=args) for args in given]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * len(given)


def fit_as(world: int, recipe: str, folder: Path, precision: str = "64-true") -> None:
    port = free_port()
    together(fit, *((recipe, folder, rank, world, port, 1, DataParallel, precision) for rank in range(world)))


def rows(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    return [{k: v for k, v in json.loads(t).items() if k != "samples_per_second"} for t in path.open()]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_training_does_not_depend_on_the_number_of_processes(recipe: str, tmp_path: Path) -> None:
    # in double precision: a rounding of single precision that crosses the kink of a leaky ReLU moves a weight by 1e-5
    folders = {name: tmp_path / name for name in ("1x64", "2x32", "4x16", "accumulated")}
    for folder in folders.values():
        folder.mkdir()
    fit(recipe, folders["1x64"], precision="64-true")
    fit(recipe, folders["accumulated"], accumulate=4, precision="64-true")
    for world in (2, 4):
        fit_as(world, recipe, folders[f"{world}x{BATCH // world}"])
    whole = torch.load(folders["1x64"] / "0.pt")
    for name, folder in folders.items():
        parts = [torch.load(path) for path in sorted(folder.glob("*.pt"))]
        assert len(parts) == int(name[0]) if name[0].isdigit() else 1
        for part in parts:
            assert part["seen"] == STEPS * BATCH
            for key, value in whole["state"].items():
                assert torch.equal(part["state"][key], parts[0]["state"][key]), f"{name}: ranks differ in {key}"
                torch.testing.assert_close(part["state"][key], value, rtol=1e-6, atol=1e-8, msg=f"{name}: {key}")
            torch.testing.assert_close(part["samples"], whole["samples"], rtol=1e-4, atol=1e-5, msg=name)
        for file in ("evaluation/history.jsonl", "metrics.jsonl"):
            here, there = rows(folder / file), rows(folders["1x64"] / file)
            if file == "metrics.jsonl" and name == "accumulated":
                continue  # a micro-batch's scalars
            assert len(here) == len(there)
            for a, b in zip(here, there, strict=True):
                assert a == pytest.approx(b, rel=2e-3, abs=1e-5), f"{name}: {file}"


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["relativistic R1 R2, classes", "R1, vectors, some without"])
def test_single_precision_differs_by_its_rounding_only(recipe: str, tmp_path: Path) -> None:
    for name in ("alone", "two"):
        (tmp_path / name).mkdir()
    fit(recipe, tmp_path / "alone")
    fit_as(2, recipe, tmp_path / "two", "32-true")
    alone, two = (torch.load(tmp_path / name / "0.pt")["state"] for name in ("alone", "two"))
    for key, value in alone.items():  # five steps of up to 1e-3 a weight
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=2e-5, msg=key)


class OneAfterTheOther(DataParallel):
    def average_gradients(self, parameters: Any, meanwhile: Any = None) -> None:
        super().average_gradients(parameters)


class Both(DataParallel):
    """As it is, and counts how often there was something to do meanwhile."""

    ahead = 0

    def average_gradients(self, parameters: Any, meanwhile: Any = None) -> None:
        Both.ahead += meanwhile is not None
        super().average_gradients(parameters, meanwhile)


def fit_ahead(strategy: type[DataParallel], recipe: str, folder: Path, rank: int, port: int) -> None:
    RECIPES["bn"] = lambda: ((DCGANGenerator(**DC), DCGANDiscriminator(**DC)), NonSaturating(), {}, {})
    fit(recipe, folder, rank, 2, port, kind=strategy)
    if strategy is Both:
        (folder / f"{rank}.txt").write_text(str(Both.ahead))


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe, times", [("relativistic R1 R2, classes", 5), ("WGAN-GP, two critic steps", 3), ("bn", 5)]
)
def test_what_is_made_while_gradients_travel_changes_nothing(recipe: str, times: int, tmp_path: Path) -> None:
    found = {}
    for strategy in (Both, OneAfterTheOther):
        folder = tmp_path / strategy.__name__
        folder.mkdir()
        port = free_port()
        together(fit_ahead, *((strategy, recipe, folder, rank, port) for rank in range(2)))
        found[strategy] = [torch.load(folder / f"{rank}.pt")["state"] for rank in range(2)]
    assert [(tmp_path / "Both" / f"{rank}.txt").read_text() for rank in range(2)] == [str(times)] * 2
    (a, b), (after, _) = found[Both], found[OneAfterTheOther]
    for key, value in a.items():
        assert torch.equal(value, b[key]), f"ranks differ in {key}"
        if "running_" in key:  # the mean over ranks of means over steps, or the other way round
            torch.testing.assert_close(value, after[key], rtol=1e-5, atol=1e-7, msg=key)
        else:
            assert torch.equal(value, after[key]), key


def fit_batch_norm(folder: Path, rank: int, port: int) -> None:
    import warnings

    RECIPES["bn"] = lambda: ((DCGANGenerator(**DC), DCGANDiscriminator(**DC)), NonSaturating(), {}, {})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit("bn", folder, rank, 2, port)
    (folder / f"{rank}.txt").write_text("\n".join(str(w.message) for w in caught if "batch norm" in str(w.message)))


@pytest.mark.slow
def test_batch_norm_is_warned_about_once_and_its_statistics_agree(tmp_path: Path) -> None:
    port = free_port()
    together(fit_batch_norm, *((tmp_path, rank, port) for rank in range(2)))
    said = [(tmp_path / f"{r}.txt").read_text().splitlines() for r in range(2)]
    assert [len(s) for s in said] == [1, 0]
    assert "1/2 of each batch" in said[0][0]
    a, b = (torch.load(tmp_path / f"{r}.pt")["state"] for r in range(2))
    statistics = [name for name in a if "running_" in name]
    assert statistics
    for name in a:
        assert torch.equal(a[name], b[name]), name
