"""What the built-in sources hold, and what they say when they cannot be had."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest

from gan_kit.data import Digits, FashionMNIST, PadTo, Resize, Ring
from gan_kit.data import fashion_mnist as module
from gan_kit.data.fashion_mnist import read_idx
from gan_kit.types import UserError


def idx(x: np.ndarray) -> bytes:
    return bytes([0, 0, 8, x.ndim]) + b"".join(n.to_bytes(4, "big") for n in x.shape) + x.tobytes()


# Digits


def test_digits_split_is_stratified_disjoint_and_whole() -> None:
    train, test = Digits().load("train"), Digits().load("test")
    assert train.x.shape == (1497, 1, 8, 8)
    assert test.x.shape == (300, 1, 8, 8)
    assert (np.bincount(test.y) == 30).all()
    assert train.class_names == tuple("0123456789")
    assert train.y.dtype == np.int64

    from sklearn.datasets import load_digits

    def counted(x: np.ndarray):
        return sorted(picture.tobytes() for picture in x)

    rounded = np.floor(load_digits().images * 255 / 16 + 0.5).astype(np.uint8)
    assert counted(np.concatenate([train.x, test.x])) == counted(rounded)


def test_digits_split_never_changes() -> None:
    # scores are comparable only while this number stands
    assert int(Digits().load("test").x.astype(np.int64).sum()) == 1_489_616


def test_digits_fill_the_range_and_take_a_transform() -> None:
    x = Digits(Resize(16)).load("test").x
    assert x.shape == (300, 1, 16, 16)
    assert x.dtype == np.uint8
    raw = Digits().load("train").x
    assert (raw.min(), raw.max()) == (0, 255)


@pytest.mark.parametrize("source", [Digits(), FashionMNIST(), Ring()], ids=lambda s: type(s).__name__)
def test_an_unknown_split_names_those_there_are(source) -> None:
    with pytest.raises(UserError, match="no split 'val'; have train, test"):
        source.load("val")


# Ring


def test_ring_has_the_means_and_spreads_it_says() -> None:
    ring = Ring(modes=5, radius=0.7, std=0.05, count=20_000)
    arrays = ring.load("train")
    assert arrays.x.shape == (20_000, 2)
    assert arrays.x.dtype == np.float32
    assert np.abs(arrays.x).max() <= 1
    for mode, centre in enumerate(ring.centres):
        points = arrays.x[arrays.y == mode]
        assert len(points) == 4000
        assert np.abs(points.mean(0) - centre).max() < 0.005
        assert np.abs(points.std(0) - 0.05).max() < 0.003
    assert np.allclose(np.hypot(*ring.centres.T), 0.7)


def test_ring_is_the_same_each_time_and_the_splits_differ() -> None:
    assert (Ring().load("train").x == Ring().load("train").x).all()
    assert not (Ring().load("train").x == Ring().load("test").x).any()
    assert not (Ring(seed=1).load("train").x == Ring().load("train").x).any()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"modes": 0}, "modes=0"),
        ({"count": 3}, "count=3"),
        ({"radius": 0.95, "std": 0.1}, r"leaves \[-1, 1\]"),
        ({"std": -0.1}, "std=-0.1"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_ring_refuses_what_is_no_ring(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Ring(**settings)


# Fashion-MNIST


def test_fashion_mnist_is_as_published(fashion_root: Path) -> None:
    test = FashionMNIST(fashion_root).load("test")
    assert test.x.shape == (10_000, 1, 28, 28)
    assert (np.bincount(test.y) == 1000).all()
    assert test.class_names[test.y[0]] == "Ankle boot"


def test_fashion_mnist_is_found_in_a_subfolder_unpacked_too(
    fashion_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in fashion_root.glob("t10k-*.gz"):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    if not list(raw.iterdir()):
        pytest.skip(f"{fashion_root} has no packed test files")
    monkeypatch.setattr(module, "DEBIAN", tmp_path / "nowhere")
    monkeypatch.setenv("GAN_KIT_DATA", str(tmp_path))
    assert FashionMNIST(transform=PadTo(32)).load("test").x.shape == (10_000, 1, 32, 32)
    monkeypatch.delenv("GAN_KIT_DATA")
    assert FashionMNIST(tmp_path)._find("test") == (
        raw / "t10k-images-idx3-ubyte",
        raw / "t10k-labels-idx1-ubyte",
    )


def test_fashion_mnist_cut_short_is_named(fashion_root: Path, tmp_path: Path) -> None:
    for file in fashion_root.glob("t10k-*"):
        shutil.copy(file, tmp_path)
    (images,) = tmp_path.glob("t10k-images*")
    images.write_bytes(images.read_bytes()[:100_000])
    with pytest.raises(UserError, match=f"{images.name} .*fetch it again"):
        FashionMNIST(tmp_path).load("test")


def test_another_data_set_of_the_same_form_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((10_000, 28, 28), np.uint8)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(10_000, np.uint8)))
    with pytest.raises(UserError, match="is it MNIST"):
        FashionMNIST(tmp_path).load("test")


@pytest.mark.parametrize("error", [OSError("no route"), RuntimeError("File not found"), ImportError("torchvision")])
def test_fashion_mnist_nowhere_names_three_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    import torchvision.datasets

    def unreachable(*args, **kwargs):
        raise error

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", unreachable)
    monkeypatch.setattr(module, "DEBIAN", tmp_path / "nowhere")
    monkeypatch.delenv("GAN_KIT_DATA", raising=False)
    with pytest.raises(UserError) as e:
        FashionMNIST(tmp_path).load("train")
    assert str(error) in str(e.value)
    for way in ("data.root", "GAN_KIT_DATA", "apt install dataset-fashion-mnist", "network"):
        assert way in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda raw: raw[:-1], "holds 27 bytes where its header tells 28"),
        (lambda raw: raw + b"x", "holds 29 bytes"),
        (lambda raw: b"", "is no idx file of 4x4 bytes"),
        (lambda raw: raw.replace(b"\0\0\x08", b"\0\0\x0d"), "is no idx file"),
        (lambda raw: b"<html>404</html>", "is no idx file"),
    ],
)
def test_spoilt_idx_files_are_named(tmp_path: Path, packed: bool, spoil, message: str) -> None:
    raw = idx(np.arange(16, dtype=np.uint8).reshape(4, 4))
    path = tmp_path / ("a.gz" if packed else "a")
    write = gzip.compress if packed else bytes
    path.write_bytes(write(raw))
    assert (read_idx(path, (4, 4)) == np.arange(16).reshape(4, 4)).all()
    path.write_bytes(write(spoil(raw)))
    with pytest.raises(UserError, match=message) as e:
        read_idx(path, (4, 4))
    assert str(path) in str(e.value)


@pytest.mark.parametrize("keep", [5, 20, -4])
def test_a_damaged_gzip_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((4, 4), np.uint8)))[:keep])
    with pytest.raises(UserError, match=r"a\.gz cannot be read"):
        read_idx(path, (4, 4))
