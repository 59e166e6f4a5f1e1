"""What is known of vocoders' scores in closed form: perfection, tones, delays, gains; and the record of all."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from gan_kit.evaluate import vocoder as scores
from gan_kit.evaluate.pitch import pitch_scores, yin
from gan_kit.evaluate.resample import resampled
from gan_kit.evaluate.suite import Evaluation
from gan_kit.evaluate.vocoder_suite import METRICS, System, evaluate_vocoder, score_run, systems_of, table
from gan_kit.types import AudioSpec, UserError

SPEC = AudioSpec(16_000, 8192, n_fft=512, hop_length=128, win_length=512, center=False, n_mels=40)


def voice(hz: float, rate: int = 16_000, seconds: float = 1.0) -> torch.Tensor:
    """(1, 1, T): harmonics that fall off"""
    t = torch.arange(round(rate * seconds), dtype=torch.float64) / rate
    x = sum(torch.sin(2 * math.pi * k * hz * t + k) / k for k in range(1, 8))
    return (0.2 * x).float()[None, None]


def noise(n: int = 2, samples: int = 8192) -> torch.Tensor:
    return 0.1 * torch.randn(n, 1, samples, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def speech() -> torch.Tensor:
    """(1, 1, T) at 22,050 Hz; skips where there are none of LJSpeech's clips"""
    root = Path(os.environ.get("GAN_KIT_DATA", "nowhere"))
    for file in sorted(root.glob("*/wavs/LJ001-0001.wav")):
        with wave.open(str(file)) as f:
            x = np.frombuffer(f.readframes(3 * f.getframerate()), "<i2")
        return torch.from_numpy(x.astype(np.float32) / 32768)[None, None]
    pytest.skip("no LJSpeech clips below $GAN_KIT_DATA")


# ---- pitch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050])
@pytest.mark.parametrize("hz", [70.0, 110.0, 220.5, 333.0])
def test_yin_finds_a_tone_to_three_cents(rate: int, hz: float):
    found = yin(voice(hz, rate)[0, 0], rate)
    assert found.voiced.all()
    assert (1200 * (found.hz / hz).log2()).abs().max() < 3


def test_yin_of_noise_and_of_silence_is_unvoiced():
    assert yin(noise(1, 16_000)[0, 0], 16_000).voiced.float().mean() < 0.02
    silent = yin(torch.zeros(16_000), 16_000)
    assert not silent.voiced.any()
    assert silent.hz.isfinite().all()


def test_yin_does_not_take_the_octave_for_the_note_without_its_fundamental():
    t = torch.arange(16_000) / 16_000
    x = torch.stack([torch.sin(2 * math.pi * 150 * k * t) for k in (2, 3, 4)]).sum(0)  # a missing fundamental
    assert yin(x, 16_000).hz.median() == pytest.approx(150, rel=0.002)


def test_a_voice_a_semitone_off_is_a_hundred_cents_off():
    found = pitch_scores(voice(200 * 2 ** (1 / 12))[0], voice(200.0)[0], 16_000)
    assert float(found.cents) == pytest.approx(100, abs=1)
    assert float(found.voicing_f1) == 1


def test_voicing_counts_the_frames_that_one_side_lacks():
    x = voice(150.0)[0]
    half = x.clone()
    half[:, 8000:] = 0
    f1 = float(pitch_scores(half, x, 16_000).voicing_f1)
    assert f1 == pytest.approx(2 / 3, abs=0.05)  # precision 1, recall a half
    nothing = pitch_scores(torch.zeros_like(x), x, 16_000)
    assert float(nothing.voicing_f1) == 0
    assert nothing.cents.isnan().all()
    assert float(pitch_scores(torch.zeros_like(x), torch.zeros_like(x), 16_000).voicing_f1) == 1


def test_pitch_needs_a_frame_and_a_rate():
    with pytest.raises(UserError, match="too short for a pitch"):
        yin(torch.zeros(100), 16_000)
    with pytest.raises(UserError, match="keep below a quarter"):
        yin(torch.zeros(16_000), 1000)


# ---- distances ----------------------------------------------------------------------------------------------------


def test_of_itself_a_sound_has_the_best_of_each():
    x = noise()
    assert scores.mel_distance(x, x, SPEC).tolist() == [0, 0]
    found = scores.spectral_distances(x, x)
    assert found.convergence.tolist() == found.log_magnitude.tolist() == [0, 0]
    assert scores.si_sdr(x, x).tolist() == pytest.approx([100, 100])


def test_half_the_level_is_ln_2_of_log_magnitude_and_half_of_the_spectrum():
    x = noise()
    assert scores.mel_distance(x / 2, x, SPEC).tolist() == pytest.approx([math.log(2)] * 2, rel=1e-3)
    found = scores.spectral_distances(x / 2, x)
    assert found.convergence.tolist() == pytest.approx([0.5] * 2, rel=1e-3)
    assert found.log_magnitude.tolist() == pytest.approx([math.log(2)] * 2, rel=2e-2)
    assert scores.si_sdr(x / 2, x).tolist() == pytest.approx([100, 100])  # the scale does not count


