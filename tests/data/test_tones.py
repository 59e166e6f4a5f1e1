"""Notes have the pitch they are labelled with."""

from __future__ import annotations

import numpy as np
import pytest

from gan_kit.data import Tones
from gan_kit.data.tones import hz_of
from gan_kit.types import UserError


def test_midi_numbers_have_their_frequencies_and_names() -> None:
    assert hz_of(69) == 440
    assert hz_of(60) == pytest.approx(261.6256, abs=1e-4)
    assert Tones(low=60, high=71).class_names[:2] == ("C4", "C#4")
    assert Tones(low=69, high=69).class_names == ("A4",)


def test_splits_have_all_notes_and_share_none() -> None:
    tones = Tones(16_000, 4096, count=48)
    train, val, test = (tones.load(s) for s in ("train", "val", "test"))
    assert train.x.shape == (48, 1, 4096)
    assert train.x.dtype == np.int16
    assert (np.bincount(train.y) == 4).all()
    assert (np.bincount(val.y) == 1).all()
    assert len({x.tobytes() for s in (train, val, test) for x in s.x}) == 48 + 12 + 12
    assert (tones.load("train").x == train.x).all()
    assert not (Tones(16_000, 4096, count=48, seed=1).load("train").x == train.x).all((1, 2)).any()


@pytest.mark.parametrize("low", [36, 60, 84])
def test_the_pitch_drawn_is_the_pitch_heard_and_the_label_is_nearest(low: int) -> None:
    tones = Tones(16_000, 16_384, low=low, high=low + 11)
    for label in range(12):
        p, (x,) = tones.parameters(label, 3), tones.sound(label, 3)
        spectrum = np.abs(np.fft.rfft(x * np.hanning(len(x)), 1 << 18))
        hz = np.fft.rfftfreq(1 << 18, 1 / 16_000)
        near = np.abs(hz / p["hz"] - 1) < 0.2
        heard = hz[near][spectrum[near].argmax()]
        assert heard == pytest.approx(p["hz"], rel=0.002)
        assert round(12 * np.log2(heard / 440) + 69) == low + label


def test_nothing_lies_between_the_harmonics() -> None:
    tones = Tones(16_000, 16_384, low=84, high=84)
    p, (x,) = tones.parameters(0, 0), tones.sound(0, 0)
    spectrum = np.abs(np.fft.rfft(x * np.blackman(len(x)))) ** 2
    hz = np.fft.rfftfreq(len(x), 1 / 16_000)
    harmonic = np.abs(hz / p["hz"] - np.round(hz / p["hz"])) * p["hz"] < 60
    assert spectrum[~harmonic].sum() < 1e-5 * spectrum.sum()  # no aliases


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"low": 70, "high": 60}, "low=70 to high=60"),
        ({"high": 127, "sample_rate": 16_000}, "note high=127 is 12544 Hz"),
        ({"count": 3}, r"data\.count=12"),
        ({"sample_rate": 2000}, "sample_rate=2000"),
    ],
)
def test_what_makes_no_notes_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Tones(**settings)
