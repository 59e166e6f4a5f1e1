"""Sounds through the evaluation: their classifier, their extractors, the kernel distance, a run from end to end."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from doors import run
from PIL import Image

from gan_kit.audio import Spectrogram
from gan_kit.callbacks import Evaluation as EvaluationCallback
from gan_kit.data import DrumsData, RingData
from gan_kit.evaluate import auto_extractor, classifier_for, functional, load_classifier
from gan_kit.evaluate.classifier import Classifier, ClassifierFeatures
from gan_kit.evaluate.classifier_nets import MelClassifier, hidden
from gan_kit.evaluate.features import Pixels, as_sounds, as_stored, pixels_for
from gan_kit.evaluate.mel_statistics import MelStatistics, mel_statistics_for
from gan_kit.evaluate.sound_backbones import CLAP, PANNs, VGGish, panns_for, vggish_for
from gan_kit.evaluate.weights import load_state
from gan_kit.types import AudioSpec, UserError

AUDIO = AudioSpec(16_000, 4096, n_fft=256, hop_length=64, win_length=256, center=False, n_mels=40, eps=1e-3)


def drums(count: int = 64, labels: bool = True, pictures: bool = False) -> DrumsData:
    return DrumsData(AUDIO, count, 16, labels, pictures=Spectrogram(AUDIO) if pictures else None)


def net() -> MelClassifier:
    return MelClassifier((1, 4096), 8, dataclasses.asdict(AUDIO), width=8).eval()


def int16(n: int = 3, samples: int = 4096) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return (1000 * torch.randn(n, 1, samples, generator=g)).to(torch.int16)


# ---- the boundary: sounds as their files hold them ----------------------------------------------------------------


def test_a_wave_is_rounded_as_its_file_would_be():
    x = torch.tensor([[[0.0, 0.5, -1.0, 1.0, 0.4 / 32768, 0.6 / 32768]]])
    assert as_stored(x).tolist() == [[[0, 16384, -32768, 32767, 0, 1]]]
    assert as_stored(torch.ones(1, 1, 2, 2)).dtype == torch.uint8
    assert as_stored(torch.ones(1, 2)).dtype == torch.float32
    back = as_stored(int16().float() / 32768)
    assert back.equal(int16())
    with pytest.raises(UserError, match="1 of 2 samples hold NaN"):
        as_stored(torch.tensor([[[0.0]], [[torch.nan]]]))


def test_sounds_of_two_channels_are_averaged_and_others_refused():
    two = torch.cat([int16(), -int16()], 1)
    assert as_sounds(two).abs().max() == 0
    for x in (torch.zeros(2, 1, 9), torch.zeros(2, 9, dtype=torch.int16), torch.zeros(1, 1, 9, dtype=torch.uint8)):
        with pytest.raises(UserError, match="int16 sounds"):
            as_sounds(x)


def test_pixels_of_a_wave_are_the_wave():
    x = int16()
    assert Pixels((1, 4096)).features(x).equal(x.flatten(1).float() / 32768)
    assert pixels_for(drums(pictures=True)).shape == (1, 4096)  # not of the pictures that a network sees


# ---- the classifier -----------------------------------------------------------------------------------------------


def test_masks_hide_up_to_a_fifth_in_one_piece():
    mask = hidden(torch.zeros(200, 1, 40, 64), -1)
    assert mask.shape == (200, 1, 1, 64)
    gone = 64 - mask.sum((1, 2, 3))
    assert 0 <= gone.min() <= 2
    assert 10 <= gone.max() <= 13
    assert ((mask[:, 0, 0].diff(dim=1) != 0).sum(1) <= 2).all()
    assert hidden(torch.zeros(2, 1, 40, 64), -2).shape == (2, 1, 40, 1)


def test_it_looks_at_the_mel_alone_and_noise_comes_in_only_while_it_trains():
    found, x = net(), int16().float() / 32768
    assert found(x)[0].shape == (3, 128)
    assert found(x)[1].equal(found(x)[1])
    torch.testing.assert_close(found(-x), found(x))  # upside down sounds the same
    found.train()
    assert not found(x)[1].equal(found(x)[1])


def test_its_extractor_takes_what_the_data_hold():
    found = ClassifierFeatures(net())
    torch.testing.assert_close(found.probabilities(int16()).sum(1), torch.ones(3))
    for x in (int16(samples=4160), int16().float(), torch.zeros(3, 1, 8, 8, dtype=torch.uint8)):
        with pytest.raises(UserError, match=r"takes int16 sounds of shape \(1, 4096\).*extractor=mel"):
            found.features(x)
    assert found.protocol["audio"]["n_mels"] == 40


def test_two_specs_are_two_protocols():
    other = dataclasses.asdict(dataclasses.replace(AUDIO, fmin=50.0))
    a, b = net(), MelClassifier((1, 4096), 8, other, width=8)
    assert ClassifierFeatures(a, "same").fingerprint != ClassifierFeatures(b, "same").fingerprint


def test_a_bundle_brings_it_back(tmp_path: Path):
    module = Classifier((1, 4096), 8, 100, audio=AUDIO)
    module.save_bundle(tmp_path / "bundle", drums(), {"seed": 0})
    back = load_classifier(tmp_path)
    assert isinstance(back.net, MelClassifier)
    assert back.net.spec == AUDIO
    assert back.features(int16()).equal(ClassifierFeatures(module.net.eval()).features(int16()))
    assert 0 <= back.facts["test_accuracy"] <= 1


def test_one_is_not_to_be_had_of_unlabelled_sounds_or_of_pictures():
    with pytest.raises(UserError, match="extractor=mel"):
        classifier_for(drums(labels=False))
    with pytest.raises(UserError, match="labelled sounds"):
        MelClassifier((1, 8, 8), 8, dataclasses.asdict(AUDIO))


def test_which_extractor_is_taken_for_which_data():
    assert auto_extractor(drums(labels=False)).name == "mel"
    assert auto_extractor(drums(labels=False, pictures=True)).name == "mel"
    assert auto_extractor(RingData(count=100)).name == "pixels"
    with pytest.raises(UserError, match="these are none"):
        mel_statistics_for(RingData(count=100))


# ---- mel statistics, kernel distance ------------------------------------------------------------------------------


def test_mel_statistics_of_a_steady_sound():
    t = torch.arange(4096) / 16_000
    x = as_stored(0.5 * torch.sin(2 * math.pi * 1000 * t)[None, None])  # a whole number of periods a hop
    mean, spread, step = MelStatistics(AUDIO).features(x).view(3, 40)
    loud = mean > mean.max() - 3
    assert spread[loud].max() < 0.5
    assert step[loud].max() < 0.1
    softer = MelStatistics(AUDIO).features(x // 2).view(3, 40)[0]
    assert (mean - softer)[loud].tolist() == pytest.approx([math.log(2)] * int(loud.sum()), abs=1e-2)


def test_kernel_distance_is_the_formula():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 4, generator=g), torch.randn(20, 4, generator=g) + 0.5

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return math.exp(-float((a - b).double().square().sum()) / (2 * 1.7**2))

    within = [
        sum(k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j) / (len(s) * (len(s) - 1))
        for s in (x, y)
    ]
    across = sum(k(a, b) for a in x for b in y) / (len(x) * len(y))
    found = functional.gaussian_distance(x, y, bandwidth=1.7)
    assert found.value == pytest.approx(100 * (sum(within) - 2 * across), rel=1e-6)


def test_kernel_distance_of_two_gaussians_is_known():
    """E k(x, y) of N(a, I), N(b, I) is (1 + 2 / σ²)^(-F/2) exp(-|a - b|² / (2 σ² + 4))."""
    g = torch.Generator().manual_seed(0)
    dims, sigma, gap = 3, 2.0, 1.0
    x, y = torch.randn(2000, dims, generator=g), torch.randn(2000, dims, generator=g)
    y[:, 0] += gap
    same = (1 + 2 / sigma**2) ** (-dims / 2)
    expected = 200 * same * (1 - math.exp(-(gap**2) / (2 * sigma**2 + 4)))
    found = functional.gaussian_distance(x, y, bandwidth=sigma)
    assert abs(found.value - expected) < 4 * found.stderr
    assert 0 < found.stderr < 0.15 * expected


def test_kernel_distance_is_unbiased_and_its_error_honest():
    g = torch.Generator().manual_seed(0)
    real = torch.randn(600, 8, generator=g)
    same = [functional.gaussian_distance(real, torch.randn(100, 8, generator=g)) for _ in range(30)]
    values = torch.tensor([f.value for f in same])
    assert abs(values.mean()) < 4 * values.std() / 30**0.5 + 0.05  # few samples do not raise it
    assert values.min() < 0
    other = [functional.gaussian_distance(real, torch.randn(100, 8, generator=g) + 0.4) for _ in range(30)]
    spread = torch.tensor([f.value for f in other]).std()
    assert 0.5 < sum(f.stderr for f in other) / 30 / spread < 2


def test_its_bandwidth_is_of_the_reference_alone():
    g = torch.Generator().manual_seed(0)
    real, fake = torch.randn(300, 5, generator=g), 9 * torch.randn(200, 5, generator=g)
    found = functional.gaussian_distance(real, fake)
    assert found.bandwidth == functional.median_distance(real)
    assert found.bandwidth == pytest.approx(float(torch.pdist(real).median()), rel=1e-5)
    with pytest.raises(UserError, match="no kernel"):
        functional.gaussian_distance(torch.ones(10, 5), fake)


# ---- published networks -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vggish() -> VGGish:
    return VGGish(16_000, untrained=True)


def test_vggish_sees_what_the_published_code_sees(vggish: VGGish):
    """Frames, window, mel bands and logarithm, written out as that code has them, in NumPy."""
    x = 0.1 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    wave, frames = x[0].double().numpy(), []
    window = 0.5 - 0.5 * np.cos(2 * np.pi / 400 * np.arange(400))
    for i in range(96):
        frames.append(np.abs(np.fft.rfft(window * wave[160 * i : 160 * i + 400], 512)))
    mels = 1127 * np.log(1 + np.linspace(0, 8000, 257) / 700)
    edges = np.linspace(1127 * np.log(1 + 125 / 700), 1127 * np.log(1 + 7500 / 700), 66)
    bands = np.zeros((257, 64))
    for k, (low, middle, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        bands[:, k] = np.maximum(0, np.minimum((mels - low) / (middle - low), (high - mels) / (high - middle)))
    bands[0] = 0
    expected = np.log(np.stack(frames) @ bands + 0.01)
    assert np.abs(vggish.frames(x)[0, 0].numpy() - expected).max() < 1e-4


def test_vggish_takes_clips_from_975_ms(vggish: VGGish):
    assert vggish.features(int16(1, 15_600)).shape == (1, 128)
    with pytest.raises(UserError, match="needs 975 ms of sound, these have 256 ms"):
        vggish.features(int16(1, 4096))
    with pytest.raises(UserError, match="975 ms"):  # and not that there are no weights
        vggish_for(drums(), path="nowhere")
    with pytest.raises(UserError, match="these are none"):
        vggish_for(None)
    assert VGGish(8000, untrained=True).settings()["resample"].startswith("scipy")
    assert vggish.name == "untrained-vggish"


def test_weights_are_those_that_were_published_or_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GAN_KIT_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    for network, name in ((VGGish, "vggish-10086976.pth"), (PANNs, "Cnn14_16k_mAP=0.438.pth")):
        with pytest.raises(UserError, match=f"put it at {tmp_path}/{name}"):
            network(16_000)
        (tmp_path / name).write_bytes(b"cut short")
        with pytest.raises(UserError, match="damaged, cut short or another file"):
            network(16_000)
    with pytest.raises(UserError, match="do not exist"):
        PANNs(16_000, path=tmp_path / "none.pth")


@pytest.mark.slow
def test_panns_of_a_file_of_ones_own(tmp_path: Path, torchaudio):
    first = PANNs(16_000, untrained=True)
    checkpoint = {"iteration": 3, "model": first.net.state_dict(), "sampler": {"indexes": np.arange(5)}}
    torch.save(checkpoint, tmp_path / "own.pth")
    found = PANNs(16_000, tmp_path / "own.pth")
    x = int16(2, 8000)
    assert found.features(x).equal(first.features(x))
    assert found.features(x).shape == (2, 2048)
    assert len(found.weights_sha256) == 64
    assert found.weights_sha256 != PANNs.sha256
    mel = torchaudio.transforms.MelSpectrogram(
        16_000, 512, hop_length=160, f_min=50, f_max=8000, n_mels=64, norm="slaney", mel_scale="slaney"
    )
    wave = as_sounds(x)
    torch.testing.assert_close(
        found.log_mel(wave), 10 * mel(wave).clamp_min(1e-10).log10().transpose(1, 2), atol=2e-2, rtol=0
    )
    with pytest.raises(UserError, match="needs 310 ms"):
        panns_for(drums(), untrained=True)


def test_a_checkpoint_gives_its_weights_and_runs_no_code(tmp_path: Path):
    file = tmp_path / "x.pth"
    torch.save({"model": {"a": torch.ones(3)}, "sampler": {"i": np.arange(4), "x": np.float64(1)}}, file)
    assert load_state(file, {"a": (3,)}, part="model")["a"].tolist() == [1, 1, 1]

    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'touched'}",))

    torch.save({"model": {"a": torch.ones(3)}, "sampler": Evil()}, file)
    with pytest.raises(UserError, match=r"keep its weights alone"):
        load_state(file, {"a": (3,)}, part="model")
    assert not (tmp_path / "touched").exists()


@pytest.mark.slow
def test_clap_is_the_same_each_time():
    pytest.importorskip("transformers")
    clap = CLAP(16_000, untrained=True)
    assert clap.features(int16(2, 8000)).shape == (2, 512)
    assert clap.features(int16(2, 8000)).equal(clap.features(int16(2, 8000)))


def test_clap_offline_says_where_it_looked(tmp_path: Path):
    pytest.importorskip("transformers")
    with pytest.raises(UserError, match=r"extractor\.model"):
        CLAP(16_000, model=str(tmp_path / "nothing"))


# ---- a run --------------------------------------------------------------------------------------------------------

# clips of 4,096 samples as pictures of 64 x 64
TINY = ["audio.clip_samples=4096", "audio.n_fft=128", "audio.win_length=128", "audio.hop_length=64", "audio.n_mels=16"]
TINY += ["trainer=cpu", "logger=none", "data.count=256"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sound")


def door(name: str, home: Path, *settings: str, seconds: float = 120) -> str:
    env = {"GAN_KIT_CACHE": str(home / "cache"), "GAN_KIT_RUNS": str(home / "runs")}
    done = run(name, *settings, cwd=home, env=env, seconds=seconds)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_callback_scores_waves_whatever_the_network_sees():
    """What GAN.sample gives is decoded before it is judged."""
    data = drums(pictures=True)
    seen = []

    class Ear(MelStatistics):
        def extract(self, x):
            seen.append((x.dtype, tuple(x.shape[1:])))
            return super().extract(x)

    class Gan:
        device, generator, training = torch.device("cpu"), object(), True

        def sample(self, noise, y):
            return noise.rand(*data.spec.shape) * 2 - 1

    class Alone:
        datamodule, world_size, global_rank, is_global_zero = data, 1, 0, True

    callback = EvaluationCallback(10, Ear(AUDIO), num_samples=5, batch_size=2)
    callback.spec, callback.labels = data.spec, None
    found = callback.samples(Alone(), Gan())  # type: ignore[arg-type]
    assert found is not None
    assert found.features.shape == (5, 120)
    assert set(seen) == {(torch.int16, (1, 4096))}


@pytest.mark.slow
def test_a_sound_run_from_end_to_end(home: Path):
    """A classifier, a GAN of pictures of sounds watched while it trains, all scores and the pictures beside them."""
    door(
        "train", home, "+experiment=classifier/drums", *TINY, "budget_samples=4000",
        f"paths.output_dir={home / 'classifier'}",
    )  # fmt: skip
    assert load_classifier(home / "classifier").facts["test_accuracy"] > 0.5
    judged = ["extractor=classifier", f"extractor.path={home / 'classifier'}"]
    gan = home / "gan"
    door(
        "train", home, "+experiment=audio/drums_specgan", *TINY, "debug=two_steps", f"paths.output_dir={gan}",
        "generator.width=4", "discriminator.width=4", "evaluation=fd",
        "extractor@callbacks.evaluation.extractor=mel", "callbacks.evaluation.num_samples=8", "evaluate_every=4",
    )  # fmt: skip
    rows = [json.loads(line) for line in (gan / "evaluation" / "history.jsonl").read_text().splitlines()]
    assert [row["samples_seen"] for row in rows] == [4, 8]
    assert rows[0]["fd-mel"] > 0
    said = door("evaluate.__main__", home, f"run={gan}", *judged, "num_samples=40")
    out = gan / "evaluation" / "classifier_test_n=40"
    record = json.loads((out / "scores.json").read_text())
    found = {s["metric"]: s for s in record["scores"]}
    for name in (
        "fd-classifier",
        "kd-classifier",
        "kad-classifier",
        "is-classifier",
        "modes",
        "class_accuracy",
        "copies",
    ):
        assert name in said
        assert name in found
    assert found["kad-classifier"]["floor"] is not None
    assert record["protocol"]["rounding"] == "int16"
    assert record["protocol"]["extractor"]["audio"]["sample_rate"] == 16_000
    with Image.open(out / "nearest.png") as image:
        assert image.width > 300
    said = door("evaluate.__main__", home, f"run={gan}", "extractor=mel", "metrics=[fd,kad]", "num_samples=20")
    assert "fd-mel" in said


@pytest.mark.slow
def test_spoken_digits_are_told_apart(tmp_path: Path):
    """A fifth of the classifier's budget, on the published test split."""
    if not any(Path(os.environ.get("GAN_KIT_DATA", "nowhere")).glob("**/0_george_0.wav")):
        pytest.skip("no spoken digits below $GAN_KIT_DATA")
    door(
        "train", tmp_path, "+experiment=classifier/fsdd", "budget_samples=12_000", "trainer=cpu", "logger=none",
        f"paths.output_dir={tmp_path / 'run'}", seconds=250,
    )  # fmt: skip
    assert load_classifier(tmp_path / "run").facts["test_accuracy"] > 0.93
