"""Folders as they are: junk, liars, links in circles, pipes, closed doors, names that are no text."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from gan_kit.data.prepare.found import FoundFiles
from gan_kit.data.prepare.kinds import IMAGES, SOUNDS
from gan_kit.data.prepare.scan import scan, shown
from gan_kit.data.prepare.types import Found
from gan_kit.types import UserError


def picture(fmt: str = "PNG", shade: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(out, fmt)
    return out.getvalue()


PNG = picture()


def put(path: Path, data: bytes = PNG) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def names(root: Path, **settings) -> list[str]:
    return [f.name for f in scan(root, **settings).files]


@contextmanager
def as_somebody() -> Iterator[Path]:
    """A folder that a user without root's powers can read: root is let in everywhere."""
    with tempfile.TemporaryDirectory() as name:
        root = os.geteuid() == 0
        if root:
            os.chown(name, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            if root:
                os.seteuid(0)
            for folder, _, _ in os.walk(name):
                os.chmod(folder, 0o700)
            shutil.rmtree(name, ignore_errors=True)
            os.makedirs(name, exist_ok=True)


def test_files_are_known_by_content_and_listed_by_name(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/10.jpg", "a.txt", "no_extension", "B/1.png", "ä.jpeg"):
        put(tmp_path / name)
    listing = scan(tmp_path)
    assert [f.name for f in listing.files] == sorted(
        ["b/2.JPG", "b/10.jpg", "a.txt", "no_extension", "B/1.png", "ä.jpeg"]
    )
    found = listing.files[0]
    status = (tmp_path / found.name).stat()
    assert (found.path, found.member, found.kind) == (tmp_path / found.name, None, "png")
    assert (found.size, found.mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert not listing.refused
    assert not listing.aside


def test_what_nobody_means_as_data_is_set_aside_and_counted(tmp_path: Path) -> None:
    junk = (
        ".DS_Store", "Thumbs.db", "desktop.ini", "a/._1.png", "__MACOSX/x.png", ".hidden.png", ".git/x.png", "1.png~",
        "1.png.part", "readme.txt", "labels.csv", "1.json", "clip.mp4", "Makefile", "empty.log",
    )  # fmt: skip
    for name in junk:
        put(tmp_path / name, b"\0\0\0\x18ftypisom\0\0\0\0" if name == "clip.mp4" else b"text")
    put(tmp_path / "1.png")
    listing = scan(tmp_path)
    assert [f.name for f in listing.files] == ["1.png"]
    assert listing.refused == []
    assert listing.aside == {
        "system file": 4, "system folder": 1, "hidden file": 1, "hidden folder": 1, "editor backup": 2,
        ".txt file": 1, ".csv file": 1, ".json file": 1, "mp4 video": 1, "file without an extension": 1, ".log file": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    "name, data, reason",
    [
        ("a.jpg", b"<!doctype html><html>", "an HTML page named .jpg"),
        ("a.png", b"", "an empty file"),
        ("a.jpg", b"\0" * 5000, "nothing but zero bytes named .jpg"),
        ("a.png", PNG[1:], "its first bytes are of no known kind"),
        ("a.JPG", b"%PDF-1.7", "PDF named .jpg"),
        ("a.wav", b"Not found", "plain text named .wav"),
        ("a.wav", b"\0\0\0\x18ftypisom\0\0\0\0", "an MP4 video named .wav"),
        ("a.jpg", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS or git-annex in place of"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c\0\x04", "a 7z archive, which is not opened here; unpack it"),
        ("a.jpg", b"PK\x05\x06" + b"\0" * 18, "a ZIP archive named .jpg"),
    ],
)
def test_liars_are_refused_with_the_truth(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    put(tmp_path / name, data)
    put(tmp_path / "good.png")
    listing = scan(tmp_path)
    assert [f.name for f in listing.files] == ["good.png"]
    ((refused, why),) = listing.refused
    assert refused == name
    assert reason in why


def test_only_the_wanted_kinds_are_taken(tmp_path: Path) -> None:
    put(tmp_path / "cover.jpg", picture("JPEG"))
    put(tmp_path / "song.wav", b"RIFF\x24\0\0\0WAVEfmt ")
    put(tmp_path / "page.jpg", b"<html>")
    put(tmp_path / "page.wav", b"<html>")
    sounds = scan(tmp_path, SOUNDS)
    assert [f.name for f in sounds.files] == ["song.wav"]
    assert sounds.aside == {"jpeg picture": 1, ".jpg file": 1}
    assert [name for name, _ in sounds.refused] == ["page.wav"]
    pictures = scan(tmp_path, IMAGES - {"jpeg"})
    assert pictures.refused[0] == ("cover.jpg", "a JPEG picture, which is not decoded here")


# Links, pipes, closed doors


def test_links_are_followed_once_and_circles_are_told(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root / "z" / "1.png")
    put(tmp_path / "elsewhere" / "2.png")
    (root / "a_link").symlink_to(root / "z", target_is_directory=True)
    (root / "z" / "up").symlink_to("..", target_is_directory=True)
    (root / "z" / "self").symlink_to(".", target_is_directory=True)
    (root / "outside").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to(root, target_is_directory=True)
    (root / "whole_disk").symlink_to("/", target_is_directory=True)
    (root / "file.png").symlink_to(tmp_path / "elsewhere" / "2.png")
    listing = scan(root)
    assert [f.name for f in listing.files] == ["file.png", "outside/2.png", "z/1.png"]
    assert listing.refused == []
    assert listing.aside == {"folder read under another name": 2, "link back to a folder above it": 3}


def test_links_to_nothing_and_to_themselves(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "round.png").symlink_to("round.png")
    (tmp_path / "ping").symlink_to("pong")
    (tmp_path / "pong").symlink_to("ping")
    reasons = dict(scan(tmp_path).refused)
    assert "a link to nothing" in reasons.pop("gone.png")
    assert set(reasons.values()) == {"a link that leads in a circle"}
    assert set(reasons) == {"round.png", "ping", "pong"}


def test_pipes_sockets_and_devices_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        started = time.monotonic()
        reasons = dict(scan(tmp_path).refused)
    assert time.monotonic() - started < 2
    assert reasons == {
        "pipe.png": "a named pipe",
        "link.png": "a named pipe",
        "zero.png": "a device",
        "socket.png": "a socket",
    }


def test_closed_doors_are_told_and_the_rest_is_read() -> None:
    with as_somebody() as root:
        put(root / "a.png")
        put(root / "b.png").chmod(0)
        put(root / "notes.txt").chmod(0)
        put(root / "cat" / "c.png")
        (root / "cat").chmod(0)
        put(root / "dog" / "d.png")
        (root / "dog").chmod(0o400)  # listed, but nothing in it can be opened
        listing = scan(root)
        assert [f.name for f in listing.files] == ["a.png"]
        assert listing.refused == [
            ("b.png", "cannot be read (Permission denied)"),
            ("cat", "cannot be listed (Permission denied)"),
            ("dog/d.png", "cannot be read (Permission denied)"),
        ]
        assert listing.aside == {".txt file": 1}
        assert listing.empty == ()
        root.chmod(0)
        with pytest.raises(UserError, match=r"cannot be listed \(Permission denied\); let this user read it"):
            scan(root)


# Names


def test_names_that_are_no_utf8_or_very_long(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9 \xff.png"
    with open(raw, "wb") as file:
        file.write(PNG)
    long = put(tmp_path / ("ä" * 125 + ".png"))
    put(tmp_path / "line\nbreak.png")
    listing = scan(tmp_path)
    assert {f.name for f in listing.files} == {os.fsdecode(b"caf\xe9 \xff.png"), long.name, "line\nbreak.png"}
    assert all(f.path.read_bytes() == PNG for f in listing.files)
    for found in listing.files:
        shown(found.name).encode()
        assert "\n" not in shown(found.name)


@contextmanager
def nested(root: Path, name: str, depth: int) -> Iterator[None]:
    """Folders in each other, a picture in each: made and removed a step at a time, as no path reaches them"""
    here = os.getcwd()
    os.chdir(root)
    try:
        for _ in range(depth):
            os.mkdir(name)
            os.chdir(name)
            Path("a.png").write_bytes(PNG)
        yield
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-rf", str(root / name)], check=True)


def test_folders_deeper_than_a_path_may_be_long(tmp_path: Path) -> None:
    with nested(tmp_path, "d" * 250, 25):
        listing = scan(tmp_path)
    assert 10 < len(listing.files) < 25
    assert any("File name too long" in reason for _, reason in listing.refused)


def test_depth_has_no_limit_of_its_own(tmp_path: Path) -> None:
    with nested(tmp_path, "d", 1100):
        assert len(names(tmp_path)) == 1100


def test_the_list_is_the_same_whatever_the_order_of_making(tmp_path: Path) -> None:
    some = [f"{a}/{b}.png" for a in "cab" for b in "201"]
    for root, order in ((tmp_path / "x", some), (tmp_path / "y", some[::-1])):
        for name in order:
            put(root / name)
    assert names(tmp_path / "x") == names(tmp_path / "y") == sorted(some)


# The source


def test_bad_sources_name_the_cure(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*nowhere.*set source"):
        scan(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"a\.png is a file \(no archive\); set source"):
        scan(put(tmp_path / "a.png"))
    for setting in ("max_members", "max_unpacked_bytes", "max_ratio"):
        with pytest.raises(UserError, match=f"{setting}=0"):
            scan(tmp_path, **{setting: 0})


def test_folders_left_out_and_empty_folders(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "1.png")
    put(tmp_path / "out" / "2.png")
    put(tmp_path / "broken" / "3.png", b"")
    put(tmp_path / "notes" / "4.txt", b"text")
    (tmp_path / "hollow" / "deeper" / "deepest").mkdir(parents=True)
    listing = scan(tmp_path, leave_out=[tmp_path / "out"])
    assert [f.name for f in listing.files] == ["cat/1.png"]
    assert listing.aside["folder left out"] == 1
    assert listing.empty == ("hollow", "hollow/deeper", "notes")


def test_sparse_files_cost_nothing(tmp_path: Path) -> None:
    with (tmp_path / "big.png").open("wb") as file:
        file.write(PNG)
        file.truncate(10 * 2**30)
    with (tmp_path / "zeros.jpg").open("wb") as file:
        file.truncate(10 * 2**30)
    tracemalloc.start()
    listing = scan(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert [(f.name, f.size) for f in listing.files] == [("big.png", 10 * 2**30)]
    assert [name for name, _ in listing.refused] == ["zeros.jpg"]


@pytest.mark.slow
def test_fifty_thousand_files_in_one_folder(tmp_path: Path) -> None:
    for i in range(50_000):
        (tmp_path / f"{i}.png").write_bytes(PNG)
    started = time.process_time()
    tracemalloc.start()
    listing = scan(tmp_path)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(listing.files) == 50_000
    assert held < 50_000 * 800
    assert time.process_time() - started < 30  # far from what it takes: only the growth is tested


def test_a_listing_in_columns_gives_back_what_was_put_in_sorted_as_strings(tmp_path: Path) -> None:
    names = ["b/2.png", "a b/1.png", "a/1.png", "é.png", "\U0001f408.png", "\uffee.png", os.fsdecode(b"\xff.png"), "a"]
    files = FoundFiles(tmp_path)
    for i, name in enumerate(names):
        files.add(name, ("png", "jpeg")[i % 2], i * 10**10, -i)
    files.add_member("x.zip!1", "gif", 5, 6, tmp_path / "x.zip", "sub\\1")
    files.sort()
    whole = {
        name: Found(name, tmp_path / name, None, ("png", "jpeg")[i % 2], i * 10**10, -i) for i, name in enumerate(names)
    } | {"x.zip!1": Found("x.zip!1", tmp_path / "x.zip", "sub\\1", "gif", 5, 6)}
    assert list(files) == [whole[name] for name in sorted(whole)]
    assert list(files.names()) == sorted(whole)
    assert files[-1] == list(files)[-1]
    assert files[2:5] == list(files)[2:5]
    assert all(files.find(f.name) == i for i, f in enumerate(files))
    assert files.find("a/1") is None
    assert files.find("~") is None
    assert files.any_member()


def test_a_listing_costs_a_file_its_name_and_some_bytes(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        files = FoundFiles(tmp_path)
        for i in range(20_000):
            files.add(f"class/{i % 977:06d}-{i:06d}.jpg", "jpeg", 10**6, 10**18)
        files.sort()
        assert tracemalloc.get_traced_memory()[0] < 20_000 * (24 + 50)
    finally:
        tracemalloc.stop()
