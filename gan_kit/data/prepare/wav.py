"""Sound files cut short: libsndfile reads what is left without a word, so headers are compared with what came.

Containers of chunks (RIFF, RIFX, RF64, BW64, W64, AIFF, 8SVX, CAF), AU and NIST tell how many bytes of sound follow;
an Ogg stream marks its last page; an MP3 with a Xing header knows its length. What has no such figure passes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from gan_kit.data.prepare.types import Unusable

__all__ = ["checked"]

MAX_CHANNELS = 64
MAX_RATE = 1_000_000  # Hz; ultrasound recorders write 768 kHz
HEADERS = 1000  # chunks before the sound: more is a loop or a forgery


@dataclass(frozen=True)
class _Form:
    """How a container writes its chunks."""

    first: int  # where the first begins
    name_bytes: int
    size: str  # struct format of a size
    sound: bytes  # name of the chunk that holds the samples, or its beginning
    pad: int = 1  # chunks begin at multiples of it
    counts_header: bool = False  # the size counts name and size, too

    @property
    def header(self) -> int:
        return self.name_bytes + struct.calcsize(self.size)


RIFF, RIFX = _Form(12, 4, "<I", b"data", pad=2), _Form(12, 4, ">I", b"data", pad=2)
AIFF, SVX = _Form(12, 4, ">I", b"SSND", pad=2), _Form(12, 4, ">I", b"BODY", pad=2)
CAF, W64 = _Form(8, 4, ">q", b"data"), _Form(40, 16, "<Q", b"data\xf3\xac\xd3\x11", pad=8, counts_header=True)


def checked(data: bytes, kind: str) -> bytes:
    """The file's bytes, if all that its header tells of is there; kind as kinds.kind_of has it.

    A header may leave the size open (0, -1, or as much as fits), as programs do that write into a pipe: then the sound
    reaches to the end, and where libsndfile would read nothing of it the size is filled in.
    Raises Unusable for a file cut short, one without samples, or with an impossible header.
    """
    if kind in ("wav", "rf64"):
        return _riff(data)
    if kind in ("aiff", "svx"):
        _chunked(data, AIFF if kind == "aiff" else SVX)
    elif kind == "caf":
        return _chunked(data, CAF)
    elif kind == "w64":
        _chunked(data, W64)
    elif kind == "au":
        _au(data)
    elif kind == "nist":
        _nist(data)
    elif kind == "ogg":
        _ogg(data)
    elif kind == "mp3":
        _mp3(data)
    return data


def _chunks(data: bytes, form: _Form) -> Iterator[tuple[bytes, int, int]]:
    """name, where its content begins, the size told"""
    at = form.first
    for _ in range(HEADERS):
        if at + form.header > len(data):
            return
        name = data[at : at + form.name_bytes]
        (size,) = struct.unpack_from(form.size, data, at + form.name_bytes)
        size -= form.header * form.counts_header
        start = at + form.header
        yield name, start, size
        if size < 0:
            return
        at = start + size + -(start + size - form.first) % form.pad


def _riff(data: bytes) -> bytes:
    form = RIFX if data[:4] == b"RIFX" else RIFF
    long_sizes: int | None = None
    for name, start, size in _chunks(data, form):
        if name == b"ds64" and start + 16 <= len(data):  # EBU Tech 3306: RIFF size, data size, samples
            (long_sizes,) = struct.unpack_from("<Q", data, start + 8)
        elif name == b"fmt " and start + 8 <= len(data):
            channels, rate = struct.unpack_from(form.size[0] + "HI", data, start + 2)
            check_header(channels, rate)
        elif name == form.sound:
            if size == 0xFFFFFFFF and long_sizes:
                size = long_sizes
            there = len(data) - start
            if size == 0 and there and not _is_chunk(data, start, form):
                return data[: start - 4] + struct.pack(form.size, there) + data[start:]
            _compare(min(size, there) if _is_open(size) else size, there)
            return data
    raise _without_sound(data, form)


def _is_open(size: int) -> bool:
    """SoX writes 2^31 - 4096, arecord 2^31, ffmpeg 2^32 - 1 where it does not know."""
    return any(0 < limit - size <= 4096 or size == limit for limit in (1 << 31, 1 << 32, 1 << 64))


def _is_chunk(data: bytes, at: int, form: _Form) -> bool:
    """Whether another chunk begins here, and not samples: a printable name, a size that fits"""
    name, size = data[at : at + 4], data[at + 4 : at + 8]
    if len(size) < 4 or not all(32 <= c < 127 for c in name):
        return False
    return struct.unpack(form.size, size)[0] <= len(data) - at - 8


def _chunked(data: bytes, form: _Form) -> bytes:
    for name, start, size in _chunks(data, form):
        if name.startswith(form.sound):
            there = len(data) - start
            if size == -1 and form is CAF and there:  # "to the end"
                return data[: start - 8] + struct.pack(form.size, there) + data[start:]
            if size < 0:
                raise Unusable(f"its header tells of {size} bytes of sound")
            front = {AIFF: 8, CAF: 4}.get(form, 0)  # offset and block size, the count of edits
            _compare(size - front, there - front)
            return data
        if name == b"COMM" and start + 8 <= len(data):
            check_header(struct.unpack_from(">H", data, start)[0], None)
    raise _without_sound(data, form)


def _without_sound(data: bytes, form: _Form) -> Unusable:
    ends = [form.first, *(start + max(0, size) for _, start, size in _chunks(data, form))]
    left = len(data) - ends[-1]
    if left < 0 or (left < form.header and (left > 1 or len(ends) == 1)):  # 1: a byte of padding
        return Unusable("cut short: it ends before the sound begins")
    return Unusable("a header without sound")


def _au(data: bytes) -> None:
    order = "<" if data[:4] == b"dns." else ">"
    if len(data) < 24:
        raise Unusable("cut short: it ends before the sound begins")
    offset, size, _, rate, channels = struct.unpack_from(order + "5I", data, 4)
    check_header(channels, rate)
    if size != 0xFFFFFFFF:
        _compare(size, len(data) - offset)


def _nist(data: bytes) -> None:
    """SPHERE: lines of "name -i value" up to "end_head", padded to the size that the second line tells."""
    head, end, _ = data[:16384].partition(b"end_head")
    try:
        lines = head.splitlines()
        offset = int(lines[1])
        facts = {p[0]: int(p[2]) for p in (line.split() for line in lines[2:]) if len(p) == 3 and p[1] == b"-i"}
    except (IndexError, ValueError):
        raise Unusable("its NIST header makes no sense") from None
    if not end:
        raise Unusable("cut short: it ends before the sound begins")
    if b"sample_count" in facts:
        frame = facts.get(b"sample_n_bytes", 1) * facts.get(b"channel_count", 1)
        _compare(facts[b"sample_count"] * frame, len(data) - offset)


def _ogg(data: bytes) -> None:
    """RFC 3533, section 6: a page is 27 bytes, a table of segment sizes, the segments; bit 4 marks the last one."""
    at = data.rfind(b"OggS")
    page = data[at : at + 27]
    whole = len(page) == 27 and at + 27 + page[26] + sum(data[at + 27 : at + 27 + page[26]]) <= len(data)
    if not whole or not page[5] & 4:
        raise Unusable("cut short: the last page is not the end of its stream")


def _mp3(data: bytes) -> None:
    """The Xing header, in the first frame, tells how many bytes the stream has from that frame on."""
    start = 0
    if data[:3] == b"ID3" and len(data) >= 10:
        start = 10 + sum((b & 127) << shift for b, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    if start >= len(data):
        raise Unusable("cut short: it ends before the sound begins")
    start = max(start, data.find(b"\xff", start))
    mpeg1, mono = data[start + 1 : start + 2] >= b"\xf8", data[start + 3 : start + 4] >= b"\xc0"
    tag = start + 4 + ((17 if mono else 32) if mpeg1 else (9 if mono else 17))  # behind header and side information
    if data[tag : tag + 4] not in (b"Xing", b"Info") or len(data) < tag + 16:
        return
    flags, _, size = struct.unpack_from(">3I", data, tag + 4)
    if flags & 3 == 3 and size > len(data) - start:
        raise _cut_short(size, len(data) - start)


def check_header(channels: int, rate: int | None) -> None:
    """Raises Unusable for no or far too many channels, or no rate that sound has."""
    if not 0 < channels <= MAX_CHANNELS:
        raise Unusable(f"its header tells of {channels} channels")
    if rate is not None and not 0 < rate <= MAX_RATE:
        raise Unusable(f"its header tells of a sample rate of {rate} Hz")


def _compare(told: int, there: int) -> None:
    if told > there:
        raise _cut_short(told, max(there, 0))
    if told <= 0:
        raise Unusable("a header without sound")


def _cut_short(told: int, there: int) -> Unusable:
    return Unusable(f"cut short: its header tells of {told:,} bytes of sound, {there:,} are there")
