"""Which checkpoint is whole, and which run is the newest."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_kit.runs import checkpoint_path, checkpoints, is_run, is_whole, newest_run, newest_whole
from gan_kit.types import UserError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with three checkpoints, that remember their samples."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text("name: x\n")
    for samples in (64, 1000, 20_000):
        torch.save({"samples": samples, "w": torch.randn(50)}, checkpoint_path(tmp_path, samples))
    return tmp_path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(3000))


def text(path: Path) -> None:
    path.write_text("no space left on device")


def flip(path: Path, needle: bytes | None = None) -> None:
    data = bytearray(path.read_bytes())
    stored = torch.load(path, weights_only=True)["w"].numpy().tobytes()
    data[data.index(stored) + 17] ^= 0x10
    path.write_bytes(data)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def test_checkpoints_are_listed_by_samples_seen(run: Path) -> None:
    (run / "checkpoints" / ".samples=000000099999.ckpt.part").write_bytes(b"being written")
    (run / "checkpoints" / "notes.txt").write_text("mine")
    assert checkpoints(run) == [checkpoint_path(run, n) for n in (64, 1000, 20_000)]
    far = checkpoint_path(run, 200_000_000)
    far.write_bytes(b"")
    assert checkpoints(run)[-1] == far


def test_the_newest_is_taken_without_a_warning(run: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert newest_whole(run) == checkpoint_path(run, 20_000)


@pytest.mark.parametrize("damage", [truncate, cut_in_half, empty, garbage, text, flip, directory])
def test_a_damaged_newest_falls_back_to_the_one_before_with_a_warning(run: Path, damage: Any) -> None:
    newest = checkpoint_path(run, 20_000)
    damage(newest)
    with pytest.warns(UserWarning, match=r"samples=000000020000.ckpt is damaged") as caught:
        found = newest_whole(run)
    assert found == checkpoint_path(run, 1000)
    assert len(caught) == 1
    assert torch.load(found, weights_only=True)["samples"] == 1000


def test_several_damaged_ones_are_passed_over(run: Path) -> None:
    truncate(checkpoint_path(run, 20_000))
    flip(checkpoint_path(run, 1000))
    with pytest.warns(UserWarning, match="is damaged") as caught:
        assert newest_whole(run) == checkpoint_path(run, 64)
    assert len(caught) == 2


@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_where_none_is_whole_the_error_says_whether_there_were_any(run: Path) -> None:
    for path in checkpoints(run):
        empty(path)
    with pytest.raises(UserError, match="all 3 checkpoints are damaged"):
        newest_whole(run)
    for path in checkpoints(run):
        path.unlink()
    with pytest.raises(UserError, match="no checkpoint was saved yet"):
        newest_whole(run)


def test_no_flipped_byte_passes_as_whole_and_changes_what_is_loaded(tmp_path: Path) -> None:
    """Every byte of a small checkpoint: found out, refused by the reader, or of no consequence. Nothing crashes."""
    path = tmp_path / "x.ckpt"
    saved = {"w": torch.arange(8.0), "step": 5}
    torch.save(saved, path)
    whole = path.read_bytes()
    assert is_whole(path)
    in_data = whole.index(saved["w"].numpy().tobytes())  # type: ignore[attr-defined]
    passed = 0
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 0x41
        path.write_bytes(data)
        if not is_whole(path):
            continue
        passed += 1
        assert not in_data <= place < in_data + 32
        try:
            loaded = torch.load(path, weights_only=True)
        except Exception:  # the reader refuses it aloud
            continue
        assert loaded["step"] == 5
        assert torch.equal(loaded["w"], saved["w"])
    assert passed < len(whole)


def test_the_newest_run_is_the_one_last_written_to(tmp_path: Path) -> None:
    for name, when in (("a/1", 3000), ("a/2", 1000), ("b/1", 2000)):
        run = tmp_path / name
        (run / "checkpoints").mkdir(parents=True)
        (run / "config.yaml").write_text("name: x\n")
        (run / ".hydra").mkdir()
        (run / ".hydra" / "config.yaml").write_text("name: x\n")
        os.utime(run / "checkpoints", (when, when))
    assert newest_run(tmp_path) == tmp_path / "a" / "1"
    assert newest_run(tmp_path / "b") == newest_run(tmp_path / "b" / "1") == tmp_path / "b" / "1"
    assert is_run(tmp_path / "a" / "2")
    assert not is_run(tmp_path / "a")


def test_where_there_is_no_run_the_error_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        newest_run(tmp_path / "nowhere")
    (tmp_path / "some").mkdir()
    with pytest.raises(UserError, match=f"no run below {tmp_path / 'some'}; train first"):
        newest_run(tmp_path / "some")
