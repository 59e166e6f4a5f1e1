"""Conditioned on vectors from the file to the picture: train, resume, look, sample, score, ship."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doors import run
from PIL import Image
from test_resuming import same, state

import gan_kit
from gan_kit.types import UserError

SMALL = [
    "data=folder", "data.test_fraction=0.2", "image_size=16", "data.batch_size=16", "generator=dcgan",
    "discriminator=dcgan", "generator.width=8", "discriminator.width=8", "discriminator.norm=none",
    "objective=nonsaturating_r1", "generator.null_class=true", "discriminator.null_class=true",
    "model.label_dropout=0.1", "logger=none", "trainer=cpu",
]  # fmt: skip


def coloured(folder: Path, n: int, noise: float = 10.0) -> Path:
    """n pictures of one colour each, under noise, and conditions.csv: that colour from -1 to 1; -> the folder above"""
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir(parents=True)
    lines = ["file,red,green,blue"]
    for i in range(n):
        colour = rng.uniform(40, 215, 3)
        pixels = (colour + noise * rng.standard_normal((16, 16, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{i:04d}.png")
        lines.append(f"{i:04d}.png," + ",".join(f"{c / 127.5 - 1:.5f}" for c in colour))
    (folder / "conditions.csv").write_text("\n".join(lines) + "\n")
    return folder


def settings(folder: Path) -> list[str]:
    return [*SMALL, f"data.root={folder / 'pictures'}", f"data.conditions={folder / 'conditions.csv'}"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coloured(tmp_path_factory.mktemp("vectors"), 64)


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("vectors") / "run"
    more = ["budget_samples=128", "sample_every=64", "evaluation=fd", "evaluate_every=64"]
    more += ["extractor@callbacks.evaluation.extractor=pixels"]
    more += ["callbacks.evaluation.num_samples=32", "callbacks.evaluation.split=test", "guard_every=32"]
    more += ["data.val_fraction=0.0"]
    done = run("train", *settings(folder), *more, f"paths.output_dir={place}", cwd=place.parent)
    assert done.returncode == 0, done.stderr
    assert "a vector of 3 each" in done.stdout
    return place


def test_a_bundle_draws_by_held_out_vectors_or_by_those_that_are_given(trained: Path) -> None:
    gan: Any = gan_kit.load(trained)
    assert gan.vectors.shape[1] == gan.vector_dim == gan.spec.vector_dim == 3
    assert (trained / "bundle" / "samples.png").is_file()
    assert "vectors of 3" in (trained / "bundle" / "card.md").read_text()
    one = gan.sample(4, seed=2)
    assert gan.sample(2, seed=2).allclose(one[:2], atol=1e-6)
    y = torch.tensor([0.5, -0.5, 0.0])
    all_alike, each = gan.sample(4, condition=y), gan.sample(4, condition=y.expand(4, -1))
    assert all_alike.equal(each)
    assert not all_alike.equal(gan.sample(4, condition=-y))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"label": 1}, "conditioned on vectors of 3, not on classes"),
        ({"condition": torch.zeros(4)}, r"shape \(4,\).*a vector of 3"),
        ({"condition": torch.zeros(3, 3)}, r"one for each of 2 samples, \(2, 3\)"),
        ({"condition": torch.tensor([0.0, np.nan, 0.0])}, "NaN"),
    ],
)
def test_a_condition_that_does_not_fit_is_refused(what: dict[str, Any], message: str, trained: Path) -> None:
    with pytest.raises(UserError, match=message):
        gan_kit.load(trained).sample(2, **what)


def test_the_door_to_sampling_takes_a_file_of_vectors(trained: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.array([0.5, -0.5, 0.0]))
    np.save(tmp_path / "three.npy", np.zeros((3, 3), np.float32))
    for name, n in (("one", 2), ("three", 3)):
        done = run("sample", f"run={trained}", f"condition={tmp_path / name}.npy", f"n={n}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(list((trained / "generated" / f"condition={name}_seed=0_psi=1.0").glob("0*.png"))) == n
    wrong = run("sample", f"run={trained}", f"condition={tmp_path / 'three.npy'}", "n=4", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "(4, 3)" in wrong.stderr


def test_scores_and_latent_tools_know_vectors(trained: Path, tmp_path: Path) -> None:
    assert len((trained / "evaluation" / "history.jsonl").read_text().splitlines()) == 2
    done = run("evaluate.__main__", f"run={trained}", "extractor=pixels", "num_samples=24", "split=test", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    gan: Any = gan_kit.load(trained)
    latent = gan.latent()
    codes = latent.codes(4, seed=3)
    assert latent.decode(codes).allclose(gan.sample(4, seed=3), atol=1e-6)
    half = latent.between(codes[[0]], codes[[1]], 0.5)
    assert half.y.allclose((codes.y[:1] + codes.y[1:2]) / 2)
    assert latent.decode(latent.path(codes, steps=3)).isfinite().all()


def test_a_run_that_was_stopped_goes_on_bitwise(folder: Path, trained: Path, tmp_path: Path) -> None:
    first = run("train", *settings(folder), "budget_samples=64", f"paths.output_dir={tmp_path / 'run'}", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    more = [f"resume={tmp_path / 'run'}", "budget_samples=128"]
    assert run("train", *more, cwd=tmp_path).returncode == 0
    assert same(state(tmp_path / "run"), state(trained))


def test_networks_that_would_not_look_at_the_vectors_are_refused(folder: Path, tmp_path: Path) -> None:
    done = run("train", *settings(folder), "discriminator.vector_dim=0", "budget_samples=16", cwd=tmp_path)
    assert done.returncode == 2
    assert "DCGANDiscriminator, takes none" in done.stderr
    done = run("train", *settings(folder), "objective=acgan", "budget_samples=16", cwd=tmp_path)
    assert done.returncode == 2
    assert "a loss of classes needs class indices" in done.stderr


@pytest.mark.slow
def test_samples_have_the_colour_that_their_vector_asks_for(tmp_path: Path) -> None:
    """Of held-out vectors. A generator that pays no heed to them is off by .4 a channel, in the mean."""
    folder = coloured(tmp_path, 1000)
    place = tmp_path / "run"
    more = ["budget_samples=40_000", "objective.gamma=0.1", "optimizer.g.lr=1e-3", "optimizer.d.lr=1e-3"]
    more += ["callbacks.guardian=null", "model.ema.halflife_samples=2000"]
    done = run("train", *settings(folder), *more, f"paths.output_dir={place}", cwd=tmp_path, seconds=600)
    assert done.returncode == 0, done.stderr
    gan: Any = gan_kit.load(place)
    y = gan.vectors
    made = gan.sample(len(y), seed=1, condition=y).mean((2, 3))
    error = (made - y).abs().mean().item()
    ignorant = (made - y[torch.randperm(len(y))]).abs().mean().item()
    print(f"error {error:.3f}, of other vectors {ignorant:.3f}")
    assert error < 0.1
    assert ignorant > 0.3
