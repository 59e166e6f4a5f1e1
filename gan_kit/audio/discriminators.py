"""Critics of vocoders: by period and by scale (HiFi-GAN, Kong et al. 2020, section 2.3), by resolution (Vocos, Siuzdak
2024, section 3.3, after DAC, Kumar et al. 2023, section 3.4).

Each answers with a Critique: per sub-discriminator one tensor of logits (B, N), and the features that feature matching
compares, the logits last among them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.audio.layers import Conv1d, normed, reset_convolutions, rows
from gan_kit.nn import Conv2d, Recorded
from gan_kit.types import Critique, UserError

__all__ = ["PeriodDiscriminator", "ResolutionDiscriminator", "ScaleDiscriminator", "VocoderDiscriminator"]

LEAK = 0.1
BANDS = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))


def _through(layers: nn.ModuleList, post: nn.Module, h: Tensor) -> tuple[Tensor, list[Tensor]]:
    """-> logits (B, N), features"""
    features = []
    for layer in layers:
        h = F.leaky_relu_(layer(h), LEAK)
        features.append(h)
    features.append(post(h))
    return features[-1].flatten(1), features


class PeriodDiscriminator(nn.Module):
    """The sound as a picture whose columns are `period` samples apart: (B, 1, T) -> logits, features.

    width: channels of the first layer, 32 as published; then 4, 16, 32, 32 times that
    """

    def __init__(self, period: int, width: int = 32):
        super().__init__()
        self.period = period
        norm = normed("weight")
        channels = [1, width, 4 * width, 16 * width, 32 * width]
        self.layers = nn.ModuleList(
            norm(Conv2d(a, b, (5, 1), (3, 1), padding=(2, 0))) for a, b in itertools.pairwise(channels)
        )
        self.layers.append(norm(Conv2d(channels[-1], channels[-1], (5, 1), padding=(2, 0))))
        self.post = norm(Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = F.pad(x, (0, -x.shape[-1] % self.period), mode="reflect")
        return _through(self.layers, self.post, x.unflatten(-1, (-1, self.period)))


class ScaleDiscriminator(nn.Module):
    """Strided, grouped convolutions over the sound: (B, 1, T) -> logits, features.

    width: channels of the first layer, 128 as published; a multiple of 16
    """

    def __init__(self, width: int = 128, norm: str = "weight"):
        super().__init__()
        wrap, w = normed(norm), width
        table = [
            (1, w, 15, 1, 1),
            (w, w, 41, 2, 4),
            (w, 2 * w, 41, 2, 16),
            (2 * w, 4 * w, 41, 4, 16),
            (4 * w, 8 * w, 41, 4, 16),
            (8 * w, 8 * w, 41, 1, 16),
            (8 * w, 8 * w, 5, 1, 1),
        ]
        self.layers = nn.ModuleList(wrap(Conv1d(a, b, k, stride=s, groups=g)) for a, b, k, s, g in table)
        self.post = wrap(Conv1d(8 * w, 1, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return _through(self.layers, self.post, rows(x))


class ResolutionDiscriminator(nn.Module):
    """The complex spectrogram of one resolution, five bands with nets of their own: (B, 1, T) -> logits, features.

    Sounds are brought to zero mean and one loudness (a peak of .8) first. width: channels, 32 as published
    """

    def __init__(self, n_fft: int, width: int = 32):
        super().__init__()
        self.n_fft = n_fft
        norm, bins = normed("weight"), n_fft // 2 + 1
        self.bands = [(int(low * bins), int(high * bins)) for low, high in BANDS]
        kernels = [((3, 9), (1, 1)), ((3, 9), (1, 2)), ((3, 9), (1, 2)), ((3, 9), (1, 2)), ((3, 3), (1, 1))]
        self.stacks = nn.ModuleList(
            nn.ModuleList(
                norm(Conv2d(width if i else 2, width, kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2)))
                for i, (kernel, stride) in enumerate(kernels)
            )
            for _ in self.bands
        )
        self.post = norm(Conv2d(width, 1, (3, 3), padding=(1, 1)))
        self.window: Tensor
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def spectrum(self, x: Tensor) -> Tensor:
        """(B, 1, T) -> (B, 2, L, F): real and imaginary part"""
        x = x.squeeze(1).float()
        x = x - x.mean(dim=-1, keepdim=True)
        x = 0.8 * x / (x.abs().amax(dim=-1, keepdim=True) + 1e-9)
        s = torch.stft(x, self.n_fft, self.n_fft // 4, window=self.window, return_complex=True)
        return torch.view_as_real(s).permute(0, 3, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        s = self.spectrum(x)
        features, tops = [], []
        for (low, high), stack in zip(self.bands, cast("Iterable[nn.ModuleList]", self.stacks), strict=True):
            h = s[..., low:high]
            for layer in stack:
                h = F.leaky_relu_(layer(h), LEAK)
                features.append(h)
            tops.append(h)
        logits = self.post(torch.cat(tops, dim=-1))
        return logits.flatten(1), [*features, logits]


class VocoderDiscriminator(Recorded, nn.Module):
    """x: (B, 1, T) -> Critique with one entry a period, a scale and a resolution, in this order.

    periods: of MPD; scales: how many of MSD, each at half the rate of the last; resolutions: n_fft of each of MRD.
        HiFi-GAN has periods and 3 scales, Vocos periods and resolutions (2048, 1024, 512)
    period_width, scale_width, resolution_width: channels; smaller ones for small machines

    Raises UserError where nothing is left, or a sound is too short.
    """

    def __init__(
        self,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        scales: int = 3,
        resolutions: Sequence[int] = (),
        period_width: int = 32,
        scale_width: int = 128,
        resolution_width: int = 32,
    ):
        super().__init__()
        if not periods and not scales and not resolutions:
            raise UserError("a discriminator needs periods, scales or resolutions; periods=[2,3,5,7,11], say")
        if bad := [p for p in periods if p < 1]:
            raise UserError(f"period {bad[0]} must be a positive number of samples")
        if bad := [n for n in resolutions if n < 64 or n % 4]:
            raise UserError(f"resolution {bad[0]} must be a multiple of 4 samples and at least 64; 512, say")
        if scales and scale_width % 16:
            raise UserError(f"scale_width={scale_width} must be a multiple of 16, the number of groups")
        self.periods = nn.ModuleList(PeriodDiscriminator(p, period_width) for p in periods)
        self.scales = nn.ModuleList(
            ScaleDiscriminator(scale_width, "weight" if i else "spectral") for i in range(scales)
        )
        self.resolutions = nn.ModuleList(ResolutionDiscriminator(n, resolution_width) for n in resolutions)
        self.least_samples = max([2 * max([1, *periods]), *[n // 2 + 1 for n in resolutions], 4 * 2**scales])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        reset_convolutions(self)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        if x.dim() != 3 or x.shape[1] != 1:
            raise UserError(f"this discriminator hears mono sounds (B, 1, T), not {tuple(x.shape)}")
        if x.shape[-1] < self.least_samples:
            raise UserError(f"{x.shape[-1]} samples are too short; clips of at least {self.least_samples}")
        heard = [part(x) for part in self.periods]
        at_scale = x
        for i, part in enumerate(self.scales):
            at_scale = F.avg_pool1d(at_scale, 4, 2, padding=2) if i else x
            heard.append(part(at_scale))
        heard += [part(x) for part in self.resolutions]
        return Critique([logits for logits, _ in heard], [features for _, features in heard])
