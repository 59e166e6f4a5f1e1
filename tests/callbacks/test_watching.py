"""What one can watch of a run: logs, pictures, the bar, and how many checkpoints stay."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from doors import run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_kit.runs import checkpoints

DIGITS = ["+experiment=image/digits", "trainer=cpu", "log_every_steps=2", "sample_every=64", "budget_samples=320"]


@pytest.mark.parametrize("logger", ["tensorboard", "csv"])
def test_loggers_and_files_say_the_same(logger: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = run("train", *DIGITS, f"logger={logger}", f"paths.output_dir={folder}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["samples_seen"] for row in rows] == [64, 128, 192, 256, 320]
    assert {"loss_d", "loss_g", "logits_real", "logits_fake", "samples_per_second"} <= rows[0].keys()
    pictures = sorted(p.stem for p in (folder / "samples").glob("*.png"))
    assert pictures == [f"{n:012d}" for n in (64, 128, 192, 256, 320)]
    if logger == "csv":
        with (folder / "csv" / "metrics.csv").open() as file:
            logged = {int(r["step"]): float(r["loss_d"]) for r in csv.DictReader(file) if r["loss_d"]}
    else:
        events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
        events.Reload()
        logged = {e.step: e.value for e in events.Scalars("loss_d")}
        assert [e.step for e in events.Images("samples")] == [64, 128, 192, 256, 320]
    assert logged == pytest.approx({row["samples_seen"]: row["loss_d"] for row in rows}, rel=1e-5)


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = ["logger=none", "callbacks.checkpoints.every_samples=64", "callbacks.checkpoints.keep=3"]
    done = run("train", *DIGITS, *settings, f"paths.output_dir={folder}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [int(p.stem.split("=")[1]) for p in checkpoints(folder)] == [192, 256, 320]


def test_a_sweep_gives_each_job_a_folder(tmp_path: Path) -> None:
    done = run("train", "+experiment=ring", "debug=two_steps", "logger=none", "--multirun", "seed=0,1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    configs = sorted((tmp_path / "runs" / "ring").glob("*/config.yaml"))
    assert len(configs) == 2
    assert {re.search(r"^seed: (\d)", c.read_text(), re.M)[1] for c in configs} == {"0", "1"}  # type: ignore[index]


@pytest.mark.slow
def test_the_bar_on_a_terminal_shows_rate_and_losses(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    process = subprocess.Popen(
        [sys.executable, "-m", "gan_kit.train", "+experiment=ring", "logger=none", "budget_samples=200_000"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    assert process.wait() == 0, shown.decode()
    assert re.search(r"samples/s.*loss_d", shown.decode())
