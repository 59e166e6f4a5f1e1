"""The Free Spoken Digit Dataset (Jackson et al., version 1.0.10, CC BY-SA 4.0): six speakers, each digit 50 times."""

from __future__ import annotations

import hashlib
import io
import re
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from gan_kit.data.arrays import Arrays, check_split
from gan_kit.data.prepare.sound_signal import loud_part, resampled
from gan_kit.data.published import homes, places, told
from gan_kit.data.sound_file import read_recording
from gan_kit.files import laid_whole
from gan_kit.types import UserError

__all__ = ["FSDD"]

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TAKES = 50
TEST_TAKES = 5  # the first of each speaker and digit, as published
# A commit, not a branch. GitHub packs archives anew now and then: the checksum is of what is in them, see `digest`
URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/d6938f9bf1545aa66d8489fc9f1385a7abd64282.zip"
SHA256 = "dbd573d7cafe79c4b49f65718115e1304e24e067fa39eff18a660dc6cb9c360f"
MAX_BYTES = 1 << 26  # of the archive, which has 16 million, and of what is in it
SUBFOLDERS = ("", "recordings", "fsdd", "fsdd/recordings", "free-spoken-digit-dataset/recordings")
NAME = re.compile(r"([0-9])_([a-z]+)_([0-9]+)\.wav")
CLASSES = ("digit", "speaker", "both")


class FSDD:
    """3,000 recordings as clips of one length and rate; downloaded only when they are nowhere.

    Silence of 40 dB below the loudest is cut off but for 20 ms, the peak set to -1 dBFS; zeros stand behind, and
    what is longer than a clip loses its end.

    root: the first place looked in; then $GAN_KIT_DATA, then the cache
    classes: "digit" (10), "speaker" (6) or "both" (60)

    Raises UserError where recordings are missing, damaged or can't be had.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        sample_rate: int = 8000,
        clip_samples: int = 8192,
        classes: str = "digit",
    ) -> None:
        if classes not in CLASSES:
            raise UserError(f"no classes={classes!r}; have {', '.join(CLASSES)}")
        if sample_rate < 1000 or clip_samples < 1:
            raise UserError(f"sample_rate={sample_rate}, clip_samples={clip_samples}; set audio.sample_rate=8000, say")
        self.root = None if root is None else Path(root).expanduser()
        self.sample_rate, self.clip_samples, self.classes = sample_rate, clip_samples, classes

    @property
    def class_names(self) -> tuple[str, ...]:
        digits = tuple("0123456789")
        if self.classes == "digit":
            return digits
        return SPEAKERS if self.classes == "speaker" else tuple(f"{d} {s}" for d in digits for s in SPEAKERS)

    def load(self, split: str) -> Arrays:
        """-> x (N, 1, T) int16; y (N,) int64. Recordings 0-4 of each speaker and digit are test (300 in all)."""
        check_split(split)
        takes = [t for t in _takes(self._folder()) if (t[2] < TEST_TAKES) == (split == "test")]
        x = np.stack([self._clip(path) for _, _, _, path in takes])
        digit = np.array([d for d, _, _, _ in takes], np.int64)
        speaker = np.array([SPEAKERS.index(s) for _, s, _, _ in takes], np.int64)
        y = {"digit": digit, "speaker": speaker, "both": digit * len(SPEAKERS) + speaker}[self.classes]
        return Arrays(x, y, self.class_names)

    def _clip(self, path: Path) -> np.ndarray:
        """-> (1, T) int16"""
        x, rate = read_recording(path)
        x = resampled(x - x.mean(), rate, self.sample_rate)
        first, last = loud_part(x, self.sample_rate, 40.0, 0.02)
        x = x[first:last][: self.clip_samples, 0]
        peak = float(np.abs(x).max(initial=0))
        out = np.zeros((1, self.clip_samples), np.int16)
        out[0, : len(x)] = np.rint(x * (32767 * 10 ** (-1 / 20) / max(peak, 1e-9)))
        return out

    def _folder(self) -> Path:
        if found := self._find():
            return found
        folder = homes(self.root)[0] / "fsdd"
        try:
            download(folder)
        except (OSError, zipfile.BadZipFile, UserError) as error:  # no network, a full disk, a proxy's page
            raise UserError(
                f"the spoken digits are not on this machine and could not be downloaded ({told(error)}); set "
                "data.root (or GAN_KIT_DATA) to a folder with the recordings of "
                "https://github.com/Jakobovski/free-spoken-digit-dataset, or run once where the network can be reached"
            ) from error
        return folder / "recordings"

    def _find(self) -> Path | None:
        for place in places(self.root, SUBFOLDERS):
            if place.is_dir() and any(NAME.fullmatch(p.name) for p in place.glob("*.wav")):
                return place
        return None


def _takes(folder: Path) -> list[tuple[int, str, int, Path]]:
    """(digit, speaker, take, file), sorted. Raises UserError for less than the 3,000 of 1.0.10; more is not read."""
    found = []
    for path in folder.glob("*.wav"):
        if (m := NAME.fullmatch(path.name)) and m[2] in SPEAKERS and int(m[3]) < TAKES:
            found.append((int(m[1]), m[2], int(m[3]), path))
    wanted = 10 * len(SPEAKERS) * TAKES
    if len(found) < wanted:
        have = Counter(speaker for _, speaker, _, _ in found)
        raise UserError(
            f"{folder} holds {len(found):,} of {wanted:,} recordings ("
            + ", ".join(f"{s} {have[s]}" for s in SPEAKERS)
            + "); fetch version 1.0.10 again, whole"
        )
    return sorted(found)


def digest(files: Iterable[tuple[str, bytes]]) -> str:
    """SHA-256 of the lines "name sha256-of-the-content" in the names' order"""
    lines = sorted(f"{name} {hashlib.sha256(data).hexdigest()}\n" for name, data in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def download(folder: Path, url: str | None = None) -> None:
    """Fetch the published archive and lay its recordings under `folder`/recordings: all of them, or none.

    Raises OSError or BadZipFile where it can't be had, UserError where it is not what was published.
    """
    with urllib.request.urlopen(url or URL, timeout=60) as answer:
        packed = answer.read(MAX_BYTES)
    files: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        members = [m for m in archive.infolist() if NAME.fullmatch(m.filename.rpartition("/")[2])]
        if sum(m.file_size for m in members) > MAX_BYTES:
            raise UserError(f"{url or URL} unpacks to more than the recordings have")
        for member in members:
            files[member.filename.rpartition("/")[2]] = archive.read(member)
    if digest(files.items()) != SHA256:
        raise UserError(f"what came from {url or URL} is not version 1.0.10 as published")
    with laid_whole(folder / "recordings") as part:
        for name, data in files.items():
            (part / name).write_bytes(data)
