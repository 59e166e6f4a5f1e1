"""Training and its scores on two processes are those of one."""

from __future__ import annotations

import json
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
import torch.multiprocessing as mp

from gan_kit.adversarial import EMA, GAN, R1, Relativistic
from gan_kit.callbacks import Budget, Evaluation
from gan_kit.data import DigitsData, PadTo
from gan_kit.evaluate import RandomFeatures
from gan_kit.image import R3GANDiscriminator, R3GANGenerator
from gan_kit.strategies import DataParallel

STEPS = 4
NET: Any = {"size": 16, "channels": 1, "num_classes": 10, "width": 8, "blocks": 1, "expansion": 1, "group_size": None}


def fit(rank: int, world: int, port: int, folder: str, strategy: Any = DataParallel) -> None:
    if world > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), NODE_RANK="0", LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    adam = partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.99))
    gan = GAN(
        R3GANGenerator(**NET),
        R3GANDiscriminator(**NET),
        Relativistic(),
        adam,
        adam,
        penalties={"r1": R1(0.5)},
        ema=EMA(100),
        init_seed=rank if world > 1 else 0,  # rank 1's own weights must give way to rank 0's
    )
    trainer = L.Trainer(
        accelerator="cpu",
        devices=world,
        strategy=strategy() if world > 1 else "auto",
        max_epochs=-1,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[
            Evaluation(32, RandomFeatures(16, 1), num_samples=103, batch_size=20, metrics=("fd", "kid")),
            Budget(STEPS * 16),
        ],
    )
    trainer.fit(gan, datamodule=DigitsData(PadTo(16), batch_size=16, val_fraction=0.1))
    torch.save(gan.state_dict(), Path(folder) / f"{rank}.pt")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.slow
def test_two_processes_train_and_score_as_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    fit(0, 1, 0, str(one))
    mp.spawn(fit, (2, free_port(), str(two)), nprocs=2)
    weights = [torch.load(path) for path in (one / "0.pt", two / "0.pt", two / "1.pt")]
    for name, value in weights[0].items():
        assert torch.equal(weights[1][name], weights[2][name]), name
        torch.testing.assert_close(weights[1][name], value, rtol=2e-3, atol=2e-5, msg=name)
    rows = [[json.loads(line) for line in (f / "evaluation" / "history.jsonl").open()] for f in (one, two)]
    assert [row["samples_seen"] for row in rows[1]] == [32, 64]
    for a, b in zip(*rows, strict=True):
        assert b == pytest.approx(a, rel=1e-3)
    assert (two / "best" / "generator.safetensors").exists()


@pytest.mark.slow
def test_a_strategy_that_leaves_gradients_unaveraged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(mp.ProcessRaisedException, match="use strategy=gan_ddp"):
        mp.spawn(fit, (2, free_port(), str(tmp_path), L.strategies.DDPStrategy), nprocs=2)
