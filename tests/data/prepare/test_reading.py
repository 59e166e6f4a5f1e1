"""A file's bytes are those that were found, all of them, or a reason; archives stay open and are not mixed up."""

from __future__ import annotations

import dataclasses
import io
import itertools
import multiprocessing
import os
import tarfile
import threading
import time
import tracemalloc
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from gan_kit.data.prepare import reading
from gan_kit.data.prepare.reading import read
from gan_kit.data.prepare.scan import scan
from gan_kit.data.prepare.types import Found, Unusable

MAX = 10**8


def found(path: Path) -> Found:
    status = path.stat()
    return Found(path.name, path, None, "png", status.st_size, status.st_mtime_ns)


def refusal(of: Found, max_bytes: int = MAX) -> str:
    with pytest.raises(Unusable) as caught:
        read(of, max_bytes)
    return str(caught.value)


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for data in (b"", b"x", os.urandom(3_000_000)):
        path.write_bytes(data)
        assert read(found(path), MAX) == data


def test_the_cap_comes_before_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)
    tracemalloc.start()
    started = time.monotonic()
    assert refusal(found(path)) == f"{10 * 2**30} bytes, over max_bytes={MAX}"
    assert time.monotonic() - started < 0.5
    assert tracemalloc.get_traced_memory()[1] < 2**16
    tracemalloc.stop()
    path.write_bytes(b"12345")
    assert read(found(path), 5) == b"12345"
    assert refusal(found(path), 4) == "5 bytes, over max_bytes=4"


def test_what_is_gone_or_has_become_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"12345")
    one = found(path)
    path.write_bytes(b"123456")
    assert refusal(one) == "changed since it was found"
    path.write_bytes(b"54321")
    os.utime(path, ns=(0, one.mtime_ns + 1))
    assert refusal(one) == "changed since it was found"
    path.unlink()
    assert refusal(one) == "gone since it was found"
    os.mkfifo(path)  # must not wait for a writer
    assert refusal(one) == "changed since it was found"
    path.unlink()
    path.mkdir()
    assert "cannot be read (Is a directory)" in refusal(one) or "changed" in refusal(one)


@pytest.mark.parametrize("change", ["grows", "shrinks", "is rewritten"])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x" * 1000)
    one = found(path)
    real = reading._exactly

    def meanwhile(file, size):
        data = real(file, size // 2)
        with path.open("r+b") as other:
            if change == "grows":
                other.seek(0, os.SEEK_END)
                other.write(b"more")
            elif change == "shrinks":
                other.truncate(700)
            else:
                other.write(b"y" * 1000)
        os.utime(path, ns=(0, one.mtime_ns + 10**6))
        return data + real(file, size - len(data))

    monkeypatch.setattr(reading, "_exactly", meanwhile)
    assert refusal(one) == "changed while it was read"


def test_a_writer_at_work_is_never_half_read(tmp_path: Path) -> None:
    """A thread overwrites the file in place, each time with one letter: no read gives two, and some read is whole."""
    path = tmp_path / "a.png"
    path.write_bytes(b"a" * 3_000_000)
    stop = threading.Event()

    def rewrite() -> None:
        letters = itertools.cycle(b"abcdefgh")
        pauses = itertools.cycle([0, 0, 0.03])
        while not stop.wait(next(pauses)):
            with path.open("r+b", buffering=0) as file:
                file.write(bytes([next(letters)]) * 3_000_000)

    writer = threading.Thread(target=rewrite)
    writer.start()
    outcomes = []
    try:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            one = found(path)
            try:
                outcomes.append(len(set(read(one, MAX))))
            except Unusable as e:
                outcomes.append(str(e))
    finally:
        stop.set()
        writer.join()
    assert set(outcomes) <= {1, "changed since it was found", "changed while it was read"}
    assert len(set(outcomes)) > 1


def archive(path: Path, n: int = 50) -> Path:
    members = {f"{i}.wav": b"RIFF\0\0\0\0WAVE" + bytes([i]) * (100 + 7 * i) for i in range(n)}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
            for name, data in members.items():
                z.writestr(name, data)
    else:
        with tarfile.open(path, "w") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def right(f: Found) -> bool:
    i = int(f.name.split("!")[1].split(".")[0])
    return read(f, MAX) == b"RIFF\0\0\0\0WAVE" + bytes([i]) * (100 + 7 * i)


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_an_open_archive_survives_forks_and_threads(tmp_path: Path, name: str) -> None:
    files = list(scan(archive(tmp_path / name)).files) * 20
    assert right(files[0])  # now it is open here, and a fork would share the place in it
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        assert all(pool.map(right, files, chunksize=3))
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(right, files))


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_an_archive_that_changes_is_read_anew(tmp_path: Path, name: str) -> None:
    files = scan(archive(tmp_path / name)).files
    assert all(map(right, files))
    archive(tmp_path / name, n=20)
    outcomes = {f.name.split("!")[1]: f for f in files}
    assert right(outcomes["7.wav"]) if name == "a.tar" else True  # a ZIP's new member has a new time
    assert refusal(outcomes["30.wav"]) == "changed since it was found"
    assert refusal(dataclasses.replace(outcomes["7.wav"], size=3)) == "changed since it was found"
    (tmp_path / name).write_bytes(b"PK\x03\x04 or not")
    assert "its archive cannot be opened any more" in refusal(outcomes["7.wav"]) or name == "a.tar"
    (tmp_path / name).unlink()
    assert refusal(outcomes["7.wav"]) == "gone since it was found"


def test_only_some_archives_stay_open(tmp_path: Path) -> None:
    for i in range(reading.OPEN_ARCHIVES + 4):
        archive(tmp_path / f"{i}.tar", n=2)
    files = scan(tmp_path).files
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(2):
        assert all(map(right, files))
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + reading.OPEN_ARCHIVES


def test_the_cap_holds_for_members(tmp_path: Path) -> None:
    for name in ("a.zip", "a.tar"):
        last = max(scan(archive(tmp_path / name)).files, key=lambda f: f.size)
        assert refusal(last, last.size - 1) == f"{last.size} bytes, over max_bytes={last.size - 1}"
