"""Processes that are neither rank 0's children by command line nor torchrun's: a notebook's, and submitit's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = """
from functools import partial
import torch
from lightning.pytorch import Trainer
import gan_kit.strategies
from gan_kit.adversarial import GAN, NonSaturating
from gan_kit.data import DigitsData
from gan_kit.data.transforms import Resize
from gan_kit.image import DCGANDiscriminator, R3GANGenerator

def trained(**where):
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=1e-3)
    G = R3GANGenerator(16, 1, z_dim=10, widths=[8, 8, 8], blocks=1, expansion=1, group_size=None)  # without batch norm
    D = DCGANDiscriminator(16, 1, width=4, norm="none")
    gan = GAN(G, D, NonSaturating(), adam, adam)
    trainer = Trainer(
        accelerator="cpu", max_steps=2, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, use_distributed_sampler=False, num_sanity_val_steps=0, **where,
    )
    trainer.fit(gan, datamodule=DigitsData(Resize(16), batch_size=16))
    return torch.cat([p.detach().flatten() for p in gan.discriminator.parameters()])

two = trained(devices=2, strategy="gan_ddp_notebook")
one = trained(devices=1)
print("apart", float((one - two).abs().max()))
"""


@pytest.mark.slow
def test_a_notebook_gets_its_weights_back(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", NOTEBOOK], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    (said,) = (line for line in ran.stdout.splitlines() if line.startswith("apart"))
    assert float(said.split()[1]) < 1e-5


@pytest.mark.slow
def test_a_sweep_by_submitit(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install hydra-submitit-launcher")
    given = ["+experiment=image/digits", "+debug=two_steps", "seed=0,1", "hydra/launcher=submitit_local"]
    ran = subprocess.run(
        [sys.executable, "-m", "gan_kit.train", "--multirun", *given],
        cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    runs = sorted((tmp_path / "runs" / "image" / "digits").iterdir())
    assert len(runs) == 2
    losses = [[json.loads(line)["loss_d"] for line in (r / "metrics.jsonl").open()] for r in runs]
    assert losses[0] != losses[1]  # their seeds
    assert len(list((tmp_path / "runs" / ".submitit").glob("*/*_result.pkl"))) == 2
