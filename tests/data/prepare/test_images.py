"""Pictures as they come: every mode, turned, animated, cut short, or something else under a picture's name."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFilter, PngImagePlugin
from simplejpeg import decode_jpeg

from gan_kit.data.prepare.image_decode import loaded, opened
from gan_kit.data.prepare.images import Images
from gan_kit.data.prepare.kinds import kind_of
from gan_kit.data.prepare.types import Found, Item, Unusable
from gan_kit.data.transforms import PadTo, Resize
from gan_kit.types import UserError


def coded(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def read(data: bytes, name: str = "a", **options) -> list[Item]:
    domain = Images(**{"transform": Resize(8)} | options)
    found = Found(name, Path(name), None, kind_of(data[:4096], name), len(data), 0)
    return domain.finished(list(domain.items(data, found)))


def pixel(data: bytes, **options) -> list[int]:
    (item,) = read(data, **options)
    return item.x[:, 4, 4].tolist()


def reason(data: bytes, name: str = "a", **options) -> str:
    with pytest.raises(Unusable) as e:
        read(data, name, **options)
    assert "\n" not in str(e.value)
    assert " at 0x" not in str(e.value)
    return str(e.value)


def texture(side: int = 96, seed: int = 0) -> Image.Image:
    """Coloured noise of several scales: it has structure wherever one looks."""
    rng = np.random.default_rng(seed)
    x = np.full((side, side, 3), 128.0)
    for scale in (1, 4, 8, 24):
        n = -(-side // scale)
        noise = rng.normal(0, 22, (n, n, 1)) + rng.normal(0, 8, (n, n, 3))
        x += np.kron(noise, np.ones((scale, scale, 1)))[:side, :side]
    return Image.fromarray(x.clip(0, 255).astype(np.uint8))


# Modes and colours


@pytest.mark.parametrize(
    "mode, colour, kind, rgb",
    [
        ("RGB", (200, 30, 10), "png", [200, 30, 10]),
        ("L", 77, "png", [77, 77, 77]),
        ("1", 1, "png", [255, 255, 255]),
        ("LA", (0, 0), "png", [255, 255, 255]),
        ("PA", None, "png", [255, 255, 255]),
        ("RGBA", (200, 30, 10, 255), "png", [200, 30, 10]),
        ("RGBA", (200, 30, 10, 0), "png", [255, 255, 255]),
        ("RGBA", (0, 0, 0, 51), "webp", [204, 204, 204]),
        ("I;16", 65535, "png", [255, 255, 255]),
        ("I;16", 128 * 257, "tiff", [128, 128, 128]),
        ("I;16", 1000, "png", [4, 4, 4]),
        ("CMYK", (0, 255, 255, 0), "tiff", [255, 0, 0]),
        ("LAB", (255, 128, 128), "tiff", [255, 255, 255]),
    ],
)
def test_every_mode_becomes_rgb_and_grey(mode: str, colour, kind: str, rgb: list[int]) -> None:
    if mode == "PA":  # a palette with a transparent colour
        data = coded(Image.new("RGB", (12, 12), (10, 200, 90)).quantize(4), "gif", transparency=0)
    else:
        data = coded(Image.new(mode, (12, 12), colour), kind, **({"lossless": True} if kind == "webp" else {}))
    assert np.abs(np.subtract(pixel(data), rgb)).max() <= (1 if mode == "LAB" else 0)
    grey = round(0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2])
    assert abs(pixel(data, channels=1)[0] - grey) <= (1 if mode == "LAB" else 0)


def test_a_cmyk_jpeg_is_not_inverted() -> None:
    """Adobe's programs write the complement; Pillow knows by a marker that it writes itself."""
    data = coded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "jpeg", quality=95)
    assert b"Adobe" in data
    assert np.abs(np.array(pixel(data)) - [255, 0, 0]).max() <= 6


@pytest.mark.parametrize("mode, message", [("F", "floating-point pixels"), ("I", "32-bit integer pixels")])
def test_pixels_of_unknown_range_are_refused(mode: str, message: str) -> None:
    assert message in reason(coded(Image.new(mode, (9, 9), 5), "tiff"))


