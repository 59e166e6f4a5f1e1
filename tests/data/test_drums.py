"""The drum machine: labels that can be told from the sound, parameters that are heard, the same each time."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pytest

from gan_kit.data import Drums
from gan_kit.data.drums import COMMON, VOICES
from gan_kit.types import UserError

KICK, SNARE, CLOSED, OPEN, CLAP, TOM, COWBELL, RIM = range(8)


def centroid(x: np.ndarray, rate: int = 16_000) -> float:
    """Hz, of the power"""
    power = np.abs(np.fft.rfft(x.astype(np.float64))) ** 2
    return float((power * np.fft.rfftfreq(len(x), 1 / rate)).sum() / power.sum())


def length(x: np.ndarray, rate: int = 16_000) -> float:
    """Seconds in which 95 % of the energy has come"""
    energy = np.cumsum(x.astype(np.float64) ** 2)
    return float(np.searchsorted(energy, 0.95 * energy[-1]) / rate)


def measured(label: int, of, count: int = 40) -> np.ndarray:
    drums = Drums(16_000, 8192)
    return np.array([of(drums.sound(label, n)[0]) for n in range(count)])


def test_a_split_is_mono_int16_with_equal_classes() -> None:
    train, val, test = (Drums(16_000, 4096, count=160).load(s) for s in ("train", "val", "test"))
    assert train.x.shape == (160, 1, 4096)
    assert (train.x.dtype, train.y.dtype) == (np.int16, np.int64)
    assert train.class_names == tuple(VOICES) == Drums().class_names
    assert len(train.class_names) == 8
    assert (np.bincount(train.y) == 20).all()
    assert len(val.x) == len(test.x) == 20
    sounds = [x.tobytes() for split in (train, val, test) for x in split.x]
    assert len(set(sounds)) == len(sounds)


def test_a_sound_is_a_pure_function_of_seed_class_and_number() -> None:
    few, many = Drums(count=16).load("train"), Drums(count=48).load("train")
    assert (few.x == many.x[:16]).all()
    assert (Drums().sound(CLAP, 1) == few.x[8 + CLAP]).all()
    assert not (Drums(count=16, seed=1).load("train").x == few.x).all((1, 2)).any()


def test_parameters_never_change() -> None:
    # scores are comparable only while these stand; the last bits of a sine are the processor's
    drums = Drums()
    drawn = repr([[round(v, 9) for v in drums.parameters(c, n).values()] for c in range(8) for n in range(4)])
    assert hashlib.sha256(drawn.encode()).hexdigest()[:16] == "397ca8b822ad6648"
    level = np.abs(drums.load("test").x[:64].astype(np.float64)).mean()
    assert level == pytest.approx(643.467, rel=1e-4)


@pytest.mark.parametrize("label", range(8))
def test_parameters_lie_in_their_ranges_and_fill_them(label: int) -> None:
    drums = Drums()
    ranges = VOICES[drums.class_names[label]] | COMMON
    drawn = [drums.parameters(label, n) for n in range(300)]
    for name, (low, high) in ranges.items():
        values = np.array([p[name] for p in drawn])
        assert low <= values.min() < low * (high / low) ** 0.05
        assert low * (high / low) ** 0.95 < values.max() <= high
        others = [np.corrcoef(values, [p[o] for p in drawn])[0, 1] for o in ranges if o != name]
        assert np.abs(others).max() < 0.25


@pytest.mark.parametrize("label", range(8))
def test_a_sound_has_its_velocity_its_onset_and_ends_in_silence(label: int) -> None:
    drums = Drums(16_000, 8192)
    for n in range(10):
        p, (x,) = drums.parameters(label, n), drums.sound(label, n)
        assert np.abs(x.astype(int)).max() == pytest.approx(0.95 * 32767 * p["velocity"], abs=1)
        first = np.flatnonzero(x)[0] / 16_000
        assert p["onset"] - 1e-4 <= first < p["onset"] + 0.004
        assert abs(int(x[-1])) <= 8


def test_each_class_sounds_like_itself() -> None:
    kick, tom = (measured(c, centroid) for c in (KICK, TOM))
    assert kick.max() < 350
    assert 90 < np.median(tom) < 400
    assert np.median(kick) < 0.8 * np.median(tom)
    closed, opened, snare, clap = (measured(c, length) for c in (CLOSED, OPEN, SNARE, CLAP))
    assert closed.max() < 0.06
    assert opened.min() > 0.12
    assert measured(RIM, length).max() < 0.04
    assert np.median(closed) < np.median(snare) < np.median(opened)
    assert min(measured(c, centroid).min() for c in (CLOSED, OPEN)) > 4000
    assert np.median(measured(SNARE, centroid)) > 1.5 * np.median(measured(CLAP, centroid))
    assert clap.max() < 0.25


def test_the_pitch_drawn_is_the_pitch_heard() -> None:
    drums = Drums(48_000, 48_000)
    for label, part in ((KICK, 8192), (TOM, 8192), (COWBELL, 16_384)):
        for n in range(5):
            x = drums.sound(label, n)[0][2000 : 2000 + part] * np.hanning(part)
            spectrum = np.abs(np.fft.rfft(x, 1 << 18))
            heard = spectrum.argmax() * 48_000 / (1 << 18)
            pitch = drums.parameters(label, n)["pitch"]
            ratios = [pitch, pitch * drums.parameters(label, n).get("ratio", 1)]
            assert min(abs(heard / r - 1) for r in ratios) < (0.02 if label == COWBELL else 0.35), (label, n)


def test_a_clap_has_three_hands_and_a_room() -> None:
    drums = Drums(16_000, 8192)
    for n in range(5):
        p, (x,) = drums.parameters(CLAP, n), drums.sound(CLAP, n)
        loud = np.convolve(np.abs(x.astype(float)), np.ones(16) / 16, "same")
        onset = round(p["onset"] * 16_000)
        for hand in range(1, 4):
            at = onset + round(hand * p["gap"] * 16_000)
            assert loud[at + 8 : at + 48].max() > 1.3 * loud[at - 40 : at - 12].min()


def test_classes_are_told_apart_by_a_plain_classifier() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    def features(x: np.ndarray) -> np.ndarray:
        frames = np.lib.stride_tricks.sliding_window_view(x[:, 0], 256, axis=1)[:, ::256] * np.hanning(256)
        power = np.abs(np.fft.rfft(frames / 32768)) ** 2
        return np.log(np.add.reduceat(power, np.arange(0, 129, 8), axis=2) + 1e-6).reshape(len(x), -1)

    drums = Drums(16_000, 8192, count=480)
    train, test = drums.load("train"), drums.load("test")
    judge = KNeighborsClassifier(3).fit(features(train.x), train.y)
    assert judge.score(features(test.x), test.y) > 0.95
    far = judge.kneighbors(features(test.x), 1)[0]
    assert far.min() > 2  # none is a copy


def test_thousands_take_seconds() -> None:
    start = time.process_time()
    Drums(16_000, 8192, count=1024).load("train")
    assert time.process_time() - start < 4


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"sample_rate": 8000}, "cuts off the hats"),
        ({"clip_samples": 1000}, r"clip_samples=1000.*audio\.clip_samples=2000"),
        ({"count": 7}, r"data\.count=8"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_what_is_no_drum_machine_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Drums(**settings)


def test_an_unknown_split_names_those_there_are() -> None:
    with pytest.raises(UserError, match="no split 'all'; have train, val, test"):
        Drums().load("all")
