"""What each callback does around a step, on a run in this process."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from gan_kit.adversarial import EMA, GAN, NonSaturating
from gan_kit.callbacks import AtomicCheckpointIO, Budget, Checkpoints, Guard, MetricsLog, Progress, SampleGrid
from gan_kit.callbacks.samples import log_image
from gan_kit.data import RingData
from gan_kit.runs import checkpoints
from gan_kit.types import UserError
from gan_kit.vector import MLPDiscriminator, MLPGenerator

BATCH = 8


def fit(folder: Path, *callbacks: Callback, steps: int = 4, **more: Any) -> GAN:
    torch.manual_seed(0)
    adam = torch.optim.Adam
    gan = GAN(MLPGenerator(2, width=8), MLPDiscriminator(2, width=8), NonSaturating(), adam, adam, ema=EMA())
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        default_root_dir=folder,
        callbacks=list(callbacks),
        plugins=AtomicCheckpointIO(),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        logger=more.pop("logger", False),
        enable_checkpointing=any(isinstance(c, Checkpoints) for c in callbacks),
    )
    trainer.fit(gan, datamodule=RingData(count=256, batch_size=BATCH, labels=False), **more)
    return gan


@pytest.mark.parametrize("budget, steps", [(1, 1), (BATCH, 1), (BATCH + 1, 2), (3 * BATCH, 3)])
def test_the_budget_ends_with_the_step_that_fills_it(budget: int, steps: int, tmp_path: Path) -> None:
    assert fit(tmp_path, Budget(budget), steps=99).step == steps


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_is_positive(budget: int) -> None:
    with pytest.raises(UserError, match=f"budget_samples={budget} must be positive"):
        Budget(budget)


def test_the_last_step_is_saved_drawn_and_logged(tmp_path: Path) -> None:
    never = 10**9
    fit(tmp_path, Budget(3 * BATCH), MetricsLog(never), SampleGrid(never), Checkpoints(None, None), steps=99)
    assert [p.stem for p in checkpoints(tmp_path)] == [f"samples={3 * BATCH:012d}"]
    assert [p.stem for p in (tmp_path / "samples").iterdir()] == [f"{3 * BATCH:012d}"]
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["step"] == 3


def test_checkpoints_by_the_clock_on_the_wall(tmp_path: Path) -> None:
    fit(tmp_path, Checkpoints(every_minutes=1e-9, keep=99), steps=3)
    assert len(checkpoints(tmp_path)) == 3


def test_leftovers_of_a_killed_write_go(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    part = tmp_path / "checkpoints" / ".samples=000000000008.ckpt.part"
    part.write_bytes(b"half")
    fit(tmp_path, Checkpoints())
    assert not part.exists()


def test_lines_of_steps_that_are_taken_again_go_and_half_a_line_too(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"samples_seen": 8, "step": 1}\n{"samples_seen": 16, "st')
    log = MetricsLog(1)
    fit(tmp_path, log, steps=3)
    # a fresh run has seen nothing: none of the old lines is of its past
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


class Spoil(Callback):
    """Makes a weight, or only the loss, not a number."""

    def __init__(self, what: str, at: int) -> None:
        self.what, self.at = what, at

    def on_train_batch_end(self, trainer: Trainer, gan: Any, *_: Any) -> None:
        if gan.step == self.at:
            if self.what == "weight":
                with torch.no_grad():
                    next(gan.discriminator.parameters()).fill_(math.nan)
            else:
                gan.scalars["loss_d"] = torch.tensor(math.inf)


@pytest.mark.parametrize("what", ["weight", "loss"])
def test_what_is_no_number_stops_the_run_before_it_is_saved(what: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lower lr"):
        fit(tmp_path, Spoil(what, 2), Guard(1), Checkpoints(every_samples=1, keep=9))
    assert [p.stem for p in checkpoints(tmp_path)] == [f"samples={BATCH:012d}"]


def test_a_failure_that_is_not_the_disks_is_not_called_one(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"(?i)pickle") as caught:
        AtomicCheckpointIO().save_checkpoint({"a": lambda: 0}, tmp_path / "a.ckpt")
    assert not isinstance(caught.value, UserError)
    assert not (tmp_path / "a.ckpt").exists()


def test_progress_prints_lines_where_there_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, Progress(total=4 * BATCH, log_seconds=0))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert all("samples/s" in line and "min left" in line and "loss_d" in line for line in lines)
    assert lines[-1].startswith(f"{4 * BATCH} samples")


def test_the_time_left_forgets_a_slow_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class SlowStart(Callback):
        def on_train_batch_end(self, trainer: Trainer, gan: Any, *_: Any) -> None:
            if gan.step == 1:
                time.sleep(1)

    began = time.monotonic()
    fit(tmp_path, SlowStart(), Progress(total=20 * BATCH, log_seconds=0), steps=20)
    over_all = 20 * BATCH / (time.monotonic() - began)
    rates = [
        float(line.split(" samples, ")[1].split(" samples/s")[0].replace(",", ""))
        for line in capsys.readouterr().err.splitlines()
    ]
    assert rates[0] <= BATCH
    assert rates[-1] > 2 * over_all


def test_pictures_go_to_loggers_that_show_them(tmp_path: Path) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    table = CSVLogger(tmp_path, name="", version="csv")
    log_image(table, "samples", picture, 1)
    assert not list(tmp_path.rglob("*.png"))
    board = TensorBoardLogger(tmp_path, name="", version="board")
    log_image(board, "samples", picture, 1)
    board.experiment.flush()
    assert list((tmp_path / "board").glob("events*"))


@pytest.mark.parametrize(
    "make", [lambda: Checkpoints(keep=0), lambda: SampleGrid(0), lambda: MetricsLog(0), lambda: Guard(0)]
)
def test_settings_that_make_no_sense(make: Any) -> None:
    with pytest.raises(UserError):
        make()
