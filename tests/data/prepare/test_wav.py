"""Headers that tell of more sound than there is, and headers that are odd and right."""

from __future__ import annotations

import contextlib
import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_kit.data.prepare.kinds import kind_of
from gan_kit.data.prepare.types import Unusable
from gan_kit.data.prepare.wav import checked

soundfile = pytest.importorskip("soundfile", reason="pip install 'gan-kit[audio]'")

TELLING = [
    ("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "DOUBLE"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"),
    ("WAV", "MS_ADPCM"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"),
    ("AIFF", "ULAW"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("CAF", "ALAC_16"), ("NIST", "PCM_16"), ("SVX", "PCM_16"),
    ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip


def encoded(format: str, subtype: str, frames: int = 4001, channels: int = 1) -> bytes:
    out = io.BytesIO()
    wave = 0.5 * np.sin(np.arange(frames * channels) * 0.3).reshape(frames, channels)
    soundfile.write(out, wave, 8000, format=format, subtype=subtype)
    return out.getvalue()


def chunk(name: bytes, content: bytes, size: int | None = None, order: str = "<") -> bytes:
    told = len(content) if size is None else size
    return name + struct.pack(order + "I", told) + content + b"\0" * (len(content) % 2 if size is None else 0)


def wav(*chunks: bytes, rate: int = 8000, channels: int = 1, order: str = "<") -> bytes:
    fmt = struct.pack(order + "HHIIHH", 1, channels, rate, 2 * rate & 0xFFFFFFFF, 2, 16)
    body = b"WAVE" + chunk(b"fmt ", fmt, order=order) + b"".join(chunks)
    return chunk(b"RIFF" if order == "<" else b"RIFX", body, order=order)


SAMPLES = np.arange(-500, 500, dtype="<i2").tobytes()


def frames(data: bytes) -> int:
    return len(soundfile.read(io.BytesIO(data))[0])


@pytest.mark.parametrize("format, subtype", TELLING)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_whole_file_passes_as_it_is(format: str, subtype: str, channels: int) -> None:
    data = encoded(format, subtype, channels=1 if format == "SVX" else channels)
    assert checked(data, kind_of(data)) is data


@pytest.mark.parametrize("format, subtype", TELLING)
@settings(max_examples=25)
@given(share=st.floats(0.0, 0.998))
def test_wherever_it_is_cut_a_file_is_found_cut(format: str, subtype: str, share: float) -> None:
    data = encoded(format, subtype)
    kind = kind_of(data)
    cut = data[: max(12 if kind != "mp3" else 200, int(share * len(data)))]
    with pytest.raises(Unusable, match=r"^cut short|^a header without sound|^its NIST header makes no sense"):
        checked(cut, kind)


def test_the_reason_tells_both_lengths() -> None:
    with pytest.raises(Unusable) as e:
        checked(wav(chunk(b"data", SAMPLES))[:-500], "wav")
    assert str(e.value) == "cut short: its header tells of 2,000 bytes of sound, 1,500 are there"


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0xFFFFFFFF - 36, 0x7FFFF000, 0x7FFFFFFF, 0x80000000])
@pytest.mark.parametrize("riff", [0, 0xFFFFFFFF])
def test_a_size_left_open_by_a_pipe_reaches_to_the_end(size: int, riff: int) -> None:
    data = bytearray(wav(chunk(b"data", SAMPLES, size)))
    data[4:8] = struct.pack("<I", riff)
    assert frames(checked(bytes(data), "wav")) == 1000
    with pytest.raises(Unusable, match="a header without sound"):
        checked(bytes(data[: -len(SAMPLES)]), "wav")


def test_open_sizes_of_other_containers() -> None:
    au, caf = bytearray(encoded("AU", "PCM_16")), bytearray(encoded("CAF", "PCM_16"))
    au[8:12] = b"\xff" * 4
    at = caf.find(b"data") + 4
    caf[at : at + 8] = b"\xff" * 8
    assert frames(checked(bytes(au), "au")) == 4001
    # its edit count is no sound, but the padding in front of which the header was written is
    assert frames(checked(bytes(caf), "caf")) >= 4001


def test_rf64_takes_its_size_from_ds64() -> None:
    data = bytearray(encoded("RF64", "PCM_16"))
    at = data.find(b"ds64") + 16
    assert struct.unpack_from("<Q", data, at) == (8002,)
    data[at : at + 8] = struct.pack("<Q", 2 * 10**12)
    with pytest.raises(Unusable, match=r"tells of 2,000,000,000,000 bytes of sound, 8,0\d\d are there"):
        checked(bytes(data), "rf64")


def test_odd_sizes_padding_order_and_other_chunks_are_right() -> None:
    odd = SAMPLES[:999]
    for data in (
        wav(chunk(b"data", odd)),
        wav(chunk(b"data", odd))[:-1],  # the byte of padding is often left out
        wav(chunk(b"LIST", b"INFOx"), chunk(b"data", SAMPLES), chunk(b"id3 ", b"abc")),
        wav(chunk(b"data", SAMPLES)) + b"what other programs leave behind",
        wav(chunk(b"data", SAMPLES, order=">"), order=">"),
    ):
        assert checked(data, "wav") is data


@pytest.mark.parametrize(
    "data, reason",
    [
        (wav(), "a header without sound"),
        (wav(chunk(b"data", b"")), "a header without sound"),
        (wav(chunk(b"data", b""), chunk(b"LIST", b"INFO")), "a header without sound"),
        (wav(chunk(b"LIST", b"INFO", 5000)), "cut short: it ends before the sound begins"),
        (wav(chunk(b"data", SAMPLES), rate=0), "its header tells of a sample rate of 0 Hz"),
        (wav(chunk(b"data", SAMPLES), rate=10**9), "its header tells of a sample rate of 1000000000 Hz"),
        (wav(chunk(b"data", SAMPLES), channels=65535), "its header tells of 65535 channels"),
        (wav(chunk(b"data", SAMPLES), channels=0), "its header tells of 0 channels"),
        (b"RIFF\0\0\0\0WAVE", "cut short: it ends before the sound begins"),
    ],
)
def test_impossible_headers_have_their_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Unusable) as e:
        checked(data, "wav")
    assert str(e.value) == reason


def test_endless_chunks_end() -> None:
    with pytest.raises(Unusable, match="a header without sound"):
        checked(wav() + chunk(b"junk", b"") * 200_000, "wav")


MAGIC = {
    "aiff": b"FORM....AIFF", "au": b".snd", "caf": b"caff\0\1\0\0", "mp3": b"ID3", "nist": b"NIST_1A\n", "ogg": b"OggS",
    "rf64": b"RF64....WAVE", "svx": b"FORM....8SVX", "w64": b"riff" + b"." * 36, "wav": b"RIFF....WAVE",
}  # fmt: skip


@given(data=st.binary(max_size=200), kind=st.sampled_from(sorted(MAGIC)))
def test_noise_behind_any_magic_raises_nothing_else(data: bytes, kind: str) -> None:
    with contextlib.suppress(Unusable):
        checked(MAGIC[kind] + data, kind)
