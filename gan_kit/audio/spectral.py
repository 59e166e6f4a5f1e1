"""Waves to spectra and back, all by one AudioSpec: STFT, mel bands, instantaneous frequency, Griffin-Lim, pictures.

Letters: B batch, C channels, T samples, F = n_fft / 2 + 1 bins from 0 Hz up, L frames, M mel bands. float16 and
bfloat16 come out as float32; float64 stays.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.audio.mel import mel_filterbank, mel_picture
from gan_kit.nn import Recorded
from gan_kit.types import AudioSpec, UserError

__all__ = [
    "LogMel",
    "Spectrogram",
    "check_sound",
    "frequency_to_phase",
    "griffin_lim",
    "istft",
    "log_mel",
    "mel_filterbank",
    "mel_to_magnitude",
    "phase_to_frequency",
    "stft",
]


# STFT


def stft(x: Tensor, spec: AudioSpec) -> Tensor:
    """(..., T) -> complex (..., F, L). Raises UserError for a sound too short, or not of whole hops (center=False)."""
    x = _at_least_single(x)
    side, samples = _padding(spec), x.shape[-1]
    if samples <= side:
        raise UserError(
            f"a sound of {samples} samples is too short for audio.n_fft={spec.n_fft}: {side} are mirrored at each end; "
            f"give {side + 1} samples or more, or set a smaller audio.n_fft"
        )
    if not spec.center and samples % spec.hop_length:
        raise UserError(
            f"clip of {samples} samples is not whole hops (audio.hop_length={spec.hop_length}, center=false); set "
            f"audio.clip_samples={samples - samples % spec.hop_length or spec.hop_length} or change audio.hop_length"
        )
    rows = F.pad(x.reshape(-1, 1, samples), (side, side), mode="reflect")[:, 0]
    window = _window(spec, x)
    with torch.autocast(x.device.type, enabled=False):
        spectrum = torch.stft(
            rows, spec.n_fft, spec.hop_length, spec.n_fft, window, center=False, normalized=False, return_complex=True
        )
    return spectrum.reshape(*x.shape[:-1], *spectrum.shape[-2:])


def istft(spectrum: Tensor, spec: AudioSpec, samples: int | None = None) -> Tensor:
    """complex (..., F, L) -> (..., T), the wave whose STFT is nearest (Griffin & Lim 1984, eq. 6).

    samples: T; by default as many as L frames are surely of, L hop_length, or (L - 1) hop_length with center=True
    """
    size, frames = spec.n_fft, spectrum.shape[-1]
    if spectrum.shape[-2] != spec.bins:
        raise UserError(f"a spectrum of {spectrum.shape[-2]} bins, but audio.n_fft={size} makes {spec.bins}")
    if samples is None:
        samples = (frames - spec.center) * spec.hop_length
    if spec.frames(samples) != frames or samples < 1:
        raise UserError(f"{frames} frames are not of {samples} samples: audio makes {spec.frames(samples)} of them")
    with torch.autocast(spectrum.device.type, enabled=False):
        pieces = torch.fft.irfft(spectrum, size, dim=-2)
        window = _window(spec, pieces)[:, None]
        rows = (pieces * window).reshape(-1, size, frames)
        energy = _overlap_add(window.square().expand(1, -1, frames), spec)
        here = slice(_padding(spec), _padding(spec) + samples)
        wave = _overlap_add(rows, spec)[:, here] / energy[:, here].clamp_min(1e-8)
    return wave.reshape(*spectrum.shape[:-2], samples)


def _overlap_add(pieces: Tensor, spec: AudioSpec) -> Tensor:
    """(N, n_fft, L) -> (N, n_fft + (L - 1) hop_length)"""
    length = spec.n_fft + (pieces.shape[-1] - 1) * spec.hop_length
    length += spec.hop_length  # the last hop of a sound whose length is not whole hops
    pieces = F.pad(pieces, (0, 1))
    return F.fold(pieces, (1, length), (1, spec.n_fft), stride=(1, spec.hop_length))[:, 0, 0]


def _padding(spec: AudioSpec) -> int:
    return spec.n_fft // 2 if spec.center else (spec.n_fft - spec.hop_length) // 2


def _window(spec: AudioSpec, like: Tensor) -> Tensor:
    window = torch.hann_window(spec.win_length, device=like.device, dtype=like.dtype)
    before = (spec.n_fft - spec.win_length) // 2
    return F.pad(window, (before, spec.n_fft - spec.win_length - before))


def _at_least_single(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


# mel


class LogMel(Recorded, nn.Module):
    """Wave to the logarithm of its mel bands, the input of vocoders: log max(eps, bands |STFT|^power).

    x: (..., T) -> (..., M, L)
    """

    bands: Tensor

    def __init__(self, spec: AudioSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("bands", mel_filterbank(spec), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        magnitude = stft(x, self.spec).abs()
        if self.spec.power == 2:
            magnitude = magnitude.square()
        with torch.autocast(x.device.type, enabled=False):
            mel = (self.bands.to(magnitude.dtype) @ magnitude).clamp_min(self.spec.eps)
            return mel.log() if self.spec.log == "ln" else mel.log10()


def log_mel(x: Tensor, spec: AudioSpec) -> Tensor:
    """`LogMel` where a module is not worth it. x: (..., T) -> (..., M, L)"""
    return LogMel(spec).to(x.device)(x)


def mel_to_magnitude(mel: Tensor, spec: AudioSpec, steps: int = 100) -> Tensor:
    """A magnitude that has these log-mel bands: non-negative least squares, multiplicative (Lee & Seung 2001, eq. 4).

    mel: (..., M, L) as `LogMel` makes it -> (..., F, L)
    """
    bands = mel_filterbank(spec).to(mel)
    power = mel.exp() if spec.log == "ln" else 10**mel
    gram, seen = bands.T @ bands, bands.T @ power
    out = (torch.linalg.pinv(bands) @ power).clamp_min(1e-3 * power.amax(-2, keepdim=True))
    for _ in range(steps):
        out = out * seen / (gram @ out).clamp_min(1e-12)
    return out.sqrt() if spec.power == 2 else out


# phase


def phase_to_frequency(phase: Tensor) -> Tensor:
    """Instantaneous frequency as GANSynth has it (Engel et al. 2019, section 2.1): the phase's steps / pi, in [-1, 1].

    phase: (..., L) in radians -> (..., L), the first is the phase itself
    """
    steps = torch.cat([phase[..., :1], phase.diff(dim=-1)], -1) / math.pi
    return steps - 2 * (steps / 2).round()


def frequency_to_phase(frequency: Tensor) -> Tensor:
    """(..., L) -> (..., L) radians: the inverse of `phase_to_frequency`, but for whole turns"""
    wide = frequency if frequency.device.type == "mps" else frequency.double()  # Apple's devices have no doubles
    turns = (wide / 2).cumsum(-1)
    return ((turns - turns.round()) * (2 * math.pi)).to(frequency.dtype)


@torch.no_grad()
def griffin_lim(
    magnitude: Tensor, spec: AudioSpec, samples: int | None = None, iterations: int = 32, momentum: float = 0.99
) -> Tensor:
    """A wave whose STFT has this magnitude, about: fast Griffin-Lim (Perraudin, Balazs, Sondergaard 2013, algorithm 2).

    magnitude: (..., F, L) of power 1 -> (..., T); momentum 0 is the plain algorithm. The first phase is drawn at a
    fixed seed, the same for every sound: what a sound becomes depends neither on its batch nor on torch's generator.
    No gradient passes.
    """
    if not 0 <= momentum < 1 or iterations < 1:
        raise UserError(
            f"Griffin-Lim with momentum={momentum}, iterations={iterations}; keep 0 <= momentum < 1 <= iterations"
        )
    magnitude = _at_least_single(magnitude)
    draws = torch.rand(magnitude.shape[-2:], generator=torch.Generator().manual_seed(0))
    angle = (2 * math.pi * draws).to(magnitude)
    spectrum = torch.polar(magnitude, angle.expand_as(magnitude))
    before = torch.zeros_like(spectrum)
    for _ in range(iterations):
        wave = istft(spectrum, spec, samples)
        consistent = stft(wave, spec)
        ahead = consistent + momentum * (consistent - before)
        spectrum = magnitude * ahead / ahead.abs().clamp_min(1e-12)
        before = consistent
    return istft(spectrum, spec, samples)


# pictures


class Spectrogram(Recorded, nn.Module):
    """Sound as pictures that image networks take, and back: the logarithm of the magnitude, in [-1, 1], and the phase.

    wave (B, 1, T) <-> (B, 2, n_fft / 2, L), or (B, 1, ...) without phase. The sides are powers of two when n_fft is and
    the clip makes so many frames: with center=False clip_samples / hop_length.

    On a mel scale (GANSynth's "IF-Mel") rows are bands of equal width in mel, as many as there were bins: low notes get
    room, high ones share it. A band is a sum of complex bins, their phases told from the middle of the frame, where
    those of one tone agree: its magnitude and its phase are those of one signal, and the way back is one matrix.
    (Of sums of powers, with their transpose as the way back, 23 to 29 dB came back, however many bands there were.)

    The logarithm is of 1 + magnitude / eps, from silence (-1) to the largest that a wave in [-1, 1] can have, a
    magnitude of win_length / 2 (1): the same numbers for all data. Where the magnitude is below eps the phase stands
    still: silence looks the same everywhere, where its noise would be a picture's larger part.

    phase: "frequency", instantaneous frequency (GANSynth, Engel et al. 2019); "deviation", the same less the middle of
        each bin, so that noise looks alike in all bins; "griffin_lim", none, guessed on the way back (SpecGAN, Donahue
        et al. 2019)
    drop: the bin left out, which comes back silent: "nyquist" (SpecGAN) or "dc" (GANSynth). Mel bands leave out none
    scale: "linear" or "mel", that of spec.mel_scale
    bands: how many rows on the mel scale; n_fft / 2 unless given

    Raises UserError for waves that aren't mono, of another length than whole clips, or not finite.
    """

    def __init__(
        self,
        spec: AudioSpec,
        phase: str = "frequency",
        drop: str = "nyquist",
        iterations: int = 32,
        momentum: float = 0.99,
        scale: str = "linear",
        bands: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, have in (
            ("phase", phase, ("frequency", "deviation", "griffin_lim")),
            ("drop", drop, ("nyquist", "dc")),
            ("scale", scale, ("linear", "mel")),
        ):
            if value not in have:
                raise UserError(f"no {name}={value!r}; have {', '.join(have)}")
        if spec.eps >= spec.win_length / 2:
            raise UserError(f"audio.eps={spec.eps} is no small magnitude; set audio.eps=1e-4, say")
        if bands is not None and (scale == "linear" or not 8 <= bands <= 8 * spec.n_fft):
            raise UserError(f"bands={bands} with scale={scale!r}; set scale=mel and bands from 8 to {8 * spec.n_fft}")
        self.spec, self.phase, self.drop, self.scale = spec, phase, drop, scale
        self.rows = bands or spec.n_fft // 2
        if scale == "mel":
            self.to_bands: Tensor
            self.to_bins: Tensor
            for name, matrix in zip(("to_bands", "to_bins"), mel_picture(spec, self.rows), strict=False):
                self.register_buffer(name, matrix.float(), persistent=False)
        self.iterations, self.momentum = iterations, momentum
        self.loudest = math.log1p(spec.win_length / 2 / spec.eps)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(2 or 1, rows, L) of one clip"""
        return (1 if self.phase == "griffin_lim" else 2, self.rows, self.spec.frames())

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, T) in [-1, 1] -> (B, 2, rows, L), T being clip_samples"""
        check_sound(x, self.spec)
        if x.shape[-1] != self.spec.clip_samples:
            raise UserError(
                f"sounds of {x.shape[-1]} samples, but audio.clip_samples={self.spec.clip_samples}; cut or pad them, "
                f"or set audio.clip_samples={x.shape[-1]}"
            )
        spectrum = self._rows(stft(x[:, 0], self.spec))
        magnitude = spectrum.abs()
        pictures = [(magnitude / self.spec.eps).log1p() * (2 / self.loudest) - 1]
        if self.phase != "griffin_lim":
            phase = spectrum.angle() - self._carrier(spectrum)
            pictures.append(phase_to_frequency(_held(phase, magnitude > self.spec.eps)))
        return torch.stack(pictures, 1)

    def inverse(self, picture: Tensor) -> Tensor:
        """(B, 2, rows, L) -> (B, 1, T)"""
        if picture.ndim != 4 or tuple(picture.shape[1:]) != self.shape:
            raise UserError(f"pictures of {tuple(picture.shape[1:])}, but these sounds are {self.shape}")
        picture = _at_least_single(picture)
        log = (picture[:, 0] + 1) * (self.loudest / 2)
        magnitude = self.spec.eps * log.clamp(0, self.loudest).expm1()
        samples = self.spec.clip_samples
        if self.phase == "griffin_lim":
            bins = self._bins(magnitude).clamp_min(0)
            wave = griffin_lim(bins, self.spec, samples, self.iterations, self.momentum)
        else:
            angle = frequency_to_phase(picture[:, 1]) + self._carrier(magnitude)
            wave = istft(self._bins(torch.polar(magnitude, angle)), self.spec, samples)
        return wave[:, None]

    def _rows(self, spectrum: Tensor) -> Tensor:
        """(B, F, L) complex -> (B, rows, L)"""
        if self.scale == "linear":
            return spectrum[:, 1:] if self.drop == "dc" else spectrum[:, :-1]
        return _times(self.to_bands, spectrum * _turned(spectrum))

    def _bins(self, rows: Tensor) -> Tensor:
        """(B, rows, L), complex or magnitudes -> (B, F, L)"""
        if self.scale == "linear":
            return F.pad(rows, (0, 0, 1, 0) if self.drop == "dc" else (0, 0, 0, 1))
        bins = _times(self.to_bins, rows)
        return bins * _turned(bins) if bins.is_complex() else bins

    def _carrier(self, like: Tensor) -> Tensor | float:
        """(rows, L) radians: the phase of a tone in the middle of each row, where phases are told against it"""
        if self.phase == "frequency":
            return 0.0
        frames = torch.arange(like.shape[-1], device=like.device)
        if self.scale == "mel":
            turns = (
                mel_picture(self.spec, self.rows)[2][:, None] * frames.cpu() * self.spec.hop_length / self.spec.n_fft
            )
            return ((turns - turns.round()) * (2 * math.pi)).to(like.device, like.abs().dtype)
        bins = torch.arange(self.rows, device=like.device)[:, None] + (self.drop == "dc")
        turned = bins * frames * self.spec.hop_length % self.spec.n_fft  # whole turns are left out while they are whole
        return turned * (2 * math.pi / self.spec.n_fft)


def _turned(spectrum: Tensor) -> Tensor:
    """(F, 1) of 1 and -1, which take phases to be told from the middle of a frame instead of its beginning"""
    return 1 - 2 * (torch.arange(spectrum.shape[-2], device=spectrum.device) % 2)[:, None]


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    """matrix @ x, of which x may be complex, in no less than single precision"""
    with torch.autocast(x.device.type, enabled=False):
        if not x.is_complex():
            return matrix.to(x) @ x
        return torch.complex(matrix.to(x.real) @ x.real, matrix.to(x.real) @ x.imag)


def _held(phase: Tensor, heard: Tensor) -> Tensor:
    """(..., L) with each phase that isn't heard replaced by the last that was; 0 before the first"""
    frames = torch.arange(phase.shape[-1], device=phase.device).expand_as(phase)
    last = torch.where(heard, frames, 0).cummax(-1).values
    return torch.where(heard, phase, 0).gather(-1, last)


def check_sound(x: Tensor, spec: AudioSpec, sample_rate: int | None = None, channels: int = 1) -> Tensor:
    """x if it is (B, C, T), finite, of C = channels and at spec's rate, where the rate is known; else UserError."""
    if x.ndim != 3:
        raise UserError(f"sounds of shape {tuple(x.shape)}; give (B, C, T), x[None, None] for a single mono wave")
    if x.shape[1] != channels:
        cure = (
            "take x.mean(1, keepdim=True), or prepare the data with domain.channels=1" if channels == 1 else "pick them"
        )
        raise UserError(f"sounds of {x.shape[1]} channels, but {channels} expected; {cure}")
    if sample_rate is not None and sample_rate != spec.sample_rate:
        raise UserError(
            f"a sound at {sample_rate} Hz, but audio.sample_rate={spec.sample_rate}; resample it "
            f"(torchaudio.functional.resample(x, {sample_rate}, {spec.sample_rate})), or prepare the data with "
            f"domain.sample_rate={spec.sample_rate}"
        )
    if not torch.isfinite(x).all():
        raise UserError("sounds hold NaN or infinite samples; python -m gan_kit.prepare finds such files")
    return x
