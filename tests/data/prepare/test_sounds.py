"""Sounds of all kinds become clips; what cannot has its true reason. Filters and levels against closed forms."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import sys
import tracemalloc
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gan_kit.data.prepare.kinds import kind_of
from gan_kit.data.prepare.sound_signal import clipped_share, db, lufs, resampled, rms
from gan_kit.data.prepare.types import Found, Item, Unusable
from gan_kit.types import UserError

soundfile = pytest.importorskip("soundfile", reason="pip install 'gan-kit[audio]'")

from gan_kit.data.prepare.sounds import Sounds  # noqa: E402

RATE = 8000
LOSSLESS = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_32"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("RF64", "PCM_16"),
    ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AIFF", "FLOAT"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("CAF", "ALAC_16"),
    ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("VOC", "PCM_16"), ("NIST", "PCM_16"), ("PAF", "PCM_16"),
    ("IRCAM", "PCM_16"), ("AVR", "PCM_16"), ("PVF", "PCM_16"), ("SVX", "PCM_16"),
]  # fmt: skip
LOSSY = [
    ("WAV", "PCM_U8", 30), ("AIFF", "PCM_S8", 30), ("WAV", "ULAW", 30), ("AIFF", "ALAW", 30), ("WAV", "IMA_ADPCM", 25),
    ("WAV", "MS_ADPCM", 25), ("WAV", "GSM610", 5), ("OGG", "VORBIS", 20), ("OGG", "OPUS", 15),
    ("MP3", "MPEG_LAYER_III", 20),
]  # fmt: skip


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def speech(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """Pitch that moves, under a syllable's envelope."""
    t = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (150 * t + 20 * np.sin(3 * t))
    return 0.4 * np.sin(np.pi * t / seconds) ** 2 * (np.sin(phase) + 0.4 * np.sin(3 * phase) + 0.2 * np.sin(5 * phase))


def encoded(x: np.ndarray, format: str = "WAV", subtype: str = "PCM_16", rate: int = RATE) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, x, rate, format=format, subtype=subtype)
    return out.getvalue()


def items(data: bytes, domain: Sounds, kind: str | None = None) -> list[Item]:
    kind = kind_of(data[:4096], "sound.mp3") if kind is None else kind
    return list(domain.items(data, Found("sound", Path("sound"), None, kind, len(data), 0)))


def item(data: bytes, **more) -> Item:
    (one,) = items(data, Sounds(**{"sample_rate": RATE, "clip_samples": 8000} | more))
    return one


def reason(data: bytes, kind: str | None = None, **more) -> str:
    with pytest.raises(Unusable) as e:
        items(data, Sounds(**{"sample_rate": RATE, "clip_samples": 8000} | more), kind)
    return str(e.value)


RAW = {"normalise": "none", "dc": False}


# Kinds


@pytest.mark.parametrize("format, subtype", LOSSLESS)
def test_lossless_kinds_give_the_samples_bit_by_bit(format: str, subtype: str) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 8000, dtype=np.int16)
    one = item(encoded(samples.astype(np.float64) / 32768, format, subtype), **RAW)
    assert one.x.dtype == np.int16
    assert one.x.flags.c_contiguous
    assert (one.x == samples).all()
    assert one.actions == ()


@pytest.mark.parametrize("format, subtype, snr", LOSSY)
def test_lossy_kinds_come_close(format: str, subtype: str, snr: float) -> None:
    x = speech()
    rate = RATE if subtype != "OPUS" else 48_000
    one = item(encoded(resampled(x[:, None], RATE, rate)[:, 0], format, subtype, rate), **RAW)
    y = one.x[0] / 32768
    lags = range(-40, 41)  # GSM and some codecs shift by some samples
    best = max(db(rms(x)) - db(rms(x[100:-100] - np.roll(y, -k)[100:-100])) for k in lags)
    assert best > snr
    assert one.facts["encoding"] == subtype


@pytest.mark.parametrize("format, subtype", [k for k in LOSSLESS if k[1] != "FLOAT"])
def test_one_recording_has_one_hash_in_all_kinds(format: str, subtype: str) -> None:
    samples = np.round(speech() * 32768) / 32768
    wav = item(encoded(samples))
    assert item(encoded(samples, format, subtype)).digest == wav.digest
    assert item(encoded(samples, format, subtype), normalise="none").digest == wav.digest
    assert item(encoded(samples, rate=11025)).digest != wav.digest
    assert item(encoded(samples.reshape(-1, 2))).digest != wav.digest
    assert item(encoded(samples[::-1])).digest != wav.digest


