"""Spectra against torchaudio, scipy and closed forms; what goes there comes back."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import signal
from torch import Tensor

from gan_kit.audio.mel import mel_picture
from gan_kit.audio.spectral import (
    LogMel,
    Spectrogram,
    check_sound,
    frequency_to_phase,
    griffin_lim,
    istft,
    log_mel,
    mel_filterbank,
    mel_to_magnitude,
    phase_to_frequency,
    stft,
)
from gan_kit.data import FSDD, Drums, Tones
from gan_kit.types import AudioSpec, UserError

SMALL = AudioSpec(
    16_000, 8192, n_fft=256, hop_length=64, win_length=256, center=False, n_mels=40, eps=1e-3
)  # fmt: skip
SPECS = {
    "half overlap": AudioSpec(16_000, 16_384, 256, 128, 256, center=False),
    "small": SMALL,
    "centred": AudioSpec(16_000, 16_384),
    "short window": AudioSpec(16_000, 16_384, 2048, 256, 1200),
    "short window, not centred": AudioSpec(16_000, 16_384, 2048, 256, 1200, center=False),
    "odd hop": AudioSpec(16_000, 16_384, 512, 101, 400),
}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def snr(x: Tensor, y: Tensor) -> Tensor:
    """(B, ...) -> (B,) dB"""
    x, y = x.flatten(1).double(), y.flatten(1).double()
    return 10 * torch.log10(x.square().sum(1) / (x - y).square().sum(1))


def noise(*shape: int) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def sine(hz: float, spec: AudioSpec, samples: int | None = None) -> Tensor:
    t = torch.arange(samples or spec.clip_samples, dtype=torch.float64) / spec.sample_rate
    return torch.sin(2 * math.pi * hz * t).float()


# STFT


@each_spec
def test_a_wave_comes_back_from_its_stft(spec: AudioSpec) -> None:
    x = noise(2, 1, spec.clip_samples)
    spectrum = stft(x, spec)
    assert spectrum.shape == (2, 1, spec.bins, spec.frames())
    assert snr(x, istft(spectrum, spec, spec.clip_samples)).min() > 120


@pytest.mark.parametrize("samples", [513, 1000, 1023, 1024, 1025, 4097])
def test_a_centred_wave_of_any_length_comes_back(samples: int) -> None:
    spec = AudioSpec(16_000, samples)
    x = noise(1, 2, samples)
    assert stft(x, spec).shape[-1] == spec.frames(samples)
    assert snr(x, istft(stft(x, spec), spec, samples)).min() > 120


@pytest.mark.parametrize("spec", [SPECS["centred"], SPECS["short window"], SPECS["odd hop"]])
def test_stft_is_torchaudios_and_its_inverse_torchs(spec: AudioSpec, torchaudio: ModuleType) -> None:
    spectrogram = torchaudio.functional.spectrogram

    x = noise(2, 16_000)
    window = torch.hann_window(spec.win_length)
    theirs = spectrogram(x, 0, window, spec.n_fft, spec.hop_length, spec.win_length, power=None, normalized=False)
    ours = stft(x, spec)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    back = torch.istft(ours, spec.n_fft, spec.hop_length, spec.win_length, window, length=16_000)
    torch.testing.assert_close(istft(ours, spec, 16_000), back, rtol=0, atol=1e-5)


@pytest.mark.parametrize("spec", [SPECS["centred"], SPECS["half overlap"]], ids=["centred", "not centred"])
def test_stft_is_scipys(spec: AudioSpec) -> None:
    x = noise(spec.clip_samples).double()
    side = spec.n_fft // 2 if spec.center else (spec.n_fft - spec.hop_length) // 2
    _, _, theirs = signal.stft(
        np.pad(x.numpy(), side, mode="reflect"), window="hann", nperseg=spec.n_fft,
        noverlap=spec.n_fft - spec.hop_length, boundary=None, padded=False, scaling="spectrum",
    )  # fmt: skip
    theirs = torch.from_numpy(theirs * spec.win_length / 2)  # scipy divides by the window's sum
    torch.testing.assert_close(stft(x, spec), theirs, rtol=0, atol=1e-9)


def test_istft_of_any_spectrum_is_the_nearest_wave() -> None:
    # Griffin & Lim: what comes back and goes there again is a projection
    g = torch.Generator().manual_seed(0)
    spectrum = torch.randn(1, SMALL.bins, SMALL.frames(), generator=g, dtype=torch.complex128)
    once = istft(spectrum, SMALL)
    torch.testing.assert_close(istft(stft(once, SMALL), SMALL), once, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: stft(noise(1, 1, 512), SPECS["centred"]), r"512 samples is too short for audio\.n_fft=1024.*513"),
        (lambda: stft(noise(1, 1, 8190), SMALL), r"clip of 8190 samples is not whole hops.*clip_samples=8128"),
        (lambda: istft(torch.zeros(1, 128, 8, dtype=torch.complex64), SMALL), r"128 bins, but audio\.n_fft=256"),
        (lambda: istft(torch.zeros(1, 129, 8, dtype=torch.complex64), SMALL, 999), r"8 frames are not of 999"),
    ],
)
def test_what_makes_no_spectrum_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


# mel


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", ["slaney", "none"])
@pytest.mark.parametrize("fmin, fmax, n_fft, n_mels", [(0.0, None, 1024, 80), (80.0, 7600.0, 2048, 128)])
def test_mel_bands_are_torchaudios(
    scale: str, norm: str, fmin: float, fmax: float | None, n_fft: int, n_mels: int, torchaudio: ModuleType
) -> None:
    melscale_fbanks = torchaudio.functional.melscale_fbanks

    spec = AudioSpec(
        22_050, 8192, n_fft, fmin=fmin, fmax=fmax, n_mels=n_mels, mel_scale=scale, mel_norm=norm
    )  # fmt: skip
    theirs = melscale_fbanks(
        spec.bins, fmin, fmax or 11_025, n_mels, 22_050, "slaney" if norm == "slaney" else None, scale
    )
    torch.testing.assert_close(mel_filterbank(spec), theirs.T, rtol=0, atol=2e-5 if norm == "none" else 1e-6)


@pytest.mark.parametrize("power, log", [(1.0, "ln"), (2.0, "log10")])
def test_log_mel_is_torchaudios(power: float, log: str, torchaudio: ModuleType) -> None:
    MelSpectrogram = torchaudio.transforms.MelSpectrogram

    spec = AudioSpec(16_000, 16_384, power=power, log=log)
    theirs = MelSpectrogram(16_000, 1024, n_mels=80, hop_length=256, power=power, norm="slaney", mel_scale="slaney")
    x = noise(2, 1, 16_384)
    wanted = theirs(x).clamp_min(spec.eps)
    wanted = wanted.log() if log == "ln" else wanted.log10()
    torch.testing.assert_close(log_mel(x, spec), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("hz", [130.0, 440.0, 1000.0, 2500.0, 6000.0])
def test_a_pure_tone_peaks_in_its_band(scale: str, hz: float) -> None:
    spec = AudioSpec(16_000, 16_384, 2048, n_mels=64, win_length=2048, mel_scale=scale, mel_norm="none")
    loudest = int(log_mel(sine(hz, spec), spec)[:, 20].argmax())
    nearest = int(mel_filterbank(spec)[:, round(hz * 2048 / 16_000)].argmax())
    assert abs(loudest - nearest) <= 1


def test_a_band_between_two_bins_names_the_cure() -> None:
    with pytest.raises(UserError, match=r"of audio\.n_mels=128 bands are narrower than a bin \(62\.5 Hz\)"):
        mel_filterbank(dataclasses.replace(SMALL, n_mels=128))


def test_mel_in_mixed_precision_is_that_in_full() -> None:
    x = noise(1, 1, 8192)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = LogMel(SMALL)(x)
    assert torch.equal(mixed, log_mel(x, SMALL))
    half = LogMel(SMALL)(x.bfloat16())
    assert half.dtype == torch.float32


def test_a_magnitude_from_mel_bands_has_these_bands() -> None:
    for spec in (SMALL, dataclasses.replace(SMALL, power=2.0, log="log10")):
        x = torch.from_numpy(Tones(16_000, 8192, count=12).load("train").x)[:3].float() / 32768
        mel = log_mel(x, spec)
        magnitude = mel_to_magnitude(mel, spec)
        assert magnitude.min() >= 0
        bands = (mel_filterbank(spec) @ magnitude**spec.power).clamp_min(spec.eps)
        again = bands.log() if spec.log == "ln" else bands.log10()
        assert (again - mel).abs().mean() < 0.02


# phase


def test_frequency_and_phase_are_inverse() -> None:
    phase = (torch.rand(3, 5, 700, generator=torch.Generator().manual_seed(0)) * 2 - 1) * math.pi
    frequency = phase_to_frequency(phase)
    assert frequency.abs().max() <= 1
    turn = (frequency_to_phase(frequency) - phase) / (2 * math.pi)
    assert (turn - turn.round()).abs().max() < 1e-5


@pytest.mark.parametrize("hz", [437.5, 1000.0, 3210.0])
def test_a_pure_tone_has_its_own_frequency_in_every_frame(hz: float) -> None:
    turns = hz * SMALL.hop_length / SMALL.sample_rate  # a hop
    wanted = 2 * (turns - round(turns))
    k = round(hz * SMALL.n_fft / SMALL.sample_rate)
    steps = phase_to_frequency(stft(sine(hz, SMALL), SMALL).angle())[k, 4:-4]
    assert ((steps - wanted + 1) % 2 - 1).abs().max() < 1e-3


def test_griffin_lim_nears_the_magnitude_faster_with_momentum() -> None:
    x = torch.from_numpy(Tones(16_000, 8192, count=12).load("train").x)[:4, 0].float() / 32768
    magnitude = stft(x, SMALL).abs()

    def convergence(iterations: int, momentum: float) -> float:
        wave = griffin_lim(magnitude, SMALL, 8192, iterations, momentum)
        return float((stft(wave, SMALL).abs() - magnitude).norm() / magnitude.norm())

    plain, fast = convergence(32, 0.0), convergence(32, 0.99)
    assert fast < 0.7 * plain
    assert convergence(64, 0.99) < fast < convergence(4, 0.99)
    assert fast < 0.15


def test_griffin_lim_is_the_same_each_time_and_leaves_torchs_generator_alone() -> None:
    magnitude = stft(noise(3, 8192), SMALL).abs()
    before = torch.get_rng_state()
    wave = griffin_lim(magnitude, SMALL, iterations=8)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(griffin_lim(magnitude, SMALL, iterations=8), wave)
    torch.testing.assert_close(griffin_lim(magnitude[1:2], SMALL, iterations=8), wave[1:2], rtol=0, atol=1e-6)
    with pytest.raises(UserError, match="momentum=1"):
        griffin_lim(magnitude, SMALL, momentum=1)


# pictures


@pytest.mark.parametrize("drop", ["nyquist", "dc"])
@pytest.mark.parametrize("phase", ["frequency", "deviation"])
@pytest.mark.parametrize(
    "source", [Tones(16_000, 8192, count=12), Drums(16_000, 8192, count=16)], ids=["tones", "drums"]
)
def test_sounds_come_back_from_their_pictures(source: Tones | Drums, drop: str, phase: str) -> None:
    x = torch.from_numpy(source.load("train").x).float() / 32768
    pictures = Spectrogram(SMALL, phase, drop)
    picture = pictures(x)
    assert picture.shape[1:] == pictures.shape == (2, 128, 128)
    assert -1 <= picture.min() < picture.max() <= 1
    ratio = snr(x, pictures.inverse(picture))
    if isinstance(source, Tones):
        assert ratio.min() > 50
    elif drop == "nyquist":  # hats have a part in the bin left out
        assert ratio.min() > 17
        assert ratio.median() > 45


def test_spoken_digits_come_back_from_their_pictures() -> None:
    root = os.environ.get("GAN_KIT_DATA")
    if not root or not (Path(root) / "fsdd" / "recordings").is_dir():
        pytest.skip("the spoken digits are not in $GAN_KIT_DATA/fsdd")
    spec = dataclasses.replace(SMALL, sample_rate=8000)
    x = torch.from_numpy(FSDD(root).load("test").x[::10]).float() / 32768
    pictures = Spectrogram(spec)
    ratio = snr(x, pictures.inverse(pictures(x)))
    assert ratio.median() > 50
    assert ratio.min() > 30


def test_no_wave_leaves_the_range_of_pictures() -> None:
    t = torch.arange(8192)
    loud = torch.stack([torch.ones(8192), 1 - 2.0 * (t % 2), sine(4000, SMALL), noise(8192).sign()])
    picture = Spectrogram(SMALL)(loud[:, None])
    assert picture.abs().max() <= 1 + 1e-6
    assert picture[0, 0].max() > 0.99  # all that a wave of ones can be


def test_silence_is_the_lowest_value_and_has_no_phase() -> None:
    x = noise(1, 1, 8192)
    x[..., 2000:6000] *= 1e-8
    x[..., 6100:] = 0
    picture = Spectrogram(SMALL)(x)
    quiet = stft(x[:, 0], SMALL)[:, :-1].abs() < 0.9 * SMALL.eps
    assert quiet.float().mean() > 0.5
    assert picture[:, 0][quiet].max() < -1 + 2 * math.log(2) / math.log(128 / SMALL.eps)
    assert (picture[:, 1][quiet] == 0).all()
    assert (Spectrogram(SMALL)(torch.zeros(1, 1, 8192)) == torch.tensor([-1.0, 0])[:, None, None]).all()
    assert snr(x, Spectrogram(SMALL).inverse(picture)).min() > 15  # the phase is right where sound begins again


def test_deviations_are_from_the_middle_of_the_bin() -> None:
    pictures = Spectrogram(SMALL, phase="deviation")
    for k in (10, 37):
        middle, beside = (pictures(sine((k + off) * 62.5, SMALL)[None, None])[0, 1, k, 4:-4] for off in (0.0, 0.25))
        assert middle.abs().max() < 1e-3
        assert (beside - 0.25 * 2 * 64 / 256).abs().max() < 1e-3
    steps = pictures(noise(4, 1, 8192))[:, 1].abs().mean((0, 2))
    assert steps.max() < 1.5 * steps[4:].mean()  # noise is alike in all bins, and
    assert steps[4:].mean() < 0.4  # nearer to the middle than chance


# on a mel scale


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_bands_of_a_picture_are_even_in_mel_and_see_every_bin(scale: str) -> None:
    spec = dataclasses.replace(SMALL, mel_scale=scale)
    to_bands, to_bins, middles = mel_picture(spec, 128)
    hz = (middles * 62.5).tolist()
    assert hz[0] == 0
    assert hz[-1] == pytest.approx(8000)
    if scale == "htk":
        mel = torch.tensor([2595 * math.log10(1 + f / 700) for f in hz])
        torch.testing.assert_close(mel.diff(), torch.full((127,), float(mel[-1]) / 127), rtol=1e-3, atol=0)
    torch.testing.assert_close(to_bands.sum(1), torch.ones(128).double())
    assert (to_bands >= 0).all()
    assert (to_bands.sum(0) > 0).all()
    peaks = to_bands @ torch.arange(129).double()  # a straight line stays one where bands interpolate
    torch.testing.assert_close(peaks[1:40], middles[1:40])


def test_bands_no_further_apart_than_bins_come_back_exactly() -> None:
    to_bands, to_bins, middles = mel_picture(SMALL, 1024)
    assert middles.diff().max() < 1
    torch.testing.assert_close(to_bins @ to_bands, torch.eye(129).double())
    to_bands, to_bins, _ = mel_picture(SMALL, 128)
    torch.testing.assert_close((to_bins @ to_bands)[:10, :10], torch.eye(10).double(), atol=2e-3, rtol=0)
    assert torch.linalg.svdvals(to_bins)[0] < 10.001 / torch.linalg.svdvals(to_bands)[0]


def test_a_click_in_the_middle_of_a_frame_is_alike_in_all_bands() -> None:
    x = torch.zeros(1, 1, 8192)
    x[..., 64 * 50 + 32] = (
        1.0  # frame 50's middle: n_fft / 2 from its first sample, of which (n_fft - hop) / 2 are before
    )
    picture = Spectrogram(SMALL, scale="mel")(x)
    loudest = math.log1p(128 / SMALL.eps)
    assert (picture[0, 0, :, 50] - (2 * math.log1p(1 / SMALL.eps) / loudest - 1)).abs().max() < 1e-5


@pytest.mark.parametrize("hz", [220.0, 1234.5, 5000.0])
def test_the_frequency_of_a_tone_is_that_of_its_bands(hz: float) -> None:
    pictures = Spectrogram(SMALL, scale="mel")
    picture = pictures(0.5 * sine(hz, SMALL)[None, None])[0, :, :, 8:-8]
    heard = (mel_picture(SMALL, 128)[2] * 62.5 - hz).abs() < 125
    turns = 2 * hz * 64 / 16_000
    difference = picture[1, heard] - turns
    assert heard.sum() > 1
    assert (difference - 2 * (difference / 2).round()).abs().max() < 0.01
    at = picture[0].mean(-1).argmax()
    assert mel_picture(SMALL, 128)[2][at] * 62.5 == pytest.approx(hz, abs=80)


def test_deviations_of_bands_are_from_their_middles() -> None:
    pictures = Spectrogram(SMALL, phase="deviation", scale="mel")
    middles = mel_picture(SMALL, 128)[2] * 62.5
    for k in (30, 90):
        assert pictures(sine(float(middles[k]), SMALL)[None, None])[0, 1, k, 4:-4].abs().max() < 1e-3


@pytest.mark.parametrize("phase", ["frequency", "deviation"])
def test_more_bands_bring_more_back(phase: str) -> None:
    def medians(source: Drums | Tones) -> list[float]:
        x = torch.from_numpy(source.load("test").x).float() / 32768
        pictures = [Spectrogram(SMALL, phase, scale="mel", bands=bands) for bands in (64, 128, 256, 512)]
        assert pictures[1].shape == Spectrogram(SMALL, phase, scale="mel").shape == (2, 128, 128)
        return [float(snr(x, p.inverse(p(x))).median()) for p in pictures]

    tones, drums = medians(Tones(16_000, 8192, count=24)), medians(Drums(16_000, 8192, count=64))
    assert all(b > a + 2 for a, b in itertools.pairwise(tones[:3]))
    assert all(b > a + 4 for a, b in itertools.pairwise(drums))
    assert tones[1] > 55
    assert drums[1] > 28
    assert tones[3] > 70  # as the linear scale's
    assert drums[3] > 45


def test_silence_is_silent_on_the_mel_scale_too() -> None:
    pictures = Spectrogram(SMALL, scale="mel")
    picture = pictures(torch.zeros(1, 1, 8192))
    assert (picture == torch.tensor([-1.0, 0])[:, None, None]).all()
    assert (pictures.inverse(picture) == 0).all()


def test_bands_alone_come_back_by_griffin_lim() -> None:
    x = torch.from_numpy(Tones(16_000, 8192, count=12).load("train").x)[:2].float() / 32768
    pictures = Spectrogram(SMALL, phase="griffin_lim", scale="mel")
    picture = pictures(x)
    assert picture.shape[1:] == pictures.shape == (1, 128, 128)
    again = pictures(pictures.inverse(picture).clamp(-1, 1))
    assert (again - picture).abs().mean() < 0.1


def test_autocast_leaves_bands_alone() -> None:
    x = noise(2, 1, 8192)
    pictures = Spectrogram(SMALL, scale="mel")
    with torch.autocast("cpu", torch.bfloat16):
        picture = pictures(x)
    assert torch.equal(picture, pictures(x))


def test_magnitude_alone_comes_back_by_griffin_lim() -> None:
    x = torch.from_numpy(Tones(16_000, 8192, count=12).load("train").x)[:2].float() / 32768
    pictures = Spectrogram(SMALL, phase="griffin_lim")
    picture = pictures(x)
    assert picture.shape[1:] == pictures.shape == (1, 128, 128)
    assert torch.equal(picture, Spectrogram(SMALL)(x)[:, :1])
    again = pictures(pictures.inverse(picture).clamp(-1, 1))
    assert (again - picture).abs().mean() < 0.1


def test_a_batch_is_its_sounds_one_by_one() -> None:
    x = noise(3, 1, 8192)
    pictures = Spectrogram(SMALL)
    whole = pictures(x)
    single = torch.cat([pictures(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(whole[:, 0], single[:, 0], rtol=0, atol=1e-5)
    difference = whole[:, 1] - single[:, 1]
    assert (difference - 2 * (difference / 2).round()).abs().quantile(0.99) < 1e-3  # -1 and 1 are the same
    back = pictures.inverse(whole)
    torch.testing.assert_close(back, torch.cat([pictures.inverse(p[None]) for p in whole]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", ["linear", "mel"])
@pytest.mark.parametrize("silent", [False, True])
def test_gradients_flow_there_and_back(silent: bool, scale: str) -> None:
    x = (torch.zeros(1, 1, 8192) if silent else noise(1, 1, 8192)).requires_grad_()
    pictures = Spectrogram(SMALL, scale=scale)
    pictures(x).square().mean().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert silent or x.grad.abs().max() > 0
    picture = pictures(x).detach().requires_grad_()
    (pictures.inverse(picture) - noise(1, 1, 8192)).square().mean().backward()
    assert picture.grad is not None
    assert picture.grad.isfinite().all()
    assert silent or (picture.grad[:, 0] != 0).float().mean() > 0.9
    mel = LogMel(SMALL)
    y = noise(1, 1, 8192).requires_grad_()
    (grad,) = torch.autograd.grad(mel(y).mean(), y, create_graph=True)
    grad.square().sum().backward()  # a penalty's double backward
    assert y.grad is not None
    assert y.grad.isfinite().all()


def test_gradients_are_those_of_finite_differences() -> None:
    spec = AudioSpec(8000, 64, 16, 4, 16, center=False, n_mels=4, eps=1e-6)
    x = noise(1, 64).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: log_mel(v, spec), x)
    spectrum = stft(x, spec).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: istft(v, spec), spectrum)


@pytest.mark.parametrize(
    "x, message",
    [
        (noise(2, 2, 8192), r"2 channels, but 1 expected.*domain\.channels=1"),
        (noise(2, 8192), r"shape \(2, 8192\); give \(B, C, T\)"),
        (noise(1, 1, 4096), r"4096 samples, but audio\.clip_samples=8192"),
        (noise(1, 1, 8192) / 0, "NaN or infinite"),
    ],
    ids=["stereo", "no channels", "short", "nan"],
)
def test_sounds_that_are_none_are_refused(x: Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Spectrogram(SMALL)(x)


def test_a_wrong_rate_is_refused() -> None:
    x = noise(1, 1, 100)
    assert check_sound(x, SMALL, 16_000) is x
    with pytest.raises(UserError, match=r"at 44100 Hz, but audio\.sample_rate=16000; resample"):
        check_sound(x, SMALL, 44_100)


def test_unknown_settings_and_foreign_pictures_are_refused() -> None:
    with pytest.raises(UserError, match="no phase='if'; have frequency, deviation, griffin_lim"):
        Spectrogram(SMALL, phase="if")
    with pytest.raises(UserError, match="no drop='all'; have nyquist, dc"):
        Spectrogram(SMALL, drop="all")
    with pytest.raises(UserError, match="no scale='bark'; have linear, mel"):
        Spectrogram(SMALL, scale="bark")
    for settings in ({"bands": 64}, {"bands": 4, "scale": "mel"}, {"bands": 4096, "scale": "mel"}):
        with pytest.raises(UserError, match=r"bands=\d+ with .*set scale=mel and bands from 8 to 2048"):
            Spectrogram(SMALL, **settings)
    with pytest.raises(UserError, match=r"pictures of \(1, 128, 128\), but these sounds are \(2, 128, 128\)"):
        Spectrogram(SMALL).inverse(torch.zeros(1, 1, 128, 128))


# AudioSpec


@pytest.mark.parametrize(
    "change, message",
    [
        ({"n_fft": 255, "win_length": 200}, "must be even"),
        ({"win_length": 300}, r"at least win_length=300; set audio\.n_fft=300"),
        ({"hop_length": 129}, r"hop_length=129.*set audio\.hop_length=128"),
        ({"hop_length": 63}, "63 is odd"),
        ({"hop_length": 0}, "hop_length=0"),
        ({"sample_rate": 16_000.0}, "whole number"),
        ({"fmax": 9000.0}, "8000, half the sample rate"),
        ({"fmin": 9000.0}, "fmin=9000"),
        ({"log": "log2"}, r"no audio\.log=log2; have ln, log10"),
        ({"power": 3.0}, r"no audio\.power=3\.0; have 1, 2"),
        ({"eps": 0.0}, "eps=0"),
    ],
)
def test_a_spec_that_makes_no_spectrum_is_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SMALL, **change)


def test_specs_tell_what_they_differ_in() -> None:
    other = dataclasses.replace(SMALL, n_fft=512, log="log10", clip_samples=16_384)
    assert SMALL.differences(other) == [("n_fft", "256", "512"), ("log", "ln", "log10")]
    assert SMALL.differences(SMALL) == []
