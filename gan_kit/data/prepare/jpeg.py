"""What a JPEG's markers and its decoder's warnings tell of damage, and its pixels.

Both decoders are libjpeg-turbo with one outcome, bit by bit. Pillow's keeps the warnings to itself: a picture whose
second half is noise counts as whole. simplejpeg passes the last one on.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from simplejpeg import decode_jpeg

from gan_kit.data.prepare.types import Unusable

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["DAMAGED", "END", "UNENDED", "check_all_there", "decoded", "has_end"]

END = b"\xff\xd9"  # the marker
UNENDED, DAMAGED = "end marker missing", "damaged"  # in a picture's info
_SAID = "Corrupt JPEG data: "
_LEFT_OVER = "extraneous bytes before marker"  # more bytes than pixels


def has_end(data: bytes) -> bool:
    """Markers (ITU-T T.81, annex B): the rest of an interrupted download, even one filled with zeros, would be grey."""
    marker = _NOT_IN_SCAN.search(data, _scan_of(data)[0] + 1)
    if marker is not None and marker[1] != b"\xd9":
        raise Unusable(f"damaged: a stray marker FF{marker[1][0]:02X} in a JPEG's pixels")
    return marker is not None


# What may follow FF behind the start of a JPEG's pixels: a stuffed or filling byte, restarts, tables and further scans
_NOT_IN_SCAN = re.compile(rb"\xff([^\x00\xff\xd0-\xd7\xc4\xcc\xda-\xdd\xe0-\xef\xfe])")


def _scan_of(data: bytes) -> tuple[int, dict[int, int]]:
    """Where a JPEG's first scan begins, and where each kind of marker before it does"""
    at, markers = 2, {}
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        markers[data[at + 1] if at + 1 < len(data) else 0] = at
        fill = data[at + 1 : at + 2] == b"\xff"
        at += 1 if fill else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at, markers


def check_all_there(data: bytes) -> None:
    """Whether a JPEG lacks its end marker and nothing else: all is in one sequential scan, whose bytes are just enough
    for its pixels. Raises Unusable."""
    start, markers = _scan_of(data)
    frame = markers.get(0xC0, markers.get(0xC1))
    components = data[frame + 9 : frame + 10] if frame is not None else b""
    one_scan = data[start + 4 : start + 5] == components and data.find(b"\xff\xda", start + 2) < 0
    data = data.rstrip(b"\xff")  # half of the marker
    zeros = data[-1:] == b"\0" and data[-2:-1] != b"\xff"  # in place of its end: pixels' last byte has ones behind them
    if components in _COLOURS and one_scan and not zeros:
        try:
            decode_jpeg(data + END, _COLOURS[components])
        except ValueError:
            pass
        else:
            return
    raise Unusable("truncated: a JPEG without its end marker")


_COLOURS = {b"\x01": "GRAY", b"\x03": "RGB", b"\x04": "CMYK"}


def decoded(image: Image) -> Image | None:
    """An opened JPEG's first picture, in grey or RGB; None for what Pillow has to decode.

    Left-over bytes are noted as DAMAGED in its info: most such pictures are broken, but some cameras write them.
    Raises Unusable where bytes were missing, or said nothing that could be decoded.
    """
    from PIL import Image as pil

    source = getattr(image, "fp", None)
    if image.mode not in ("L", "RGB") or image.info.get(UNENDED) or not isinstance(source, io.BytesIO):
        return None
    data, colour, damaged = source.getvalue(), "GRAY" if image.mode == "L" else "RGBX", False
    try:
        pixels = decode_jpeg(data, colour)
    except ValueError as e:
        said = str(e)
        damaged = _LEFT_OVER in said
        if said.startswith(_SAID) and not damaged:
            what = said.removeprefix(_SAID)
            raise Unusable(f"{'truncated' if 'premature end' in what else 'damaged'}: {what}") from e
        if not damaged:
            return None  # a kind of JPEG that only Pillow decodes, or one that neither does: it has the words
        pixels = decode_jpeg(data, colour, strict=False)
    whole = pil.frombytes(image.mode, image.size, pixels, "raw", "L" if image.mode == "L" else "RGBX")
    whole.info, whole.format = image.info | ({DAMAGED: True} if damaged else {}), image.format
    return whole
