"""Speech Commands: splits as its lists have them, labels, rates, and what is said when something is missing."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small import spoken

from gan_kit.data import SpeechCommands
from gan_kit.types import UserError

WORDS = ("bed", "two", "yes")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Five recordings of three words in the published layout; see `spoken`."""
    folder = spoken(tmp_path / "data" / "speech_commands", WORDS, takes=5)
    (folder / "_background_noise_").mkdir()
    return folder


@pytest.fixture
def alone(tmp_path: Path, monkeypatch) -> None:
    """No other data, no network."""
    monkeypatch.delenv("GAN_KIT_DATA", raising=False)
    monkeypatch.setenv("GAN_KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)


def test_splits_are_as_listed_and_have_nothing_in_common(tree: Path) -> None:
    source = SpeechCommands(tree, words=WORDS)
    sets = {split: source.load(split) for split in source.splits}
    assert {split: a.x.shape for split, a in sets.items()} == {
        "train": (9, 1, 16384), "val": (3, 1, 16384), "test": (3, 1, 16384)
    }  # fmt: skip
    tenths = {split: ((np.abs(a.x[:, 0]) > 0) * np.arange(16384)).max(1) // 1600 for split, a in sets.items()}
    assert tenths["val"].tolist() == [0] * 3
    assert tenths["test"].tolist() == [1] * 3
    assert tenths["train"].tolist() == [2, 3, 4] * 3
    assert len({x.tobytes() for a in sets.values() for x in a.x}) == 15
    with pytest.raises(UserError, match="no split 'all'; have train, val, test"):
        source.load("all")


@pytest.mark.parametrize("words", [WORDS, ("yes", "bed")])
def test_labels_are_the_words_in_the_order_asked_for(tree: Path, words: tuple[str, ...]) -> None:
    train = SpeechCommands(tree, words=words).load("train")
    assert train.class_names == words
    assert (np.bincount(train.y) == 3).all()
    pitch = np.abs(np.fft.rfft(train.x[:, 0, :3200] * np.hanning(3200))).argmax(1) * 5  # Hz
    assert pitch.tolist() == [100 * (WORDS.index(words[y]) + 1) for y in train.y]


def test_samples_are_those_of_the_file_and_zeros_stand_behind(tree: Path) -> None:
    val = SpeechCommands(tree, words=WORDS).load("val")
    recorded, _ = soundfile.read(tree / "two" / "00000000_nohash_1.wav", dtype="int16")
    assert val.x.dtype == np.int16
    assert (val.x[1, 0, : len(recorded)] == recorded).all()
    assert (val.x[1, 0, len(recorded) :] == 0).all()
    assert (SpeechCommands(tree, clip_samples=1000, words=WORDS).load("val").x == val.x[..., :1000]).all()


def test_another_rate_is_resampled_to(tree: Path) -> None:
    slow = SpeechCommands(tree, sample_rate=8000, clip_samples=8192, words=WORDS).load("test")
    assert ((np.abs(slow.x[:, 0]) > 100) * np.arange(8192)).max(1) == pytest.approx(1600, abs=60)
    x = slow.x[2, 0, :1600]
    assert np.abs(np.fft.rfft(x * np.hanning(1600))).argmax() * 5 == 300
    assert np.abs(x[400:-400]).max() == pytest.approx(16384, rel=0.02)


def test_recordings_are_found_in_root_then_in_the_data_folder(tree: Path, tmp_path: Path, alone, monkeypatch) -> None:
    for root in (tree, tree.parent):
        assert SpeechCommands(root, words=WORDS)._folder() == tree
    monkeypatch.setenv("GAN_KIT_DATA", str(tree.parent))
    assert SpeechCommands(words=WORDS)._folder() == tree
    unpacked = tmp_path / "cache" / "data" / "SpeechCommands" / "speech_commands_v0.02"
    unpacked.parent.mkdir(parents=True)
    tree.rename(unpacked)
    assert SpeechCommands(words=WORDS)._folder() == unpacked


# what is missing or damaged


@pytest.mark.parametrize("word", ["three", "_background_noise_", "../speech_commands/bed", ""])
def test_a_word_that_is_no_folder_is_refused_with_those_there_are(tree: Path, word: str) -> None:
    with pytest.raises(UserError, match=f"no word '{word}' in .*; data.words may be of bed, two, yes$"):
        SpeechCommands(tree, words=("bed", word)).load("train")


@pytest.mark.parametrize("name", ["validation_list.txt", "testing_list.txt"])
def test_a_missing_list_is_named(tree: Path, name: str) -> None:
    (tree / name).unlink()
    with pytest.raises(UserError, match=rf"{name} can't be read .*unpack http.* again, whole"):
        SpeechCommands(tree, words=WORDS).load("train")


def test_without_both_lists_the_words_folders_are_still_known(tree: Path, alone) -> None:
    for path in tree.glob("*.txt"):
        path.unlink()
    with pytest.raises(UserError, match=r"validation_list\.txt can't be read"):
        SpeechCommands(tree, words=WORDS).load("train")


def test_listed_recordings_that_are_missing_are_named_in_any_split(tree: Path) -> None:
    (tree / "two" / "00000001_nohash_1.wav").unlink()
    with pytest.raises(UserError, match=r"lacks 1 recordings of its lists \(two/00000001_nohash_1\.wav, .*remove it"):
        SpeechCommands(tree, words=WORDS).load("train")
    assert len(SpeechCommands(tree, words=("bed", "yes")).load("train").x) == 6


def test_a_split_without_recordings_is_refused(tree: Path) -> None:
    (tree / "testing_list.txt").write_text("")
    with pytest.raises(UserError, match=r"no recordings of bed, two, yes to test on"):
        SpeechCommands(tree, words=WORDS).load("train")


@pytest.mark.parametrize("damage", [lambda b: b[:300], lambda b: b"", lambda b: b"RIFF", lambda b: bytes(len(b))])
def test_a_damaged_recording_is_named(tree: Path, damage) -> None:
    path = tree / "yes" / "00000003_nohash_2.wav"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"yes/00000003_nohash_2\.wav can't be used .*fetch it again"):
        SpeechCommands(tree, words=WORDS).load("train")


@pytest.mark.parametrize(
    "settings", [{"sample_rate": 0}, {"clip_samples": 0}, {"words": ()}, {"words": "yes"}, {"words": ("no", "no")}]
)
def test_settings_that_make_no_clips_are_refused(settings: dict) -> None:
    with pytest.raises(UserError, match=next(iter(settings))):
        SpeechCommands(**settings)


# downloading


def test_an_archive_that_is_there_is_unpacked_by_torchaudio(tree: Path, tmp_path: Path, alone, torchaudio) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(root / "speech_commands_v0.02.tar.gz", "w:gz") as archive:
        archive.add(tree, ".")
    expected = SpeechCommands(tree, words=WORDS).load("test").fingerprint()
    assert SpeechCommands(root, words=WORDS).load("test").fingerprint() == expected


def test_torchaudio_agrees_on_the_splits(tree: Path, torchaudio) -> None:
    (tree.parent / "SpeechCommands").mkdir()
    tree.rename(tree.parent / "SpeechCommands" / "speech_commands_v0.02")
    for split, subset in (("train", "training"), ("val", "validation"), ("test", "testing")):
        theirs = torchaudio.datasets.SPEECHCOMMANDS(str(tree.parent), subset=subset)
        ours = SpeechCommands(tree.parent, words=WORDS).load(split)
        assert [theirs.get_metadata(i)[2] for i in range(len(theirs))] == [WORDS[y] for y in ours.y]


def test_without_torchaudio_the_ways_are_named(tmp_path: Path, alone, monkeypatch) -> None:
    for name in ("torchaudio", "torchaudio.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"not on this machine \(.*torchaudio.*unpack http.*data\.root.*GAN_KIT_DATA"):
        SpeechCommands(tmp_path / "root").load("train")


def test_without_a_network_the_ways_are_named(tmp_path: Path, alone, torchaudio) -> None:
    with pytest.raises(UserError, match=r"not on this machine \(URLError.*unpack http.*data\.root"):
        SpeechCommands(tmp_path / "root").load("train")
