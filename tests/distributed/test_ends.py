"""Ranks that die, hang or are told to stop: the job ends with a message, and what it saved goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from doors import Door, run
from ranks import ALONE, DDP, STEP, alive, close, same, start, state, train, wait

from gan_kit.data import BatchLoader
from gan_kit.runs import checkpoints, is_whole

ENDLESS = "budget_samples=10_000_000"
LENGTH = f"schedule_samples={80 * STEP}"
OFTEN = f"callbacks.checkpoints.every_samples={4 * STEP}"


def begun(folder: Path) -> bool:
    return (folder / "metrics.jsonl").exists() and len(checkpoints(folder)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_others_with_a_message(victim: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    doors = start(2, *DDP, ENDLESS, OFTEN, f"paths.output_dir={folder}", cwd=tmp_path)
    doors[0].until(lambda: begun(folder))
    doors[victim].send(signal.SIGKILL)
    died = time.monotonic()
    done = wait(doors, seconds=20)
    assert time.monotonic() - died < 15
    left = done[1 - victim]
    assert left.returncode == 2
    assert "a process is gone" in left.stderr
    assert "resume=" in left.stderr
    assert "Traceback" not in left.stderr
    assert is_whole(checkpoints(folder)[-1])


@pytest.mark.slow
def test_a_rank_that_hangs_is_waited_for_only_so_long(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    timeout = "trainer.strategy.timeout_minutes=0.05"
    doors = start(2, *DDP, ENDLESS, OFTEN, timeout, f"paths.output_dir={folder}", cwd=tmp_path)
    doors[0].until(lambda: begun(folder))
    doors[1].send(signal.SIGSTOP)
    try:
        done = doors[0].wait(20)
    finally:
        doors[1].send(signal.SIGKILL).wait()
    assert done.returncode == 2
    assert "does not answer" in done.stderr


@pytest.mark.slow
def test_a_rank_that_the_launcher_started_dies(tmp_path: Path) -> None:
    """The message says which and how; the other way round, rank 0 takes the rank that it started with it."""
    folders = [tmp_path / name for name in ("a", "b")]
    doors = [Door("train", *DDP, ENDLESS, OFTEN, f"paths.output_dir={f}", cwd=tmp_path) for f in folders]
    for door, folder in zip(doors, folders, strict=True):
        door.until(lambda folder=folder: begun(folder), seconds=90)
    pids = [int(child(door)) for door in doors]
    os.kill(pids[0], signal.SIGKILL)
    done = doors[0].wait(20)
    assert done.returncode == 2
    assert f"local rank 1 (process {pids[0]}) was killed by SIGKILL" in done.stderr
    doors[1].send(signal.SIGKILL).wait(20)
    deadline = time.monotonic() + 10
    while alive(pids[1]):
        assert time.monotonic() < deadline, "the other rank lives on"
        time.sleep(0.05)


def child(door: Door) -> str:
    return Path(f"/proc/{door.process.pid}/task/{door.process.pid}/children").read_text().split()[0]


@pytest.mark.slow
@pytest.mark.parametrize("signum, told", [(signal.SIGTERM, 0), (signal.SIGUSR1, 1)], ids=["SIGTERM", "SIGUSR1"])
def test_a_signal_to_one_rank_saves_on_all_and_the_run_goes_on_bitwise(
    signum: signal.Signals, told: int, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    doors = start(2, *DDP, ENDLESS, LENGTH, f"paths.output_dir={folder}", cwd=tmp_path)
    doors[0].until(lambda: (folder / "metrics.jsonl").exists())
    doors[told].send(signum)
    done = wait(doors)
    assert [d.returncode for d in done] == [128 + signum] * 2
    seen = state(folder)["gan"]["samples_seen"]
    end = seen + 10 * STEP
    train(2, f"resume={folder}", f"budget_samples={end}", cwd=tmp_path)
    whole = tmp_path / "whole"
    train(2, *DDP, f"budget_samples={end}", LENGTH, f"paths.output_dir={whole}", cwd=tmp_path)
    assert same(state(folder), state(whole))
    rows = [json.loads(line)["samples_seen"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows == sorted(set(rows))


@pytest.mark.slow
def test_a_run_goes_on_with_more_or_fewer_processes_in_the_same_order(tmp_path: Path) -> None:
    """1, then 2, then 4, then 1: the weights are those of one process all the way, but for rounding."""
    folder, whole = tmp_path / "run", tmp_path / "whole"
    to = [f"budget_samples={n * STEP}" for n in (10, 30, 50, 60)]
    assert run("train", *ALONE, to[0], LENGTH, f"paths.output_dir={folder}", cwd=tmp_path).returncode == 0
    train(2, f"resume={folder}", to[1], "trainer.strategy=gan_ddp", cwd=tmp_path)
    train(4, f"resume={folder}", to[2], cwd=tmp_path)
    done = run("train", f"resume={folder}", to[3], "trainer.devices=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert run("train", *ALONE, to[3], LENGTH, f"paths.output_dir={whole}", cwd=tmp_path).returncode == 0
    close(folder, whole, tolerance=2e-3)


@pytest.mark.slow
def test_all_ranks_save_when_rank_zeros_clock_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    soon = "callbacks.checkpoints.every_minutes=0.002"
    train(2, *DDP, f"budget_samples={150 * STEP}", soon, "callbacks.checkpoints.keep=99",
          f"paths.output_dir={folder}", cwd=tmp_path)  # fmt: skip
    assert len(checkpoints(folder)) > 2


def test_two_trainings_of_one_folder_are_kept_apart(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = Door("train", *ALONE, ENDLESS, OFTEN, f"paths.output_dir={folder}", cwd=tmp_path)
    first.until(lambda: begun(folder))
    second = run("train", f"resume={folder}", ENDLESS, cwd=tmp_path)
    fresh = run("train", *ALONE, "budget_samples=64", f"paths.output_dir={folder}", cwd=tmp_path)
    first.send(signal.SIGKILL).wait()
    assert second.returncode == 2
    assert f"is being trained by process {first.process.pid} on " in second.stderr
    assert fresh.returncode == 0
    assert (tmp_path / "run-2" / "bundle").is_dir()
    seen = state(folder)["gan"]["samples_seen"]
    again = run("train", f"resume={folder}", f"budget_samples={seen + STEP}", cwd=tmp_path)
    assert again.returncode == 0, again.stderr  # a killed process holds no lock


BAD_RING = '''
import numpy as np
from gan_kit.data import ArrayDataModule
from gan_kit.data.ring import Ring


class BadRing(Ring):
    """One point is not a number."""

    def load(self, split):
        arrays = super().load(split)
        arrays.x[BAD_ROW] = np.nan
        return arrays


class BadRingData(ArrayDataModule):
    def __init__(self, batch_size=64, labels=False, seed=0):
        super().__init__(BadRing(), batch_size, labels, seed=seed)
'''


@pytest.mark.parametrize("world", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_number_that_is_none_is_named_with_its_step_and_never_saved(
    world: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad_step, place = 42, 40  # in the 42nd batch; of two ranks it is the second's
    row = BatchLoader(np.zeros((10_000, 1)), batch_size=64, seed=0).order(0)[(bad_step - 1) * 64 + place]
    (tmp_path / "bad_ring_data.py").write_text(BAD_RING.replace("BAD_ROW", str(row)))
    monkeypatch.syspath_prepend(tmp_path)
    conf = tmp_path / "my_conf" / "data"
    conf.mkdir(parents=True)
    (conf / "bad.yaml").write_text("_target_: bad_ring_data.BadRingData\nbatch_size: 64\nlabels: false\nseed: 0\n")
    folder = tmp_path / "run"
    arguments = [
        "--config-dir", str(tmp_path / "my_conf"), *(ALONE if world == 1 else DDP), "data=bad", ENDLESS,
        f"callbacks.checkpoints.every_samples={10 * STEP}", "log_every_steps=25", f"paths.output_dir={folder}",
    ]  # fmt: skip
    done = wait(start(world, *arguments, cwd=tmp_path) if world > 1 else [Door("train", *arguments, cwd=tmp_path)])
    assert {d.returncode for d in done} == {2}
    assert f"step {bad_step}" in done[0].stderr, done[0].stderr
    assert "lower lr" in done[0].stderr
    assert state(folder)["gan"]["step"] == 40
