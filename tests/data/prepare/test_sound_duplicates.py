"""Copies of spoken digits are found, other takes of them are not: waveforms tell what spectrograms cannot."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import resample_poly

from gan_kit.data.prepare.sound_duplicates import ALIKE, LENGTH, POINTS, SAME, correlation, near, signature
from gan_kit.types import UserError

soundfile = pytest.importorskip("soundfile", reason="pip install 'gan-kit[audio]'")

RATE = 8000


def coded(x: np.ndarray, format: str, subtype: str) -> np.ndarray:
    out = io.BytesIO()
    soundfile.write(out, x, RATE, format=format, subtype=subtype)
    return soundfile.read(io.BytesIO(out.getvalue()))[0]


COPIES: dict[str, Callable[[np.ndarray], tuple[np.ndarray, int]]] = {
    "-12 dB": lambda x: (np.round(x / 4 * 32768) / 32768, RATE),
    "+12 dB, clipped": lambda x: (np.clip(x * 4, -1, 1), RATE),
    "50 ms of silence before": lambda x: (np.pad(x, (400, 0)), RATE),
    "33 ms before, 71 ms behind": lambda x: (np.pad(x, (267, 571)), RATE),
    "10 ms lost": lambda x: (x[80:], RATE),
    "upside down": lambda x: (-x, RATE),
    "at 11025 Hz": lambda x: (resample_poly(x, 441, 320), 11025),
    "to 16 kHz and back": lambda x: (resample_poly(resample_poly(x, 2, 1), 1, 2), RATE),
    "mu-law": lambda x: (coded(x, "WAV", "ULAW"), RATE),
    "MP3": lambda x: (coded(x, "MP3", "MPEG_LAYER_III"), RATE),
    "Vorbis": lambda x: (coded(x, "OGG", "VORBIS"), RATE),
    "Opus": lambda x: (coded(x, "OGG", "OPUS"), RATE),
    "FLAC": lambda x: (coded(x, "FLAC", "PCM_16"), RATE),
}


@pytest.fixture(scope="module")
def digits() -> tuple[list[np.ndarray], list[str]]:
    """All recordings, and the speaker and digit of each; skips where they are not."""
    data = os.environ.get("GAN_KIT_DATA")
    files = sorted(Path(data, "fsdd", "recordings").glob("*.wav")) if data else []
    if not files:
        pytest.skip("$GAN_KIT_DATA/fsdd/recordings has no spoken digits")
    return [soundfile.read(f)[0] for f in files], [f.stem.rpartition("_")[0] for f in files]


def voice(seed: int, seconds: float = 0.6, hum: float = 0.0) -> np.ndarray:
    """A gliding harmonic tone in a band of noise, both of this seed's own."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    pitch = rng.uniform(90, 250) * (1 + 0.2 * np.sin(2 * np.pi * rng.uniform(0.5, 4) * t + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    x = sum(rng.uniform(0.1, 1) / k * np.sin(k * phase + rng.uniform(0, 6)) for k in range(1, 16))
    return 0.2 * (x + 0.3 * rng.standard_normal(len(t))) * np.hanning(len(t)) + hum


def signatures(sounds: list[np.ndarray], seconds: float = 1.0) -> np.ndarray:
    return np.stack([signature(x, RATE, seconds) for x in sounds])


def pairs(found: np.ndarray) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in found}


# Laws of a signature


def test_a_signature_has_one_shape_whatever_the_sound() -> None:
    for length, rate, seconds in ((1, 8000, 1.0), (300, 8000, 0.2), (8000, 8000, None), (400_000, 44_100, 9.0)):
        s = signature(np.random.default_rng(0).standard_normal(length), rate, seconds)
        assert (s.shape, s.dtype) == ((LENGTH,), np.int8)
        assert length < 300 or np.abs(s).max() == 127


def test_gain_and_offset_change_no_signature() -> None:
    x = voice(0)
    assert np.abs(signature(x, RATE, 1).astype(int) - signature(x / 50 + 0.1, RATE, 1)).max() <= 1


