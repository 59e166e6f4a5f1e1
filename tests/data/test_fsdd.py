"""Spoken digits: splits, labels, level, and what is said when the recordings can't be had or are others."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gan_kit.data import FSDD
from gan_kit.data import fsdd as module
from gan_kit.types import UserError


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The published recordings; skips where there are none, a test never downloads."""
    folder = Path(os.environ.get("GAN_KIT_DATA") or "nowhere") / "fsdd" / "recordings"
    if not folder.is_dir():
        pytest.skip("the spoken digits are not in $GAN_KIT_DATA/fsdd")
    return folder


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 short files with the published names: tones of 100 Hz and more by the digit, longer by the take."""
    folder = tmp_path_factory.mktemp("tones")
    for digit in range(10):
        for take in range(50):
            t = np.arange(400 + 8 * take) / 8000
            x = 0.1 * np.sin(2 * np.pi * 100 * (digit + 1) * t)
            first = folder / f"{digit}_{module.SPEAKERS[0]}_{take}.wav"
            soundfile.write(first, x, 8000, subtype="PCM_16")
            for speaker in module.SPEAKERS[1:]:
                os.link(first, folder / f"{digit}_{speaker}_{take}.wav")
    return folder


@pytest.fixture
def made_up(tones: Path, tmp_path: Path) -> Path:
    """A folder of links to these."""
    folder = tmp_path / "data" / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for path in tones.iterdir():
        os.link(path, folder / path.name)
    return folder


def test_takes_0_to_4_are_test_and_all_labels_are_right(tones: Path) -> None:
    train, test = FSDD(tones).load("train"), FSDD(tones).load("test")
    assert train.x.shape == (2700, 1, 8192)
    assert test.x.shape == (300, 1, 8192)
    assert train.x.dtype == np.int16
    assert (np.bincount(train.y) == 270).all()
    assert (np.bincount(test.y) == 30).all()
    length = 8192 - (np.abs(test.x[:, 0, ::-1]) > 0).argmax(1)
    assert length.max() <= 400 + 8 * 4 < np.median(8192 - (np.abs(train.x[:, 0, ::-1]) > 0).argmax(1))
    pitch = np.abs(np.fft.rfft(train.x[:, 0, :400] * np.hanning(400))).argmax(1) * 20  # Hz
    assert (np.abs(pitch - 100 * (train.y + 1)) <= 20).all()


@pytest.mark.parametrize("classes, count", [("speaker", 6), ("both", 60)])
def test_classes_may_be_speakers_or_both(tones: Path, classes: str, count: int) -> None:
    digits, test = FSDD(tones).load("test"), FSDD(tones, classes=classes).load("test")
    assert (test.x == digits.x).all()
    assert len(test.class_names) == count
    assert (np.bincount(test.y) == 300 // count).all()
    if classes == "both":
        assert all(test.class_names[y].split()[0] == str(d) for y, d in zip(test.y, digits.y, strict=True))


def test_clips_peak_at_minus_one_decibel_and_end_in_zeros(tones: Path) -> None:
    x = FSDD(tones).load("test").x[:, 0].astype(int)
    assert (np.abs(np.abs(x).max(1) - 32767 * 10 ** (-1 / 20)) <= 1).all()
    assert (x[:, -1000:] == 0).all()
    short = FSDD(tones, clip_samples=256).load("test")
    assert short.x.shape == (300, 1, 256)


def test_another_rate_is_resampled_to(tones: Path) -> None:
    test = FSDD(tones, sample_rate=16_000, clip_samples=16_384).load("test")
    last = test.x[test.y == 9][-1, 0, :800]
    assert np.abs(np.fft.rfft(last * np.hanning(800))).argmax() * 20 == pytest.approx(1000, abs=20)


def test_recordings_are_found_in_root_then_in_the_data_folder(made_up: Path, monkeypatch) -> None:
    monkeypatch.delenv("GAN_KIT_DATA", raising=False)
    for root in (made_up, made_up.parent, made_up.parent.parent):
        assert FSDD(root)._folder() == made_up
    monkeypatch.setenv("GAN_KIT_DATA", str(made_up.parent.parent))
    assert FSDD()._folder() == made_up
    assert FSDD(made_up.parent)._folder() == made_up


def test_the_recordings_here_are_those_published(recordings: Path) -> None:
    assert module.digest((p.name, p.read_bytes()) for p in recordings.glob("*.wav")) == module.SHA256
    test = FSDD(recordings).load("test")
    assert test.x.shape == (300, 1, 8192)
    heard = [8192 - (np.abs(x[0, ::-1]) > 0).argmax() for x in test.x]
    assert 0.25 < np.median(heard) / 8000 < 0.6


# what is missing or damaged


def test_missing_recordings_are_counted_by_speaker(made_up: Path) -> None:
    for path in made_up.glob("*_theo_1?.wav"):
        path.unlink()
    with pytest.raises(UserError, match=r"holds 2,900 of 3,000 recordings \(.*theo 400.*fetch version 1\.0\.10"):
        FSDD(made_up).load("test")


def test_recordings_of_a_grown_set_are_not_read(made_up: Path) -> None:
    before = FSDD(made_up).load("test").fingerprint()
    for name in ("3_anna_0.wav", "3_theo_50.wav", "03_theo_1.wav", "notes.txt", "x_theo_1.wav"):
        shutil.copy(made_up / "3_theo_7.wav", made_up / name)
    assert FSDD(made_up).load("test").fingerprint() == before


@pytest.mark.parametrize("damage", [lambda b: b[:300], lambda b: b"", lambda b: b"RIFF", lambda b: bytes(len(b))])
def test_a_damaged_recording_is_named(made_up: Path, damage) -> None:
    path = made_up / "0_lucas_3.wav"
    data = path.read_bytes()
    path.unlink()  # a link
    path.write_bytes(damage(data))
    with pytest.raises(UserError, match=r"0_lucas_3\.wav can't be used .*fetch it again"):
        FSDD(made_up).load("test")


@pytest.mark.parametrize("settings", [{"classes": "gender"}, {"sample_rate": 0}, {"clip_samples": 0}])
def test_settings_that_make_no_clips_are_refused(settings: dict) -> None:
    with pytest.raises(UserError, match=next(iter(settings))):
        FSDD(**settings)


# downloading, from a server of our own


@pytest.fixture
def shown(served: tuple[Path, str], monkeypatch) -> Path:
    """A folder that the archive is fetched from, as archive.zip; no recordings anywhere else."""
    monkeypatch.setattr(module, "URL", f"{served[1]}/archive.zip")
    return served[0]


def zipped(folder: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("free-spoken-digit-dataset-d6938f9/README.md", "digits")
        for path in folder.glob("*.wav"):
            archive.writestr(f"free-spoken-digit-dataset-d6938f9/recordings/{path.name}", path.read_bytes())
    return out.getvalue()


@pytest.mark.slow
def test_what_is_published_is_downloaded_once_by_two_at_a_time(shown: Path, recordings: Path, tmp_path: Path) -> None:
    (shown / "archive.zip").write_bytes(zipped(recordings))
    root = tmp_path / "root"
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: FSDD(root).load("test").fingerprint(), range(2)))
    assert both == [FSDD(recordings).load("test").fingerprint()] * 2
    assert [p.name for p in (root / "fsdd").iterdir()] == ["recordings"]
    (shown / "archive.zip").unlink()
    FSDD(root).load("test")


def test_other_recordings_are_not_kept(shown: Path, tones: Path, tmp_path: Path) -> None:
    (shown / "archive.zip").write_bytes(zipped(tones))
    with pytest.raises(UserError, match=r"could not be downloaded.*not version 1\.0\.10 as published.*data\.root"):
        FSDD(tmp_path / "root").load("test")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("page", [None, b"<html>log in first</html>"], ids=["not found", "a proxy's page"])
def test_where_nothing_can_be_had_the_ways_are_named(shown: Path, page: bytes | None, tmp_path: Path) -> None:
    if page:
        (shown / "archive.zip").write_bytes(page)
    with pytest.raises(
        UserError, match=r"not on this machine and could not be downloaded \(.*data\.root.*GAN_KIT_DATA"
    ):
        FSDD(tmp_path / "root").load("test")
    assert not (tmp_path / "root").exists()
