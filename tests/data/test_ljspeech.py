"""LJSpeech: splits by the published order, pieces that cover a sentence, the archive, and what fails."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gan_kit import _door
from gan_kit.data import LJSpeech
from gan_kit.data import ljspeech as module
from gan_kit.data.ljspeech import sentences
from gan_kit.types import UserError

RATE = 22_050


def said(n: int) -> np.ndarray:
    """Sentence n of the tiny archive: (n + 1) hundred samples, all different and telling where they are from."""
    return (100 * n + np.arange(100 * (n + 1))).astype(np.int16)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Thirty sentences in the published layout, listed out of order: 24 train, 3 val, 3 test."""
    folder = tmp_path / "data" / "LJSpeech-1.1"
    (folder / "wavs").mkdir(parents=True)
    names = [f"LJ001-{n + 1:04d}" for n in range(30)]
    for n, name in enumerate(names):
        soundfile.write(folder / "wavs" / f"{name}.wav", said(n), RATE, subtype="PCM_16")
    lines = [f'{name}|One "quoted,\u2028\x85and more|One quoted\n' for name in reversed(names)]
    (folder / "metadata.csv").write_text("".join(lines))
    return folder


@pytest.fixture
def alone(monkeypatch) -> None:
    """No other data, no network."""
    monkeypatch.delenv("GAN_KIT_DATA", raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)