def test_silence_is_all_zeros() -> None:
    for x in (np.zeros(0), np.zeros(8000), np.full(8000, 0.3), 1e-6 * voice(0)):
        assert not signature(x, RATE, 1).any()


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_correlates_and_another_voice_does_not(name: str) -> None:
    sounds = [voice(seed) for seed in range(4)]
    copies = [signature(*COPIES[name](x), 1.0) for x in sounds]
    s = np.stack([*signatures(sounds), *copies])
    score, share = correlation(s, np.array([(i, i + 4) for i in range(4)]))
    assert score.min() >= SAME
    assert share.min() > 0.95
    score, _ = correlation(s, np.array([(i, (i + 1) % 4 + 4) for i in range(4)]))
    assert score.max() < ALIKE


@pytest.mark.parametrize("lag", [0.5, 3.25, 17.125])
def test_a_shift_by_part_of_a_point_costs_nothing(lag: float) -> None:
    fine = voice(3, 1.0)
    later = resample_poly(np.pad(resample_poly(fine, 16, 1), (round(lag * 16 * RATE / POINTS), 0)), 1, 16)
    s = np.stack([signature(np.pad(x, (0, 4000)), RATE, 2.0) for x in (fine, later)])
    score, share = correlation(s, np.array([(0, 1)]))
    assert score[0] > 0.98
    assert share[0] > 0.98


def test_correlation_does_not_know_who_comes_first() -> None:
    s = signatures([voice(0), voice(1), np.pad(voice(0), (500, 0)), np.zeros(8)])
    ij = np.array([(i, j) for i in range(4) for j in range(4)])
    score, share = correlation(s, ij)
    assert np.allclose(score, score.reshape(4, 4).T.ravel(), atol=1e-4)
    assert np.allclose(np.diag(score.reshape(4, 4)), [1, 1, 1, 0], atol=1e-4)


def test_a_short_sound_in_a_long_clip_keeps_its_detail() -> None:
    for x in (voice(0), voice(1, 1.9)):
        window = 1.0 if len(x) < RATE else 2.0
        want = signature(x, RATE, window)
        long = signature(np.pad(x, (12_345, 0)), RATE, 8.0)
        assert long[-1] == (0 if window == 1 else 1)
        s = np.stack([want, long])
        s[:, -1] = 0
        assert correlation(s, np.array([(0, 1)]))[0] > 0.97
    slow = np.stack([signature(voice(0), RATE, 8.0), signature(voice(0), RATE / 2, 8.0)])
    assert correlation(slow, np.array([(0, 1)]))[0] < ALIKE  # an octave lower is another sound


# The search


def test_pairs_are_sorted_once_and_join_all_copies() -> None:
    sounds = [voice(seed % 20) * (1 + seed) / 50 for seed in range(100)]
    found = near(signatures(sounds))
    assert len(found.doubtful) == 0
    assert found.same.dtype == np.int64
    assert (found.same[:, 0] < found.same[:, 1]).all()
    assert found.same.tolist() == sorted(found.same.tolist())
    assert {(i % 20, j % 20) for i, j in pairs(found.same)} == {(k, k) for k in range(20)}
    assert len(found.same) == 100 - 20  # a tree for each, not all pairs


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_sounds(n: int) -> None:
    found = near(signatures([voice(0)] * n) if n else np.zeros((0, LENGTH), np.int8))
    assert pairs(found.same) == ({(0, 1)} if n == 2 else set())
    assert found.same.shape[1] == found.doubtful.shape[1] == 2


def test_silences_hang_together_as_a_doubtful_chain() -> None:
    found = near(signatures([voice(0), np.zeros(10), voice(1), np.zeros(9), np.zeros(8)]))
    assert len(found.same) == 0
    assert found.doubtful.tolist() == [[1, 3], [3, 4]]
    assert found.reasons == ("flat", "flat")


