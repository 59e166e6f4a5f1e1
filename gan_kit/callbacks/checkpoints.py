"""Checkpoints that are written whole or not at all, and the bundle beside them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from safetensors import SafetensorError

from gan_kit import bundle
from gan_kit.callbacks.clock import crossed, is_last_step
from gan_kit.callbacks.guard import check_weights
from gan_kit.callbacks.samples import vectors_of
from gan_kit.runs import checkpoint_path, checkpoints
from gan_kit.types import DataSpec, UserError

__all__ = ["AtomicCheckpointIO", "Checkpoints"]

SHOWN = 8  # samples in the picture of a bundle that restores them


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the file, flushes to the disk, then renames: a reader sees the old state or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        part = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except (OSError, RuntimeError) as error:
            part.unlink(missing_ok=True)
            reason = _write_failure(error)
            if reason is None:
                raise
            raise UserError(
                f"could not write {path} ({reason}): make room (is the disk full?), then go on with "
                f"resume={path.parent.parent}; earlier checkpoints are whole"
            ) from error


def _write_failure(error: BaseException) -> str | None:
    """Why a file could not be written, or None where the error is another."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError):
            return link.strerror or str(link)
        link = link.__cause__ or link.__context__
    # torch's zip writer finds out after the fact that a write came up short
    return "the write came up short" if "inline_container" in str(error) else None


class Checkpoints(Checkpoint):
    """Saves checkpoints and the bundle into the run folder (the trainer's `default_root_dir`).

    every_samples, every_minutes: whichever comes first; always at the end, also of an interrupted training
    keep: how many of the newest stay (two, so that a damaged newest one has one before it)
    facts: plain values for the bundle's card
    """

    def __init__(
        self,
        every_samples: int | None = None,
        every_minutes: float | None = 5.0,
        keep: int = 2,
        facts: dict[str, Any] | None = None,
    ):
        if keep < 1:
            raise UserError(f"keep={keep} checkpoints: at least 1, better 2, so that a damaged one has one before it")
        self.every_samples, self.every_minutes, self.keep = every_samples, every_minutes, keep
        self.facts = facts or {}
        self._last, self._told = time.monotonic(), False

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._last, self._told = time.monotonic(), False
        if not trainer.is_global_zero:
            return
        for part in (Path(trainer.default_root_dir) / "checkpoints").glob(".*.part"):
            part.unlink(missing_ok=True)  # of a run that was killed while writing

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (
            is_last_step(trainer)
            or (self.every_samples and crossed(self.every_samples, pl_module, batch, trainer))
            or self._time_has_come(trainer)
        ):
            self.save(trainer, pl_module)
            self._last, self._told = time.monotonic(), False

    def _time_has_come(self, trainer: Trainer) -> bool:
        """By rank 0's clock: saving takes all ranks."""
        due = bool(self.every_minutes) and (time.monotonic() - self._last) / 60 >= (self.every_minutes or 0)
        if trainer.world_size == 1:
            return due
        strategy: Any = trainer.strategy
        if due and trainer.is_global_zero and not self._told:
            strategy.tell("save")
            self._told = True
        if "save" not in strategy.heard:
            return False
        strategy.heard.discard("save")
        return True

    def save(self, trainer: Trainer, pl_module: Any) -> None:
        check_weights(pl_module)
        run = Path(trainer.default_root_dir)
        if trainer.is_global_zero:
            # before the checkpoint: a run that is killed between the two, at its last step, can still be resumed
            self._save_bundle(trainer, pl_module, run / "bundle")
        trainer.save_checkpoint(checkpoint_path(run, pl_module.samples_seen))
        if trainer.is_global_zero:
            for old in checkpoints(run)[: -self.keep]:
                old.unlink()

    def _save_bundle(self, trainer: Trainer, pl_module: Any, folder: Path) -> None:
        facts = {**self.facts, "samples_seen": pl_module.samples_seen}
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        try:
            if hasattr(pl_module, "save_bundle"):  # a model that is no GAN
                pl_module.save_bundle(folder, data, facts)
                return
            net = pl_module.generator if pl_module.generator_ema is None else pl_module.generator_ema
            if hasattr(pl_module, "shipped"):  # of x = (a, b) nets that make one of the other: a bundle each
                for suffix, (net, shown) in pl_module.shipped(data.held_out(SHOWN).x.to(pl_module.device)).items():
                    spec, condition = DataSpec(tuple(shown.shape[1:])), getattr(pl_module, "condition", None)
                    place = folder.with_name(folder.name + suffix)
                    bundle.save_reconstruction(place, net, condition, spec, facts, shown.cpu())
            elif hasattr(pl_module, "reconstruct"):
                x, _ = data.held_out(SHOWN)
                bundle.save_reconstruction(folder, net, pl_module.condition, data.spec, facts, x)
            else:
                bundle.save(folder, net, pl_module.prior, data.spec, facts, vectors_of(data))
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"could not write {folder} ({_write_failure(error) or error}): make room (is the disk full?), then go "
                f"on with resume={folder.parent}; earlier checkpoints are whole"
            ) from error
