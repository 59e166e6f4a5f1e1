"""Sounds as files and as pictures: WAV, spectrograms, a page that plays them."""

from __future__ import annotations

import dataclasses
import html
import math
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_kit.audio.spectral import log_mel, stft
from gan_kit.files import write_whole, written_whole
from gan_kit.pictures import grid
from gan_kit.types import AudioSpec

__all__ = ["spectrogram_grid", "write_page", "write_wav"]

DECIBELS = 80  # from black to white
WIDEST = 256  # frames of a picture
STRIP = 24  # height of the wave below its spectrogram
# black, violet, red, orange, pale yellow: evenly lighter, for eyes and printers alike
COLOURS = ((0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))


def write_wav(x: Tensor, sample_rate: int, path: Path) -> None:
    """(C, T) in [-1, 1] -> a 16-bit WAV file, whole or not at all; what is louder is clipped."""
    samples = (x.detach().float().cpu() * 32768).round().clamp(-32768, 32767).to(torch.int16)
    with written_whole(path) as part, wave.open(str(part), "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.T.contiguous().numpy().astype("<i2").tobytes())


def spectrogram_grid(x: Tensor, spec: AudioSpec, columns: int) -> np.ndarray:
    """(N, C, T) -> one picture (H, W, 3) uint8: spectrograms of 80 dB below full scale, low notes at the bottom, and
    below each its wave. Linear in frequency where n_fft is at most 512, else 96 mel bands."""
    mono = x.detach().float().cpu().mean(1)
    pictures = [_coloured(_levels(part, spec)) for part in mono.split(64)]
    tiles = torch.cat(pictures)
    strips = _strips(mono, tiles.shape[-1])
    return grid(torch.cat([tiles, strips], -2), columns)


def _levels(mono: Tensor, spec: AudioSpec) -> Tensor:
    """(N, T) -> (N, H, W) in [0, 1], the highest frequency first"""
    spec = dataclasses.replace(
        spec, center=True, n_mels=96, fmin=0.0, fmax=None, mel_norm="none", power=1.0, log="log10", eps=1e-9
    )
    mono = F.pad(mono, (0, max(0, spec.n_fft - mono.shape[-1])))
    if spec.n_fft <= 512:
        level = stft(mono, spec).abs().clamp_min(spec.eps).log10()
    else:
        level = log_mel(mono, spec)
    loudest = math.log10(spec.win_length / 4)  # a sine of full scale
    level = (20 * (level - loudest) / DECIBELS + 1).clamp(0, 1)
    if level.shape[-1] > WIDEST:
        level = F.adaptive_max_pool2d(level, (level.shape[-2], WIDEST))
    return level.flip(-2)


def _coloured(level: Tensor) -> Tensor:
    """(N, H, W) in [0, 1] -> (N, 3, H, W) in [-1, 1]"""
    table = torch.tensor(COLOURS).float() / 127.5 - 1
    at = level * (len(COLOURS) - 1)
    low = at.long().clamp_max(len(COLOURS) - 2)
    share = (at - low)[..., None]
    return (table[low] * (1 - share) + table[low + 1] * share).permute(0, 3, 1, 2)


def _strips(mono: Tensor, width: int) -> Tensor:
    """(N, T) -> (N, 3, STRIP, width): the wave from its lowest to its highest, a column for each stretch of time"""
    top = F.adaptive_max_pool1d(mono[:, None], width)[:, 0, None]
    bottom = -F.adaptive_max_pool1d(-mono[:, None], width)[:, 0, None]
    y = torch.linspace(1, -1, STRIP)[None, :, None]
    half = 1 / (STRIP - 1)
    inside = (y <= top.clamp(-1, 1) + half) & (y >= bottom.clamp(-1, 1) - half)
    ink, paper = torch.tensor((31, 90, 160)) / 127.5 - 1, torch.ones(3)
    return torch.where(inside[:, None], ink[:, None, None], paper[:, None, None])


def write_page(path: Path, title: str, sections: Sequence[tuple[str, str | None, Sequence[tuple[str, str]]]]) -> None:
    """An HTML page that plays sounds: for each section a heading, a picture or None, and (caption, file) pairs.

    Files are named relative to the page; it needs nothing else, from no net.
    """
    parts = [
        '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{html.escape(title)}</title>",
        "<style>body{font:16px system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em}"
        "img{max-width:100%;image-rendering:pixelated}figure{display:inline-block;margin:.4em}"
        "audio{width:15em;display:block}figcaption{font-size:.85em}</style>",
        f"<h1>{html.escape(title)}</h1>",
    ]
    for heading, picture, sounds in sections:
        parts.append(f"<h2>{html.escape(heading)}</h2>")
        if picture:
            parts.append(f'<p><img src="{html.escape(picture)}" alt="spectrograms"></p>')
        parts += [
            f'<figure><audio controls preload="none" src="{html.escape(file)}"></audio>'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
            for caption, file in sounds
        ]
    write_whole(path, "\n".join(parts) + "\n")
