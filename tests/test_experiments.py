"""Every experiment trains two steps and leaves a run that loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from doors import run
from PIL import Image

import gan_kit
from gan_kit import _door
from gan_kit.evaluate import load_classifier

EXPERIMENTS = _door.options("experiment")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_two_steps(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    settings = [f"+experiment={name}", "debug=two_steps", "trainer=cpu"]
    if "fashion" in name:
        settings.append(f"data.root={request.getfixturevalue('fashion_root')}")
    if "folder" in name:
        for i in range(12):
            place = tmp_path / "pictures" / ("cats" if i % 2 else "dogs")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(i).integers(0, 255, (70, 80, 3), np.uint8)).save(place / f"{i}.png")
        settings.append(f"data.root={tmp_path / 'pictures'}")
    folder = tmp_path / "run"
    done = run("train", *settings, f"paths.output_dir={folder}", cwd=tmp_path, env={"GAN_KIT_CACHE": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "done after 8 samples" in done.stdout  # two batches of four
    for left in ("config.yaml", "metrics.jsonl", "bundle/config.yaml", "checkpoints/samples=000000000008.ckpt"):
        assert (folder / left).exists(), left
    if name.startswith("classifier"):
        classifier = load_classifier(folder)
        assert 0 <= classifier.facts["test_accuracy"] <= 1
        x = torch.zeros(3, *classifier.net.shape, dtype=torch.uint8)
        assert classifier.features(x).shape == (3, classifier.dims)
        return
    assert list((folder / "samples").glob("*.png"))
    gan = gan_kit.load(folder)
    assert gan.sample(3).shape == (3, *gan.spec.shape)
    assert (gan.num_classes == 0) == (name == "ring")


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
