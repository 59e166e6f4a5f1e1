"""The door to sampling writes what it says, and a seed is a picture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from doors import run
from PIL import Image

import gan_kit
from gan_kit import _door
from gan_kit.types import UserError


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "run"
    settings = ["+experiment=image/digits", "debug=two_steps", "logger=none", "trainer=cpu"]
    done = run("train", *settings, f"paths.output_dir={folder}", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return folder


def sample(digits: Path, out: Path, *arguments: str) -> list[bytes]:
    done = run("sample", f"run={digits}", f"out={out}", *arguments, cwd=out.parent)
    assert done.returncode == 0, done.stderr
    return [p.read_bytes() for p in sorted(out.glob("[0-9]*.png"))]


def test_pictures_of_a_seed(digits: Path, tmp_path: Path) -> None:
    ten = sample(digits, tmp_path / "a", "n=10", "label=3", "seed=5", "psi=0.7")
    assert len(ten) == 10
    with Image.open(tmp_path / "a" / "000000.png") as image:
        assert (image.mode, image.size) == ("L", (16, 16))
    assert (tmp_path / "a" / "grid.png").exists()
    assert sample(digits, tmp_path / "b", "n=4", "label=3", "seed=5", "psi=0.7") == ten[:4]
    assert sample(digits, tmp_path / "c", "n=4", "label=3", "seed=6", "psi=0.7") != ten[:4]


def test_the_newest_run_is_taken(digits: Path) -> None:
    done = run("sample", f"run={digits.parent}", "n=3", cwd=digits.parent)
    assert done.returncode == 0, done.stderr
    assert len(list((digits / "generated").rglob("00000?.png"))) == 3


def test_from_python(digits: Path) -> None:
    gan = gan_kit.load(digits)
    x = gan.sample(5, label=3, seed=0)
    assert x.shape == (5, 1, 16, 16)
    assert gan.sample(5, label="3", seed=0).equal(x)


@pytest.mark.parametrize("name", ["cuda:99", "hpu", "mps", "meta", "nonsense", ""])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("it is there")
    with pytest.raises(UserError, match=f"device={name}: torch has no such device here"):
        _door.device(name)
    assert _door.device("cpu") == torch.device("cpu")