def test_si_sdr_is_the_ratio_to_noise_that_is_orthogonal():
    x = voice(250.0)
    e = voice(250.0).roll(16, -1)  # a quarter period of 250 Hz at 16 kHz
    s, e = x.flatten().double(), e.flatten().double()
    e = e - (e @ s) / (s @ s) * s
    e = e / e.norm() * s.norm() / 10
    assert float(scores.si_sdr((s + e).view(1, 1, -1), x)) == pytest.approx(20, abs=1e-3)


def test_silence_has_no_convergence_and_breaks_nothing():
    found = scores.spectral_distances(noise(), torch.zeros(2, 1, 8192))
    assert found.convergence.isnan().all()
    assert found.log_magnitude.isfinite().all()
    assert scores.si_sdr(noise(), torch.zeros(2, 1, 8192)).isnan().all()


@pytest.mark.parametrize(
    "x_hat, x, words",
    [
        (torch.zeros(1, 1, 99), torch.zeros(1, 1, 100), "must both be"),
        (torch.zeros(1, 2, 99), torch.zeros(1, 2, 99), "must both be"),
        (torch.full((1, 1, 9999), torch.nan), torch.zeros(1, 1, 9999), "1 of 1 restored sounds"),
    ],
)
def test_what_is_no_pair(x_hat: torch.Tensor, x: torch.Tensor, words: str):
    for call in (
        lambda: scores.mel_distance(x_hat, x, SPEC),
        lambda: scores.spectral_distances(x_hat, x),
        lambda: scores.si_sdr(x_hat, x),
        lambda: scores.pesq(x_hat, x, 16_000),
        lambda: scores.stoi(x_hat, x, 16_000),
    ):
        with pytest.raises(UserError, match=words):
            call()


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    def gone(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(scores.importlib, "import_module", gone)
    for score in (scores.pesq, scores.stoi):
        with pytest.raises(UserError, match=r"gan-kit\[speech\]"):
            score(noise(), noise(), 16_000)


def test_resampling_keeps_a_tone():
    there = resampled(voice(300.0, 22_050)[0], 22_050, 16_000)
    assert there.shape == (1, 16_000)
    assert float((there - voice(300.0)[0])[:, 500:-500].abs().max()) < 2e-3
    x = noise()
    assert resampled(x, 8000, 8000) is x


def test_speed_is_seconds_for_a_second():
    import time

    factor = scores.real_time_factor(lambda: time.sleep(0.02), seconds=0.1)
    assert 0.2 <= factor < 0.6
    with pytest.raises(UserError, match="at least one repeat"):
        scores.real_time_factor(lambda: None, 1.0, 0)


# ---- all of them --------------------------------------------------------------------------------------------------


def sounds(n: int = 2) -> np.ndarray:
    """(n, 1, 9000) int16: voices with noise"""
    x = torch.cat([voice(120.0 + 40 * i)[..., :9000] for i in range(n)]) + 0.02 * noise(n, 9000)
    return (x * 32767).round().to(torch.int16).numpy()


OWN = ["mel", "stft", "f0", "si_sdr", "rtf"]


@pytest.fixture(scope="module")
def scored() -> Evaluation:
    softer = System(lambda x: x, lambda x, t: 0.5 * x)
    return evaluate_vocoder(systems_of(SPEC, softer), sounds(), SPEC, OWN, {"real": {"data": "abc"}})


def test_a_table_has_the_ceilings_beside_the_vocoder(scored: Evaluation):
    systems = scored["mel"].detail["systems"]
    assert list(systems) == ["vocoder", "real", "copy synthesis", "Griffin-Lim 32", "Griffin-Lim 60"]
    assert scored["mel"].value == pytest.approx(math.log(2), rel=0.02)
    assert scored["mel"].floor == systems["copy synthesis"]["value"] == 0
    assert 0 < systems["Griffin-Lim 60"]["value"] < systems["vocoder"]["value"]
    assert scored["f0_cents"].value < 1
    assert scored["voicing_f1"].value == 1
    assert scored["rtf"].detail["systems"].keys() == {"vocoder", "Griffin-Lim 32", "Griffin-Lim 60"}
    assert "thread" in scored["rtf"].note
    lines = table(scored).splitlines()
    assert len(lines) == 2 + 5
    assert "mel ↓" in lines[0]
    assert "si_sdr ↑" in lines[0]


def test_a_record_carries_its_protocol_and_comes_back(scored: Evaluation, tmp_path: Path):
    scored.save(tmp_path / "vocoder.json")
    assert "NaN" not in (tmp_path / "vocoder.json").read_text()
    back = Evaluation.load(tmp_path / "vocoder.json")
    assert back == scored
    record = json.loads((tmp_path / "vocoder.json").read_text())["protocol"]
    assert record["audio"]["hop_length"] == 128
    assert record["samples"] == 8960  # whole hops
    assert record["real"] == {"data": "abc"}
    assert record["n_fake"] == 2
    other = evaluate_vocoder(systems_of(SPEC), sounds(), SPEC, ["mel"], {"real": {"data": "abd"}})
    assert other.protocol_sha256 != scored.protocol_sha256


def test_what_no_sound_has_is_told_and_left_out():
    quiet = np.zeros((2, 1, 8192), np.int16)
    quiet[1] = sounds(1)[0, :, :8192]
    found = evaluate_vocoder(systems_of(SPEC), quiet, SPEC, ["stft"])
    assert "1 of 2 sounds have none" in found["stft_convergence"].note
    silent = evaluate_vocoder(systems_of(SPEC), quiet[:1], SPEC, ["f0", "rtf"])
    assert "f0_cents" in silent.skipped
    assert "rtf" in silent.skipped  # a true sound is made at no cost


def test_mistakes():
    for x, metrics, words in (
        (sounds(), ["mell"], "no metric 'mell' of vocoders"),
        (sounds().astype(np.float32), None, "int16"),
        (np.zeros((0, 1, 8192), np.int16), None, "can't be scored"),
        (np.zeros((1, 2, 8192), np.int16), None, "can't be scored"),
        (sounds()[..., :1024], ["stft"], "too short for these resolutions"),
    ):
        with pytest.raises(UserError, match=words):
            evaluate_vocoder(systems_of(SPEC), x, SPEC, metrics)
    found = evaluate_vocoder(systems_of(SPEC), sounds()[..., :1024], SPEC)  # not named: left out, and told
    assert "too short" in found.skipped["stft"]
    assert found["mel"].value == 0
    assert set(METRICS) >= set(OWN)


def test_a_trained_vocoder_leaves_its_record_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from gan_kit.audio import LogMel, Vocos
    from gan_kit.data import DrumsData
    from gan_kit.trained import TrainedReconstruction
    from gan_kit.types import DataSpec

    net = Vocos(n_mels=40, width=16, hidden=16, blocks=1, n_fft=512, hop_length=128, center=False)
    vocoder = TrainedReconstruction(net, LogMel(SPEC), DataSpec((1, 8192), audio=SPEC), {"samples_seen": 7})
    data = DrumsData(SPEC, count=64)
    out = score_run(vocoder, data, tmp_path, most=2, metrics=["mel", "rtf"])
    assert out == tmp_path / "evaluation" / "vocoder_test_n=2"
    record = json.loads((out / "vocoder.json").read_text())
    assert record["protocol"]["real"] == {"data": data.arrays("test").fingerprint(), "split": "test"}
    assert record["subject"]["samples_seen"] == 7
    assert (out / "examples.png").stat().st_size > 1000
    assert "Griffin-Lim 60" in capsys.readouterr().out
    with pytest.raises(UserError, match="there are scores of vocoders only"):
        score_run(TrainedReconstruction(net, None, DataSpec((1, 8, 8))), data, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("pesq", "pystoi")), reason="pip install 'gan-kit[speech]'"
)
def test_speech_of_itself_is_perfect_and_under_noise_worse(speech: torch.Tensor):
    x = speech[..., : 3 * 22_050]
    noisy = x + 0.05 * noise(1, x.shape[-1])
    assert float(scores.pesq(x, x, 22_050)) == pytest.approx(4.644, abs=1e-3)
    assert float(scores.pesq(noisy, x, 22_050)) < 4
    assert float(scores.stoi(x, x, 22_050)) == pytest.approx(1, abs=1e-4)
    assert 0.5 < float(scores.stoi(noisy, x, 22_050)) < 0.999
    silence = torch.zeros(1, 1, 16_000)
    assert scores.pesq(silence, silence, 16_000).isnan().all()
    assert scores.pesq(silence, voice(150.0), 16_000).tolist() == [1.0]
    assert scores.stoi(silence[..., :2000], silence[..., :2000], 16_000).isnan().all()


@pytest.mark.slow
def test_on_speech_more_griffin_lim_is_better(speech: torch.Tensor):
    spec = AudioSpec(22_050, 8192, center=False, fmax=8000.0)
    x = (speech * 32768).to(torch.int16).numpy()
    found = evaluate_vocoder(systems_of(spec), x, spec, ["mel", "f0"])
    systems = found["mel"].detail["systems"]
    assert systems["copy synthesis"]["value"] < 0.01 < systems["Griffin-Lim 60"]["value"]
    assert systems["Griffin-Lim 60"]["value"] < systems["Griffin-Lim 32"]["value"]
    assert found["voicing_f1"].detail["systems"]["Griffin-Lim 60"]["value"] > 0.9
