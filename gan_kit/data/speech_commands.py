"""Speech Commands (Warden 2018, arXiv:1804.03209, version 0.02, CC BY 4.0): a second of one word by many speakers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gan_kit.data.arrays import Arrays, check_split
from gan_kit.data.prepare.sound_signal import resampled
from gan_kit.data.published import download, places
from gan_kit.data.sound_file import read_recording
from gan_kit.types import UserError

__all__ = ["SpeechCommands"]

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LISTS = {"val": "validation_list.txt", "test": "testing_list.txt"}  # as published; what is in neither is train
URL = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
UNPACKED = "SpeechCommands/speech_commands_v0.02"  # where torchaudio lays it
SUBFOLDERS = ("", "speech_commands", "speech_commands_v0.02", UNPACKED)


class SpeechCommands:
    """Recordings of some words as clips of one length and rate, as loud as they are; downloaded only when nowhere.

    Most last a second. Zeros stand behind, and what is longer than a clip loses its end.

    root: the first place looked in; then $GAN_KIT_DATA, then the cache
    sample_rate: in Hz; the recordings have 16,000
    words: the classes, in this order; by default the ten digits, "SC09" of WaveGAN (Donahue et al. 2019, section 4)

    Raises UserError where recordings are missing, damaged or can't be had, or a word has none.
    """

    splits = ("train", "val", "test")

    def __init__(
        self,
        root: str | Path | None = None,
        sample_rate: int = 16000,
        clip_samples: int = 16384,
        words: Sequence[str] = DIGITS,
    ) -> None:
        if sample_rate < 1000 or clip_samples < 1:
            raise UserError(f"sample_rate={sample_rate}, clip_samples={clip_samples}; set audio.sample_rate=16000, say")
        if isinstance(words, str) or not words or len(set(words)) < len(words):
            raise UserError(f"words={words!r} is no list of different words; set data.words=[yes,no], say")
        self.root = None if root is None else Path(root).expanduser()
        self.sample_rate, self.clip_samples, self.words = sample_rate, clip_samples, tuple(words)

    def load(self, split: str) -> Arrays:
        """-> x (N, 1, T) int16; y (N,) int64, by word and then by name. split: "train", "val" or "test" """
        names = recordings(self._folder(), self.words)[check_split(split, self.splits)]
        x = np.zeros((len(names), 1, self.clip_samples), np.int16)
        bar = tqdm(names, desc=f"Speech Commands, {split}", unit=" files", disable=None, leave=False)
        for out, (_, path) in zip(x, bar, strict=True):
            clip = self._clip(path)
            out[0, : len(clip)] = clip
        return Arrays(x, np.array([label for label, _ in names], np.int64), self.words)

    def _clip(self, path: Path) -> np.ndarray:
        """-> (T',) int16, no longer than a clip"""
        x, rate = read_recording(path)
        x = resampled(x, rate, self.sample_rate)[: self.clip_samples, 0]
        return np.clip(np.rint(x * 32768), -32768, 32767).astype(np.int16)

    def _folder(self) -> Path:
        if found := self._find():
            return found
        reason = download("SPEECHCOMMANDS", self.root, "torchaudio")
        if found := self._find():
            return found
        raise UserError(
            f"Speech Commands is not on this machine ({reason or f'what is in {UNPACKED} is something else'}); unpack "
            f"{URL} (2.4 GB) and set data.root (or GAN_KIT_DATA) to that folder, or run once where torchaudio "
            "(pip install 'gan-kit[audio]') and the network can be had"
        )

    def _find(self) -> Path | None:
        for place in places(self.root, SUBFOLDERS):
            listed = any((place / name).is_file() for name in LISTS.values())
            if listed or all((place / word).is_dir() for word in self.words):
                return place
        return None


def recordings(folder: Path, words: Sequence[str]) -> dict[str, list[tuple[int, Path]]]:
    """-> (class, file) of each split, by word and then by name.

    Raises UserError for a word without a folder, a list that is missing, and listed files that are. Both lists are
    compared whatever split is wanted: an archive that was unpacked in part lacks some of them.
    """
    have = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] not in "._")
    if unknown := [word for word in words if word not in have]:
        raise UserError(f"no word {', '.join(map(repr, unknown))} in {folder}; data.words may be of {', '.join(have)}")
    split_of = {}
    for split, name in LISTS.items():
        try:
            lines = (folder / name).read_text("utf-8").split()
        except (OSError, ValueError) as error:
            raise UserError(f"{folder / name} can't be read ({error}); unpack {URL} again, whole") from error
        split_of.update({line: split for line in lines if line.partition("/")[0] in words})
    out: dict[str, list[tuple[int, Path]]] = {split: [] for split in SpeechCommands.splits}
    for label, word in enumerate(words):
        for path in sorted((folder / word).glob("*.wav")):
            out[split_of.pop(f"{word}/{path.name}", "train")].append((label, path))
    if split_of:
        raise UserError(
            f"{folder} lacks {len(split_of):,} recordings of its lists ({', '.join(sorted(split_of)[:3])}, …); "
            f"remove it and unpack {URL} again, whole"
        )
    for split, found in out.items():
        if not found:
            raise UserError(f"{folder} has no recordings of {', '.join(words)} to {split} on; unpack {URL} again")
    return out
