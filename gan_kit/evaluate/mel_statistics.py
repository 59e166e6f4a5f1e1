"""Sounds by the statistics of their mel bands: an extractor without weights, for sounds without labels."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from gan_kit.audio.spectral import LogMel
from gan_kit.evaluate.features import Extracted, Extractor, as_sounds
from gan_kit.types import AudioSpec, UserError

__all__ = ["MelStatistics", "mel_statistics_for"]


class MelStatistics(Extractor):
    """Of each log-mel band its mean, its deviation and its mean absolute step from frame to frame: timbre, dynamics and
    movement, in no order of time. A plain baseline, that needs no weights and knows no classes.

    x: (B, C, T) int16 -> (B, 3 n_mels); audio: the data's AudioSpec
    """

    name = "mel"

    def __init__(self, audio: AudioSpec):
        super().__init__()
        self.audio, self.dims = audio, 3 * audio.n_mels
        self.mel = LogMel(audio)

    def settings(self) -> dict[str, Any]:
        return {"audio": dataclasses.asdict(self.audio)}

    def extract(self, x: Tensor) -> Extracted:
        mel = self.mel(as_sounds(x.to(self.mel.bands.device)))
        found = [mel.mean(-1), mel.std(-1, correction=0), mel.diff(dim=-1).abs().mean(-1)]
        return Extracted(torch.cat(found, 1), None)


def mel_statistics_for(data: Any) -> MelStatistics:
    """Those of the data that a data module holds. Raises UserError where they are no sounds."""
    if data is None or data.spec.audio is None:
        raise UserError("extractor=mel judges the sounds of a run; these are none")
    return MelStatistics(data.spec.audio)