def archived(tree: Path, extra: tarfile.TarInfo | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:bz2") as tar:
        tar.add(tree, tree.name)
        if extra is not None:
            tar.addfile(extra)
    return out.getvalue()


def test_the_last_are_test_and_those_before_val_by_name(tree: Path) -> None:
    source = LJSpeech(tree, piece_samples=3000)
    sets = {split: source.load(split).x for split in source.splits}
    assert {split: x.shape for split, x in sets.items()} == {
        "train": (24, 1, 3000), "val": (3, 1, 3000), "test": (3, 1, 3000)
    }  # fmt: skip
    assert [x[0, 0] // 100 for split in source.splits for x in sets[split]] == list(range(30))
    assert source.load("val").y is None
    with pytest.raises(UserError, match="no split 'all'; have train, val, test"):
        source.load("all")


def test_of_thirteen_thousand_a_hundred_and_fifty_are_held_out_twice(tmp_path: Path) -> None:
    (tmp_path / "wavs").mkdir()
    names = [f"LJ{chapter:03d}-{n:04d}" for chapter in range(1, 51) for n in range(1, 263)]
    (tmp_path / "metadata.csv").write_text("".join(f"{name}|a|a\n" for name in names))
    for name in names:
        (tmp_path / "wavs" / f"{name}.wav").touch()
    parts = sentences(tmp_path)
    assert {split: len(paths) for split, paths in parts.items()} == {"train": 12_800, "val": 150, "test": 150}
    assert [p.stem for split in ("train", "val", "test") for p in parts[split]] == names


@pytest.mark.parametrize("piece", [64, 100, 450, 2999])
def test_pieces_cover_each_sentence_and_hold_no_zeros_but_behind_short_ones(tree: Path, piece: int) -> None:
    x = LJSpeech(tree, piece_samples=piece).load("train").x
    wanted = [max(1, -(-100 * (n + 1) // piece)) for n in range(24)]
    assert len(x) == sum(wanted)
    for n, part in enumerate(np.split(x[:, 0], np.cumsum(wanted)[:-1])):
        whole = said(n)
        assert set(part[:, : len(whole)].ravel()) == set(whole)
        assert (np.diff(part[:, : len(whole)].astype(int)) == 1).all()
        assert (part[:, len(whole) :] == 0).all()


def test_another_rate_is_resampled_to(tmp_path: Path, tree: Path) -> None:
    t = np.arange(RATE) / RATE
    path = tree / "wavs" / "LJ001-0030.wav"
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 441 * t), RATE, subtype="PCM_16")
    x = LJSpeech(tree, sample_rate=24_000, piece_samples=24_000).load("test").x[-1, 0]
    assert np.abs(np.fft.rfft(x * np.hanning(24_000))).argmax() == 441
    assert np.abs(x[4000:-4000]).max() == pytest.approx(16384, rel=0.01)


def test_pieces_are_written_once_and_anew_when_a_recording_changes(tree: Path, monkeypatch) -> None:
    first = LJSpeech(tree).load("test")
    assert isinstance(first.x, np.memmap) or isinstance(first.x.base, np.memmap)
    cache = Path(os.environ["GAN_KIT_CACHE"]) / "ljspeech"
    (file,) = cache.iterdir()
    written = file.stat().st_mtime_ns
    assert LJSpeech(tree).load("test").fingerprint() == first.fingerprint()
    assert [p.stat().st_mtime_ns for p in cache.iterdir()] == [written]
    soundfile.write(tree / "wavs" / "LJ001-0030.wav", said(3), RATE, subtype="PCM_16")
    assert LJSpeech(tree).load("test").fingerprint() != first.fingerprint()
    monkeypatch.setenv("GAN_KIT_CACHE", "/dev/null/cache")
    with pytest.raises(UserError, match=r"can't be written.*GAN_KIT_CACHE"):
        LJSpeech(tree).load("test")


def test_it_is_found_in_root_then_in_the_data_folder(tree: Path, tmp_path: Path, alone, monkeypatch) -> None:
    for root in (tree, tree.parent):
        assert LJSpeech(root)._folder() == tree
    monkeypatch.setenv("GAN_KIT_DATA", str(tree.parent))
    assert LJSpeech()._folder() == tree
    assert LJSpeech(tmp_path / "elsewhere")._folder() == tree


@pytest.mark.parametrize("name", ["hifigan_v1", "hifigan_v3", "vocos", "vocos_tiny"])
def test_vocoders_experiments_take_it(name: str) -> None:
    cfg = _door.compose("train", [f"+experiment=audio/speech_{name}", "data=ljspeech"])
    assert cfg.data._target_ == "gan_kit.data.LJSpeechData"
    rate = 24_000 if name == "vocos" else 22_050
    assert (cfg.audio.sample_rate, cfg.data.batch_size, cfg.data.labels) == (rate, 16, False)
    assert cfg.data.audio == cfg.audio
    assert cfg.audio.clip_samples < cfg.data.piece_samples


def test_a_vocoder_is_trained_on_it(tree: Path, cli) -> None:
    small = ["audio.clip_samples=2048", "data.piece_samples=4096", "generator.refine=1", "generator.polish=1"]
    settings = ["+experiment=audio/speech_vocos_tiny", "debug=two_steps", "trainer=cpu", "data=ljspeech"]
    done = cli("train", *settings, f"data.root={tree}", *small, "discriminator.resolutions=[512]")
    assert done.returncode == 0, done.stderr
    assert "(1, 2048)" in done.stdout
    done = cli("train", *settings, f"data.root={tree}", "data.piece_samples=4096")
    assert done.returncode == 2
    assert "too short for audio.clip_samples=8192; set data.piece_samples=8192" in done.stderr


def test_sentences_that_were_published(tmp_path: Path) -> None:
    place = Path(os.environ.get("GAN_KIT_DATA") or "nowhere") / "ljspeech32"
    if not place.is_dir():
        pytest.skip("32 sentences of LJSpeech are not in $GAN_KIT_DATA")
    source = LJSpeech(place)
    parts = sentences(place)
    assert [len(parts[split]) for split in source.splits] == [26, 3, 3]
    x = source.load("test").x
    for split, paths in parts.items():
        seconds = sum(soundfile.info(path).duration for path in paths)
        held = len(source.load(split).x) * 32768 / RATE
        assert seconds <= held < seconds + 1.5 * len(paths)
    assert np.abs(x.astype(int)).max(-1).min() > 500
    assert (np.abs(x.astype(int)).max(-1) < 32767).all()


# what is missing or damaged


def test_listed_recordings_that_are_missing_are_named_in_any_split(tree: Path) -> None:
    (tree / "wavs" / "LJ001-0030.wav").unlink()
    with pytest.raises(UserError, match=r"lacks 1 of 30 recordings .*LJ001-0030, .*remove it and unpack http"):
        LJSpeech(tree).load("train")


@pytest.mark.parametrize(
    "text, said",
    [("", "lists 0 recordings; ten are"), ("../LJ001-0001|x|x\n" * 12, r"lists '\.\./LJ001-0001', no recording's")],
)
def test_lists_that_name_no_recordings_are_refused(tree: Path, text: str, said: str) -> None:
    (tree / "metadata.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        LJSpeech(tree).load("train")


def test_a_list_that_is_no_text_is_refused(tree: Path) -> None:
    (tree / "metadata.csv").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match=r"metadata\.csv can't be read .*unpack http"):
        LJSpeech(tree).load("train")


@pytest.mark.parametrize("damage", [lambda b: b[:30], lambda b: b"", lambda b: bytes(len(b))])
def test_a_damaged_recording_is_named_and_nothing_is_kept(tree: Path, damage) -> None:
    path = tree / "wavs" / "LJ001-0028.wav"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"LJ001-0028\.wav can't be used .*fetch it again"):
        LJSpeech(tree).load("test")
    assert list((Path(os.environ["GAN_KIT_CACHE"]) / "ljspeech").iterdir()) == []


@pytest.mark.parametrize("settings", [{"sample_rate": 0}, {"piece_samples": 0}])
def test_settings_that_make_no_pieces_are_refused(settings: dict) -> None:
    with pytest.raises(UserError, match=next(iter(settings))):
        LJSpeech(**settings)


# the archive


def publish(monkeypatch, url: str, data: bytes, sha256: str | None = None) -> None:
    monkeypatch.setattr(module, "URL", url)
    monkeypatch.setattr(module, "SHA256", sha256 or hashlib.sha256(data).hexdigest())


def test_the_archive_is_downloaded_once_by_two_at_a_time(tree: Path, served, tmp_path: Path, monkeypatch) -> None:
    folder, address = served
    data = archived(tree)
    (folder / "LJSpeech-1.1.tar.bz2").write_bytes(data)
    publish(monkeypatch, f"{address}/LJSpeech-1.1.tar.bz2", data)
    root = tmp_path / "root"
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: LJSpeech(root).load("test").fingerprint(), range(2)))
    assert both == [LJSpeech(tree).load("test").fingerprint()] * 2
    assert [p.name for p in root.iterdir()] == ["LJSpeech-1.1"]
    (folder / "LJSpeech-1.1.tar.bz2").unlink()
    LJSpeech(root).load("train")