def test_what_transparent_parts_are_laid_on() -> None:
    clear = coded(Image.new("RGBA", (12, 12), (9, 9, 9, 0)), "png")
    opaque = coded(Image.new("RGBA", (12, 12), (9, 9, 9, 255)), "png")
    assert [pixel(clear, alpha=a)[0] for a in ("white", "black", "grey")] == [255, 0, 128]
    assert "transparent" in reason(clear, alpha="refuse")
    assert pixel(opaque, alpha="refuse") == [9, 9, 9]
    assert read(clear)[0].actions == ("alpha on white",)
    assert read(opaque)[0].actions == ()
    assert pixel(clear, channels=4)[3] == 0
    assert pixel(opaque, channels=4) == [9, 9, 9, 255]
    grey = Image.new("I;16", (12, 12), 500)  # one grey level of 16 bits stands for clear
    assert pixel(coded(grey, "png", transparency=500)) == [255] * 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
def test_exif_orientation_is_undone(orientation: int, kind: str) -> None:
    """The eight ways to store one picture give one sample (EXIF 2.3, tag 274)."""
    upright = np.zeros((24, 16, 3), np.uint8)
    upright[:8] = 255
    upright[:, :6, 0] = 128
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright), 7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "webp" else {"quality": 95, "subsampling": 0} if kind == "jpeg" else {}
    (item,) = read(coded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options))
    (want,) = read(coded(Image.fromarray(upright), "png"))
    assert np.abs(item.x.astype(int) - want.x).max() <= (40 if kind == "jpeg" else 0)
    assert (item.facts["width"], item.facts["height"]) == (16, 24)
    if orientation > 1 and kind != "tiff":  # which Pillow turns by itself
        assert "turned by EXIF" in item.actions


def test_broken_exif_does_not_spoil_the_pixels() -> None:
    data = coded(Image.new("RGB", (12, 12), (200, 30, 10)), "png", exif=b"Exif\0\0MM\0\x2a\0\0\0\xff" + b"\xff" * 20)
    assert pixel(data) == [200, 30, 10]


def test_a_colour_profile_is_followed_and_a_broken_one_told() -> None:
    image = Image.new("RGB", (12, 12), (200, 30, 10))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read(coded(image, "png", icc_profile=srgb))[0].actions == ()
    broken = read(coded(image, "png", icc_profile=b"no profile at all" * 20))[0]
    assert broken.actions == ("broken colour profile ignored",)
    assert broken.x[:, 4, 4].tolist() == [200, 30, 10]
    other = read(coded(Image.new("L", (12, 12), 100), "png", icc_profile=srgb))[0]
    assert other.x[0, 4, 4] == 100
    # the same profile with its red and blue primaries exchanged, and without its name
    swapped = srgb.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be")).replace(b"sRGB", b"mine")
    (item,) = read(coded(image, "png", icc_profile=swapped))
    assert item.actions == ("colour profile to sRGB",)
    r, g, b = item.x[:, 4, 4].tolist()
    assert b > 150 > r
    clear = Image.new("RGBA", (12, 12), (200, 30, 10, 0))
    assert pixel(coded(clear, "png", icc_profile=swapped)) == [255] * 3


# Frames


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tiff", "avif"])
def test_the_first_frame_or_all(kind: str) -> None:
    shades = [Image.new("RGB", (16, 16), (s, s, s)) for s in (0, 100, 250)]
    data = coded(shades[0], kind, save_all=True, append_images=shades[1:])
    (first,) = read(data)
    assert first.x.max() <= 2
    assert first.part == ""
    assert first.facts["frames"] == 3
    assert "first frame only" in first.actions
    every = read(data, frames="all")
    assert [i.part for i in every] == ["frame 1", "frame 2", "frame 3"]
    assert np.abs(np.subtract([int(i.x[0, 4, 4]) for i in every], [0, 100, 250])).max() <= 3


def test_pages_of_different_sizes_are_all_taken_but_no_stamps() -> None:
    stamp = texture(12)
    stamp.encoderinfo = {"tiffinfo": {254: 1}}
    pages = [texture(48), texture(30, 1).convert("L"), stamp, texture(20, 2)]
    data = coded(pages[0], "tiff", save_all=True, append_images=pages[1:])
    items = read(data, frames="all")
    assert [i.facts["width"] for i in items] == [48, 30, 20]
    assert [i.part for i in items] == ["frame 1", "frame 2", "frame 4"]
    assert len({i.digest for i in items}) == 3


# What is broken

