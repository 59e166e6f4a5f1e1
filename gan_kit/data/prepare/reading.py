"""The bytes of a file or of an archive's member: never more than allowed, never a mixture of two versions."""

from __future__ import annotations

import os
import stat
import sys
import tarfile
import threading
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Protocol

from gan_kit.data.prepare import archives
from gan_kit.data.prepare.kinds import HEAD_BYTES, kind_of
from gan_kit.data.prepare.types import Found, Unusable

__all__ = ["head_of", "read"]

TICK_NS = 20_000_000  # within a tick of the file system's clock (4 ms here, 16 elsewhere) two changes look like one
OPEN_ARCHIVES = 8  # kept open in a process, with the index of their members


def read(found: Found, max_bytes: int) -> bytes:
    """All bytes of a file or member, `found.size` of them.

    Raises Unusable for one larger than max_bytes (before anything is read), gone, not readable, changed since it was
    found or while it was read, and for a member that is damaged or is not as long as its archive says.
    """
    if found.size > max_bytes:
        raise Unusable(f"{found.size} bytes, over max_bytes={max_bytes}")
    try:
        return _file(found) if found.member is None else _archive(found.path).read(found)
    except FileNotFoundError:
        raise Unusable("gone since it was found") from None
    except OSError as e:
        raise Unusable(f"cannot be read ({e.strerror or e})") from e
    except MemoryError:
        raise Unusable(f"{found.size} bytes, too many for this machine's memory") from None


def head_of(path: str | Path) -> tuple[bytes, os.stat_result]:
    """The first HEAD_BYTES and the status of a regular file. Raises OSError, and Unusable for a pipe or device."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # not even opened: a tape would wind
        raise Unusable(_special(status.st_mode))
    fd = _opened(path)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Unusable(_special(status.st_mode))
        return os.read(fd, HEAD_BYTES), status
    finally:
        os.close(fd)


def _opened(path: str | Path) -> int:
    # without O_NONBLOCK, a pipe put in the file's place would wait for a writer for ever
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)


def _special(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _file(found: Found) -> bytes:
    with open(_opened(found.path), "rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode) or (before.st_size, before.st_mtime_ns) != (found.size, found.mtime_ns):
            raise Unusable("changed since it was found")
        if 0 <= time.time_ns() - before.st_mtime_ns < TICK_NS:
            time.sleep(TICK_NS / 1e9)  # from here on, a change shows
        data = _exactly(file, found.size)
        after = os.fstat(file.fileno())
    if len(data) != found.size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise Unusable("changed while it was read")
    return data


def _exactly(file: IO[bytes], size: int) -> bytes:
    """`size` bytes, fewer at the end; one read gives at most 2 GiB"""
    data = file.read(size)
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


# Archives stay open in each process: a ZIP's table of contents, or a tar's, is read once and not once a member


class _Archive(Protocol):
    def read(self, found: Found) -> bytes: ...

    def close(self) -> None: ...


_Key = tuple[str, int, int, int]  # path, size, mtime_ns, and process: a forked child shares no place in a file
_archives: OrderedDict[_Key, _Archive] = OrderedDict()
_lock = threading.Lock()


def _archive(path: Path) -> _Archive:
    status = os.stat(path)
    key = (str(path), status.st_size, status.st_mtime_ns, os.getpid())
    with _lock:
        if key not in _archives:
            try:
                kind = kind_of(head_of(path)[0], path.name)
                _archives[key] = _Zip(path) if kind == "zip" else _Tar(path) if kind == "tar" else _PackedTar(path)
            except Exception as e:  # whatever a damaged archive raises
                raise Unusable(f"its archive cannot be opened any more ({type(e).__name__})") from e
            while len(_archives) > OPEN_ARCHIVES:
                (_, _, _, pid), oldest = _archives.popitem(last=False)
                if pid == os.getpid():
                    oldest.close()
        _archives.move_to_end(key)
        return _archives[key]


class _Zip:
    def __init__(self, path: Path) -> None:
        self.zip = zipfile.ZipFile(path)
        self.close = self.zip.close

    def read(self, found: Found) -> bytes:
        assert found.member is not None
        try:
            info = self.zip.getinfo(found.member)
        except KeyError:
            raise Unusable("changed since it was found") from None
        if info.file_size != found.size:
            raise Unusable("changed since it was found")
        try:
            with self.zip.open(info) as file:
                # a member ends where its header says, and the checksum tells a header that lies
                data = file.read(found.size + 1)
        except (MemoryError, OSError):
            raise
        except Exception as e:  # zlib, lzma, bz2, struct and zipfile have an error each
            raise Unusable(f"damaged in its archive: {' '.join(str(e).split())}") from e
        if len(data) != found.size:
            raise Unusable("damaged in its archive: shorter than it says")
        return data


class _Tar:
    """A plain tar: members lie in it as they are, so that one read at an offset gets each."""

    def __init__(self, path: Path) -> None:
        self.fd = _opened(path)
        everything = archives.Limits(sys.maxsize, sys.maxsize, float("inf"))
        each = archives.tar_members(path, "tar", everything, lambda name, reason: None)
        self.index = {m.name: (m.offset, m.size, m.mtime_ns) for m in each}  # the last of each name

    def read(self, found: Found) -> bytes:
        assert found.member is not None
        offset, size, mtime_ns = self.index.get(found.member, (0, -1, 0))
        if (size, mtime_ns) != (found.size, found.mtime_ns):
            raise Unusable("changed since it was found")
        parts = []
        while size > 0 and (part := os.pread(self.fd, size, offset)):
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        if size:
            raise Unusable("changed while it was read")
        return b"".join(parts)

    def close(self) -> None:
        os.close(self.fd)


class _PackedTar:
    """A compressed tar: going back means unpacking from the start again; scan's `scratch` avoids that."""

    def __init__(self, path: Path) -> None:
        self.tar = tarfile.open(path, "r:*")  # noqa: SIM115 # stays open
        self.close = self.tar.close
        self.index = {info.name: info for info in self.tar}

    def read(self, found: Found) -> bytes:
        info = self.index.get(found.member or "")
        if info is None or (info.size, int(info.mtime * 1e9)) != (found.size, found.mtime_ns):
            raise Unusable("changed since it was found")
        file = self.tar.extractfile(info)
        assert file is not None
        data = file.read(found.size)
        if len(data) != found.size:
            raise Unusable("damaged in its archive: shorter than it says")
        return data
