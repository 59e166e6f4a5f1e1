"""Every experiment trains two steps, leaves a run that loads, and trains the same by the Lightning CLI."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from doors import run
from small import PAIRED, small
from test_cli import cli_door, missing, rows, same, state

import gan_kit
from gan_kit import _door
from gan_kit.evaluate import load_classifier

EXPERIMENTS = _door.options("experiment")
WITHOUT_CLASSES = ("image/digits_semi", "image/stacked_digits")  # G: the labels teach D alone, or serve to count


TWICE = ("ring", "image/cifar10_stylegan2", "audio/drums_specgan", "audio/speech_vocos_tiny", "classifier/digits")


@pytest.fixture(scope="module", params=EXPERIMENTS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """(experiment, its run of two steps): pytest runs the tests of one experiment after another."""
    home = tmp_path_factory.mktemp(request.param.replace("/", "-"))
    settings = [*small(request.param, home, request), "logger=csv", "log_every_steps=1", "seed=3"]
    folder = home / "run"
    done = run("train", *settings, f"paths.output_dir={folder}", cwd=home, env=_beside(folder))
    assert done.returncode == 0, done.stderr
    assert "done after 8 samples" in done.stdout  # two batches of four
    return request.param, folder


def _beside(folder: Path) -> dict[str, str | None]:
    """What is cached lies beside a run."""
    return {"GAN_KIT_CACHE": str(folder.parent)}


def test_two_steps(trained: tuple[str, Path]) -> None:
    name, folder = trained
    for left in ("config.yaml", "metrics.jsonl", "bundle/config.yaml", "checkpoints/samples=000000000008.ckpt"):
        assert (folder / left).exists(), left
    if name.startswith("classifier"):
        classifier = load_classifier(folder)
        assert 0 <= classifier.facts["test_accuracy"] <= 1
        stored = torch.uint8 if len(classifier.net.shape) == 3 else torch.int16  # pictures, sounds
        x = torch.zeros(3, *classifier.net.shape, dtype=stored)
        assert classifier.features(x).shape == (3, classifier.dims)
        return
    assert list((folder / "samples").glob("*.png"))
    if name.endswith(PAIRED):
        for bundle in ("bundle", "bundle_back")[: 1 + name.endswith("cyclegan")]:
            translate = gan_kit.load(folder / bundle)
            assert translate(torch.zeros(2, *translate.spec.shape)).shape == (2, *translate.spec.shape)
        return
    gan = gan_kit.load(folder)
    if name.startswith("audio"):
        assert len(list((folder / "samples" / "000000000008").glob("*.wav"))) >= 2
        assert 'src="000000000008/' in (folder / "samples" / "index.html").read_text()
        shape = (1, gan.spec.audio.clip_samples)
        assert gan.sample_rate == gan.spec.audio.sample_rate
        if name.startswith("audio/speech"):
            assert gan.reconstruct(torch.zeros(2, *shape)).shape == (2, *shape)
            return
    else:
        shape = gan.spec.shape
    assert gan.sample(3).shape == (3, *shape)
    labels = yaml.safe_load((folder / "config.yaml").read_text())["data"]["labels"]
    assert (gan.num_classes > 0) == (labels and name not in WITHOUT_CLASSES)


@pytest.mark.slow
def test_the_cli_trains_the_same_losses(trained: tuple[str, Path], tmp_path: Path) -> None:
    name, folder = trained
    again, third = tmp_path / "again", tmp_path / "third"
    fit = partial(cli_door, "fit", "--config", cwd=folder.parent, env=_beside(folder))
    fit(folder / "run.yaml", "--trainer.default_root_dir", again)
    assert len(rows(folder)) == 2
    assert rows(again) == rows(folder)
    assert same(state(again), state(folder))
    assert (again / "csv" / "metrics.csv").is_file(), "loggers follow the run's folder"
    # and what the CLI leaves says the same and more: nothing was lost on the way, not even a null
    left, given = ((place / "run.yaml").read_text().replace(str(place), ".") for place in (again, folder))
    assert not missing(yaml.safe_load(given), yaml.safe_load(left))
    if name in TWICE:
        fit(again / "run.yaml", "--trainer.default_root_dir", third)
        assert same(state(third), state(folder))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_command_stands_on_top(name: str) -> None:
    text = (_door.conf_dir() / "experiment" / f"{name}.yaml").read_text()
    assert f"# python -m gan_kit.train +experiment={name}" in "\n".join(text.splitlines()[:6])


@pytest.mark.parametrize("group", ["data", "generator", "discriminator", "objective", "augment", "trainer", "logger"])
def test_every_option_composes(group: str) -> None:
    for option in _door.options(group):
        assert group in _door.compose("train", [f"{group}={option}"])


@pytest.mark.parametrize("door", ["train", "sample"])
def test_help_is_there_without_torch(door: str) -> None:
    code = (
        f"import sys; sys.argv = ['x', '--help']; import gan_kit.{door} as d; d.main(); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"python -m gan_kit.{door}" in done.stdout
