"""A prepared data set as WebDataset tars, which clusters and object stores read in one stream each."""

from __future__ import annotations

import io
import json
import tarfile
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gan_kit.data.packed import Packed
from gan_kit.files import written_whole
from gan_kit.types import UserError

__all__ = ["to_webdataset"]


def to_webdataset(root: Path | str, folder: Path | str, tar_bytes: int = 2**28, progress: bool = True) -> list[Path]:
    """Write SPLIT-000000.tar, ... with KEY.png or KEY.wav, KEY.cls (the class) and KEY.json; -> the tars

    The bytes depend on the data set alone; each tar appears whole or not at all.
    """
    from tqdm import tqdm

    if tar_bytes < 1:
        raise UserError(f"tar_bytes={tar_bytes}; set it to 1 or more, such as 268435456")
    packed, folder = Packed(root), Path(folder)
    written = []
    for split in packed.splits:
        arrays = packed.load(split)
        rows = tqdm(range(len(arrays.x)), desc=f"{split} tars", unit="sample", disable=None if progress else True)
        samples = (_members(packed, split, i) for i in rows)
        for number, group in enumerate(_groups(samples, tar_bytes)):
            path = folder / f"{split}-{number:06d}.tar"
            with written_whole(path) as part, tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
                for name, data in group:
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
            written.append(path)
    return written


def _groups(samples: Iterator[list[tuple[str, bytes]]], most: int) -> Iterator[list[tuple[str, bytes]]]:
    """Members of whole samples, about `most` bytes a group."""
    group: list[tuple[str, bytes]] = []
    size = 0
    for members in samples:
        own = sum(len(data) + 1024 for _, data in members)
        if group and size + own > most:
            yield group
            group, size = [], 0
        group += members
        size += own
    if group:
        yield group


def _members(packed: Packed, split: str, i: int) -> list[tuple[str, bytes]]:
    arrays, key = packed.load(split), f"{split}_{i:09d}"
    x = np.asarray(arrays.x[i])
    members = [(f"{key}.png", _png(x)) if packed.index["domain"] == "image" else (f"{key}.wav", _wav(x, packed))]
    facts: dict[str, object] = {"split": split, "row": i}
    if arrays.y is not None:
        y = int(arrays.y[i])
        members.append((f"{key}.cls", str(y).encode()))
        facts |= {"label": y, "class": arrays.class_names[y] if y >= 0 else None}
    return [*members, (f"{key}.json", json.dumps(facts).encode())]


def _png(x: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(x[0] if len(x) == 1 else np.ascontiguousarray(x.transpose(1, 2, 0))).save(out, "PNG")
    return out.getvalue()


def _wav(x: np.ndarray, packed: Packed) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(len(x))
        file.setsampwidth(2)
        file.setframerate(packed.index["spec"]["sample_rate"])
        file.writeframes(np.ascontiguousarray(x.T).astype("<i2").tobytes())
    return out.getvalue()
