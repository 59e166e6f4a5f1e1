"""Real files with random damage: each is a sample or is told why not; no crash, no hang, no memory without bound."""

from __future__ import annotations

import io
import json
import resource
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_kit.data import Resize
from gan_kit.data.prepare import Images, Limits, Settings, Sounds, prepare
from gan_kit.data.prepare.types import Domain

FILES = 4000


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
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    settings, limits = Settings(duplicates="keep"), Limits(seconds=20.0)
    prepare(root, tmp_path / "out", domain, settings, limits, workers=1, report=False, progress=False)
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
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert after <= max(before, 700_000)  # KiB
