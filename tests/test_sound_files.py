"""Sounds as files and pictures, and through a bundle: what was written comes back."""

from __future__ import annotations

import dataclasses
import io
import re
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from doors import run
from lightning.pytorch.loggers import TensorBoardLogger

import gan_kit
from gan_kit.adversarial.players import describe, differing
from gan_kit.audio import LogMel, Spectrogram, Vocos, WaveGANGenerator
from gan_kit.bundle import save, save_reconstruction
from gan_kit.callbacks.samples import log_sound
from gan_kit.data import DrumsData
from gan_kit.image import R3GANGenerator
from gan_kit.latent import Normal
from gan_kit.sounds import spectrogram_grid, write_page, write_wav
from gan_kit.types import AudioSpec, DataSpec, UserError

OTHER = AudioSpec(16_000, 4096, n_fft=128, hop_length=64, win_length=128, center=False, n_mels=20, eps=1e-2, fmax=3e3)
SPEC = AudioSpec(16_000, 4096, n_fft=128, hop_length=64, win_length=128, center=False, n_mels=20, eps=1e-3)


def tone(hertz: float, samples: int = 4096, rate: int = 16_000) -> torch.Tensor:
    return 0.5 * torch.sin(2 * torch.pi * hertz * torch.arange(samples) / rate)[None]


