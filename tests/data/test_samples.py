"""Pictures of any tool's making, and what is not one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_kit.data import Samples, load_samples
from gan_kit.types import UserError


def pictures(n: int = 5, shape: tuple[int, ...] = (6, 8, 3)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


def folder(path: Path, x: np.ndarray) -> Path:
    path.mkdir(parents=True)
    for i, pixels in enumerate(x):
        Image.fromarray(pixels).save(path / f"{i:03d}.png")
    return path


def whole(samples: Samples) -> np.ndarray:
    return np.concatenate(list(samples.batches(2)))


def test_a_folder_gives_back_its_pixels(tmp_path: Path):
    x = pictures()
    found = load_samples(folder(tmp_path / "a", x))
    assert len(found) == 5
    assert found.shape == (3, 6, 8)
    np.testing.assert_array_equal(whole(found), x.transpose(0, 3, 1, 2))


def test_the_sample_grid_beside_them_is_none_of_them(tmp_path: Path):
    place = folder(tmp_path / "a", pictures())
    Image.new("RGB", (99, 99)).save(place / "grid.png")
    assert len(load_samples(place)) == 5


@pytest.mark.parametrize("layout", [(0, 1, 2, 3), (0, 3, 1, 2)])
@pytest.mark.parametrize("floats", [False, True])
def test_an_npz_of_either_layout(layout: tuple[int, ...], floats: bool, tmp_path: Path):
    x = pictures()
    kept = x.astype(np.float32) / 127.5 - 1 if floats else x
    np.savez(tmp_path / "a.npz", kept.transpose(layout))
    np.testing.assert_array_equal(whole(load_samples(tmp_path / "a.npz")), x.transpose(0, 3, 1, 2))


def test_the_fingerprint_is_of_the_pixels_wanted(tmp_path: Path):
    x = pictures(3, (8, 8, 3))
    a, b = load_samples(folder(tmp_path / "a", x)), load_samples(folder(tmp_path / "b", x))
    assert a.fingerprint == b.fingerprint
    assert load_samples(tmp_path / "a", size=4).fingerprint != a.fingerprint
    x[0, 0, 0, 0] ^= 1
    assert load_samples(folder(tmp_path / "c", x)).fingerprint != a.fingerprint


def test_resampled_and_recoloured_on_demand(tmp_path: Path):
    place = folder(tmp_path / "a", pictures(2, (8, 8, 3)))
    Image.new("L", (20, 20)).save(place / "grey.png")
    assert whole(load_samples(place, size=4, channels=3)).shape == (3, 3, 4, 4)
    assert whole(load_samples(place, size=4, channels=1)).shape == (3, 1, 4, 4)


def mixed_sizes(path: Path) -> Path:
    place = folder(path, pictures(3, (8, 8, 3)))
    Image.new("RGB", (9, 9)).save(place / "odd.png")
    return place


def mixed_colours(path: Path) -> Path:
    place = folder(path, pictures(3, (8, 8, 3)))
    Image.new("L", (8, 8)).save(place / "odd.png")
    return place


def truncated(path: Path) -> Path:
    place = folder(path, pictures(3, (64, 64, 3)))
    (place / "001.png").write_bytes((place / "001.png").read_bytes()[:500])
    return place


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path.with_suffix(".npz"), **arrays)
    return path.with_suffix(".npz")


def half(path: Path) -> Path:
    place = npz(path, x=pictures())
    place.write_bytes(place.read_bytes()[:200])
    return place


FLOAT = pictures().astype(np.float32) / 127.5 - 1


@pytest.mark.parametrize(
    "make, words",
    [
        (mixed_sizes, "odd.png is 9x9, most are 8x8"),
        (mixed_colours, r"grey pictures \(odd.png\)"),
        (truncated, "001.png cannot be read"),
        (lambda p: p / "nowhere", "no folder"),
        (lambda p: p / "nowhere.npz", "no file"),
        (half, "is it whole"),
        (lambda p: npz(p, mu=np.zeros(3), sigma=np.eye(3)), "statistics"),
        (lambda p: npz(p, a=pictures(), b=pictures()), "one array"),
        (lambda p: npz(p, a=np.zeros((3, 5, 5, 5), np.uint8)), "neither 1 nor 3"),
        (lambda p: npz(p, a=FLOAT * 3), "floats from"),
        (lambda p: npz(p, a=(FLOAT + 1) / 2), "floats from 0"),
        (lambda p: npz(p, a=np.where(FLOAT > 0.99, np.nan, FLOAT)), "NaN"),
        (lambda p: npz(p, a=pictures().astype(np.int32)), "int32"),
    ],
)
def test_what_can_not_be_scored(make, words, tmp_path: Path):
    with pytest.raises(UserError, match=words):
        whole(load_samples(make(tmp_path / "a")))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*nowhere; give a folder"):
        load_samples(tmp_path / "nowhere")
