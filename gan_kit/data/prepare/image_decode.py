"""A picture's bytes made pixels: nothing is run, nothing huge is unpacked, and what is broken is told."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
import zlib
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from gan_kit.data.prepare import jpeg
from gan_kit.data.prepare.kinds import IMAGES, kind_of, says
from gan_kit.data.prepare.types import Unusable

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageCms import ImageCmsTransform

__all__ = ["MODES", "frame_count", "loaded", "native_channels", "opened", "readable_kinds", "upright"]

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by channels
MAX_PIXELS = 89_478_485  # Pillow's own limit: 256 MiB at three bytes a pixel
# Their further images are other things: a stereo half or a stamp (JPEG's MPO), layers, smaller icons
ANIMATED = frozenset({"avif", "dcx", "fli", "gif", "heif", "png", "tiff", "webp"})
RUN = frozenset({"bufr", "eps", "grib", "hdf5", "mpeg", "pdf", "wmf"})  # by Ghostscript or another program, or stubs
PROFILES = 64  # colour transforms kept


@lru_cache(1)
def readable_kinds() -> frozenset[str]:
    """What this installation of Pillow decodes by itself: no PostScript, which is a program that Ghostscript runs."""
    from PIL import Image as pil

    for plugin, register in (("pillow_heif", "register_heif_opener"), ("pillow_jxl", "")):  # optional
        with contextlib.suppress(ImportError):
            module = import_module(plugin)
            if register:
                getattr(module, register)()
    pil.init()
    return (IMAGES & {name.lower() for name in pil.OPEN}) - RUN


def opened(data: bytes, kind: str = "", max_pixels: int = MAX_PIXELS) -> Image:
    """The header is read, no pixel is decoded. kind: as kinds.py names it; "" asks the bytes.

    Raises Unusable for what is no picture, damaged, or of more than max_pixels.
    """
    from PIL import Image as pil

    kind = kind or kind_of(data[:4096])
    if not data:
        raise Unusable("an empty file")
    if kind not in readable_kinds():
        raise Unusable(says(kind_of(data[:4096])) + ", not a picture that can be read here")
    with _guarded(None):
        unended = kind == "jpeg" and not jpeg.has_end(data)
        _check_whole(data, kind)
        image = pil.open(io.BytesIO(data + jpeg.END if unended else data), formats=[kind.upper()])
    _check_size(image, max_pixels)
    if unended:
        with _guarded(max_pixels):
            jpeg.check_all_there(data)
        image.info[jpeg.UNENDED] = True
    return image


def frame_count(image: Image) -> int:
    """Frames of an animation or pages of a TIFF; 1 where further images in the file are not pictures of their own."""
    if (image.format or "").lower() not in ANIMATED:
        return 1
    with _guarded(None):
        return int(getattr(image, "n_frames", 1))


def loaded(image: Image, frame: int = 0, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode one frame. Raises Unusable."""
    if frame:
        with _guarded(max_pixels):
            image.seek(frame)
        _check_size(image, max_pixels)
    with _guarded(max_pixels):
        if image.format in ("JPEG", "MPO") and not frame and (whole := jpeg.decoded(image)):
            return whole
        image.load()
    _check_size(image, max_pixels)  # an icon's true size may come out only now
    return image


def native_channels(image: Image) -> int:
    """1 for grey, 3 for colour, by the header."""
    return 1 if image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I") else 3


def upright(image: Image, channels: int = 3, alpha: str = "white") -> tuple[Image, list[str]]:
    """Any decoded picture -> mode L, RGB or RGBA (1, 3, 4 channels) in sRGB, turned as EXIF says; what was done.

    alpha: what shows through transparent parts, a colour's name; "refuse" raises Unusable for them
    Raises Unusable for pixels whose range is unknown.
    """
    actions = [jpeg.UNENDED] if image.info.get(jpeg.UNENDED) else []
    with _guarded(None):
        image = _turned(image, actions)
        image = _eight_bits(image, actions)
        image = _in_srgb(image, actions)
        if image.mode == "RGBA" and channels != 4:
            image = _on_matte(image, alpha, actions)
        if image.mode != MODES[channels]:
            if channels == 1:
                actions.append("colour to grey")
            elif image.mode == "L":
                actions.append("grey to colour")
            image = image.convert(MODES[channels])
    return image, actions


