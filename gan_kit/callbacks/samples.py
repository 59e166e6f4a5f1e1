"""Samples of fixed latents, or what becomes of held-out clips, as training goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from gan_kit.bundle import label_rows, picture_of
from gan_kit.callbacks.clock import crossed, is_last_step
from gan_kit.noise import SampleNoise
from gan_kit.pictures import save_png
from gan_kit.sounds import write_page, write_wav
from gan_kit.types import UserError

__all__ = ["SampleGrid", "log_image", "log_sound"]

LOGGED_SOUNDS = 8
VECTORS = 64  # kept with a bundle


class SampleGrid(Callback):
    """Every `every_samples` samples, and at the end, a grid into the run's samples/ and to the loggers.

    Of a GAN one row per class, or held-out vector, of the same latents throughout, from the averaged generator; 2-D
    data get a scatter plot.
    Of what restores its input held-out samples, and below each what is made of it. Sounds are drawn as spectrograms;
    one of each class (of restored ones each) is a WAV file, too, and samples/index.html plays them all.
    """

    def __init__(self, every_samples: int = 50_000, columns: int = 10, seed: int = 0):
        if every_samples < 1 or columns < 1:
            raise UserError(f"every_samples={every_samples} and columns={columns} must be positive")
        self.every_samples, self.columns, self.seed = every_samples, columns, seed

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not trainer.is_global_zero:
            return
        if crossed(self.every_samples, pl_module, batch, trainer) or is_last_step(trainer):
            self.draw(trainer, pl_module)

    def draw(self, trainer: Trainer, model: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        how = "compared" if hasattr(model, "compared") else "restored" if hasattr(model, "reconstruct") else "drawn"
        x, captions = getattr(self, how)(model, data)
        picture = picture_of(x, data.spec, self.columns)
        folder = Path(trainer.default_root_dir) / "samples"
        save_png(picture, folder / f"{model.samples_seen:012d}.png")
        for logger in trainer.loggers:
            log_image(logger, "samples", picture, model.samples_seen)
        if data.spec.audio is not None:
            self.keep_sounds(trainer, x, captions, data.spec.audio.sample_rate, folder, model.samples_seen)

    def drawn(self, gan: Any, data: Any) -> tuple[Tensor, dict[int, str]]:
        """Samples, and names of those that are to be heard"""
        labels = label_rows(getattr(gan.generator, "num_classes", 0), self.columns)
        n = len(labels) if labels else 2000 if len(data.spec.shape) == 1 else 8 * self.columns
        y = torch.tensor(labels, device=gan.device) if labels else None
        if getattr(gan.generator, "vector_dim", 0):  # a row of samples for each of some held-out vectors
            vectors = data.vectors(max(1, n // self.columns))
            y = vectors.repeat_interleave(-(-n // len(vectors)), 0)[:n].to(gan.device)
        x = data.spec.decode(gan.sample(SampleNoise(self.seed, range(n), gan.device), y).float()).cpu()
        if not labels:
            return x, {i: f"sample {i}" for i in range(min(n, LOGGED_SOUNDS))}
        names = data.spec.class_names or [f"class {k}" for k in range(max(labels) + 1)]
        return x, {i: names[labels[i]] for i in range(0, n, self.columns)}

    def compared(self, model: Any, data: Any) -> tuple[Tensor, dict[int, str]]:
        """Rows that the model says, of held-out samples: what it is shown, what it makes, what that is to be"""
        x, _ = data.held_out(self.columns)
        x = x[torch.arange(self.columns) % len(x)]
        return torch.cat([row.float().cpu() for row in model.compared(x.to(model.device))]), {}

    def restored(self, model: Any, data: Any) -> tuple[Tensor, dict[int, str]]:
        x, y = data.held_out(self.columns)
        x = x.to(model.device)
        made = model.reconstruct(x, None if y is None else y.to(model.device)).float()
        length = min(x.shape[-1], made.shape[-1])
        both = torch.cat([x[..., :length], made[..., :length]]).cpu()
        n = len(x)
        return both, {i: f"{'restored' if i >= n else 'original'} {i % n}" for k in range(n) for i in (k, n + k)}

    def keep_sounds(
        self, trainer: Trainer, x: Tensor, captions: dict[int, str], sample_rate: int, folder: Path, seen: int
    ) -> None:
        place = folder / f"{seen:012d}"
        for i in captions:
            write_wav(x[i], sample_rate, place / f"{i:03d}.wav")
        for logger in trainer.loggers:
            some = list(captions)[:LOGGED_SOUNDS]
            log_sound(logger, "samples", x[some], [captions[i] for i in some], sample_rate, seen)
        sections = []
        for picture in sorted(folder.glob("*.png"), reverse=True):
            files = sorted((folder / picture.stem).glob("*.wav"))
            order = {i: k for k, i in enumerate(captions)}  # restored ones stand beside their originals
            files.sort(key=lambda f: order.get(int(f.stem), len(order)))
            sounds = [(captions.get(int(f.stem), f.stem), f"{picture.stem}/{f.name}") for f in files]
            sections.append((f"after {int(picture.stem):,} samples", picture.name, sounds))
        write_page(folder / "index.html", Path(trainer.default_root_dir).name, sections)


def vectors_of(data: Any) -> Tensor | None:
    """Some vectors of the data that a bundle draws by, where no other condition is given."""
    return data.vectors(VECTORS) if hasattr(data, "vectors") else None


def log_image(logger: Logger, name: str, picture: np.ndarray, step: int) -> None:
    """(H, W, 3) uint8 to a logger that shows pictures; the others have the PNG file."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, picture, step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [picture], step=step)


def log_sound(logger: Logger, name: str, x: Tensor, captions: Sequence[str], sample_rate: int, step: int) -> None:
    """(N, C, T) in [-1, 1] to a logger that plays sounds; the others have the WAV files."""
    mono = x.mean(1).clamp(-1, 1)
    if isinstance(logger, TensorBoardLogger):
        for wave, caption in zip(mono, captions, strict=True):
            logger.experiment.add_audio(f"{name}/{caption}", wave[None], step, sample_rate)
    elif isinstance(logger, WandbLogger):
        waves = [wave.numpy() for wave in mono]
        logger.log_audio(name, waves, step=step, sample_rate=[sample_rate] * len(waves), caption=list(captions))