def av_encoded(x: np.ndarray, format: str, codec: str, rate: int) -> bytes:
    av = pytest.importorskip("av", reason="pip install av")
    out = io.BytesIO()
    with av.open(out, "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(x.astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        for part in av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate).resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.parametrize(
    "format, codec, kind", [("ipod", "aac", "m4a"), ("adts", "aac", "aac"), ("wv", "wavpack", "wv")]
)
def test_other_kinds_through_pyav(format: str, codec: str, kind: str) -> None:
    x = tone(441, rate=44_100)
    data = av_encoded(x, format, codec, 44_100)
    one = item(data, sample_rate=44_100, clip_samples=44_100, **RAW)
    middle = one.x[0, 10_000:30_000] / 32768
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(20_000)))
    assert spectrum.argmax() == 200
    assert rms(middle) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    assert "cut short" in (cut := reason(data[: len(data) // 2], kind)) or cut.startswith("ffmpeg: ")
    assert "longer than max_seconds=0.5" in reason(data, kind, max_seconds=0.5)


def test_without_pyav_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert reason(b"\0\0\0\x20ftypM4A ", "m4a") == "an M4A sound needs PyAV: pip install 'gan-kit[av]'"


# Reasons


@pytest.mark.parametrize(
    "data, why",
    [
        (b"", "an empty file, no sound"),
        (bytes(3000), "nothing but zero bytes, no sound"),
        (b"<!DOCTYPE html><html>404</html>", "an HTML page, no sound"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG picture, no sound"),
        (encoded(np.zeros(0)), "a header without sound"),
        (encoded(np.zeros(0), "AIFF"), "a header without sound"),
    ],
)
def test_what_is_no_sound_says_so(data: bytes, why: str) -> None:
    assert reason(data) == why


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_nan_and_infinity_are_refused_or_zero(bad: float, subtype: str) -> None:
    x = speech()
    x[100:103] = bad
    data = encoded(x, "WAV", subtype)
    assert reason(data) == "NaN or infinite in 3 of 8,000 samples"
    mended = item(data, nonfinite="zero", **RAW)
    assert "NaN to zero" in mended.actions
    assert (mended.x[0, 100:103] == 0).all()
    assert np.abs(mended.x[0] / 32768 - np.nan_to_num(x, posinf=0, neginf=0)).max() < 2**-15


@pytest.mark.parametrize(
    "format, subtype", [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("WAV", "PCM_16")]
)
@pytest.mark.parametrize("share", [0.3, 0.9, 0.995])
def test_files_cut_short_say_so(format: str, subtype: str, share: float) -> None:
    data = encoded(speech(3), format, subtype)
    assert reason(data[: int(share * len(data))]).startswith("cut short")


def test_a_flac_from_a_pipe_has_no_length_and_is_whole() -> None:
    data = bytearray(encoded(speech(), "FLAC"))
    data[21] &= 0xF0  # the last 36 bits of 8 + 18 bytes count the samples, 0 means unknown
    data[22:26] = bytes(4)
    assert item(bytes(data)).facts["seconds"] == 1
    assert reason(bytes(data), max_seconds=0.5) == "1 s, longer than max_seconds=0.5"


def test_bombs_are_refused_before_they_are_decoded() -> None:
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", RATE, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros(1 << 20, np.int16))
    told = bytearray(out.getvalue())
    assert len(told) < 250_000
    untold = bytearray(told)
    untold[21] &= 0xF0
    untold[22:26] = bytes(4)
    huge = bytearray(encoded(speech(), "RF64"))
    at = huge.find(b"ds64") + 16
    huge[at : at + 8] = struct.pack("<Q", 2 * 10**12)
    wide = encoded(np.zeros((1000, 40)), rate=1_000_000)
    for data, why, limit in (
        (told, "7864.32 s, longer than max_seconds=600", 1 << 20),
        (untold, "longer than max_seconds=600", 64 << 20),
        (huge, "cut short: its header tells of 2,000,000,000,000 bytes", 1 << 20),
    ):
        tracemalloc.start()
        assert why in reason(bytes(data))
        assert tracemalloc.get_traced_memory()[1] < limit
        tracemalloc.stop()
    told[21] |= 0x0F
    assert "more than memory is meant for" in reason(bytes(told), max_seconds=1e9)
    assert item(wide).x.shape == (1, 8000)


def test_lengths_out_of_bounds_name_the_setting() -> None:
    data = encoded(speech())
    assert reason(data, max_seconds=0.5) == "1 s, longer than max_seconds=0.5"
    assert reason(data, min_seconds=2) == "1 s, shorter than min_seconds=2"


# Resampling


@pytest.mark.parametrize(
    "rate, to", [(44_100, 16_000), (48_000, 44_100), (8000, 22_050), (44_100, 22_050), (11_025, 8000)]
)
def test_resampling_passes_the_band_and_stops_what_would_fold(rate: int, to: int) -> None:
    nyquist = min(rate, to) / 2

    def level(hertz: float) -> float:
        y = resampled(tone(hertz, 1.0, rate, 1.0)[:, None], rate, to)[:, 0]
        return db(rms(y[len(y) // 4 : -len(y) // 4]) * np.sqrt(2))

    for share in (0.01, 0.3, 0.6, 0.89):
        assert abs(level(share * nyquist)) < 0.02
    if rate > to:
        for hertz in (1.01 * nyquist, (nyquist + rate / 2) / 2, 0.99 * rate / 2):
            assert level(hertz) < -90


def test_resampling_delays_nothing_and_keeps_the_pitch() -> None:
    y = resampled(tone(700, 1, 44_100)[:, None], 44_100, 16_000)[:, 0]
    want = tone(700, 1, 16_000)
    assert len(y) == 16_000
    assert np.abs(y - want)[500:-500].max() < 1e-4


def test_odd_rates_are_met_closely() -> None:
    y = resampled(tone(700, 1, 44_101)[:, None], 44_101, 16_000)[:, 0]
    assert np.abs(y[500:15_500] - tone(700, 1, 16_000)[500:15_500]).max() < 5e-3
    for rate, to in ((99_991, 8000), (11_127, 48_000), (200_000, 300), (30, 8000)):
        length = len(resampled(np.zeros((rate, 1), np.float32), rate, to))
        assert length == pytest.approx(to, abs=2, rel=1e-5)


# Levels


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000])
@pytest.mark.parametrize("level", [-3.01, -23.0, -40.0])
def test_a_997_hz_tone_has_the_loudness_of_the_recommendation(rate: int, level: float) -> None:
    """BS.1770: a full-scale sine of 997 Hz in one channel reads -3.01 LUFS."""
    x = tone(997, 3, rate, 10 ** ((level + 3.01) / 20))[:, None]
    assert lufs(x, rate) == pytest.approx(level, abs=0.05)
    assert lufs(x.repeat(2, 1), rate) == pytest.approx(level + 3.01, abs=0.05)


def test_loudness_is_gated() -> None:
    x = tone(997, 5, 48_000, 0.1)
    alone = lufs(x[:, None], 48_000)
    faint = np.concatenate([x, 0.01 * x])[:, None]  # 20 dB below: under the relative gate
    assert lufs(faint, 48_000) == pytest.approx(alone, abs=0.15)
    assert lufs(np.concatenate([x, 0.5 * x])[:, None], 48_000) < alone - 1.5
    assert lufs(1e-5 * x[:, None], 48_000) == -np.inf
    assert lufs(x[:4800, None], 48_000) == pytest.approx(
        alone, abs=0.6
    )  # shorter than a block, with the filter's start


def test_loudness_agrees_with_torchaudio(torchaudio: ModuleType) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((48_000 * 6, 2)) * np.linspace(0.001, 0.3, 48_000 * 6)[:, None]).clip(-0.99, 0.99)
    theirs = torchaudio.functional.loudness(torch.from_numpy(x.T.copy()), 48_000)
    assert lufs(x, 48_000) == pytest.approx(float(theirs), abs=0.2)  # their shelf is another formula


@pytest.mark.parametrize("level", [-1.0, -12.0, 0.0])
def test_peak_normalising(level: float) -> None:
    one = item(encoded(speech() / 7), level=level)
    assert db(np.abs(one.x).max() / 32768) == pytest.approx(level, abs=0.01)
    assert f"peak to {level:g} dBFS" in one.actions


def test_loudness_normalising_holds_the_peak_below_full_scale() -> None:
    clicks = 0.01 * speech(2)
    clicks[8000] = 0.9
    quiet = item(encoded(tone(997, 2, amplitude=0.01)), normalise="loudness", level=-20.0, clip_samples=16_000)
    assert lufs(quiet.x.T / 32768, RATE) == pytest.approx(-20, abs=0.1)
    held = item(encoded(clicks), normalise="loudness", level=-14.0)
    assert "loudness held by the peak" in held.actions
    assert "clipped" not in held.flags


def test_gain_is_not_taken_back_and_offset_is() -> None:
    x = speech() * 0.1 + 0.2
    one = item(encoded(x), normalise="none")
    assert abs(one.x.mean()) < 1
    assert one.facts["dc"] == pytest.approx(x.mean(), abs=1e-4)
    assert "dc offset" in one.flags
    assert "offset removed" in one.actions
    assert item(encoded(x), **RAW).x.mean() / 32768 == pytest.approx(x.mean(), abs=1e-4)


# Shapes


def test_pad_keeps_the_start_and_crop_the_middle() -> None:
    x = np.arange(-400, 600) / 1024
    samples = np.round(x * 32768).astype(np.int16)
    for fit, size, want in (
        ("pad", 300, samples[:300]),
        ("crop", 300, samples[350:650]),
        ("pad", 1200, np.pad(samples, (0, 200))),
        ("crop", 1200, np.pad(samples, (0, 200))),
    ):
        one = item(encoded(x), fit=fit, clip_samples=size, **RAW)
        assert one.part == ""
        assert (one.x[0] == want).all()


@settings(max_examples=25)
@given(
    length=st.integers(1, 500),
    size=st.integers(1, 200),
    hop=st.integers(1, 200),
    remainder=st.sampled_from([0.1, 0.5, 1]),
)
def test_slices_cover_the_sound(length: int, size: int, hop: int, remainder: float) -> None:
    hop = min(hop, size)
    samples = np.random.default_rng(length).integers(-9999, 9999, length, dtype=np.int16)
    domain = Sounds(RATE, size, fit="slice", hop_samples=hop, min_remainder=remainder, **RAW)
    clips = items(encoded(samples / 32768), domain)
    assert [c.part for c in clips] == [f"clip {k}" for k in range(len(clips))]
    for k, clip in enumerate(clips):
        piece = samples[k * hop : k * hop + size]
        assert (clip.x[0] == np.pad(piece, (0, size - len(piece)))).all()
        assert k == 0 or len(piece) >= remainder * size
    assert length - len(clips) * hop < max(remainder * size, 1)  # what is left is too little
    assert len({(c.digest, c.x.tobytes()) for c in clips}) == len({c.digest for c in clips})


def test_slices_of_a_resampled_file_hash_their_own_stretch() -> None:
    x = np.tile(speech(0.5, 16_000), 4)
    clips = items(encoded(x, rate=16_000), Sounds(RATE, 4000, fit="slice"))
    assert [c.facts["start_seconds"] for c in clips] == [0, 0.5, 1, 1.5]
    assert len({c.digest for c in clips}) == 1
    assert len({c.quality for c in clips}) == 1


def test_silence_is_cut_off_but_for_its_margin() -> None:
    x = np.concatenate([np.zeros(4000), speech(0.5) + tone(2000, 0.5, amplitude=0.1), np.zeros(8000)])
    one = item(encoded(x), trim_db=40.0, clip_samples=8000, trim_margin_seconds=0.05)
    loud = np.flatnonzero(np.abs(one.x[0]) > 1000)
    assert loud[0] == pytest.approx(400, abs=90)
    assert "silence cut off" in one.actions
    assert "silence cut off" not in item(encoded(x)).actions
    assert not item(encoded(np.zeros(100)), trim_db=40.0).x.any()


@pytest.mark.parametrize("have", [1, 2, 6])
@pytest.mark.parametrize("want", [1, 2])
def test_channels_become_the_wanted_ones(have: int, want: int) -> None:
    x = np.stack([tone(200 * (k + 1), amplitude=0.1) for k in range(have)], 1)
    one = item(encoded(x), channels=want, **RAW)
    assert one.x.shape == (want, 8000)
    target = x.mean(1, keepdims=True) if want == 1 else x[:, [0, -1 if have == 1 else 1]]
    assert np.abs(one.x.T / 32768 - target).max() < 2**-14
    assert one.facts["channels"] == have
    assert (one.actions == ()) == (have == want)


# What a person may not want


def test_flags_and_facts_of_stereo() -> None:
    x, y = speech(), tone(900)
    for left, right, kind in ((x, x, "mono"), (x, -x, "out of phase"), (x, y, "stereo"), (x, 0 * x, "stereo")):
        one = item(encoded(np.stack([left, right], 1)))
        assert one.facts["stereo"] == kind
        assert ("out of phase" in one.flags) == (kind == "out of phase")
        assert rms(one.x / 32768) > 0.1  # an out-of-phase pair does not cancel
        assert one.signature.any()


def test_silence_is_flagged_and_not_blown_up() -> None:
    noise = 1e-4 * np.random.default_rng(0).standard_normal(8000)
    for x in (np.zeros(8000), noise, np.full(8000, 0.25)):
        one = item(encoded(x))
        assert "silent" in one.flags
        assert np.abs(one.x).max() < 40
    assert "silent" not in item(encoded(100 * noise)).flags


def test_clipping_is_found_and_full_scale_alone_is_not() -> None:
    x = speech() / np.abs(speech()).max()
    assert item(encoded(x)).flags == ()
    assert item(encoded(np.clip(1.05 * x, -1, 1))).flags == ("clipped",)
    one = item(encoded(np.clip(4 * x, -1, 1)))
    assert one.flags == ("clipped",)
    assert one.facts["clipped"] == pytest.approx((np.abs(4 * x) >= 1).mean(), rel=0.05)
    assert clipped_share(np.array([[1.0], [0.5], [0.5], [1], [-1]])) == 0
    assert clipped_share(np.array([[1.0], [1], [1], [0], [-1]])) == 0.6
    over = item(encoded(3 * x, "WAV", "FLOAT"), normalise="none")
    assert "limited to full scale" in over.actions
    assert "clipped" in over.flags


def test_short_sounds_are_flagged() -> None:
    assert "short" in item(encoded(speech(0.05))).flags
    assert "short" not in item(encoded(speech(0.2))).flags


def test_of_two_copies_the_better_has_the_higher_quality() -> None:
    x = speech()
    best = item(encoded(x)).quality
    for worse in (
        encoded(x, "WAV", "ULAW"),
        encoded(x, "WAV", "PCM_U8"),
        encoded(x, "MP3", "MPEG_LAYER_III"),
        encoded(x[::2], rate=4000),
        encoded(np.clip(4 * x, -1, 1)),
        encoded(x[:4000]),
    ):
        assert item(worse).quality < best
    assert item(encoded(x, "FLAC")).quality == best
    assert item(encoded(x, "WAV", "PCM_24")).quality > best
    assert item(encoded(np.repeat(x, 2), rate=16_000)).quality == best  # more than is wanted is worth nothing


# The domain


def test_copies_in_other_kinds_are_near() -> None:
    x = speech()
    copies = [
        encoded(x),
        encoded(0.3 * x, "FLAC"),
        encoded(np.pad(x, (200, 0)), "MP3", "MPEG_LAYER_III"),
        encoded(resampled(x[:, None], RATE, 22_050)[:, 0], "OGG", "VORBIS", 22_050),
        encoded(np.stack([x, -x], 1)),
        encoded(x[::-1]),
    ]
    domain = Sounds(RATE, 8000)
    found = domain.near(np.stack([items(data, domain)[0].signature for data in copies]))
    assert sorted({int(i) for i in found.same.ravel()}) == [0, 1, 2, 3, 4]


def test_the_domain_pickles_and_its_repr_names_all_settings() -> None:
    domain = Sounds(16_000, 16_384, fit="slice", trim_db=40.0)
    assert pickle.loads(pickle.dumps(domain)) == domain
    assert repr(domain) != repr(Sounds(16_000, 16_384, fit="slice"))
    assert all(f"{name}=" in repr(domain) for name in Sounds.__dataclass_fields__)
    assert (domain.name, domain.version) == ("audio", 1)
    assert {"wav", "flac", "mp3", "ogg", "m4a"} <= domain.kinds


def test_the_same_bytes_give_the_same_item() -> None:
    data = encoded(speech(1.5, 22_050), "OGG", "VORBIS", 22_050)
    a, b = item(data), item(data)
    assert a.x.tobytes() == b.x.tobytes()
    assert (a.digest, a.facts, a.quality) == (b.digest, b.facts, b.quality)
    assert a.signature.tobytes() == b.signature.tobytes()


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"sample_rate": 0}, "sample_rate=0"),
        ({"clip_samples": -1}, "clip_samples=-1"),
        ({"channels": 3}, "channels=3; set data.channels to 1 or 2"),
        ({"fit": "squash"}, "no fit='squash'; have pad, crop, slice"),
        ({"normalise": "rms"}, "no normalise='rms'"),
        ({"nonfinite": "skip"}, "no nonfinite='skip'"),
        ({"hop_samples": 0}, "hop_samples=0"),
        ({"min_remainder": 0.0}, "min_remainder=0.0"),
        ({"level": 3.0}, "level=3.0 dBFS is above full scale"),
        ({"trim_db": -40.0}, "trim_db=-40.0"),
        ({"min_seconds": 700.0}, "min_seconds=700.0"),
    ],
)
def test_wrong_settings_name_the_value(wrong: dict, words: str) -> None:
    with pytest.raises(UserError) as e:
        Sounds(**{"sample_rate": RATE, "clip_samples": 8000} | wrong)
    assert words in str(e.value)