def test_steady_tones_and_clicks_prove_nothing() -> None:
    t = np.arange(8000) / RATE
    click = np.zeros(800)
    click[400:404] = (1, -1, 1, -1)
    found = near(
        signatures([np.sin(2 * np.pi * 440 * t), np.sin(2 * np.pi * 440 * t + 1), click, np.pad(click, (80, 0))])
    )
    assert len(found.same) == 0
    assert set(found.reasons) <= {"tone", "click"}
    found = near(signatures([np.sin(2 * np.pi * 440 * t), click, np.sin(2 * np.pi * 440 * t), click]))
    assert found.doubtful.tolist() == [[0, 2], [1, 3]]
    assert found.reasons == ("tone", "click")


def test_neighbouring_stretches_of_one_sound_are_not_the_same() -> None:
    x = voice(0, 1.5)
    found = near(signatures([x[:8000], x[4000:12000]]))
    assert len(found.same) == 0
    assert set(found.reasons) <= {"overlap"}


def test_a_crowd_of_equal_sounds_does_not_blow_up() -> None:
    one = signatures([voice(0), np.zeros(8), voice(1)])
    crowd = one[np.repeat([0, 1, 2], [1500, 1500, 1])]
    start = time.process_time()
    found = near(crowd)
    assert time.process_time() - start < 30
    assert len(found.same) == 1499
    assert found.reasons == ("flat",) * 1499


def test_a_crowd_of_hums_does_not_blow_up() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(8000) / RATE
    hum = signature(np.sin(2 * np.pi * 100 * t), RATE, 1).astype(int)
    crowd = np.clip(hum + rng.integers(-1, 2, (1500, LENGTH)), -127, 127).astype(np.int8)
    crowd[:, -1] = 0
    start = time.process_time()
    found = near(crowd)
    assert time.process_time() - start < 60
    assert len(found.same) == 0


def test_signatures_of_another_kind_are_refused() -> None:
    with pytest.raises(UserError, match=r"give \(N, 6145\) int8"):
        near(np.zeros((3, 2, 100), np.int8))
    with pytest.raises(UserError, match=r"give \(T,\) and positive"):
        signature(np.zeros((2, 100)), RATE)


# Real recordings


def test_copies_of_digits_are_found_and_no_two_takes_merged(digits) -> None:
    sounds, who = digits
    chosen = [i for i, name in enumerate(who) if name in ("4_george", "6_yweweler", "9_nicolas")]
    originals = signatures([sounds[i] for i in chosen])
    copied = list(range(0, len(chosen), 10))
    rows, wanted = [originals], set()
    for k, name in enumerate(COPIES):
        rows.append(np.stack([signature(*COPIES[name](sounds[chosen[i]]), 1.0) for i in copied]))
        wanted |= {(i, len(chosen) + k * len(copied) + c) for c, i in enumerate(copied)}
    found = near(np.concatenate(rows))
    from gan_kit.data.prepare.hamming import clusters

    cluster = clusters(len(chosen) + len(wanted), found.same)
    assert len(set(cluster[: len(chosen)])) == len(chosen)
    recall = np.mean([cluster[i] == cluster[j] for i, j in wanted])
    assert recall >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("name", COPIES)
def test_98_of_100_copies_of_any_kind_among_all_recordings(digits, name: str, all_digits: np.ndarray) -> None:
    sounds, _ = digits
    chosen = np.random.default_rng(2).permutation(len(sounds))[:300]
    copies = np.stack([signature(*COPIES[name](sounds[i]), 1.0) for i in chosen])
    found = near(np.concatenate([all_digits, copies]))
    right = {(int(i), len(sounds) + k) for k, i in enumerate(chosen)}
    assert len(right & pairs(found.same)) >= 0.98 * len(right)
    assert not pairs(found.same) - right


@pytest.fixture(scope="module")
def all_digits(digits) -> np.ndarray:
    return signatures(digits[0])


@pytest.mark.slow
def test_no_two_of_all_recordings_are_merged(digits, all_digits: np.ndarray) -> None:
    """Not by luck of the search: no two takes of a digit by one speaker, all 73,500 pairs of them, are that alike."""
    assert len(near(all_digits).same) == 0
    who = np.array(digits[1])
    ij = np.argwhere(np.triu(who[:, None] == who, 1))
    assert len(ij) == 73_500
    score, share = correlation(all_digits, ij)
    assert (score * (share > 0.5)).max() < SAME