def test_an_archive_that_is_there_is_unpacked_and_stays(tree: Path, tmp_path: Path, alone, monkeypatch) -> None:
    root = tmp_path / "root"
    root.mkdir()
    data = archived(tree)
    publish(monkeypatch, "https://127.0.0.1:9/LJSpeech-1.1.tar.bz2", data)
    (root / "LJSpeech-1.1.tar.bz2").write_bytes(data)
    LJSpeech(root).load("test")
    assert sorted(p.name for p in root.iterdir()) == ["LJSpeech-1.1", "LJSpeech-1.1.tar.bz2"]


def test_another_archive_is_not_opened(tree: Path, served, tmp_path: Path, monkeypatch) -> None:
    folder, address = served
    data = archived(tree)
    (folder / "LJSpeech-1.1.tar.bz2").write_bytes(data[:-1000])
    publish(monkeypatch, f"{address}/LJSpeech-1.1.tar.bz2", data)
    with pytest.raises(UserError, match=r"not on this machine \(.*http.*cut short or another archive.*data\.root"):
        LJSpeech(tmp_path / "root").load("test")
    assert list((tmp_path / "root").iterdir()) == []
    (tmp_path / "root" / "LJSpeech-1.1.tar.bz2").write_bytes(data[:-1000])
    with pytest.raises(UserError, match=r"root/LJSpeech-1\.1\.tar\.bz2 \(remove it\) is cut short"):
        LJSpeech(tmp_path / "root").load("test")


def test_nothing_is_written_outside_the_folder(tree: Path, served, tmp_path: Path, monkeypatch) -> None:
    folder, address = served
    evil = tarfile.TarInfo("../../evil.txt")
    data = archived(tree, evil)
    (folder / "LJSpeech-1.1.tar.bz2").write_bytes(data)
    publish(monkeypatch, f"{address}/LJSpeech-1.1.tar.bz2", data)
    with pytest.raises(UserError, match=r"not on this machine .*its path leads out of the archive"):
        LJSpeech(tmp_path / "root").load("test")
    assert not list(tmp_path.rglob("evil.txt"))
    assert list((tmp_path / "root").iterdir()) == []


def test_without_a_network_the_ways_are_named(tmp_path: Path, alone) -> None:
    with pytest.raises(UserError, match=r"not on this machine \(URLError.*unpack http.*data\.root.*GAN_KIT_DATA"):
        LJSpeech(tmp_path / "root").load("train")
