"""Full disks, bad weights, bad bundles: an error on one line, and nothing lost."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
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


@pytest.fixture
def shut(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """tmp_path/disk, which a call makes read-only, also for root, where this user may mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    yield lambda: subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    subprocess.run(["umount", disk], check=True)


def test_a_read_only_folder_is_told_at_the_start_and_loses_nothing(shut: Callable[[], None], tmp_path: Path) -> None:
    folder = tmp_path / "disk" / "run"
    first = run("train", *RING, "budget_samples=640", f"paths.output_dir={folder}", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    before = checkpoints(folder)
    shut()
    for arguments in ([f"resume={folder}", "budget_samples=1280"], [*RING, f"paths.output_dir={folder}-other"]):
        done = run("train", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "Read-only file system" in done.stderr
    assert checkpoints(folder) == before
    assert is_whole(before[-1])


JUMPY = """
import random, sys, time

real, chance, jump = time.time, random.Random(0), 0.0
def jumping():
    global jump
    if chance.random() < 0.05:
        jump = chance.uniform(-1e6, 1e6)  # twelve days this way or that
    return real() + jump
time.time = jumping

from gan_kit.train import main
main()
"""


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(tmp_path: Path) -> None:
    """The clock on the wall, at random, to and fro: of files, logs and whoever else asks for the time."""
    settings = [*RING, "budget_samples=6400", "callbacks.checkpoints.every_minutes=0.01", "logger=tensorboard"]
    ends, rows = [], []
    for name in ("steady", "jumpy"):
        folder = tmp_path / name
        program = ["-m", "gan_kit.train"] if name == "steady" else ["-c", JUMPY]
        root = str(Path(__file__).resolve().parents[1])
        done = subprocess.run(
            [sys.executable, *program, *settings, f"paths.output_dir={folder}"], cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        ends.append(torch.load(checkpoints(folder)[-1], weights_only=True)["state_dict"])
        rows.append([json.loads(line) for line in (folder / "metrics.jsonl").open()])
    assert all((ends[0][key] == ends[1][key]).all() for key in ends[0])
    assert [row.get("loss_d") for row in rows[0]] == [row.get("loss_d") for row in rows[1]]
    assert all(row["samples_per_second"] > 0 for row in rows[1] if "samples_per_second" in row)
