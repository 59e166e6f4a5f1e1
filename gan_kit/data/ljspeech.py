"""LJSpeech (Ito and Johnson 2017, version 1.1, public domain): 13,100 sentences read by one voice, 24 hours."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gan_kit.data.arrays import Arrays, check_split
from gan_kit.data.prepare.sound_signal import resampled
from gan_kit.data.published import places, unpacked
from gan_kit.data.sound_file import read_recording
from gan_kit.files import cache_home, written_whole
from gan_kit.types import UserError

__all__ = ["LJSpeech"]

FOLDER = "LJSpeech-1.1"  # what the archive holds: metadata.csv, wavs/*.wav
URL = f"https://data.keithito.com/data/speech/{FOLDER}.tar.bz2"
SHA256 = "be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5"
SUBFOLDERS = ("", FOLDER, "ljspeech", f"ljspeech/{FOLDER}", "LJSpeech")
HELD_OUT = 150  # sentences to test on, and as many to validate on


class LJSpeech:
    """Whole sentences in pieces of one length and rate, as loud as they are; downloaded only when nowhere.

    By their published order the last 150 sentences are test, the 150 before them val, the other 12,800 train; where
    metadata.csv lists fewer than 1,500, a tenth each instead of 150. A sentence longer than a piece is cut into as few
    as cover it, evenly, so that they overlap and none has zeros; a shorter one has zeros behind.

    Pieces are written once to the cache, 2 bytes a sample (3.8 GB in all at 22,050 Hz), and mapped from there.

    root: the first place looked in; then $GAN_KIT_DATA, then the cache
    sample_rate: in Hz; the recordings have 22,050

    Raises UserError where recordings are missing, damaged or can't be had.
    """

    splits = ("train", "val", "test")

    def __init__(self, root: str | Path | None = None, sample_rate: int = 22_050, piece_samples: int = 32_768) -> None:
        if sample_rate < 1000 or piece_samples < 1:
            raise UserError(
                f"sample_rate={sample_rate}, piece_samples={piece_samples}; set audio.sample_rate=22050, "
                "data.piece_samples=32768, say"
            )
        self.root = None if root is None else Path(root).expanduser()
        self.sample_rate, self.piece_samples = sample_rate, piece_samples

    def load(self, split: str) -> Arrays:
        """-> x (N, 1, T) int16, mapped, sentence by sentence; no classes. split: "train", "val" or "test" """
        check_split(split, self.splits)
        paths = sentences(self._folder())[split]
        stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        key = repr((str(paths[0].parent.resolve()), self.sample_rate, self.piece_samples, stats))
        file = cache_home() / "ljspeech" / f"{split}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.int16"
        if not file.is_file():
            self._write(paths, split, file)
        return Arrays(np.memmap(file, np.int16, mode="r").reshape(-1, 1, self.piece_samples))

    def _write(self, paths: list[Path], split: str, file: Path) -> None:
        try:
            with written_whole(file) as part, part.open("wb") as out:
                for path in tqdm(paths, desc=f"LJSpeech, {split}", unit=" files", disable=None, leave=False):
                    out.write(self._pieces(path).tobytes())
        except OSError as error:
            raise UserError(f"{file} can't be written ({error}); set GAN_KIT_CACHE to another folder") from error

    def _pieces(self, path: Path) -> np.ndarray:
        """One sentence -> (N, T) int16"""
        x, rate = read_recording(path)
        wave = np.clip(np.rint(resampled(x, rate, self.sample_rate)[:, 0] * 32768), -32768, 32767).astype(np.int16)
        count = max(1, -(-len(wave) // self.piece_samples))
        wave = np.pad(wave, (0, max(0, self.piece_samples - len(wave))))
        starts = np.linspace(0, len(wave) - self.piece_samples, count).astype(int)
        return wave[starts[:, None] + np.arange(self.piece_samples)]

    def _folder(self) -> Path:
        if found := self._find():
            return found
        reason = unpacked(URL, SHA256, FOLDER, self.root)
        if found := self._find():
            return found
        raise UserError(
            f"LJSpeech is not on this machine ({reason}); unpack {URL} (2.7 GB) and set data.root (or GAN_KIT_DATA) to "
            "that folder, or run once where the network can be reached"
        )

    def _find(self) -> Path | None:
        for place in places(self.root, SUBFOLDERS):
            if (place / "wavs").is_dir() and (place / "metadata.csv").is_file():
                return place
        return None


def sentences(folder: Path) -> dict[str, list[Path]]:
    """The recordings of each split, in the order of their names, which is the published one.

    Raises UserError for a list that can't be read, and listed recordings that are missing, whatever the split.
    """
    try:
        lines = (folder / "metadata.csv").read_text("utf-8").split("\n")  # a sentence may hold what else ends lines
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'metadata.csv'} can't be read ({error}); unpack {URL} again, whole") from error
    names = sorted({name for line in lines if (name := line.partition("|")[0].strip())})
    if odd := [name for name in names if Path(name).name != name]:
        raise UserError(f"{folder / 'metadata.csv'} lists {odd[0]!r}, no recording's name; unpack {URL} again, whole")
    have = {path.name for path in (folder / "wavs").iterdir()}
    if missing := [name for name in names if f"{name}.wav" not in have]:
        raise UserError(
            f"{folder} lacks {len(missing):,} of {len(names):,} recordings that metadata.csv lists "
            f"({', '.join(missing[:3])}, …); remove it and unpack {URL} again, whole"
        )
    held = min(HELD_OUT, len(names) // 10)
    if not held:
        raise UserError(f"{folder / 'metadata.csv'} lists {len(names)} recordings; ten are the least for three splits")
    paths = [folder / "wavs" / f"{name}.wav" for name in names]
    return {"train": paths[: -2 * held], "val": paths[-2 * held : -held], "test": paths[-held:]}
