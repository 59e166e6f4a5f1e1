"""How near a restored sound is to the true one: distances of spectra, of pitch, and what listeners are said to hear.

x_hat and x are (N, 1, T) in [-1, 1], restored and true, of one length; every figure is one a sound, (N,), NaN where a
sound has none (silence, no voice), so that means can leave it out and say so.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gan_kit.audio.losses import STFTDistance
from gan_kit.audio.spectral import griffin_lim, istft, log_mel, mel_to_magnitude, stft
from gan_kit.evaluate.resample import resampled
from gan_kit.types import AudioSpec, UserError

__all__ = [
    "RESOLUTIONS",
    "Spectral",
    "copy_synthesis",
    "from_mel",
    "mel_distance",
    "pesq",
    "real_time_factor",
    "si_sdr",
    "spectral_distances",
    "stoi",
]

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))  # n_fft, hop, window: Parallel WaveGAN's


# distances


def mel_distance(x_hat: Tensor, x: Tensor, spec: AudioSpec) -> Tensor:
    """Mean absolute difference of the log-mel spectrograms, in the spec's logarithm (nats for "ln")."""
    check_pair(x_hat, x)
    return (log_mel(x_hat, spec) - log_mel(x, spec)).abs().flatten(1).mean(1)


class Spectral(NamedTuple):
    """convergence: |X - X̂| / |X| of the magnitudes, NaN for silence; log_magnitude: mean |ln X - ln X̂|"""

    convergence: Tensor
    log_magnitude: Tensor


def spectral_distances(x_hat: Tensor, x: Tensor, resolutions: Sequence[Sequence[int]] = RESOLUTIONS) -> Spectral:
    """Multi-resolution STFT distances (Yamamoto et al. 2020, equations 4 and 5), averaged over the resolutions."""
    check_pair(x_hat, x)
    distance = STFTDistance(resolutions).to(x.device)
    if x.shape[-1] <= (most := max(n_fft for n_fft, _, _ in distance.resolutions) // 2):
        raise UserError(f"{x.shape[-1]} samples are too short for these resolutions: {most + 1} at least")
    convergence, log_magnitude = [], []
    for i in range(len(distance.resolutions)):
        theirs, mine = distance.magnitude(x, i), distance.magnitude(x_hat, i)
        energy = theirs.flatten(1).norm(dim=1)
        silent = x.flatten(1).abs().amax(1) == 0
        convergence.append(torch.where(silent, torch.nan, (theirs - mine).flatten(1).norm(dim=1) / energy))
        log_magnitude.append((theirs.log() - mine.log()).abs().flatten(1).mean(1))
    return Spectral(torch.stack(convergence).mean(0), torch.stack(log_magnitude).mean(0))


def si_sdr(x_hat: Tensor, x: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB, at most 100 (Le Roux et al. 2019, equation 5).

    It hears phase: a vocoder that sounds right has a low one.
    """
    check_pair(x_hat, x)
    s, s_hat = (v.flatten(1).double() for v in (x, x_hat))
    target = (s_hat * s).sum(1, keepdim=True) / s.square().sum(1, keepdim=True) * s
    noise = (s_hat - target).square().sum(1)
    ratio = target.square().sum(1) / noise.clamp_min(1e-10 * target.square().sum(1))
    return 10 * ratio.log10()  # of silence 0 / 0, NaN


def pesq(x_hat: Tensor, x: Tensor, sample_rate: int) -> Tensor:
    """Perceptual evaluation of speech quality, 1 to 4.6: wide band at 16 kHz, to which other rates are resampled, but
    8 kHz, which has narrow band (ITU-T P.862, P.862.2). NaN where no speech is found, 1 for silence in
    the place of sound.

    Raises UserError without the package `pesq`.
    """
    check_pair(x_hat, x)
    package = _needs("pesq")
    rate, mode = (8000, "nb") if sample_rate == 8000 else (16_000, "wb")
    from torchmetrics.functional.audio import perceptual_evaluation_speech_quality

    def one(mine: Tensor, true: Tensor) -> Tensor:
        if not (mine.any() and true.any()):
            return torch.tensor(1.0 if true.any() else torch.nan)
        try:
            return perceptual_evaluation_speech_quality(mine, true, rate, mode)
        except package.PesqError:
            return torch.tensor(torch.nan)

    return _one_by_one(one, x_hat, x, sample_rate, rate)


def stoi(x_hat: Tensor, x: Tensor, sample_rate: int) -> Tensor:
    """Short-time objective intelligibility, to 1 (Taal et al. 2011). NaN where there is too little speech.

    Raises UserError without the package `pystoi`.
    """
    check_pair(x_hat, x)
    _needs("pystoi")
    import warnings

    from torchmetrics.functional.audio.stoi import short_time_objective_intelligibility

    def one(mine: Tensor, true: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # "not enough STFT frames", and then a number that is none
            try:
                return short_time_objective_intelligibility(mine, true, sample_rate)
            except RuntimeWarning:
                return torch.tensor(torch.nan)

    return _one_by_one(one, x_hat, x, sample_rate, sample_rate)


def _one_by_one(score: Callable[[Tensor, Tensor], Tensor], x_hat: Tensor, x: Tensor, rate: int, wanted: int) -> Tensor:
    mine, true = (resampled(v[:, 0].detach().cpu().float(), rate, wanted) for v in (x_hat, x))
    return torch.stack([score(a, b).float() for a, b in zip(mine, true, strict=True)])


def check_pair(x_hat: Tensor, x: Tensor) -> None:
    """Raises UserError for what are not two sets of mono sounds of one shape, all finite."""
    if x.dim() != 3 or x.shape[1] != 1 or x_hat.shape != x.shape or not x.shape[-1]:
        raise UserError(f"restored {tuple(x_hat.shape)} and true sounds {tuple(x.shape)} must both be (N, 1, T)")
    for name, v in (("restored", x_hat), ("true", x)):
        if bad := int((~v.isfinite()).flatten(1).any(1).sum()):
            raise UserError(f"{bad} of {len(v)} {name} sounds hold NaN or inf: there is nothing to score")


def _needs(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError(f"this score needs {package}: pip install 'gan-kit[speech]'") from None


# what a vocoder is measured by


def copy_synthesis(x: Tensor, spec: AudioSpec) -> Tensor:
    """x by way of its complex STFT: what framing alone costs. (N, 1, T) -> (N, 1, T), T whole hops where not centred"""
    return istft(stft(x, spec), spec, x.shape[-1])


def from_mel(mel: Tensor, spec: AudioSpec, samples: int, iterations: int = 32) -> Tensor:
    """A wave of a log-mel spectrogram without any learning: non-negative least squares and fast Griffin-Lim.

    mel: (N, 1, n_mels, L) -> (N, 1, samples)
    """
    return griffin_lim(mel_to_magnitude(mel, spec), spec, samples, iterations)


def real_time_factor(make: Callable[[], Any], seconds: float, repeats: int = 3) -> float:
    """Seconds of computing for a second of sound, the median of `repeats` after one that warms up; below 1 is faster
    than it plays. make: computes `seconds` of sound; count torch's threads (`torch.get_num_threads()`) with it."""
    if seconds <= 0 or repeats < 1:
        raise UserError(f"seconds={seconds:g}, repeats={repeats}: give a sound and at least one repeat")
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        make()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[repeats // 2] / seconds