@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_file_holds_its_samples(channels: int, tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(-32768, 32768, (channels, 999))
    write_wav(torch.from_numpy(stored).float() / 32768, 22_050, tmp_path / "x.wav")
    with wave.open(str(tmp_path / "x.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (channels, 2, 22_050)
        read = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, channels).T
    assert (read == stored).all()


def test_what_is_too_loud_is_clipped_not_wrapped(tmp_path: Path) -> None:
    write_wav(torch.tensor([[2.0, -2.0, 1.0]]), 8000, tmp_path / "x.wav")
    with wave.open(str(tmp_path / "x.wav")) as file:
        assert np.frombuffer(file.readframes(3), "<i2").tolist() == [32767, -32768, 32767]


@pytest.mark.parametrize("n_fft", [128, 1024])
def test_a_tone_is_a_line_at_its_height(n_fft: int) -> None:
    spec = dataclasses.replace(SPEC, n_fft=n_fft, win_length=n_fft, hop_length=n_fft // 2)
    rows = []
    for hertz in (500, 6000):
        picture = spectrogram_grid(tone(hertz)[None], spec, 1).astype(int)
        light = np.where((picture == 255).all(-1), 0, picture[:, :, 0])  # but for the paper
        rows.append(int(light.sum(1).argmax()))
    assert rows[0] > 1.5 * rows[1]  # high notes stand at the top


def test_silence_is_black_and_a_short_sound_has_a_picture() -> None:
    picture = spectrogram_grid(torch.zeros(3, 1, 50), SPEC, 3)
    assert picture.dtype == np.uint8
    colours = {tuple(c) for c in picture.reshape(-1, 3).tolist()}
    assert colours == {(0, 0, 4), (31, 90, 160), (255, 255, 255)}  # black, the wave's line, paper


def test_a_page_names_its_sounds_and_nothing_runs_in_it(tmp_path: Path) -> None:
    write_page(tmp_path / "index.html", "<script>", [('a"b', "grid.png", [("<b>", "x y.wav")])])
    text = (tmp_path / "index.html").read_text()
    assert "<script>" not in text
    assert "<b>" not in text
    assert re.findall(r'src="([^"]*)"', text) == ["grid.png", "x y.wav"]


# ---- specs


def test_specs_that_disagree_are_shown_side_by_side() -> None:
    other = dataclasses.replace(SPEC, n_mels=40, fmax=3000.0, clip_samples=8192)
    SPEC.require(dataclasses.replace(SPEC, clip_samples=8192), "a", "b")
    with pytest.raises(UserError) as caught:
        SPEC.require(other, "the vocoder", "the mel")
    lines = str(caught.value).splitlines()
    assert [line.split() for line in lines[2:]] == [["n_mels", "20", "40"], ["fmax", "None", "3000.0"]]


def test_pictures_of_another_spec_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.pictures and data\.audio don't agree"):
        DrumsData(dataclasses.replace(SPEC, eps=1e-4), count=8, pictures=Spectrogram(SPEC))


def test_networks_see_pictures_and_scores_see_waves() -> None:
    data = DrumsData(SPEC, count=64, batch_size=8, pictures=Spectrogram(SPEC))
    assert data.spec.shape == (2, 64, 64)
    assert data.arrays("test").x.shape == (8, 1, 4096)
    raw = next(iter(data.train_dataloader()))
    x = data.on_after_batch_transfer(raw, 0).x
    assert x.shape == (8, 2, 64, 64)
    waves = torch.from_numpy(np.asarray(raw.x)) / 32768
    noise = (data.spec.decode(x) - waves).square().sum(-1)
    assert (10 * (waves.square().sum(-1) / noise).log10()).median() > 25  # dB; but for the highest bin


# ---- bundles


@pytest.mark.parametrize("scale", ["linear", "mel"])
def test_a_bundle_of_pictures_gives_waves(scale: str, tmp_path: Path) -> None:
    net = R3GANGenerator(64, 2, 3, z_dim=4, embed_dim=4, width=16, blocks=1, patch=4)
    spec = DataSpec((2, 64, 64), 3, ("kick", "snare", "hat"), SPEC, Spectrogram(SPEC, phase="deviation", scale=scale))
    gan = gan_kit.load(save(tmp_path / "bundle", net, Normal(), spec))
    x = gan.sample(5, label="snare")
    assert x.shape == (5, 1, 4096)
    assert gan.sample_rate == 16_000
    assert gan.spec.audio == SPEC
    shown = gan.spec.representation
    assert (shown.phase, shown.scale, shown.spec) == ("deviation", scale, SPEC)
    z = gan.sample(5, label="snare", batch_size=2)
    torch.testing.assert_close(z, x, atol=1e-3, rtol=0)  # phases are sums of 64 steps


def test_a_bundle_of_waves(tmp_path: Path) -> None:
    net = WaveGANGenerator(4096, width=2)
    gan = gan_kit.load(save(tmp_path / "bundle", net, Normal(), DataSpec((1, 4096), audio=SPEC)))
    assert gan.sample(2).shape == (2, 1, 4096)
    assert "16,000 Hz" in (tmp_path / "bundle" / "card.md").read_text()


@pytest.fixture(scope="module")
def vocoder_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = Vocos(20, 8, 16, 2, n_fft=128, hop_length=64, center=False, prior=True, refine=2, spec=SPEC)
    folder = tmp_path_factory.mktemp("vocoder") / "bundle"
    x = torch.stack([tone(f) for f in (300, 700)])
    return save_reconstruction(folder, net, LogMel(SPEC), DataSpec((1, 4096), audio=SPEC), {}, x)


def test_a_vocoder_comes_back_with_its_mel(vocoder_bundle: Path) -> None:
    vocoder = gan_kit.load(vocoder_bundle)
    assert (vocoder_bundle / "samples.png").is_file()
    x = tone(440, 10_001)[None]
    mel = LogMel(SPEC)(torch.nn.functional.pad(x, (0, -10_001 % 64)))
    whole = vocoder(mel, spec=SPEC, chunk_frames=None)
    assert whole.shape == (1, 1, 10_048)
    torch.testing.assert_close(vocoder(mel, chunk_frames=13), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(vocoder.reconstruct(x), whole[..., :10_001], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "x, rate, message",
    [
        (torch.zeros(1, 2, 4096), None, "2 channels"),
        (torch.zeros(1, 1, 4096), 8000, "8000 Hz.*16000"),
        (torch.full((1, 1, 4096), torch.nan), None, "NaN"),
        (torch.zeros(1, 1, 0), None, "too short"),
        (torch.zeros(4096), None, r"give \(B, C, T\)"),
    ],
)
def test_sounds_that_do_not_fit_are_refused(
    x: torch.Tensor, rate: int | None, message: str, vocoder_bundle: Path
) -> None:
    with pytest.raises(UserError, match=message):
        gan_kit.load(vocoder_bundle).reconstruct(x, sample_rate=rate)


def test_mels_that_do_not_fit_are_refused(vocoder_bundle: Path) -> None:
    vocoder = gan_kit.load(vocoder_bundle)
    with pytest.raises(UserError, match="n_mels"):
        vocoder(torch.zeros(1, 20, 9), spec=dataclasses.replace(SPEC, n_mels=40))
    with pytest.raises(UserError, match=r"\(B, 20, L\)"):
        vocoder(torch.zeros(1, 40, 9))
    with pytest.raises(UserError, match="NaN"):
        vocoder(torch.full((1, 20, 9), torch.nan))


def test_a_checkpoint_of_another_spec_tells_what_differs() -> None:
    nets = [Vocos(20, 8, 16, 1, n_fft=128, hop_length=64, prior=True, spec=spec) for spec in (SPEC, OTHER)]
    told = differing(*map(describe, nets))
    assert told == "spec.eps was 0.001, is 0.01, spec.fmax was None, is 3000.0"
    assert differing(describe(nets[0]), describe(nets[0])) == ""


def test_tensorboard_plays_what_is_drawn(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    waves = torch.stack([tone(300), tone(900), 1.5 * tone(600)])
    logger = TensorBoardLogger(tmp_path, name="", version="")
    log_sound(logger, "samples", waves, ["kick", "snare", "open hat"], 16_000, step=1234)
    logger.experiment.flush()
    events = event_accumulator.EventAccumulator(str(tmp_path), size_guidance={"audio": 0}).Reload()
    assert sorted(events.Tags()["audio"]) == ["samples/kick", "samples/open hat", "samples/snare"]
    (event,) = events.Audio("samples/snare")
    assert (event.step, event.sample_rate) == (1234, 16_000)
    with wave.open(io.BytesIO(event.encoded_audio_string)) as file:
        assert (file.getframerate(), file.getnframes()) == (16_000, 4096)
        heard = np.frombuffer(file.readframes(4096), "<i2")
    assert np.abs(heard / 32767 - waves[1, 0].numpy()).max() < 1e-3


def test_sample_names_the_file_that_is_too_short(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, hop_length=16)
    net = Vocos(20, 8, 16, 1, n_fft=128, hop_length=16, center=False)
    bundle = save_reconstruction(tmp_path / "bundle", net, LogMel(spec), DataSpec((1, 4096), audio=spec), {}, None)
    write_wav(tone(500, 20), 16_000, tmp_path / "sounds" / "click.wav")
    done = run("sample", f"run={bundle}", f"source={tmp_path / 'sounds'}", cwd=tmp_path)
    assert done.returncode == 2
    assert "click.wav, 20 samples at 16000 Hz: " in done.stderr


def test_sample_restores_files_of_any_kind(vocoder_bundle: Path, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path / "sounds"
    (folder / "deep").mkdir(parents=True)
    stereo = np.stack([tone(500, 44_100, 44_100)[0].numpy()] * 2, 1)
    soundfile.write(folder / "a.flac", stereo, 44_100)
    soundfile.write(folder / "deep" / "b.wav", stereo[:, :1], 44_100)
    done = run("sample", f"run={vocoder_bundle}", f"source={folder}", f"out={tmp_path / 'out'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = {"a.wav", "a.original.wav", "deep_b.wav", "deep_b.original.wav", "grid.png", "index.html"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names
    with wave.open(str(tmp_path / "out" / "a.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16_000, 1, 16_000)


def test_a_vocoder_makes_the_waves_of_what_is_drawn(vocoder_bundle: Path, tmp_path: Path) -> None:
    net = WaveGANGenerator(4096, width=2)
    gan = save(tmp_path / "gan", net, Normal(), DataSpec((1, 4096), audio=SPEC))
    out = tmp_path / "out"
    done = run("sample", f"run={gan}", f"vocoder={vocoder_bundle}", "n=3", f"out={out}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = gan_kit.load(vocoder_bundle).reconstruct(gan_kit.load(gan).sample(3))
    for i, wanted in enumerate(expected):
        with wave.open(str(out / f"{i:06d}.wav")) as file:
            heard = np.frombuffer(file.readframes(4096), "<i2") / 32768
        assert np.abs(heard - wanted[0].numpy()).max() < 1e-3
    slow = dataclasses.replace(SPEC, sample_rate=8000)
    other = save(tmp_path / "slow", net, Normal(), DataSpec((1, 4096), audio=slow))
    for settings, message in (
        ([f"run={other}", f"vocoder={vocoder_bundle}"], "8000 Hz, vocoder=.* is of 16000 Hz"),
        ([f"run={gan}", f"vocoder={gan}"], "restores no sounds"),
    ):
        done = run("sample", *settings, f"out={out}", cwd=tmp_path)
        assert done.returncode == 2
        assert re.search(message, done.stderr)


@pytest.mark.parametrize("source, message", [(None, "give source="), ("nowhere.wav", "nowhere.wav is not there")])
def test_what_to_restore_must_be_said(source: str | None, message: str, vocoder_bundle: Path, tmp_path: Path) -> None:
    more = [f"source={source}"] if source else []
    done = run("sample", f"run={vocoder_bundle}", *more, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr


def test_pictures_that_are_not_square_are_told_with_the_cure(tmp_path: Path) -> None:
    settings = ["+experiment=audio/drums_specgan", "debug=two_steps", "trainer=cpu", "logger=none"]
    done = run("train", *settings, "audio.clip_samples=4096", f"paths.output_dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.returncode == 2
    assert "pictures of 64 x 32" in done.stderr
    assert "audio.clip_samples=8192" in done.stderr
