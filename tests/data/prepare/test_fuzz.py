"""Real files with random damage: each is a sample or is told why not; no crash, no hang, no memory without bound."""

from __future__ import annotations

import io
import json
import multiprocessing
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_kit.data import Resize
from gan_kit.data.prepare import Images, Limits, Settings, Sounds, prepare
from gan_kit.data.prepare.types import Domain

FILES = 4000
BAR = 300  # MiB of a process; pictures take 110 and sounds 210


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Bits flipped, bytes set, parts cut, doubled or zeroed, lengths in the header made huge."""
    x = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(len(x))) if rng.random() < 0.5 else int(rng.integers(min(len(x), 64)))
        match int(rng.integers(6)):
            case 0:
                x[at] ^= 1 << int(rng.integers(8))
            case 1:
                x[at] = int(rng.choice([0, 255, 127, 128]))
            case 2:
                del x[at : at + int(rng.integers(1, 64))]
            case 3:
                x[at:at] = x[at : at + int(rng.integers(1, 200))]
            case 4:
                x[at : at + 4] = rng.choice(
                    [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"]
                )
            case 5:
                x = x[: max(1, at)]
        if not x:
            return b""
    return bytes(x)


def originals_of_pictures() -> list[tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((61, 47))
    frames = [pixels.rotate(a) for a in (90, 180)]
    made = []
    for suffix, image, options in (
        ("jpg", pixels, {"quality": 85, "progressive": True}),
        ("jpg", pixels.convert("CMYK"), {}),
        ("png", pixels, {}),
        ("png", pixels.convert("RGBA").quantize(), {}),
        ("gif", pixels, {"save_all": True, "append_images": frames}),
        ("webp", pixels, {"save_all": True, "append_images": frames}),
        ("tiff", pixels, {"compression": "tiff_lzw"}),
        ("tiff", pixels, {"save_all": True, "append_images": frames}),
        ("bmp", pixels, {}),
        ("ppm", pixels, {}),
        ("ico", pixels, {}),
        ("tga", pixels, {}),
    ):
        file = io.BytesIO()
        image.save(file, {"jpg": "JPEG"}.get(suffix, suffix.upper()), **options)
        made.append((suffix, file.getvalue()))
    return made


def originals_of_sounds() -> list[tuple[str, bytes]]:
    sf = pytest.importorskip("soundfile")
    wave = 0.3 * np.random.default_rng(0).standard_normal((3000, 2))
    made = []
    for suffix, form, subtype in (
        ("wav", "WAV", "PCM_16"), ("wav", "WAV", "IMA_ADPCM"), ("wav", "WAV", "FLOAT"), ("flac", "FLAC", "PCM_16"),
        ("ogg", "OGG", "VORBIS"), ("mp3", "MP3", "MPEG_LAYER_III"), ("aiff", "AIFF", "PCM_24"), ("au", "AU", "ULAW"),
        ("caf", "CAF", "ALAC_16"), ("w64", "W64", "PCM_16"),
    ):  # fmt: skip
        file = io.BytesIO()
        sf.write(file, wave, 16000, format=form, subtype=subtype)
        made.append((suffix, file.getvalue()))
    return made


@contextmanager
def watched(root: int) -> Iterator[dict[int, float]]:
    """Most memory that process `root` and each one below it held, MiB, by process. Decoders are the fork server's
    children, which getrusage does not count. What else the test's own process has started is not looked at."""
    most: dict[int, float] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            found = {}
            for path in Path("/proc").glob("[0-9]*/status"):
                with suppress(OSError, KeyError):  # it has ended
                    facts = dict(line.split(":", 1) for line in path.read_text().splitlines())
                    found[int(path.parent.name)] = int(facts["PPid"]), int(facts["VmHWM"].split()[0]) / 1024
            below = {root} & set(found)
            while more := {pid for pid, (parent, _) in found.items() if parent in below} - below:
                below |= more
            for pid in below:
                most[pid] = found[pid][1]

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["image", "audio"])
def test_damaged_files_are_samples_or_are_told(what: str, tmp_path: Path) -> None:
    domain: Domain
    if what == "image":
        originals, domain = originals_of_pictures(), Images(Resize(16), frames="all", max_pixels=4_000_000, crops=False)
    else:
        originals, domain = originals_of_sounds(), Sounds(8000, 4000, max_seconds=60, trim_db=40.0)
    rng = np.random.default_rng(1)
    root = tmp_path / "files"
    root.mkdir()
    for i in range(FILES):
        suffix, data = originals[i % len(originals)]
        (root / f"{i:04d}.{suffix}").write_bytes(damaged(data, rng))
    settings, limits = Settings(duplicates="keep"), Limits(seconds=20.0)
    process = multiprocessing.get_context("spawn").Process(  # whose fork server has loaded nothing but decoders
        target=prepare,
        args=(root, tmp_path / "out", domain, settings, limits),
        kwargs={"workers": 1, "report": False, "progress": False},
    )
    process.start()
    assert process.pid is not None
    with watched(process.pid) as most:
        process.join()
    assert process.exitcode == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").open()]
    status = Counter(row["status"] for row in rows)
    told = {row["name"] for row in rows}
    index = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert len(told) + sum(index["set_aside"].values()) == FILES
    assert status["kept"] > 100
    assert status["broken"] + status["refused"] > 300
    for row in rows:
        if row["status"] in ("broken", "refused"):
            assert row["reason"]
            assert "the decoder died" not in row["reason"], row
            assert "decoding failed" not in row["reason"], row
            assert "decoding took longer" not in row["reason"], row
    if Path("/proc/self/status").exists():
        assert len(most) >= 3, "the process, its fork server and a decoder"
        assert max(most.values()) < BAR, most
