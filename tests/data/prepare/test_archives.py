"""Archives from anywhere: read where they lie, nothing unpacked, traps and damage told, bombs not set off."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gan_kit.data.prepare.reading import read
from gan_kit.data.prepare.scan import Listing, scan
from gan_kit.data.prepare.types import Unusable
from gan_kit.types import UserError

MiB = 2**20


def picture(seed: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


PICTURES = {f"{folder}/{i}.png": picture(i) for i, folder in enumerate(["cat", "dog", "cat", "dog", "cat"])}


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, files: dict[str, bytes], mode: str = "w", **options) -> Path:
    with tarfile.open(path, mode, **options) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_600_000_000
            archive.addfile(info, io.BytesIO(data))
    return path


WRITERS = {
    "a.zip": zipped,
    "a.tar": tarred,
    "a.tar.gz": lambda path, files: tarred(path, files, "w:gz"),
    "a.tar.bz2": lambda path, files: tarred(path, files, "w:bz2"),
    "a.tar.xz": lambda path, files: tarred(path, files, "w:xz"),
}


def contents(listing: Listing, step: int = 1) -> dict[str, bytes]:
    return {f.name.split("!", 1)[1]: read(f, 10**9) for f in listing.files[::step]}


# What is well


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("scratch", [False, True])
def test_members_are_read_where_they_lie(tmp_path: Path, name: str, scratch: bool) -> None:
    source, work = tmp_path / "source", tmp_path / "work"
    source.mkdir()
    path = WRITERS[name](source / name, PICTURES | {"notes.txt": b"text", "__MACOSX/._1.png": b"x"})
    listing = scan(source, scratch=work if scratch else None)
    assert [f.name for f in listing.files] == [f"{name}!{member}" for member in sorted(PICTURES)]
    assert {f.kind for f in listing.files} == {"png"}
    assert not listing.refused
    assert listing.aside == {".txt file": 1, "system file": 1}
    assert contents(listing) == PICTURES
    assert contents(listing, -1) == PICTURES
    assert os.listdir(source) == [name]
    assert [f.name for f in scan(path).files] == [f.name for f in listing.files]  # the archive itself as source
    if scratch and name.startswith("a.tar."):
        (unpacked,) = work.iterdir()
        before = unpacked.stat().st_mtime_ns
        assert list(scan(source, scratch=work).files) == list(listing.files)
        assert unpacked.stat().st_mtime_ns == before  # made once


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_methods(tmp_path: Path, method: int) -> None:
    assert contents(scan(zipped(tmp_path / "a.zip", PICTURES, method))) == PICTURES


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_formats_with_long_names(tmp_path: Path, form: int) -> None:
    long = "/".join(["d" * 50] * 4) + "/ä.png"
    files = PICTURES | {long: picture(9), "./dot.png": picture(8)}
    listing = scan(tarred(tmp_path / "a.tar", files, format=form))
    assert contents(listing) == {name.removeprefix("./"): data for name, data in files.items()}


def test_names_that_are_no_utf8_in_a_tar(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    assert contents(scan(tarred(tmp_path / "a.tar", {name: picture(0)}, format=tarfile.GNU_FORMAT))) == {
        name: picture(0)
    }


def test_the_last_of_two_members_of_one_name_counts(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tar", {"1.png": picture(1)})
    tarred(path, {"1.png": picture(2)}, "a")
    listing = scan(path)
    assert contents(listing) == {"1.png": picture(2)}
    assert listing.aside == {"older copy in an archive": 1}


# Traps


def entry(name: str, **changes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in changes.items():
        setattr(info, key, value)
    return info


OUT = "its path leads out of the archive"


def test_traps_in_a_tar_are_told_and_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("../up.png", "/etc/root.png", "a/../../b.png", "C:\\x.png"):
            archive.addfile(entry(name, size=3), io.BytesIO(b"abc"))
        archive.addfile(entry("soft.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"))
        archive.addfile(entry("hard.png", type=tarfile.LNKTYPE, linkname="good.png"))
        archive.addfile(entry("pipe.png", type=tarfile.FIFOTYPE))
        archive.addfile(entry("disk.png", type=tarfile.BLKTYPE))
        archive.addfile(entry("folder", type=tarfile.DIRTYPE))
        archive.addfile(entry("good.png", size=len(picture(0))), io.BytesIO(picture(0)))
    listing = scan(path)
    assert contents(listing) == {"good.png": picture(0)}
    assert dict(listing.refused) == {
        "a.tar!../up.png": OUT, "a.tar!etc/root.png": OUT, "a.tar!a/../../b.png": OUT, "a.tar!C:/x.png": OUT,
        "a.tar!soft.png": "a link inside an archive", "a.tar!hard.png": "a link inside an archive",
        "a.tar!pipe.png": "a device or pipe inside an archive", "a.tar!disk.png": "a device or pipe inside an archive",
    }  # fmt: skip


def test_traps_in_a_zip_are_told_and_not_followed(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"good.png": picture(0), "../up.png": b"x", "..\\win.png": b"x"})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("soft.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("inner.zip", zipped(tmp_path / "b.zip", PICTURES).read_bytes())
    (tmp_path / "b.zip").unlink()
    listing = scan(path)
    assert contents(listing) == {"good.png": picture(0)}
    assert dict(listing.refused) == {
        "a.zip!../up.png": OUT, "a.zip!../win.png": OUT, "a.zip!soft.png": "a link inside an archive",
        "a.zip!inner.zip": "an archive inside an archive; unpack the outer one",
    }  # fmt: skip


def patched(path: Path, at: int, layout: str, value: int) -> Path:
    """Change a field of the first entry of the table of contents"""
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02") + at
    data[start : start + struct.calcsize(layout)] = struct.pack(layout, value)
    path.write_bytes(data)
    return path


def test_encrypted_members_and_unknown_methods_are_told(tmp_path: Path) -> None:
    path = patched(zipped(tmp_path / "a.zip", PICTURES), 8, "<H", 1)
    assert scan(path).refused == [("a.zip!cat/0.png", "encrypted")]
    path = patched(zipped(tmp_path / "b.zip", PICTURES), 10, "<H", 9)
    listing = scan(path)
    assert listing.refused == [("b.zip!cat/0.png", "packed by method 9, which Python does not unpack")]
    assert len(listing.files) == 4


# Bombs


def zeros(path: Path, size: int) -> Path:
    """A ZIP of one member of zeros, packed about 1000 times"""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb.png", "w") as file:
        for _ in range(size // MiB):
            file.write(b"\0" * MiB)
    return path


def test_a_zip_bomb_is_not_set_off(tmp_path: Path) -> None:
    path = zeros(tmp_path / "a.zip", 100 * MiB)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("good.png", picture(0))
    tracemalloc.start()
    listing = scan(path)
    assert tracemalloc.get_traced_memory()[1] < 4 * MiB
    tracemalloc.stop()
    assert contents(listing) == {"good.png": picture(0)}
    ((name, reason),) = listing.refused
    assert name == "a.zip!bomb.png"
    assert f"unpack to {100 * MiB}, over max_ratio=200" in reason


def test_many_small_bombs_are_one(tmp_path: Path) -> None:
    blank = {f"{i}.png": b"\0" * (60 * MiB) for i in range(2)}
    assert "a bomb" in dict(scan(zipped(tmp_path / "a.zip", blank)).refused)["a.zip"]


def test_overlapping_members_are_a_bomb(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", PICTURES, zipfile.ZIP_STORED)
    for at in (20, 24):
        patched(path, at, "<I", path.stat().st_size)
    assert scan(path).refused == [("a.zip", "a bomb: its files overlap")]


@pytest.mark.parametrize("kind, opener", [("gz", gzip.open), ("bz2", bz2.open), ("xz", lzma.open)])
@pytest.mark.parametrize("scratch", [False, True])
def test_a_compressed_tar_stops_at_the_limit(tmp_path: Path, kind: str, opener, scratch: bool) -> None:
    header = entry("bomb.png", size=100 * 2**40).tobuf(tarfile.GNU_FORMAT)
    path = tmp_path / f"a.tar.{kind}"
    with opener(path, "wb") as file:
        file.write(header)
        for _ in range(80):
            file.write(b"\0" * MiB)
    work = tmp_path / "work"
    tracemalloc.start()
    listing = scan(path, scratch=work if scratch else None)
    assert tracemalloc.get_traced_memory()[1] < 16 * MiB
    tracemalloc.stop()
    ((name, reason),) = listing.refused
    assert name == path.name
    assert "a bomb" in reason
    assert not work.exists() or not os.listdir(work)


def test_caps_on_members_and_bytes(tmp_path: Path) -> None:
    for name in ("a.zip", "a.tar", "a.tar.gz"):
        path = WRITERS[name](tmp_path / name, PICTURES)
        assert "max_members=3" in dict(scan(path, max_members=3).refused)[name]
        assert len(scan(path, max_members=5).files) == 5
        if name != "a.tar":  # as large as it says
            assert "max_unpacked_bytes=9000" in dict(scan(path, max_unpacked_bytes=9000).refused)[name]


def test_a_header_that_claims_gigabytes_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        file.write(entry("x", type=tarfile.GNUTYPE_LONGNAME, size=4 * 2**30).tobuf(tarfile.GNU_FORMAT))
        file.truncate(5 * 2**30)
    tracemalloc.start()
    started = time.monotonic()
    ((name, reason),) = scan(path).refused
    assert tracemalloc.get_traced_memory()[1] < 4 * MiB
    assert time.monotonic() - started < 5
    tracemalloc.stop()
    assert name == "a.tar"
    assert "4294967296" in reason


# Damage


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("scratch", [False, True])
def test_an_archive_cut_off_anywhere_tells_and_gives_what_is_whole(tmp_path: Path, name: str, scratch: bool) -> None:
    whole = WRITERS[name](tmp_path / name, PICTURES).read_bytes()
    last = len(whole.rstrip(b"\0")) if name == "a.tar" else len(whole)
    for i, cut in enumerate(np.linspace(600, last - 20, 12).astype(int)):
        path = tmp_path / str(i) / name
        path.parent.mkdir()
        path.write_bytes(whole[:cut])
        for _ in range(2):  # the second time from what the first left in scratch
            listing = scan(path, scratch=tmp_path / "work" if scratch else None)
            assert listing.refused
            for found in listing.files:
                with contextlib.suppress(Unusable):
                    assert read(found, 10**9) == PICTURES[found.name.split("!", 1)[1]]


def test_a_tar_damaged_in_the_middle_is_told(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tar", PICTURES)
    data = bytearray(path.read_bytes())
    third = [i for i in range(0, len(data), 512) if data[i : i + 4] in (b"cat/", b"dog/")][2]
    data[third + 148 : third + 156] = b"nonsense"  # tarfile itself stops here without a word
    path.write_bytes(data)
    listing = scan(path)
    assert len(listing.files) == 2
    assert listing.refused == [("a.tar", "damaged after 2 entries: what follows is not read")]


def test_tars_one_behind_the_other_are_told(tmp_path: Path) -> None:
    one = tarred(tmp_path / "a.tar", {"1.png": picture(1)}).read_bytes()
    (tmp_path / "a.tar").write_bytes(one + tarred(tmp_path / "b.tar", {"2.png": picture(2)}).read_bytes())
    assert "more follows behind the end mark" in dict(scan(tmp_path / "a.tar").refused)["a.tar"]


def test_a_zip_member_that_is_damaged_or_lies_about_its_size(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", PICTURES, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 50] ^= 255
    path.write_bytes(data)
    first, *others = scan(path).files
    with pytest.raises(Unusable, match="damaged in its archive: Bad CRC-32"):
        read(first, 10**9)
    assert all(read(f, 10**9) for f in others)
    patched(path, 24, "<I", 4500)  # the unpacked size
    with pytest.raises(Unusable, match="damaged in its archive: Bad CRC-32"):
        read(scan(path).files[0], 10**9)
    patched(path, 24, "<I", 100)  # its end is in what the scan reads
    assert scan(path).refused == [("a.zip!cat/0.png", "damaged in its archive: Bad CRC-32 for file 'cat/0.png'")]


def test_a_full_disk_is_the_users_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tarred(tmp_path / "a.tar.gz", PICTURES, "w:gz")
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(UserError, match=r"cannot hold a\.tar\.gz unpacked .*set scratch"):
        scan(path, scratch=blocked / "work")


# Fuzz: whatever bytes an archive is made of, it is told, in bounded memory


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes_never_make_it_stumble(tmp_path: Path, name: str, data) -> None:
    path = tmp_path / name
    if not (tmp_path / "whole").exists():
        (tmp_path / "whole").write_bytes(WRITERS[name](path, PICTURES).read_bytes())
    whole = bytearray((tmp_path / "whole").read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        listing = scan(path)
    except UserError:
        return
    for found in listing.files:
        with contextlib.suppress(Unusable):
            assert len(read(found, 10**6)) == found.size


@pytest.mark.parametrize("told", ["nan", "inf", "1e300", "-1e19", "5e9"])
def test_a_tar_may_say_any_time(tmp_path: Path, told: str) -> None:
    data = next(iter(PICTURES.values()))
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name, headers in (("1.png", {"mtime": told}), ("2.png", {})):
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = len(data), headers
            archive.addfile(member, io.BytesIO(data))
    listing = scan(tmp_path)
    assert contents(listing) == {"1.png": data, "2.png": data}
    assert not listing.refused
    assert listing.files[0].mtime_ns == (5 * 10**18 if told == "5e9" else 0)
