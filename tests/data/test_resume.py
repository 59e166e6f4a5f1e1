"""A run that is cut anywhere and resumed sees the very batches that the uncut run would have seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gan_kit.data import ArrayDataModule, Arrays
from gan_kit.types import Batch, UserError

TOTAL = 13  # batches of a run; an epoch has 5


class Numbered:
    """22 pictures; the one at i is all i."""

    def load(self, split: str) -> Arrays:
        return Arrays(np.broadcast_to(np.arange(22, dtype=np.uint8)[:, None, None, None], (22, 1, 2, 2)).copy())


class Recorder(LightningModule):
    """Trains two optimisers by hand, as the GAN does, and writes down what came."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[int]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        assert isinstance(batch, Batch)
        self.seen.append(((batch.x[:, 0, 0, 0] + 1) * 127.5).round().int().tolist())
        opt_d, opt_g = self.optimizers()
        self.manual_backward(self.weight.square())
        opt_d.step()
        self.trainer.strategy.optimizer_step(opt_g.optimizer, closure=lambda: None)

    def configure_optimizers(self):
        return [torch.optim.SGD([self.weight], lr=0.0) for _ in range(2)]


class SaveAt(Callback):
    def __init__(self, path: Path, batches: int, hook: str) -> None:
        self.path, self.batches, self.hook = path, batches, hook

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if self.hook == "batch" and len(module.seen) == self.batches:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer, module) -> None:
        if self.hook == "epoch" and len(module.seen) == self.batches:
            trainer.save_checkpoint(self.path)


def seen_in_a_run(
    tmp_path: Path,
    *,
    save: SaveAt | None = None,
    ckpt: Path | None = None,
    total: int = TOTAL,
    batch_size: int = 4,
    **settings,
) -> list[list[int]]:
    module = Recorder()
    trainer = Trainer(
        max_epochs=-1,
        max_steps=total,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
        callbacks=[save] if save else [],
        **settings,
    )
    trainer.fit(module, ArrayDataModule(Numbered(), batch_size=batch_size, seed=3), ckpt_path=ckpt)
    return module.seen


@pytest.mark.parametrize("limit", [1.0, 3])
@pytest.mark.parametrize("cut", range(1, TOTAL))
def test_a_resumed_run_sees_what_the_uncut_run_sees(tmp_path: Path, cut: int, limit: float | int) -> None:
    ckpt = tmp_path / "a.ckpt"
    whole = seen_in_a_run(tmp_path, save=SaveAt(ckpt, cut, "batch"), limit_train_batches=limit)
    assert len(whole) == TOTAL
    assert seen_in_a_run(tmp_path, ckpt=ckpt, limit_train_batches=limit) == whole[cut:]


@pytest.mark.parametrize("cut", [5, 10])
def test_a_checkpoint_from_the_end_of_an_epoch_resumes_too(tmp_path: Path, cut: int) -> None:
    ckpt = tmp_path / "a.ckpt"
    whole = seen_in_a_run(tmp_path, save=SaveAt(ckpt, cut, "epoch"))
    assert ckpt.exists()
    assert seen_in_a_run(tmp_path, ckpt=ckpt) == whole[cut:]


@pytest.mark.parametrize("limit", [1.0, 0.5])
def test_a_run_may_be_cut_again_and_again(tmp_path: Path, limit: float) -> None:
    whole = seen_in_a_run(tmp_path, limit_train_batches=limit)
    pieces: list[list[int]] = []
    ckpt = None
    while len(pieces) < TOTAL:
        step = min(3, TOTAL - len(pieces))
        save = SaveAt(tmp_path / f"{len(pieces)}.ckpt", step, "batch")
        total = len(pieces) + step
        pieces += seen_in_a_run(tmp_path, save=save, ckpt=ckpt, total=total, limit_train_batches=limit)
        ckpt = save.path
    assert pieces == whole


def test_resuming_on_other_data_is_refused_with_the_cure(tmp_path: Path) -> None:
    ckpt = tmp_path / "a.ckpt"
    seen_in_a_run(tmp_path, save=SaveAt(ckpt, 2, "batch"), total=3)
    with pytest.raises(UserError, match=r"set data\.batch_size=4"):
        seen_in_a_run(tmp_path, ckpt=ckpt, batch_size=2)
