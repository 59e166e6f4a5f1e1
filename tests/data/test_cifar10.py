"""CIFAR-10 as it is packed: found in its folder or archive, checked, read without running anything."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from gan_kit.data import CIFAR10, CIFAR10Data, Resize
from gan_kit.data import cifar10 as module
from gan_kit.data.cifar10 import ARCHIVE, FOLDER, MOST_BYTES, read_batch
from gan_kit.types import UserError


def packed(folder: Path, to: Path, compression: str = "gz") -> Path:
    with tarfile.open(to, f"w:{compression}") as archive:
        archive.add(folder, FOLDER)
    return to


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GAN_KIT_DATA", raising=False)
    monkeypatch.setattr("gan_kit.data.cifar10.download", lambda *_: "OSError: no network")


def test_the_batches_follow_each_other_as_red_green_blue_rows(cifar_root: Path) -> None:
    train, test = CIFAR10(cifar_root, check=False).load("train"), CIFAR10(cifar_root, check=False).load("test")
    assert train.x.shape == (60, 3, 32, 32)
    assert test.x.shape == (12, 3, 32, 32)
    assert train.x.dtype == np.uint8
    assert train.y.dtype == np.int64
    assert train.class_names[train.y[2]] == "bird"
    raw = pickle.loads((cifar_root / FOLDER / "data_batch_3").read_bytes())["data"]
    assert train.x[24 + 5, 1, 7, 9] == raw[5, 1024 + 7 * 32 + 9]  # the third file's sixth picture, green
    assert (test.y == np.arange(12) % 10).all()


def test_it_is_found_in_folders_and_archives(cifar_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = CIFAR10(cifar_root, check=False).load("test").x
    (tmp_path / "cifar10").mkdir()
    packed(cifar_root / FOLDER, tmp_path / "cifar10" / ARCHIVE)
    assert (CIFAR10(tmp_path, check=False).load("test").x == expected).all()
    assert (CIFAR10(cifar_root / FOLDER, check=False).load("test").x == expected).all()
    monkeypatch.setenv("GAN_KIT_DATA", str(cifar_root))
    assert (CIFAR10(check=False).load("test").x == expected).all()


def test_other_files_than_the_published_are_refused(cifar_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"test_batch is not the file that was published; .* data.check=false"):
        CIFAR10(cifar_root).load("test")
    digest = hashlib.md5((cifar_root / FOLDER / "test_batch").read_bytes()).hexdigest()
    monkeypatch.setitem(module.DIGESTS, "test_batch", digest)
    assert len(CIFAR10(cifar_root).load("test").x) == 12


def test_nowhere_and_offline_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"could not be downloaded \(OSError: no network\); set data.root"):
        CIFAR10(tmp_path).load("train")


def test_an_unknown_split_is_told() -> None:
    with pytest.raises(UserError, match="no split 'val'; have train, test"):
        CIFAR10().load("val")


def test_in_batches_with_a_transform(cifar_root: Path) -> None:
    data = CIFAR10Data(cifar_root, Resize(16), check=False, batch_size=8)
    assert data.spec.shape == (3, 16, 16)
    assert data.spec.num_classes == 10
    assert CIFAR10Data(cifar_root, check=False, labels=False).spec.num_classes == 0


class Evil:
    def __reduce__(self):
        return eval, ("open('ran', 'w')",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_batch").write_bytes(pickle.dumps({"data": Evil(), "labels": []}))
    with pytest.raises(UserError, match=r"test_batch is no batch .*: it names builtins.eval\)"):
        read_batch(tmp_path, "test_batch")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"data": np.zeros((2, 3072), np.uint8)}, "KeyError: 'labels'"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "not uint8"),
        ({"data": np.zeros((2, 3072)), "labels": [0, 1]}, r"float64\(2, 3072\)"),
        ({"data": np.zeros((2, 100), np.uint8), "labels": [0, 1]}, r"uint8\(2, 100\)"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 55]}, "classes from 0 to 55.*CIFAR-100"),
        ([1, 2], "TypeError"),
    ],
)
def test_pickles_of_something_else_are_told(tmp_path: Path, entry: object, message: str) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps(entry, protocol=2))
    with pytest.raises(UserError, match=message):
        read_batch(tmp_path, "test_batch")


@pytest.mark.parametrize("keep", [0, 100, -50])
def test_files_cut_short_are_told(cifar_root: Path, tmp_path: Path, keep: int) -> None:
    raw = (cifar_root / FOLDER / "test_batch").read_bytes()
    (tmp_path / "test_batch").write_bytes(raw[:keep])
    with pytest.raises(UserError, match="test_batch is no batch"):
        read_batch(tmp_path, "test_batch")
    whole = packed(cifar_root / FOLDER, tmp_path / ARCHIVE).read_bytes()
    (tmp_path / ARCHIVE).write_bytes(whole[: keep if keep > 0 else len(whole) // 2])
    with pytest.raises(UserError, match=r"test_batch cannot be read .*fetch it again"):
        read_batch(tmp_path / ARCHIVE, "test_batch")


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / ARCHIVE, "w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo(f"{FOLDER}/test_batch")
        member.size = MOST_BYTES + 1
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(UserError, match="more than"):
        read_batch(tmp_path / ARCHIVE, "test_batch")


def test_python_2_wrote_the_published_files(tmp_path: Path) -> None:
    """Its byte strings come as text, in the encoding that keeps every byte."""
    pixels = np.arange(2 * 3072, dtype=np.int64).astype(np.uint8).reshape(2, 3072)
    # protocol 0 and 2 of Python 2 hold an array's bytes as a `str`; a pickle of Python 3 with BINSTRING does the same
    body = (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89T" + len(pixels.tobytes()).to_bytes(4, "little") + pixels.tobytes() + b"tbU\x06labels]"
        b"(K\x03K\x07eu."
    )
    (tmp_path / "test_batch").write_bytes(body)
    x, y = read_batch(tmp_path, "test_batch")
    assert (x.reshape(2, 3072) == pixels).all()
    assert y.tolist() == [3, 7]
