"""Vocos (Siuzdak 2024, "Vocos: Closing the gap between time-domain and Fourier-based neural vocoders").

A ConvNeXt that stays at the rate of the frames and answers with a spectrum, of which the inverse STFT makes the wave.

Two things are beyond the paper, for small nets and small budgets. `prior`: magnitudes start from what the mel bands say
of them, and the net learns the rest (as FreeV does with a pseudo-inverse: Lv et al. 2024). `refine`: a few steps of
Griffin-Lim behind the head, through which gradients pass (as in Masuyama et al. 2019, "Deep Griffin-Lim iteration"):
the net says where phases begin, consistency the rest; `polish`: more of them where nothing is trained, which take the
magnitudes from the wave, too, and only hold them to the mel bands (in the spirit of Masuyama et al. 2023, "bi-level
consistency").
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from gan_kit.audio.spectral import _at_least_single, mel_filterbank
from gan_kit.audio.vocoder import mono_mel
from gan_kit.nn import Recorded
from gan_kit.types import AudioSpec, UserError

__all__ = ["Vocos", "overlap_add"]

KERNEL = 7
FLOOR = 1e-9  # of magnitudes, or of their squares
MOMENTUM = 0.99  # of the steps of Griffin-Lim (Perraudin et al. 2013)


def overlap_add(frames: Tensor, hop_length: int) -> Tensor:
    """(B, L, n) -> (B, (L - 1) · hop_length + n): each frame added in `hop_length` after the one before.

    n is whole hops: then it takes n / hop_length additions of whole blocks.
    """
    b, l, n = frames.shape
    parts = n // hop_length
    blocks = frames.view(b, l, parts, hop_length)
    out = frames.new_zeros(b, l + parts - 1, hop_length)
    for i in range(parts):
        out[:, i : i + l] += blocks[:, :, i]
    return out.flatten(1)


class ConvNeXtBlock(nn.Module):
    """x + γ · W₂ GELU(W₁ norm(depthwise(x))) (Liu et al. 2022), (B, L, C) -> the same; γ starts at `scale`."""

    def __init__(self, width: int, hidden: int, scale: float):
        super().__init__()
        self.scale = scale
        self.depthwise = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.w1, self.w2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.gamma = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * self.w2(F.gelu(self.w1(self.norm(along_frames(self.depthwise, x)))))


def along_frames(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution over (B, L, C): as a picture one pixel high, its channels are last already."""
    picture = x.transpose(1, 2).unsqueeze(2)
    h = F.conv2d(picture, conv.weight.unsqueeze(2), conv.bias, padding=(0, KERNEL // 2), groups=conv.groups)
    return h.squeeze(2).transpose(1, 2)


class Bands(nn.Module):
    """What log-mel bands (B, L, M) tell of magnitudes (B, L, F). Bins that no band sees are left to the net."""

    def __init__(self, spec: AudioSpec):
        super().__init__()
        self.power, self.base = spec.power, 10.0 if spec.log == "log10" else math.e
        self.bands: Tensor
        self.register_buffer("bands", mel_filterbank(spec).float(), persistent=False)  # (M, F)
        self.seen: Tensor
        self.register_buffer("seen", self.bands.sum(0) > 0, persistent=False)  # (F,) whether a band sees the bin

    def energy(self, mel: Tensor) -> Tensor:
        return self.base ** _at_least_single(mel)

    def smooth(self, energy: Tensor, steps: int = 5) -> Tensor:
        """Each bin the mean magnitude of the bands that see it, a few steps nearer to having these bands; 1 where
        no band sees it."""
        cover = self.bands.sum(0)
        mean = (energy / self.bands.sum(1)) @ self.bands / cover.clamp_min(1e-12)
        start = torch.where(self.seen, mean.clamp_min(FLOOR) ** (1 / self.power), 1.0)
        return self.nearer(start, energy, steps)

    def nearer(self, magnitude: Tensor, energy: Tensor, steps: int = 1) -> Tensor:
        """Multiplicative steps towards magnitudes that have these bands (Lee & Seung 2001, equation 4)."""
        out, target = magnitude**self.power, energy @ self.bands
        for _ in range(steps):
            out = out.clamp_min(FLOOR) * target / (out @ self.bands.T @ self.bands).clamp_min(FLOOR)
        return torch.where(self.seen, out.clamp_min(FLOOR) ** (1 / self.power), magnitude)


class Vocos(Recorded, nn.Module):
    """mel: (B, n_mels, L) -> wave (B, 1, T).

    width, hidden, blocks: 512, 1536, 8 as published (13.5M parameters); 128, 288, 4 are the tiny one (.5M)
    n_fft, hop_length: of the inverse STFT, a Hann window of n_fft samples; hop_length is the mel's
    center: frames are centred, so that L of them are T = (L - 1) · hop_length samples; else T = L · hop_length
    prior: the head learns what the magnitudes differ by from those that the bands tell; spec says what bands they are
    refine: steps of fast Griffin-Lim on the head's spectrum
    polish: so many more, where the net isn't training; with `prior` these keep to the mel bands, not to the head's
        magnitudes: of a wave that makes them all, bands are what is known

    `context_frames`: how many frames before and after its own bear on a sample.
    Raises UserError where n_fft is not a multiple of the hop, of at least 2.
    """

    def __init__(
        self,
        n_mels: int = 100,
        width: int = 512,
        hidden: int = 1536,
        blocks: int = 8,
        n_fft: int = 1024,
        hop_length: int = 256,
        center: bool = True,
        prior: bool = False,
        refine: int = 0,
        polish: int = 0,
        spec: AudioSpec | None = None,
    ):
        super().__init__()
        if min(refine, polish) < 0:
            raise UserError(f"refine={refine}, polish={polish} steps of Griffin-Lim; give 0, as published, or a few")
        if prior and spec is None:
            raise UserError("prior=true needs spec, the AudioSpec of its mels")
        if prior and spec is not None and (spec.n_mels, spec.n_fft) != (n_mels, n_fft):
            raise UserError(
                f"spec has {spec.n_mels} mel bands of n_fft={spec.n_fft}, the net {n_mels} of n_fft={n_fft}; "
                f"give it the spec of its own mels"
            )
        if hop_length < 1 or n_fft % hop_length or n_fft < 2 * hop_length or n_fft % 2 or hop_length % 2:
            raise UserError(
                f"n_fft={n_fft} must be 2 or more whole hops of hop_length={hop_length} samples, both even; 4 hops, say"
            )
        self.n_mels, self.n_fft, self.hop_length, self.center = n_mels, n_fft, hop_length, center
        self.prior = Bands(spec) if prior and spec is not None else None
        self.refine, self.polish = refine, polish
        self.embed = nn.Conv1d(n_mels, width, KERNEL, padding=KERNEL // 2)
        self.first_norm = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.ModuleList(ConvNeXtBlock(width, hidden, 1 / blocks) for _ in range(blocks))
        self.last_norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, n_fft + 2)
        window = torch.hann_window(n_fft)
        self.window: Tensor
        self.register_buffer("window", window, persistent=False)
        self.context_frames = (
            KERNEL // 2 * (blocks + 1) + n_fft // hop_length + (n_fft // hop_length - 1) * (refine + polish)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal weights of standard deviation .02, biases 0, as published."""
        for m in self.modules():
            if isinstance(m, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(m.weight, std=0.02)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
            elif isinstance(m, nn.LayerNorm):
                m.reset_parameters()
            elif isinstance(m, ConvNeXtBlock):
                nn.init.constant_(m.gamma, m.scale)

    def forward(self, mel: Tensor, y: Tensor | None = None, whole: bool = False) -> Tensor:
        """whole: the last frame's samples too, as of `decode`"""
        wave = self.decode(mel)
        return wave if whole else wave[..., : self.samples(mel.shape[-1])]

    def samples(self, frames: int) -> int:
        """T of a whole sound of so many frames."""
        return (frames - self.center) * self.hop_length

    def decode(self, mel: Tensor) -> Tensor:
        """(B, n_mels, L) -> (B, 1, L · hop_length), whether frames are centred or not.

        With steps of Griffin-Lim, which make rounding a thousand times larger, it is computed in double precision where
        nothing is trained: else chunks would not be what the whole is.
        """
        if self.refine + self.polish and not self.training and mel.dtype != torch.float64 and mel.device.type != "mps":
            numbers = dict(self.named_parameters()) | dict(self.named_buffers())
            exact = {name: v.double() for name, v in numbers.items() if v.is_floating_point()}
            with torch.autocast(mel.device.type, enabled=False):
                return functional_call(self, exact, (mel.double(), None, True)).to(mel.dtype)
        mel = mono_mel(mel, self.n_mels).transpose(1, 2)
        x = self.first_norm(along_frames(self.embed, mel))
        for block in self.blocks:
            x = block(x)
        log_magnitude, phase = _at_least_single(self.head(self.last_norm(x))).chunk(2, dim=-1)
        magnitude, energy = log_magnitude.exp().clamp(max=100), None
        if self.prior is not None:
            energy = self.prior.energy(mel)
            magnitude = magnitude * self.prior.smooth(energy)
        return self.to_wave(self.consistent(magnitude, phase, energy)).unsqueeze(1)

    def consistent(self, magnitude: Tensor, phase: Tensor, energy: Tensor | None = None) -> Tensor:
        """The spectrum, its phases taken again and again from the wave that it makes, (B, L, n_fft / 2 + 1) all.

        energy: (B, L, n_mels) of the bands; then magnitudes follow the wave as well while they are polished
        """
        spectrum = torch.polar(magnitude, phase)
        before = torch.zeros_like(spectrum)
        for i in range(self.refine + (0 if self.training else self.polish)):
            wave, weight = self.joined(spectrum)
            frames = (wave / weight.clamp(min=1e-8)).unfold(1, self.n_fft, self.hop_length)
            now = torch.fft.rfft(frames * self.window)
            if i >= self.refine and energy is not None and self.prior is not None:
                magnitude = torch.where(self.prior.seen, self.prior.nearer(now.abs(), energy), magnitude)
            ahead = now + MOMENTUM * (now - before)
            spectrum = magnitude * ahead / (ahead.abs() + 1e-8)
            before = now
        return spectrum

    def joined(self, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        """All frames' samples added up, and what their windows add up to; both as long as all frames reach."""
        frames = torch.fft.irfft(spectrum, self.n_fft) * self.window
        windows = self.window.square().expand(1, spectrum.shape[1], self.n_fft)
        return overlap_add(frames, self.hop_length), overlap_add(windows, self.hop_length)

    def to_wave(self, spectrum: Tensor) -> Tensor:
        """The inverse STFT, (B, L, n_fft / 2 + 1) complex -> (B, L · hop_length)."""
        l, n = spectrum.shape[1], self.n_fft
        # what of the first frame lies before the sound: half of it where frames are centred
        before = n // 2 if self.center else (n - self.hop_length) // 2
        here = slice(before, before + l * self.hop_length)
        wave, weight = self.joined(spectrum)
        if self.center:  # the last block is the ends' of frames that never come; `forward` cuts it
            missing = max(0, before + l * self.hop_length - wave.shape[1])
            wave, weight = F.pad(wave, (0, missing)), F.pad(weight, (0, missing))
        return wave[:, here] / weight[:, here].clamp(min=1e-8)
