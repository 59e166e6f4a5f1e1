"""What lies in a ZIP or tar, without unpacking it: traps are told and never followed, and so is damage."""

from __future__ import annotations

import bz2
import calendar
import gzip
import hashlib
import lzma
import os
import re
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gan_kit.data.prepare.kinds import HEAD_BYTES, junk_of_name, kind_of
from gan_kit.files import write_whole, written_whole
from gan_kit.types import UserError

__all__ = ["Limits", "Member", "inner_name", "members", "tar_members", "tar_trap", "unpacked_tar"]

SMALL_BYTES = 1 << 26  # what unpacks to less is no bomb, however well it was packed: a blank BMP shrinks 1000 times
HEADER_BYTES = 1 << 24  # a tar's own headers are read whole; a longer one is a lie

Report = Callable[[str, str], None]  # (name of the member, or "" for the archive; reason)


@dataclass(frozen=True)
class Limits:
    """Of one archive: its members, their bytes when unpacked, and how many times their packed size that may be"""

    max_members: int
    max_unpacked_bytes: int
    max_ratio: float

    def excess(self, unpacked: int, packed: int) -> str:
        """Why so many bytes are too many, or "" """
        if unpacked > self.max_unpacked_bytes:
            return f"unpacks to {unpacked} bytes, over max_unpacked_bytes={self.max_unpacked_bytes}"
        if unpacked > SMALL_BYTES and unpacked > self.max_ratio * packed:
            return f"a bomb: {packed} bytes unpack to {unpacked}, over max_ratio={self.max_ratio:g}"
        return ""


@dataclass(frozen=True)
class Member:
    """name: as the archive has it; kind: by its first bytes; size, mtime_ns: as the archive tells; offset: in a tar"""

    name: str
    kind: str
    size: int
    mtime_ns: int
    offset: int = 0


def members(path: Path, kind: str, limits: Limits, report: Report, aside: Counter[str]) -> list[Member]:
    """The files in an archive whose first bytes can be read, one a name: the last, as unpacking would leave it.

    kind: "zip", "tar", "tar.gz", "tar.bz2" or "tar.xz"; report: is told of all others; aside: counts junk
    """
    found: dict[str, Member] = {}
    try:
        if kind == "zip":
            each = _zip_members(path, limits, report)
        else:
            each = tar_members(path, kind, limits, report)
        for member in each:
            name = inner_name(member.name)
            if junk := next(filter(None, map(junk_of_name, name.split("/"))), ""):
                aside[junk] += 1
                continue
            if name in found:
                aside["older copy in an archive"] += 1
            found[name] = member
    except _Refused as e:
        report("", str(e))
        return []
    except Exception as e:  # a damaged archive can raise almost anything
        report("", f"damaged after {len(found)} files: {_words(e)}")
    return list(found.values())


def inner_name(member: str) -> str:
    """A member's path with "/", without "." and empty parts"""
    return "/".join(part for part in member.replace("\\", "/").split("/") if part not in ("", "."))


class _Refused(Exception):
    """The whole archive is refused."""


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _leads_out(name: str) -> bool:
    name = name.replace("\\", "/")
    return name.startswith("/") or re.match("[A-Za-z]:", name) is not None or ".." in name.split("/")


# ZIP


def _zip_members(path: Path, limits: Limits, report: Report) -> Iterator[Member]:
    if not zipfile.is_zipfile(path):
        raise _Refused("cut off: a ZIP archive without the table of contents at its end")
    packed = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        if len(infos) > limits.max_members:
            raise _Refused(f"{len(infos)} files in the archive, over max_members={limits.max_members}")
        if sum(info.compress_size for info in infos) > packed:
            raise _Refused("a bomb: its files overlap")
        reasons = [_zip_trap(info, limits) for info in infos]
        sound = [info for info, reason in zip(infos, reasons, strict=True) if not reason]
        if excess := limits.excess(sum(info.file_size for info in sound), packed):
            raise _Refused(excess)
        for info, reason in zip(infos, reasons, strict=True):
            if not reason:
                try:
                    with archive.open(info) as file:
                        head = file.read(HEAD_BYTES)
                    yield Member(info.filename, kind_of(head, info.filename), info.file_size, _zip_time(info))
                    continue
                except NotImplementedError:
                    reason = f"packed by method {info.compress_type}, which Python does not unpack"
                except Exception as e:  # zlib, lzma, bz2, struct and zipfile have an error each
                    reason = f"damaged in its archive: {_words(e)}"
            report(info.filename, reason)


def _zip_trap(info: zipfile.ZipInfo, limits: Limits) -> str:
    mode = info.external_attr >> 16
    if _leads_out(info.filename):
        return "its path leads out of the archive"
    if info.flag_bits & 1:
        return "encrypted"
    if stat.S_ISLNK(mode):
        return "a link inside an archive"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "a device or pipe inside an archive"
    return limits.excess(info.file_size, info.compress_size)


def _zip_time(info: zipfile.ZipInfo) -> int:
    try:
        return calendar.timegm((*info.date_time, 0, 0, 0)) * 10**9
    except ValueError:  # month 0, from writers that know no time
        return 0


# tar


def _tar_time(seconds: float) -> int:
    """In nanoseconds, which fit 64 bits until 2261; 0 for what is no time: a tar can say anything, inf and nan too"""
    return int(seconds * 1e9) if abs(seconds) < 9.2e9 else 0


