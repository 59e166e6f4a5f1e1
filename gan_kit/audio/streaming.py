"""Vocoding a sound piece by piece: the same samples as in one go, with bounded memory or as frames come in."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from gan_kit.types import UserError

__all__ = ["Stream", "Vocoder", "vocode"]


class Vocoder(Protocol):
    """What HiFiGAN and Vocos have in common.

    decode: (B, n_mels, L) -> (B, 1, L · hop_length), of which sample t depends on frames no further than
        `context_frames` from frame t / hop_length
    samples: how many samples a whole sound of so many frames has
    """

    hop_length: int
    context_frames: int

    def decode(self, mel: Tensor) -> Tensor: ...
    def samples(self, frames: int) -> int: ...


class Stream:
    """Frames in, samples out as soon as no frame to come can change them: `delay_frames` frames later.

    stream = Stream(vocoder)
    wave = torch.cat([*(stream.push(mel) for mel in source), stream.finish()], dim=-1)

    That is the whole sound's wave, to rounding. Each call computes `2 · context_frames` frames besides its own: push
    some tens of frames at a time.
    """

    def __init__(self, vocoder: Vocoder):
        self.vocoder = vocoder
        self.delay_frames = vocoder.context_frames
        self.mel: Tensor | None = None  # frames that samples to come depend on
        self.first = 0  # the number of the first of them
        self.done = 0  # frames whose samples are out
        self.finished = False

    def push(self, mel: Tensor) -> Tensor:
        """(B, n_mels, L), L ≥ 0 -> (B, 1, T), of which T may be 0."""
        if self.finished:
            raise UserError("this stream is finished; make a new Stream for the next sound")
        self.mel = mel if self.mel is None else torch.cat([self.mel, mel], dim=-1)
        end = self.first + self.mel.shape[-1]
        wave = self._advance(end - self.delay_frames)
        drop = max(0, self.done - self.vocoder.context_frames - self.first)
        self.mel, self.first = self.mel[..., drop:].clone(), self.first + drop
        return wave

    def finish(self) -> Tensor:
        """The samples that are still missing: (B, 1, T)."""
        if self.mel is None:
            raise UserError("no frames were pushed; push (B, n_mels, L) first")
        self.finished = True
        end = self.first + self.mel.shape[-1]
        out = self.done * self.vocoder.hop_length
        return self._advance(end)[..., : max(0, self.vocoder.samples(end) - out)]

    @torch.no_grad()
    def _advance(self, until: int) -> Tensor:
        """The samples of frames from `done` to `until`."""
        assert self.mel is not None
        if until <= self.done:
            return self.mel.new_zeros(len(self.mel), 1, 0)
        hop = self.vocoder.hop_length
        wave = self.vocoder.decode(self.mel)
        piece = wave[..., (self.done - self.first) * hop : (until - self.first) * hop]
        self.done = until
        return piece


def vocode(vocoder: Vocoder, mel: Tensor, chunk_frames: int = 1000) -> Tensor:
    """mel: (B, n_mels, L) -> wave (B, 1, T) as `vocoder(mel)` makes it, to rounding, with the memory of one chunk."""
    if chunk_frames < 1:
        raise UserError(f"chunk_frames={chunk_frames} must be positive; 1000, say")
    stream = Stream(vocoder)
    pieces = [stream.push(piece) for piece in mel.split(chunk_frames, dim=-1)]
    return torch.cat([*pieces, stream.finish()], dim=-1)
