"""Sounds as LightningDataModules: what `ArrayDataModule` does, an AudioSpec, and random changes on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_kit.data.arrays import Arrays, Source
from gan_kit.data.datamodule import ArrayDataModule
from gan_kit.data.drums import Drums
from gan_kit.data.fsdd import FSDD
from gan_kit.data.ljspeech import LJSpeech
from gan_kit.data.loader import BatchLoader
from gan_kit.data.sound_folder import SoundFolder, starts
from gan_kit.data.speech_commands import DIGITS, SpeechCommands
from gan_kit.data.tones import Tones
from gan_kit.types import AudioSpec, DataSpec, UserError

__all__ = [
    "DrumsData",
    "FSDDData",
    "LJSpeechData",
    "SoundDataModule",
    "SoundFolderData",
    "SpeechCommandsData",
    "TonesData",
]

GAIN, POLARITY, SHIFT, CROP = range(4)  # columns of the draws


class SoundDataModule(ArrayDataModule):
    """Batches (B, C, T) in [-1, 1) from a source of int16 sounds; T is audio.clip_samples.

    Of longer sounds training sees a part drawn anew each time, `arrays` the first one.

    gain_db: each sound is made quieter by up to so much, even in dB
    polarity: turn each upside down with probability 1/2
    shift_samples: move each by up to so many samples, earlier or later; zeros come in
    pictures: how networks see the sounds (`gan_kit.audio.Spectrogram` of the same AudioSpec), made on the device; None
        shows them the waves. Scores and files are of waves in any case

    What is drawn is a pure function of (seed, epoch, position), as the order is. batch_size, labels, seed and
    val_fraction: see `ArrayDataModule`.
    """

    def __init__(
        self,
        source: Source,
        audio: AudioSpec,
        batch_size: int = 64,
        labels: bool = True,
        gain_db: float = 0.0,
        polarity: bool = False,
        shift_samples: int = 0,
        seed: int = 0,
        val_fraction: float = 0.0,
        pictures: nn.Module | None = None,
    ) -> None:
        super().__init__(source, batch_size, labels, seed=seed, val_fraction=val_fraction)
        if pictures is not None:
            pictures.spec.require(audio, "data.pictures", "data.audio")  # type: ignore[union-attr,operator]
        self.pictures: Any = pictures
        if not 0 <= gain_db <= 60:
            raise UserError(f"gain_db={gain_db}; set data.gain_db from 0 to 60")
        if not 0 <= shift_samples < audio.clip_samples:
            raise UserError(f"shift_samples={shift_samples}; set data.shift_samples from 0 to below a clip")
        self.audio = audio
        self.gain_db, self.polarity, self.shift_samples = gain_db, polarity, shift_samples

    def arrays(self, split: str) -> Arrays:
        """All of one split, x (N, C, clip_samples) int16; see `ArrayDataModule.arrays`"""
        return starts(self.whole(split), self.audio.clip_samples)

    def whole(self, split: str) -> Arrays:
        """`arrays`, each sound as long as it was prepared: what vocoders are scored on"""
        return self._checked(super().arrays(split))

    def training_arrays(self) -> Arrays:
        return self.whole("train")

    def _checked(self, arrays: Arrays) -> Arrays:
        if arrays.x.ndim != 3 or arrays.x.dtype != "int16" or arrays.x.shape[-1] < self.audio.clip_samples:
            raise UserError(
                f"{arrays.x.dtype} samples of shape {tuple(arrays.x.shape[1:])} are no int16 sounds (C, T) with T from "
                f"audio.clip_samples={self.audio.clip_samples} on"
            )
        return arrays

    @property
    def spec(self) -> DataSpec:
        spec = dataclasses.replace(super().spec, audio=self.audio)
        if self.pictures is None:
            return spec
        return dataclasses.replace(spec, shape=self.pictures.shape, representation=self.pictures)

    def setup(self, stage: str) -> None:
        model: Any = self.trainer.lightning_module if self.trainer else None
        theirs = getattr(getattr(model, "condition", None), "spec", None)
        if theirs is not None:
            theirs.require(self.audio, "model.condition", "data.audio")
        side = getattr(getattr(model, "generator", None), "init_args", {}).get("size")
        if self.pictures is not None and side is not None and tuple(self.pictures.shape[1:]) != (side, side):
            _, bins, frames = self.pictures.shape
            raise UserError(
                f"sounds as pictures of {bins} x {frames}, but these networks make square ones; set "
                f"audio.clip_samples={bins * self.audio.hop_length} (audio.n_fft / 2 frames, with audio.center=false)"
            )

    def train_dataloader(self) -> BatchLoader:
        longer = self.training_arrays().x.shape[-1] > self.audio.clip_samples
        changes = longer or self.gain_db or self.polarity or self.shift_samples
        self.draws = 4 if changes else 0
        return super().train_dataloader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        out = super().on_after_batch_transfer(batch, dataloader_idx)
        return out if self.pictures is None else out._replace(x=self.pictures.to(out.x.device)(out.x))

    def augmented(self, x: Tensor, draws: Tensor) -> Tensor:
        """x: (B, C, T') int16; draws: (B, 4) -> (B, C, T), float32 in [-1, 1) where gain or polarity is on"""
        samples, length = self.audio.clip_samples, x.shape[-1]
        if self.shift_samples or length > samples:
            shift = (draws[:, SHIFT] * (2 * self.shift_samples + 1)).long() - self.shift_samples
            begin = (draws[:, CROP] * (length - samples + 1)).long() - shift
            at = begin[:, None] + torch.arange(samples, device=x.device)
            inside = (at >= 0) & (at < length)
            at = at.clamp(0, length - 1)[:, None].expand(-1, x.shape[1], -1)
            x = x.gather(-1, at) * inside[:, None]  # while it is int16: half the bytes to move
        if not (self.gain_db or self.polarity):
            return x
        gain = 10 ** (-self.gain_db * draws[:, GAIN] / 20)
        if self.polarity:
            gain = torch.where(draws[:, POLARITY] < 0.5, -gain, gain)
        return x.to(torch.float32) * (gain / 32768)[:, None, None]


class DrumsData(SoundDataModule):
    """`Drums` in batches; the sounds have their own fixed seed, and a val split: val_fraction changes nothing."""

    def __init__(
        self,
        audio: AudioSpec,
        count: int = 8192,
        batch_size: int = 64,
        labels: bool = True,
        gain_db: float = 0.0,
        polarity: bool = False,
        shift_samples: int = 0,
        seed: int = 0,
        val_fraction: float = 0.0,
        pictures: nn.Module | None = None,
    ) -> None:
        source = Drums(audio.sample_rate, audio.clip_samples, count)
        super().__init__(
            source, audio, batch_size, labels, gain_db, polarity, shift_samples, seed, val_fraction, pictures
        )


class TonesData(SoundDataModule):
    """`Tones` in batches; the notes have their own fixed seed, and a val split: val_fraction changes nothing."""

    def __init__(
        self,
        audio: AudioSpec,
        low: int = 60,
        high: int = 71,
        count: int = 4096,
        batch_size: int = 64,
        labels: bool = True,
        gain_db: float = 0.0,
        polarity: bool = False,
        shift_samples: int = 0,
        seed: int = 0,
        val_fraction: float = 0.0,
        pictures: nn.Module | None = None,
    ) -> None:
        source = Tones(audio.sample_rate, audio.clip_samples, low, high, count)
        super().__init__(
            source, audio, batch_size, labels, gain_db, polarity, shift_samples, seed, val_fraction, pictures
        )


class FSDDData(SoundDataModule):
    """`FSDD` in batches."""

    def __init__(
        self,
        audio: AudioSpec,
        root: str | Path | None = None,
        classes: str = "digit",
        batch_size: int = 64,
        labels: bool = True,
        gain_db: float = 0.0,
        polarity: bool = False,
        shift_samples: int = 0,
        seed: int = 0,
        val_fraction: float = 0.0,
        pictures: nn.Module | None = None,
    ) -> None:
        source = FSDD(root, audio.sample_rate, audio.clip_samples, classes)
        super().__init__(
            source, audio, batch_size, labels, gain_db, polarity, shift_samples, seed, val_fraction, pictures
        )


class LJSpeechData(SoundDataModule):
    """`LJSpeech` in batches; it has a val split: val_fraction changes nothing. labels: there are none to hide."""

    def __init__(
        self,
        audio: AudioSpec,
        root: str | Path | None = None,
        piece_samples: int = 32_768,
        batch_size: int = 16,
        labels: bool = True,
        gain_db: float = 0.0,
        polarity: bool = False,
        shift_samples: int = 0,
        seed: int = 0,
        val_fraction: float = 0.0,
        pictures: nn.Module | None = None,
    ) -> None:
        if piece_samples < audio.clip_samples:
            raise UserError(
                f"pieces of {piece_samples} samples are too short for audio.clip_samples={audio.clip_samples}; set "
                f"data.piece_samples={audio.clip_samples} or more"
            )
        source = LJSpeech(root, audio.sample_rate, piece_samples)
        super().__init__(
            source, audio, batch_size, labels, gain_db, polarity, shift_samples, seed, val_fraction, pictures
        )


class SpeechCommandsData(SoundDataModule):
    """`SpeechCommands` in batches; it has a val split as published: val_fraction changes nothing."""

    def __init__(
        self,
        audio: AudioSpec,
        root: str | Path | None = None,
        words: Sequence[str] = DIGITS,
        batch_size: int = 64,
        labels: bool = True,
        gain_db: float = 0.0,
        polarity: bool = False,
        shift_samples: int = 0,
        seed: int = 0,
        val_fraction: float = 0.0,
        pictures: nn.Module | None = None,
    ) -> None:
        source = SpeechCommands(root, audio.sample_rate, audio.clip_samples, words)
        super().__init__(
            source, audio, batch_size, labels, gain_db, polarity, shift_samples, seed, val_fraction, pictures
        )


class SoundFolderData(SoundDataModule):
    """`SoundFolder` in batches."""

    def __init__(
        self,
        audio: AudioSpec,
        root: str | Path | None = None,
        channels: int = 1,
        batch_size: int = 64,
        labels: bool = True,
        gain_db: float = 0.0,
        polarity: bool = False,
        shift_samples: int = 0,
        seed: int = 0,
        val_fraction: float = 0.0,
        pictures: nn.Module | None = None,
    ) -> None:
        source = SoundFolder(root, audio, channels)
        super().__init__(
            source, audio, batch_size, labels, gain_db, polarity, shift_samples, seed, val_fraction, pictures
        )
