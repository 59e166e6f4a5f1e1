"""Every format that can be written here is known by its first bytes, whatever its name, and nothing else is."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gan_kit.data.prepare.kinds import HEAD_BYTES, IMAGES, SOUNDS, group_of, junk_of_name, kind_of, says


def picture(fmt: str, mode: str = "RGB", **options) -> bytes:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).convert(mode)
    out = io.BytesIO()
    image.save(out, fmt, **options)
    return out.getvalue()


def sound(fmt: str, subtype: str | None = None, endian: str | None = None) -> bytes:
    soundfile = pytest.importorskip("soundfile")
    out = io.BytesIO()
    x = np.random.default_rng(0).standard_normal(4000) * 0.1
    soundfile.write(out, x, 16000, format=fmt, subtype=subtype, endian=endian)
    return out.getvalue()


@pytest.mark.parametrize(
    "fmt, mode",
    [
        ("AVIF", "RGB"), ("IM", "RGB"), ("MSP", "1"),
        ("BMP", "RGB"), ("BMP", "P"), ("BMP", "1"), ("DDS", "RGB"), ("GIF", "P"), ("ICNS", "RGBA"),
        ("ICO", "RGBA"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("JPEG2000", "RGB"), ("PCX", "RGB"), ("PNG", "RGB"),
        ("PNG", "I;16"), ("PPM", "RGB"), ("PPM", "L"), ("PPM", "1"), ("PPM", "RGBA"), ("PPM", "F"), ("QOI", "RGB"),
        ("SGI", "RGB"), ("TIFF", "RGB"), ("TIFF", "CMYK"), ("WEBP", "RGB"), ("WEBP", "RGBA"), ("XBM", "1"),
    ],
)  # fmt: skip
def test_every_picture_is_known_without_a_name(fmt: str, mode: str) -> None:
    Image.init()
    if fmt not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {fmt}")
    data = picture(fmt, mode)
    assert kind_of(data[:HEAD_BYTES]) == fmt.lower()
    assert kind_of(data[:HEAD_BYTES], "holiday.txt") == fmt.lower()
    assert fmt.lower() in IMAGES


def test_big_tiffs_and_many_pictures_in_one() -> None:
    assert kind_of(picture("TIFF", big_tiff=True)) == "tiff"
    assert kind_of(picture("GIF", "P", save_all=True, append_images=[Image.new("P", (50, 40))])) == "gif"
    assert kind_of(picture("MPO", save_all=True, append_images=[Image.new("RGB", (50, 40))])) == "jpeg"


def test_a_tga_has_no_magic_and_needs_its_name() -> None:
    data = picture("TGA")
    assert kind_of(data, "a.TGA") == "tga"
    assert kind_of(data, "a.jpg") == ""


def test_formats_that_are_only_known_with_their_name() -> None:
    for fmt, name in (("DIB", "a.dib"), ("SPIDER", "a.spi")):
        assert kind_of(picture(fmt, "F" if fmt == "SPIDER" else "RGB"), name) == fmt.lower()


@pytest.mark.parametrize("name", ["IMG_1.NEF", "a.dng"])
def test_a_raw_photograph_is_no_tiff_though_it_is_one(name: str) -> None:
    assert kind_of(picture("TIFF"), name) == "raw"
    assert kind_of(b"II*\0\x10\0\0\0CR\x02\0", "x") == "raw"


@pytest.mark.parametrize(
    "fmt, subtype, endian, kind",
    [
        ("WAV", "PCM_16", None, "wav"), ("WAV", "FLOAT", None, "wav"), ("WAV", "ULAW", None, "wav"),
        ("WAV", "IMA_ADPCM", None, "wav"), ("WAV", "PCM_16", "BIG", "wav"), ("WAVEX", "PCM_24", None, "wav"),
        ("RF64", "PCM_16", None, "rf64"), ("W64", "PCM_16", None, "w64"), ("AIFF", "PCM_16", None, "aiff"),
        ("AIFF", "FLOAT", None, "aiff"), ("AU", "PCM_16", None, "au"), ("AU", "PCM_16", "LITTLE", "au"),
        ("CAF", "PCM_16", None, "caf"), ("FLAC", "PCM_16", None, "flac"), ("OGG", "VORBIS", None, "ogg"),
        ("OGG", "OPUS", None, "ogg"), ("MP3", "MPEG_LAYER_III", None, "mp3"), ("NIST", "PCM_16", None, "nist"),
        ("VOC", "PCM_16", None, "voc"), ("SVX", "PCM_16", None, "svx"), ("PVF", "PCM_16", None, "pvf"),
        ("PAF", "PCM_16", None, "paf"), ("IRCAM", "PCM_16", None, "ircam"), ("AVR", "PCM_16", None, "avr"),
        ("XI", "DPCM_16", None, "xi"),
    ],
)  # fmt: skip
def test_every_sound_is_known_without_a_name(fmt: str, subtype: str, endian: str | None, kind: str) -> None:
    if fmt in ("XI",):  # has a fixed sample rate
        soundfile = pytest.importorskip("soundfile")
        out = io.BytesIO()
        soundfile.write(out, np.zeros(4000), 44100, format=fmt, subtype=subtype)
        data = out.getvalue()
    else:
        data = sound(fmt, subtype, endian)
    assert kind_of(data[:HEAD_BYTES]) == kind
    assert kind in SOUNDS


def test_an_mp3_has_no_magic() -> None:
    data = sound("MP3", "MPEG_LAYER_III")
    start = data.index(b"\xff\xfb" if b"\xff\xfb" in data else b"\xff\xf3")
    frames = data[start:]
    assert kind_of(frames[:HEAD_BYTES]) == "mp3"
    tag = b"ID3\x04\0\0" + bytes([0, 0, 2, 0]) + b"\0" * 256
    assert kind_of((tag + frames)[:HEAD_BYTES]) == "mp3"
    cover = b"ID3\x04\0\0" + bytes([0, 1, 0, 0]) + b"\0" * 16384  # fills the head
    assert kind_of((cover + frames)[:HEAD_BYTES]) == "mp3"
    assert kind_of((b"\0" * 100 + frames)[:HEAD_BYTES], "a.mp3") == "mp3"
    assert kind_of(b"\xff\xfb\x90\x00" + b"\x11" * 2000) == ""  # one frame's header, and no second one
    flac = b"ID3\x04\0\0" + bytes([0, 0, 0, 10]) + b"\0" * 10 + sound("FLAC", "PCM_16")
    assert kind_of(flac[:HEAD_BYTES]) == "flac"


def ftyp(major: bytes, *brands: bytes) -> bytes:
    body = b"ftyp" + major + b"\0\0\0\0" + b"".join(brands)
    return (len(body) + 4).to_bytes(4, "big") + body + b"\0\0\0\x08free"


@pytest.mark.parametrize(
    "head, kind",
    [
        (ftyp(b"heic", b"mif1"), "heif"), (ftyp(b"mif1", b"heic"), "heif"), (ftyp(b"mif1", b"avif"), "avif"),
        (ftyp(b"M4A ", b"isom"), "m4a"), (ftyp(b"isom", b"mp42"), "mp4"), (ftyp(b"qt  "), "mov"),
        (ftyp(b"3gp5"), "3gp"), (ftyp(b"crx "), "raw"), (b"\xff\x0a\x00", "jxl"), (b"#!AMR\n", "amr"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "webm"), (b"RIFF\0\0\0\0AVI LIST", "avi"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c", "wma"),
        (b"\xff\xf1\x50\x80\x02\x1f\xfc" + b"\0" * 9 + b"\xff\xf1\x50\x80\x02\x1f\xfc", "aac"),
        (b"%PDF-1.4", "pdf"), (b"%!PS-Adobe-3.0 EPSF-3.0", "eps"), (b"7z\xbc\xaf\x27\x1c\0\x04", "7z"),
        (b"Rar!\x1a\x07\x01\0", "rar"), (b"\x28\xb5\x2f\xfd\0", "zst"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "pointer"),
        (b"", "empty"), (b"\0" * 100, "zeros"),
    ],
)  # fmt: skip
def test_other_kinds(head: bytes, kind: str) -> None:
    assert kind_of(head) == kind


@pytest.mark.parametrize(
    "text, kind",
    [
        ("<!DOCTYPE html><html></html>", "html"), ("\n <HTML lang=en>", "html"), ("<!-- x --><head>", "html"),
        ('<?xml version="1.0"?><!DOCTYPE html><html>', "html"), ('<?xml version="1.0"?><rss/>', "xml"),
        ('<svg xmlns="http://www.w3.org/2000/svg"/>', "svg"), ('<?xml version="1.0"?>\n<svg/>', "svg"),
        ('{"error": "not found"}', "json"), ("[1, 2]", "json"), ("Access denied", "text"),
        ("die Größe der Bilder", "text"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_what_was_written_by_hand_or_by_a_server(text: str, kind: str, encoding: str) -> None:
    assert kind_of(text.encode(encoding), "photo.jpg") == kind


def archive_of(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("a.png")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_archives() -> None:
    tar = archive_of(picture("PNG"))
    assert kind_of(tar[:HEAD_BYTES]) == "tar"
    assert kind_of(gzip.compress(tar)[:HEAD_BYTES]) == "tar.gz"
    assert kind_of(lzma.compress(tar)[:HEAD_BYTES]) == "tar.xz"
    assert kind_of(bz2.compress(tar)[:HEAD_BYTES], "a.tar.bz2") == "tar.bz2"
    assert kind_of(gzip.compress(b"some text" * 100)) == "gz"
    assert kind_of(lzma.compress(b"some text" * 100)) == "xz"
    for first, kind in (("a.png", "zip"), ("[Content_Types].xml", "document"), ("mimetype", "document")):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as z:
            z.writestr(first, b"x")
        assert kind_of(out.getvalue()) == kind


def test_reasons_read_as_speech() -> None:
    words = [says(k) for k in ("html", "text", "wav", "mp3", "avi", "mov", "tar.gz", "png", "empty", "pdf")]
    assert words == [
        "an HTML page", "plain text", "a WAV sound", "an MP3 sound", "an AVI video", "a MOV video", "a TAR.GZ archive",
        "a PNG picture", "an empty file", "PDF",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name, folder, junk",
    [
        (".DS_Store", False, "system file"), ("Thumbs.db", False, "system file"), ("__MACOSX", True, "system folder"),
        ("._cat.jpg", False, "system file"), (".git", True, "hidden folder"), (".hidden.jpg", False, "hidden file"),
        ("cat.jpg~", False, "editor backup"), ("cat.jpg.part", False, "editor backup"), ("cat.bak", True, ""),
        ("cat.jpg", False, ""), ("cat", False, ""), ("...", False, "hidden file"), ("Icon\r", False, "system file"),
    ],
)  # fmt: skip
def test_junk_by_name(name: str, folder: bool, junk: str) -> None:
    assert junk_of_name(name, folder) == junk


@given(st.binary(max_size=600), st.sampled_from(["", "a.mp3", "a.tga", "a.jpg", "a.tar.bz2", "x.m4a"]))
def test_no_bytes_make_it_stumble(head: bytes, name: str) -> None:
    assert isinstance(kind_of(head, name), str)


@given(st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "ICO"]), st.data())
def test_heads_cut_and_changed_anywhere_are_survived(fmt: str, data) -> None:
    head = bytearray(picture(fmt, "RGBA" if fmt == "ICO" else "RGB")[: data.draw(st.integers(0, 300))])
    for _ in range(data.draw(st.integers(0, 4))):
        if head:
            head[data.draw(st.integers(0, len(head) - 1))] = data.draw(st.integers(0, 255))
    kind_of(bytes(head), "a." + fmt)


def test_noise_is_hardly_ever_taken_for_something() -> None:
    rng = np.random.default_rng(0)
    kinds = [kind_of(rng.bytes(HEAD_BYTES)) for _ in range(2000)]
    assert sum(group_of(kind) != "" for kind in kinds) <= 1