def test_without_soundfile_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(UserError, match=r"pip install 'gan-kit\[audio\]'"):
        Sounds(RATE, 8000)


@pytest.mark.parametrize("n, columns", [(0, 4), (1, 4), (7, 3)])
def test_a_sheet_shows_all_clips(n: int, columns: int) -> None:
    rows = [np.round(speech(0.3 * (k + 1)) * 32767).astype(np.int16)[None] for k in range(n)]
    sheet = Image.open(io.BytesIO(Sounds(RATE, 8000).sheet(rows, columns)))
    assert sheet.format == "PNG"
    assert sheet.width == min(columns, max(n, 1)) * 196 + 4
    assert sheet.height == max(1, -(-n // columns)) * 100 + 4
    for tiny in (1, 100, 255):
        Sounds(RATE, 8000).sheet([np.zeros((2, tiny), np.int16)], 1)


# Damage


SEEDS = {
    f"{f} {s}": encoded(speech(0.1), f, s)
    for f, s in [("WAV", "PCM_16"), ("WAV", "IMA_ADPCM"), ("WAV", "FLOAT"), ("AIFF", "PCM_16"), ("FLAC", "PCM_16"),
                 ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("CAF", "ALAC_16"), ("W64", "PCM_16"), ("AU", "PCM_16")]
}  # fmt: skip


@settings(max_examples=100)
@given(
    seed=st.sampled_from(sorted(SEEDS)),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6),
    keep=st.floats(0.1, 1),
)
def test_damaged_files_give_items_or_a_reason(seed: str, edits: list[tuple[float, int]], keep: float) -> None:
    fuzzed(seed, edits, keep)


def fuzzed(seed: str, edits: list[tuple[float, int]], keep: float) -> None:
    data = bytearray(SEEDS[seed])
    for place, byte in edits:
        # half of the damage falls into the header
        data[int(place * (len(data) if byte % 2 else min(100, len(data))))] = byte
    data = data[: max(1, int(keep * len(data))) if keep < 0.9 else None]
    domain = Sounds(RATE, 800, fit="slice", max_seconds=20.0)
    with contextlib.suppress(Unusable):
        for one in items(bytes(data), domain, kind_of(SEEDS[seed])):
            assert one.x.shape == (1, 800)
            assert np.isfinite(one.quality)


@pytest.mark.slow
@settings(max_examples=5000)
@given(
    seed=st.sampled_from(sorted(SEEDS)),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=20),
    keep=st.floats(0.1, 1),
)
def test_thousands_of_damaged_files(seed: str, edits: list[tuple[float, int]], keep: float) -> None:
    fuzzed(seed, edits, keep)


# Real recordings


def test_planted_defects_on_spoken_digits_are_found() -> None:
    root = os.environ.get("GAN_KIT_DATA")
    files = sorted(Path(root, "fsdd", "recordings").glob("*_0.wav")) if root else []
    if not files:
        pytest.skip("$GAN_KIT_DATA/fsdd/recordings has no spoken digits")
    for file in files:
        data = file.read_bytes()
        x = soundfile.read(file)[0]
        assert not {"silent", "out of phase"} & set(item(data).flags)
        assert reason(data[: int(0.7 * len(data))]).startswith("cut short")
        assert reason(encoded(np.where(np.arange(len(x)) == 99, np.nan, x), "WAV", "FLOAT")).startswith("NaN")
        assert "silent" in item(encoded(x * 1e-4)).flags
        assert "clipped" in item(encoded(np.clip(x / np.abs(x).max() * 4, -1, 1))).flags