# Steps of upright

# EXIF 2.3, tag 274: the transpositions (by Pillow's names) that undo each orientation
_ORIENTATIONS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
    6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90",
}  # fmt: skip


_TURNING = {"exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp"}  # where Pillow finds one


def _turned(image: Image, actions: list[str]) -> Image:
    from PIL import Image as pil

    if image.format != "TIFF" and not _TURNING & image.info.keys():
        return image
    orientation = 1
    with contextlib.suppress(Exception):  # damaged EXIF data does not spoil the pixels
        orientation = image.getexif().get(0x0112, 1)
    if orientation not in _ORIENTATIONS:
        return image
    actions.append("turned by EXIF")
    turned = image.transpose(pil.Transpose[_ORIENTATIONS[orientation]])
    turned.info, turned.format = image.info, image.format
    return turned


def _eight_bits(image: Image, actions: list[str]) -> Image:
    """-> L, RGB, RGBA, CMYK or LAB, with the picture's colour profile in its info"""
    from PIL import Image as pil

    info, mode = image.info, image.mode
    if mode in ("L", "RGB") and "transparency" not in info:
        return image
    if mode == "F":
        raise Unusable("floating-point pixels, whose range is unknown; save as 8 or 16 bits")
    if mode.startswith("I"):  # Pillow's own conversion clips instead of scaling
        if mode == "I" and image.format not in ("PNG", "PPM"):  # which hold 16 bits so
            raise Unusable("32-bit integer pixels, whose range is unknown; save as 8 or 16 bits")
        grey = np.asarray(image).astype(np.uint32)
        image = pil.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
        if isinstance(clear := info.get("transparency"), int):  # one grey level of 16 bits
            image = image.convert("LA")
            image.putalpha(pil.fromarray(np.where(grey == clear, 0, 255).astype(np.uint8)))
        actions.append("16 bits to 8")
    if mode in ("P", "PA"):
        actions.append("palette to colour")
    if image.mode in ("LA", "La", "PA", "RGBa") or (mode in ("1", "L", "P", "RGB") and "transparency" in info):
        image = image.convert("RGBA")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "RGBA", "CMYK", "LAB"):
        image = image.convert("RGB")
    image.info = {k: v for k, v in info.items() if k != "transparency"}
    return image


def _in_srgb(image: Image, actions: list[str]) -> Image:
    """By the embedded profile (ICC.1:2010) to sRGB; without one colours are taken as sRGB."""
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes) and profile and image.mode != "LAB":
        try:
            transform = _transform(profile, image.mode)
            if transform is not None:
                alpha = image.getchannel("A") if image.mode == "RGBA" else None
                image = transform.apply(image.convert("RGB") if alpha else image)
                if alpha:
                    image.putalpha(alpha)
                actions.append("colour profile to sRGB")
        except Exception:  # lcms raises whatever a broken profile leads it to
            actions.append("broken colour profile ignored")
    if image.mode == "LAB":
        image = _from_lab().apply(image)
        actions.append("Lab to RGB")
    elif image.mode == "CMYK":
        image = image.convert("RGB")
        actions.append("CMYK to RGB")
    return image


@lru_cache(PROFILES)
def _transform(profile: bytes, mode: str) -> ImageCmsTransform | None:
    """None where the pixels are as they should be: sRGB, or grey of about its curve. Raises for a broken profile."""
    from PIL import ImageCms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    mode = "RGB" if mode == "RGBA" else mode
    if space != {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}[mode]:
        if mode == "L" and space == "RGB":
            return None  # a grey picture under its colour profile's name, as some cameras write it
        raise ValueError(f"a profile of {space} in a picture of {mode}")
    if mode != "CMYK" and re.search("srgb", ImageCms.getProfileDescription(source), re.IGNORECASE):
        return None
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", intent)