KINDS = ("jpeg", "png", "gif", "webp", "bmp", "tiff", "ppm", "avif", "jpeg2000", "tga")
RESTARTS = {"restart_marker_blocks": 2}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_truncated_files_are_told(kind: str, share: float) -> None:
    data = coded(texture(), kind)
    name = f"a.{kind}"
    assert len(read(data, name)) == 1
    assert reason(data[: int(len(data) * share)], name).startswith("truncated: ")


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 2}, {"subsampling": 0}])
def test_jpegs_of_all_kinds_are_whole_or_not(options: dict) -> None:
    data = coded(texture(), "jpeg", **options)
    assert len(read(data + b"\0" * 999)) == 1
    assert len(read(data + coded(texture(), "jpeg")[:400])) == 1  # what a camera appends
    cut = data[: len(data) // 2]
    assert reason(cut) == "truncated: a JPEG without its end marker"
    assert reason(cut + bytes(len(data) - len(cut))) == "truncated: a JPEG without its end marker"
    assert "stray marker" in reason(cut + b"\xff\x3f" + data[len(cut) + 2 :])


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"optimize": True}, {"quality": 20}, RESTARTS])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_lacks_its_end_marker_alone_is_kept(options: dict, mode: str) -> None:
    data = coded(texture(61).convert(mode), "jpeg", **options)
    (whole,) = read(data)
    for cut in (1, 2):
        (item,) = read(data[:-cut])
        assert (item.x == whole.x).all()
        assert item.digest == whole.digest
        assert item.actions[0] == "end marker missing"
    assert "end marker missing" not in whole.actions
    for cut in (3, 4, 6, 12, 40):
        assert reason(data[:-cut]) == "truncated: a JPEG without its end marker"
        assert reason(data[:-cut] + bytes(cut)) == "truncated: a JPEG without its end marker"
    assert reason(data[:-2] + b"<html>502 Bad Gateway</html>") == "truncated: a JPEG without its end marker"