def tar_members(path: Path, kind: str, limits: Limits, report: Report) -> Iterator[Member]:
    """The regular files of a tar in its order, their bytes being all there. One pass, forward; constant memory."""
    with _opened(path, kind) as raw:
        stream = _Forward(raw, limits, path.stat().st_size if kind != "tar" else None)
        try:
            archive = tarfile.open(fileobj=stream, mode="r:")  # type: ignore[call-overload]  # noqa: SIM115
        except tarfile.TarError as e:
            raise _Refused(f"no tar that can be read: {_words(e)}") from e
        count = 0
        while (info := archive.next()) is not None:
            archive.members.clear()  # it would keep all that it ever saw
            count += 1
            if count > limits.max_members:
                raise _Refused(f"over max_members={limits.max_members} entries in the archive")
            if info.isdir():
                continue
            if reason := tar_trap(info):
                report(info.name, reason)
                continue
            head = stream.read(min(info.size, HEAD_BYTES))
            if not stream.skip_to(info.offset_data + info.size):
                report(info.name, "cut off: its archive ends before it does")
                return
            yield Member(info.name, kind_of(head, info.name), info.size, _tar_time(info.mtime), info.offset_data)
        # tarfile takes a damaged header for the end without a word
        reason = ""
        if stream.last.strip(b"\0"):
            reason = f"damaged after {count} entries: what follows is not read"
        elif not stream.last:
            reason = f"without an end mark after {count} entries: perhaps cut off"
        elif stream.read(1 << 16).strip(b"\0"):
            reason = f"more follows behind the end mark, after {count} entries: not read"
        while kind != "tar" and stream.read(1 << 20):  # a checksum stands at the very end
            pass
        if stream.damage:
            reason = f"damaged after {count} entries: {stream.damage}"
        if reason:
            report("", reason)


def unpacked_tar(path: Path, kind: str, scratch: Path, limits: Limits, report: Report) -> Path | None:
    """A compressed tar as a plain one under `scratch`, made once; None for a bomb. Raises UserError for a full disk."""
    status = path.stat()
    key = f"{os.path.realpath(path)}\0{status.st_size}\0{status.st_mtime_ns}".encode("utf-8", "surrogateescape")
    place = scratch / f"{hashlib.sha256(key).hexdigest()[:24]}.tar"
    damage = place.with_suffix(".damage")  # told again when an interrupted run goes on
    if not place.exists():
        try:
            with _opened(path, kind) as raw, written_whole(place) as part, part.open("wb") as file:
                stream = _Forward(raw, limits, status.st_size)
                while chunk := stream.read(1 << 20):
                    file.write(chunk)
                if stream.damage:
                    write_whole(damage, f"damaged: {stream.damage}")
        except _Refused as e:
            report("", str(e))
            return None
        except OSError as e:
            reason = f"{scratch} cannot hold {path.name} unpacked ({e.strerror or e})"
            raise UserError(f"{reason}; free some space, or set scratch to another disk") from e
    if damage.exists():
        report("", damage.read_text(encoding="utf-8"))
    return place


def _opened(path: Path, kind: str) -> IO[bytes]:
    openers: dict[str, Callable[..., Any]] = {"tar.gz": gzip.open, "tar.bz2": bz2.open, "tar.xz": lzma.open}
    return openers.get(kind, open)(path, "rb")


def tar_trap(info: tarfile.TarInfo) -> str:
    """Why a member that is no folder is not to be unpacked, or an empty string"""
    if _leads_out(info.name):
        return "its path leads out of the archive"
    if info.issym() or info.islnk():
        return "a link inside an archive"
    if not info.isfile():
        return "a device or pipe inside an archive"
    return "a sparse file inside an archive" if info.issparse() else ""


class _Forward:
    """What tarfile needs of a file, going forward only, so that every unpacked byte is counted, skipped ones too.

    packed: size of the compressed file; None for a plain tar, which is skipped through without being read
    last: the block that was read last; damage: why the stream ended early
    """

    def __init__(self, raw: IO[bytes], limits: Limits, packed: int | None) -> None:
        self.raw, self.limits, self.packed = raw, limits, packed
        self.at, self.last, self.damage = 0, b"", ""
        self.size = os.fstat(raw.fileno()).st_size if packed is None else None

    def read(self, n: int) -> bytes:
        if n > HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {n} bytes")
        chunks = []
        left = n
        while left and not self.damage:
            try:
                chunk = self.raw.read1(left)  # type: ignore[attr-defined] # read() would drop what precedes the damage
            except Exception as e:  # gzip, bz2 and lzma have an error each
                self.damage = _words(e)
                break
            if not chunk:
                break
            chunks.append(chunk)
            left -= len(chunk)
        self.last = b"".join(chunks)
        self.at += len(self.last)
        if self.packed is not None and (excess := self.limits.excess(self.at, self.packed)):
            raise _Refused(excess)
        return self.last

    def skip_to(self, at: int) -> bool:
        """Whether there are so many bytes"""
        if self.size is not None:
            self.at = self.raw.seek(min(at, self.size))
        while self.at < at and self.read(min(1 << 20, at - self.at)):
            pass
        return self.at == at

    def seek(self, at: int) -> int:
        self.skip_to(at)
        return self.at

    def tell(self) -> int:
        return self.at