@lru_cache(1)
def _from_lab() -> ImageCmsTransform:
    from PIL import ImageCms

    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def _on_matte(image: Image, alpha: str, actions: list[str]) -> Image:
    from PIL import Image as pil

    if image.getchannel("A").getextrema()[0] == 255:  # a channel, but nothing shows through
        return image.convert("RGB")
    if alpha == "refuse":
        raise Unusable("transparent parts (alpha=refuse)")
    actions.append(f"alpha on {alpha}")
    return pil.alpha_composite(pil.new("RGBA", image.size, alpha), image).convert("RGB")


# What is broken


@contextlib.contextmanager
def _guarded(max_pixels: int | None) -> Iterator[None]:
    """Whatever a decoder raises becomes Unusable; its warnings are silent; its own limit is max_pixels meanwhile."""
    from PIL import Image as pil

    limit, pil.MAX_IMAGE_PIXELS = pil.MAX_IMAGE_PIXELS, max_pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", pil.DecompressionBombWarning)
            yield
    except Unusable:
        raise
    except MemoryError as e:
        raise Unusable("too large for memory") from e
    except (pil.DecompressionBombError, pil.DecompressionBombWarning) as e:
        raise Unusable(f"a part of it is over max_pixels={max_pixels}") from e
    except Exception as e:  # a damaged file can raise almost anything from a decoder
        raise Unusable(_reason(e)) from e
    finally:
        pil.MAX_IMAGE_PIXELS = limit


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "damaged: its header cannot be read"
    if isinstance(error, EOFError):
        return "truncated: it ends too early"
    said = " ".join(str(error).split()) or type(error).__name__
    if "MAX_TEXT" in said:
        return "a decompression bomb: its text unpacks to over a megabyte"
    if re.search("truncat|not enough|unexpected end|broken data stream|EOF|reached end", said, re.IGNORECASE):
        return f"truncated: {said}"
    return f"damaged: {said[:120]}"


def _check_size(image: Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise Unusable(f"{image.width}x{image.height} is over max_pixels={max_pixels}")
    if min(image.size) < 1:
        raise Unusable(f"{image.width}x{image.height}: it has no pixels")


def _check_whole(data: bytes, kind: str) -> None:
    """What Pillow lets pass, as it hides libjpeg's warnings and skips checksums, or what it has no clear words for."""
    if kind == "png":
        _check_png(data)
    elif kind == "webp":
        _check_end(data, 8 + int.from_bytes(data[4:8], "little"))
        if data[12:15] == b"VP8" and data[15:16] != b"X" and not data[-64:].strip(b"\0"):  # X: Exif may come last
            raise Unusable("truncated: zeros in place of its end")
    elif kind == "tiff" and data[2:4] in (b"*\0", b"\0*"):
        _check_end(data, 2 + int.from_bytes(data[4:8], "little" if data[:2] == b"II" else "big"))
    elif kind in ("avif", "heif"):
        _check_boxes(data)


def _check_end(data: bytes, end: int) -> None:
    if end > len(data) + 1:  # some leave out a last byte that only fills up
        raise Unusable(f"truncated: {len(data)} of {end} bytes or more")


def _check_boxes(data: bytes) -> None:
    """Boxes: length, name, content (ISO/IEC 14496-12, section 4.2)"""
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if length == 0:  # to the end of the file
            return
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        if length < 8:
            raise Unusable("damaged: a box of it has no length")
        at += length
        _check_end(data, at)


def _check_png(data: bytes) -> None:
    """Chunks: length, name, content, checksum (PNG specification, section 5.3)"""
    at = 8
    while at + 12 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            break
        told = int.from_bytes(data[end - 4 : end], "big")
        if not name.isalpha():
            raise Unusable("damaged: something else among a PNG's chunks")
        matters = name[:1].isupper() or name == b"fdAT"
        if matters and zlib.crc32(memoryview(data)[at + 4 : end - 4]) != told:
            raise Unusable(f"damaged: the checksum of a PNG's {name.decode()} chunk is wrong")
        if name == b"IEND":
            return
        at = end
    raise Unusable("truncated: a PNG without its end")