def test_where_more_scans_could_follow_the_end_marker_is_needed() -> None:
    assert reason(coded(texture(), "jpeg", progressive=True)[:-2]) == "truncated: a JPEG without its end marker"


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("side", [8, 61, 97])
@pytest.mark.parametrize(
    "options",
    [RESTARTS, {"progressive": True}, {"optimize": True}, *({"subsampling": s} for s in ("4:4:4", "4:2:2", "4:2:0"))],
    ids=str,
)
def test_a_jpegs_pixels_are_those_that_pillow_decodes(mode: str, side: int, options: dict) -> None:
    image = texture(side).convert(mode).crop((0, 0, side, side - 3))
    for quality in (30, 90):
        data = coded(image, "jpeg", quality=quality, icc_profile=b"none", **options)
        ours, theirs = opened(data, "jpeg"), Image.open(io.BytesIO(data))
        found = loaded(ours)
        assert type(found) is Image.Image, "Pillow's own decoder was taken"
        assert (found.mode, found.format, found.info) == (theirs.mode, "JPEG", theirs.info)
        assert (np.asarray(found) == np.asarray(theirs)).all()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, RESTARTS], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_bytes_overwritten_inside_a_jpegs_pixels_are_told(options: dict, mode: str) -> None:
    """No marker among them: a decoder reads on, and gives a picture whose rest is noise."""
    rng, told, count = np.random.default_rng(0), 0, 60
    for seed in range(count):
        data = bytearray(coded(texture(96, seed).convert(mode), "jpeg", **options))
        at = int(rng.integers(len(data) // 2, len(data) * 9 // 10))
        data[at : at + 64] = rng.integers(0, 255, 64, dtype=np.uint8).tobytes()
        try:
            (item,) = read(bytes(data))
        except Unusable as e:
            assert str(e).startswith(("damaged: ", "truncated: "))  # noqa: PT017
            told += 1
        else:
            told += "damaged" in item.flags
    assert told >= 0.8 * count


def test_a_jpeg_cut_and_closed_is_truncated_and_stray_bytes_are_a_flag() -> None:
    data = coded(texture(), "jpeg")
    assert reason(data[: len(data) * 2 // 3] + b"\xff\xd9") == "truncated: premature end of data segment"
    (whole,), (item,) = read(data), read(data[:-2] + b"\x5a" * 99 + b"\xff\xd9")
    assert item.flags == ("damaged",)
    assert (item.x == whole.x).all()
    assert item.quality < whole.quality
    assert "damaged" not in whole.flags


def test_a_jpegs_own_thumbnail_is_not_its_end() -> None:
    exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\0\0\0\0\0" + coded(Image.new("L", (8, 8)), "jpeg")
    data = coded(texture(), "jpeg", exif=exif)
    assert len(read(data)) == 1
    assert reason(data[: len(data) // 2]) == "truncated: a JPEG without its end marker"


def test_a_flipped_bit_in_a_png_is_found_by_its_checksum() -> None:
    data = bytearray(coded(texture(), "png"))
    data[len(data) // 2] ^= 1
    assert reason(bytes(data)) == "damaged: the checksum of a PNG's IDAT chunk is wrong"


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "an empty file"),
        (b"\0" * 5000, "nothing but zero bytes"),
        (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "an HTML page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"%PDF-1.4\n", "PDF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"I am no picture", "plain text"),
        (bytes(range(256)) * 4, "of no known kind"),
    ],
)
def test_what_is_no_picture_is_called_by_its_name(data: bytes, message: str) -> None:
    assert reason(data, "a.jpg").startswith(message)


def test_postscript_is_never_run() -> None:
    domain = Images(Resize(8))
    assert not {"eps", "pdf", "wmf"} & domain.kinds
    with pytest.raises(Unusable, match="PostScript"):
        list(domain.items(b"%!PS-Adobe-3.0 EPSF-3.0\n", Found("a.png", Path("a.png"), None, "eps", 24, 0)))
    with pytest.raises(Unusable):
        list(domain.items(b"%!PS-Adobe-3.0 EPSF-3.0\n", Found("a.png", Path("a.png"), None, "png", 24, 0)))


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    small, bomb = coded(Image.new("1", (50, 20)), "png"), coded(Image.new("1", (50, 21)), "png")
    assert len(read(small, max_pixels=1000)) == 1
    monkeypatch.setattr(Image.Image, "load", None)  # may not be called
    assert reason(bomb, max_pixels=1000) == "50x21 is over max_pixels=1000"


def enlarged(kind: str, side: int) -> bytes:
    """A file of 300 x 200 pixels whose header promises side x side."""
    data = bytearray(coded(Image.new("RGB", (300, 200)), kind))
    if kind == "png":
        data[16:24] = side.to_bytes(4, "big") * 2
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    elif kind == "bmp":
        data[18:26] = side.to_bytes(4, "little") * 2
    elif kind == "gif":
        data[6:10] = side.to_bytes(2, "little") * 2
    elif kind == "webp":
        data[26:30] = side.to_bytes(2, "little") * 2
    elif kind == "ppm":
        data[3:10] = b"%d %d" % (side, side)
    elif kind == "jpeg":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = side.to_bytes(2, "big") * 2
    else:  # the first two entries of a TIFF's directory: width and height, made 32 bits
        at = int.from_bytes(data[4:8], "little") + 2
        for entry in (at, at + 12):
            data[entry + 2 : entry + 12] = b"\4\0\1\0\0\0" + side.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    "kind, side",
    [("png", 10**5), ("bmp", 10**5), ("gif", 65535), ("webp", 16383), ("tiff", 10**5), ("jpeg", 65500), ("ppm", 10**5)],
)
def test_a_header_that_promises_billions_of_pixels_costs_nothing(kind: str, side: int) -> None:
    assert reason(enlarged(kind, side)) == f"{side}x{side} is over max_pixels=89478485"


def test_a_text_that_unpacks_to_gigabytes_is_refused() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "a" * 50_000_000, zip=True)
    data = coded(Image.new("RGB", (12, 12)), "png", pnginfo=info)
    assert len(data) < 100_000
    assert "decompression bomb" in reason(data)


def test_size_and_shape_have_limits() -> None:
    data = coded(Image.new("RGB", (60, 20)), "png")
    assert reason(data, min_size=21) == "60x20 is under min_size=21"
    assert reason(data, max_aspect=2.9) == "60x20 is longer than max_aspect=2.9"
    assert len(read(data, min_size=20, max_aspect=3)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_no_mutation_of_a_file_crashes_or_escapes(kind: str) -> None:
    """Samples or Unusable: nothing else comes out, whatever the bytes."""
    good = coded(texture(48), kind)

    @settings(max_examples=25)
    @given(st.data())
    def check(draw: st.DataObject) -> None:
        data = bytearray(good)
        for _ in range(draw.draw(st.integers(1, 8))):
            at = draw.draw(st.integers(0, len(data) - 1))
            patch = draw.draw(st.binary(min_size=0, max_size=20))
            data[at : at + draw.draw(st.sampled_from([len(patch), 0, 40]))] = patch
        domain = Images(Resize(8), frames="all", max_pixels=1_000_000)
        with contextlib.suppress(Unusable):
            for item in domain.items(bytes(data), Found("a", Path("a"), None, kind, len(data), 0)):
                assert item.x.shape == (3, 8, 8)

    check()


# Items


def test_a_copy_in_another_format_has_the_same_hash() -> None:
    for side in (40, 300):
        image = texture(side)
        same = [read(coded(image, kind))[0].digest for kind in ("png", "bmp", "tiff", "ppm")]
        assert len(set(same)) == 1
        other = image.copy()
        other.putpixel((side // 2, side // 2), (0, 0, 0))
        assert read(coded(other, "png"))[0].digest != same[0]
        turned = image.transpose(Image.Transpose.ROTATE_180)
        assert read(coded(turned, "png"))[0].digest != same[0]
    wide, high = Image.new("RGB", (20, 10)), Image.new("RGB", (10, 20))
    assert read(coded(wide, "png"))[0].digest != read(coded(high, "png"))[0].digest


def test_an_item_does_not_depend_on_those_it_is_finished_with() -> None:
    domain = Images(Resize(16))
    pictures = [texture(side, seed) for seed, side in enumerate((96, 20, 64, 3, 300, 40))]
    pictures += [texture(64).convert("L"), Image.new("RGB", (70, 80), "navy"), texture(90).resize((640, 32))]
    files = [coded(picture, "png") for picture in pictures]
    together: list[Item] = []
    for data in files:
        together += domain.items(data, Found("a", Path("a"), None, "png", len(data), 0))
    for data, item in zip(files, domain.finished(together), strict=True):
        (alone,) = read(data, transform=Resize(16))
        assert (item.signature == alone.signature).all()
        assert (item.quality, item.facts, item.flags) == (alone.quality, alone.facts, alone.flags)
        assert item.facts.keys() >= {"luma_mean", "luma_std", "luma_low", "luma_high", "sharpness"}
        assert item.sketch is None


def test_the_numbers_behind_flags_are_those_of_the_thumbnail() -> None:
    (item,) = read(coded(texture(64), "png"))
    luma = np.sort(item.signature[:1024].astype(float))
    told = {"luma_mean": luma.mean(), "luma_std": luma.std(), "luma_low": luma[10], "luma_high": luma[1013]}
    assert {name: item.facts[name] for name in told} == pytest.approx(told, abs=0.051)


def test_an_item_is_what_the_contract_says() -> None:
    domain = Images(Resize(16))
    data = coded(texture(), "png")
    found = Found("a.png", Path("a.png"), None, "png", len(data), 0)
    (a,), (b,) = domain.items(data, found), pickle.loads(pickle.dumps(domain)).items(data, found)
    assert a.x.shape == (3, 16, 16)
    assert a.x.dtype == np.uint8
    assert a.x.flags.c_contiguous
    assert len(a.digest) == 16
    assert (a.x == b.x).all()
    assert (a.digest, a.quality, a.facts, a.flags) == (b.digest, b.quality, b.facts, b.flags)
    assert (a.signature == b.signature).all()
    assert a.facts["mode"] == "RGB"
    assert a.facts["format"] == "png"
    assert read(data, channels=1)[0].x.shape == (1, 8, 8)


def test_its_repr_names_every_setting() -> None:
    plain = repr(Images(Resize(8)))
    others = [
        Images(Resize(9)), Images(Resize(8), channels=1), Images(Resize(8), alpha="black"),
        Images(Resize(8), frames="all"), Images(Resize(8), max_pixels=9), Images(Resize(8), min_size=9),
        Images(Resize(8), max_aspect=9), Images(Resize(8), crops=False),
    ]  # fmt: skip
    assert len({plain, *map(repr, others)}) == 9


@pytest.mark.parametrize(
    "options, message",
    [
        ({"transform": None}, "Resize"), ({"channels": 2}, "channels=2"), ({"alpha": "pink"}, "'pink'; have white"),
        ({"frames": "last"}, "have first, all"), ({"max_pixels": 0}, "max_pixels=0"), ({"min_size": 0}, "min_size=0"),
        ({"max_aspect": 0.5}, "max_aspect=0.5"),
    ],
)  # fmt: skip
def test_bad_settings_name_the_value(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(b"", **options)


def test_a_transform_that_cannot_do_it_is_no_broken_file() -> None:
    with pytest.raises(UserError, match=r"b\.png: a 50x20 picture does not fit"):
        read(coded(Image.new("RGB", (50, 20)), "png"), "b.png", transform=PadTo(32))


def test_the_better_copy_has_the_higher_quality() -> None:
    image = texture(96)
    ranked = [
        coded(image.resize((128, 128)), "jpeg", quality=30),
        coded(image, "png"),
        coded(image, "jpeg", quality=95),
        coded(image, "jpeg", quality=40),
        coded(image.convert("L"), "png"),
        coded(image.resize((64, 64)), "png"),
    ]
    quality = [read(data)[0].quality for data in ranked]
    assert quality == sorted(quality, reverse=True)
    assert len(set(quality)) == len(quality)


# Flags


def dimmed(image: Image.Image, gain: float, offset: float = 0) -> Image.Image:
    return Image.fromarray((np.asarray(image) * gain + offset).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    "image, flags",
    [
        (texture(), ()),
        (Image.new("RGB", (90, 90), (9, 200, 9)), ("blank",)),
        (dimmed(texture(), 0.05, 100), ("flat",)),
        (dimmed(texture(), 0.22), ("dark",)),
        (dimmed(texture(), 0.2, 215), ("bright",)),
        (dimmed(texture(), 0.22, 100), ("low_contrast",)),
        (texture().filter(ImageFilter.GaussianBlur(5)), ("blurred",)),
        (texture(24).resize((96, 96), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(3)), ("blurred",)),
    ],
)
def test_flags(image: Image.Image, flags: tuple[str, ...]) -> None:
    for side in (1, 4):  # the same at any size
        large = image.resize((image.width * side, image.height * side), Image.Resampling.BOX)
        assert read(coded(large, "png"), transform=Resize(32))[0].flags == flags


def test_enlarged_pictures_are_told() -> None:
    data = coded(texture(72).crop((0, 0, 72, 48)), "png")
    assert "small" in read(data, transform=Resize(64))[0].flags
    assert "small" not in read(data, transform=Resize(48))[0].flags
    assert "small" not in read(data, transform=Resize(64, fit="pad"))[0].flags
    assert "small" not in read(data, transform=PadTo(80))[0].flags


@pytest.fixture(scope="module")
def photographs() -> list[bytes]:
    root = os.environ.get("GAN_KIT_DATA")
    path = Path(root or ".", "clothing10_128", "clothing10_128_jpg.zip")
    if not root or not path.exists():
        pytest.skip("clothing10_128 is not in GAN_KIT_DATA")
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in sorted(archive.namelist()) if name.endswith(".jpg")]


def test_ordinary_pictures_are_not_flagged(photographs: list[bytes]) -> None:
    items = [read(data, transform=Resize(64))[0] for data in photographs[::8]]
    assert sum(bool(i.flags) for i in items) <= len(items) / 200


@pytest.mark.parametrize(("length", "share"), [(16, 0.5), (64, 0.65), (256, 0.8)])
def test_photographs_with_bytes_overwritten_are_told(photographs: list[bytes], length: int, share: float) -> None:
    """Of those that it changes visibly: docs/prepare.md has the shares of more of them."""
    rng = np.random.default_rng(0)
    told, seen = 0, 0
    for data in photographs[::16]:
        start = data.index(b"\xff\xda") + 14
        at = int(rng.integers(start, len(data) - length - 2))
        spoilt = data[:at] + rng.integers(0, 255, length, dtype=np.uint8).tobytes() + data[at + length :]
        try:
            change = decode_jpeg(data).astype(int) - decode_jpeg(spoilt, strict=False)
        except ValueError:  # nothing can be decoded at all
            change = np.full((1, 1, 3), 255)
        if (np.abs(change).max(2) > 24).mean() < 0.02:
            continue
        seen += 1
        try:
            told += "damaged" in read(spoilt)[0].flags
        except Unusable:
            told += 1
    assert seen > 100
    assert told >= share * seen


def test_a_sheet_shows_all_samples() -> None:
    rows = [np.full((3, 16, 16), shade, np.uint8) for shade in (10, 100, 200)]
    sheet = np.asarray(Image.open(io.BytesIO(Images(Resize(16)).sheet(rows, 2))))
    assert sheet.shape[1] == 2 * 66 + 2
    assert {10, 100, 200} <= set(np.unique(sheet).tolist())
    assert Images(Resize(16), channels=1).sheet([r[:1] for r in rows], 3)[:4] == b"\x89PNG"
