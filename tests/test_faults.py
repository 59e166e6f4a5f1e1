"""Full disks, bad weights, bad bundles: an error on one line, and nothing lost."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from doors import run

from gan_kit.runs import checkpoints, is_whole

RING = ["+experiment=ring", "data.batch_size=64", "logger=none", "trainer=cpu"]


def test_a_full_disk_loses_no_earlier_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = run("train", *RING, "budget_samples=640", f"paths.output_dir={folder}", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    before = checkpoints(folder)
    size = before[0].stat().st_size
    full = run(
        "train", f"resume={folder}", "budget_samples=1280", cwd=tmp_path, limits={resource.RLIMIT_FSIZE: size // 2}
    )
    assert full.returncode == 2
    assert "Traceback" not in full.stderr
    assert "make room" in full.stderr
    assert checkpoints(folder) == before
    assert is_whole(before[0])
    assert not list(folder.rglob(".*.part"))
    again = run("train", f"resume={folder}", "budget_samples=1280", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(checkpoints(folder)) == 2


def test_losses_that_are_no_numbers_stop_the_run_and_are_not_saved(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = ["optimizer.g.lr=1.0e12", "optimizer.d.lr=1.0e12", "model.schedules=null", "log_every_steps=5"]
    done = run("train", *RING, *settings, "budget_samples=64_000", f"paths.output_dir={folder}", cwd=tmp_path)
    assert done.returncode == 2
    assert "lower lr" in done.stderr
    assert "Traceback" not in done.stderr
    assert not checkpoints(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KiB, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("filled", [392, 384, 360, 330, 200, 72, 48, 16])
def test_whatever_write_finds_the_disk_full(filled: int, small_disk: Path, tmp_path: Path) -> None:
    """From the configs to the last of a checkpoint; then room is made."""
    (small_disk / "other").write_bytes(bytes(filled * 1024))
    folder = small_disk / "run"
    settings = ["generator.width=64", "discriminator.width=64", "log_every_steps=1", "sample_every=128"]
    start = ["train", *RING, *settings, "budget_samples=320", f"paths.output_dir={folder}"]
    done = run(*start, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "make room" in done.stderr
    assert all(is_whole(path) for path in checkpoints(folder))
    assert not list(small_disk.rglob(".*part"))
