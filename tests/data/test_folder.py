"""Folders as people have them: mixed sizes and modes, broken files, odd layouts, full disks."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_kit.data import Folder, FolderData, PadTo, Resize
from gan_kit.data import folder as module
from gan_kit.types import UserError


def save(path: Path, colour=(200, 30, 30), size=(12, 10), mode: str = "RGB", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def folder(root: Path, **settings) -> Folder:
    return Folder(root, Resize(8), **{"test_fraction": 0.0, "workers": 2} | settings)


def pixel(root: Path, **settings) -> list[int]:
    """The middle pixel of the only picture."""
    x = folder(root, **settings).load("train").x
    assert len(x) == 1
    return x[0, :, 4, 4].tolist()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for i in range(20):
        noise = rng.integers(0, 256, (int(rng.integers(9, 40)), int(rng.integers(9, 40)), 3), dtype=np.uint8)
        path = root / ("cat" if i % 2 else "a dog") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).save(path)
    return root


# Layouts


def test_subfolders_are_classes_in_the_order_of_their_names(photos: Path) -> None:
    save(photos / "cat" / "deep" / "er" / "z.JPG")
    arrays = folder(photos).load("train")
    assert arrays.class_names == ("a dog", "cat")
    assert np.bincount(arrays.y).tolist() == [10, 11]
    assert arrays.x.shape == (21, 3, 8, 8)
    assert arrays.x.dtype == np.uint8
    assert isinstance(arrays.x, np.memmap)


def test_a_flat_folder_has_no_labels_and_keeps_the_order_of_names(tmp_path: Path) -> None:
    for i in (2, 0, 1):
        save(tmp_path / f"{i}.png", (i, 0, 0))
    save(tmp_path / ".hidden.png")
    (tmp_path / "notes.txt").write_text("hello")
    arrays = folder(tmp_path).load("train")
    assert arrays.y is None
    assert arrays.class_names == ()
    assert arrays.x[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_labels_false_takes_any_layout(photos: Path) -> None:
    save(photos / "flat.png")
    (photos / "empty").mkdir()
    arrays = folder(photos, labels=False).load("train")
    assert len(arrays.x) == 21
    assert arrays.y is None
    assert FolderData(photos, Resize(8), labels=False).spec.num_classes == 0


def test_links_that_go_in_circles_end(photos: Path) -> None:
    (photos / "cat" / "again").symlink_to(photos, target_is_directory=True)
    assert len(folder(photos).load("train").x) == 20


def name_as_splits(root: Path) -> None:
    (root / "cat").rename(root / "train")
    (root / "a dog").rename(root / "val")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda root: save(root / "a.png"), r"a\.png\) beside class folders \(a dog\).*data\.labels=false"),
        (lambda root: (root / "empty").mkdir(), "class folder empty holds no picture"),
        (name_as_splits, "look like splits"),
    ],
)  # fmt: skip
def test_unclear_layouts_are_refused(photos: Path, spoil, message: str) -> None:
    spoil(photos)
    with pytest.raises(UserError, match=message):
        folder(photos).load("train")


def test_a_folder_without_pictures_tells_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no picture in .*set data\.root"):
        folder(tmp_path).load("train")
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(UserError, match=r"it holds 1 \.heic"):
        folder(tmp_path).load("train")


def test_a_missing_folder_or_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*nowhere; set data\.root"):
        folder(tmp_path / "nowhere").load("train")
    with pytest.raises(UserError, match="is a file"):
        folder(save(tmp_path / "a.png")).load("train")
    with pytest.raises(UserError, match=r"data\.root=/path"):
        FolderData()


def test_files_of_unknown_kinds_are_counted_in_a_warning(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    (photos / "cat" / "a.heic").write_bytes(b"x")
    (photos / "cat" / "readme.txt").write_bytes(b"x")
    folder(photos).load("train")
    assert "1 .heic" in caplog.text
    assert "txt" not in caplog.text


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"channels": 4}, "channels=4"),
        ({"on_error": "ignore"}, "on_error='ignore'; have fail, skip"),
        ({"test_fraction": 1.0}, "test_fraction=1.0"),
        ({"workers": 0}, "workers=0"),
        ({"max_pixels": 0}, "max_pixels=0"),
    ],
)
def test_bad_settings_name_the_value(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        folder(tmp_path, **settings)
    with pytest.raises(UserError, match="transform"):
        Folder(tmp_path, None)


# Modes


@pytest.mark.parametrize(
    "mode, colour, suffix, rgb",
    [
        ("RGB", (200, 30, 10), "png", [200, 30, 10]),
        ("L", 77, "png", [77, 77, 77]),
        ("1", 1, "png", [255, 255, 255]),
        ("LA", (0, 0), "png", [255, 255, 255]),
        ("RGBA", (200, 30, 10, 255), "png", [200, 30, 10]),
        ("RGBA", (200, 30, 10, 0), "png", [255, 255, 255]),
        ("RGBA", (0, 0, 0, 51), "webp", [204, 204, 204]),
        ("I;16", 65535, "png", [255, 255, 255]),
        ("I;16", 128 * 257, "tif", [128, 128, 128]),
        ("I;16", 1000, "png", [4, 4, 4]),
        ("CMYK", (0, 255, 255, 0), "tif", [255, 0, 0]),
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, colour, suffix: str, rgb: list[int]) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    save(tmp_path / f"a.{suffix}", colour, mode=mode, **options)
    assert pixel(tmp_path) == rgb
    grey = round(0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2])
    assert pixel(tmp_path, channels=1) == [grey]


def test_a_cmyk_jpeg_is_read(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", (0, 255, 255, 0), mode="CMYK")
    assert np.abs(np.array(pixel(tmp_path)) - [255, 0, 0]).max() <= 6


def test_palettes_with_and_without_transparency(tmp_path: Path) -> None:
    image = Image.new("RGB", (12, 12), (10, 200, 90)).quantize(4)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    image.save(tmp_path / "a" / "a.png")
    image.save(tmp_path / "b" / "b.gif", transparency=image.getpixel((0, 0)))
    assert pixel(tmp_path / "a") == [10, 200, 90]
    assert pixel(tmp_path / "b") == [255, 255, 255]


def test_exif_orientation_is_followed(tmp_path: Path) -> None:
    x = np.zeros((16, 16, 3), np.uint8)
    x[:8] = 255  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    Image.fromarray(x).save(tmp_path / "a.png", exif=exif)
    out = folder(tmp_path).load("train").x[0, 0]
    assert (out[:, 5:] > 250).all()  # white on the right
    assert (out[:, :3] < 5).all()


def test_channels_auto_takes_what_the_files_agree_on(tmp_path: Path) -> None:
    save(tmp_path / "grey" / "a.png", 9, mode="L")
    save(tmp_path / "grey" / "b.png", 9, mode="I;16")
    save(tmp_path / "colour" / "a.png")
    assert folder(tmp_path / "grey", channels="auto").load("train").x.shape == (2, 1, 8, 8)
    assert folder(tmp_path / "colour", channels="auto").load("train").x.shape == (1, 3, 8, 8)
    message = r"mixes 2 grey pictures \(grey/b\.png\) and 1 colour ones \(colour/a\.png\); set data\.channels=3 or"
    with pytest.raises(UserError, match=message):
        folder(tmp_path, channels="auto").load("train")


# Broken files


@pytest.fixture
def broken(photos: Path) -> Path:
    """Twenty good pictures and six that are not."""
    x = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    jpeg, png = photos / "cat" / "cut.jpg", photos / "cat" / "cut.png"
    Image.fromarray(x).save(jpeg)
    Image.fromarray(x).save(png)
    for path in (jpeg, png):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (photos / "cat" / "text.png").write_text("I am no picture")
    (photos / "cat" / "empty.webp").touch()
    (photos / "cat" / "link.png").symlink_to(photos / "nowhere.png")
    (photos / "cat" / "script.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    return photos


BROKEN = ("cat/cut.jpg", "cat/cut.png", "cat/text.png", "cat/empty.webp", "cat/link.png", "cat/script.jpg")


def test_broken_files_fail_with_the_list_and_the_cure(broken: Path) -> None:
    with pytest.raises(UserError, match=r"6 of 26 pictures .*data\.on_error=skip") as e:
        folder(broken).load("train")
    for name in BROKEN:
        assert name in str(e.value)
    for reason in ("an empty file", "a link to nothing", "not a picture of a known format", "truncated"):
        assert reason in str(e.value)
    # Pillow, left to itself, would hand the PostScript to Ghostscript
    assert str(e.value).count("not a picture of a known format") == 2


def test_broken_files_are_skipped_with_the_list(broken: Path) -> None:
    with pytest.warns(UserWarning, match="6 of 26 pictures") as caught:
        arrays = folder(broken, on_error="skip").load("train")
    assert all(name in str(caught[0].message) for name in BROKEN)
    assert np.bincount(arrays.y).tolist() == [10, 10]
    for name in BROKEN:
        (broken / name).unlink()
    mended = folder(broken).load("train")
    assert (arrays.x == mended.x).all()
    assert (arrays.y == mended.y).all()


def test_what_was_learnt_of_broken_files_is_kept(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="6 of 26"):
        folder(broken).load("train")
    monkeypatch.setattr(module, "decoded", None)  # nothing is decoded a second time
    with pytest.warns(UserWarning, match="6 of 26"):
        assert len(folder(broken, on_error="skip").load("train").x) == 20
    with pytest.raises(UserError, match="6 of 26"):
        folder(broken).load("train")


def test_many_broken_files_are_counted_and_ten_are_named(photos: Path) -> None:
    for i in range(15):
        (photos / "cat" / f"bad{i}.png").touch()
    with pytest.raises(UserError, match=r"15 of 35(.|\n)*and 5 more") as e:
        folder(photos).load("train")
    assert str(e.value).count("an empty file") == 10


def test_nothing_but_broken_files_is_an_error_even_with_skip(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match="none is left"):
        folder(tmp_path, on_error="skip").load("train")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch) -> None:
    save(tmp_path / "small.png", size=(50, 20))
    save(tmp_path / "bomb.png", size=(50, 21))
    monkeypatch.setattr(Image.Image, "load", None)  # may not be called
    assert "50x21 is over data.max_pixels=1000" in module.decoded(
        tmp_path / "bomb.png", channels=3, transform=Resize(8), max_pixels=1000
    )
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=r"bomb\.png: 50x21"):
        assert len(folder(tmp_path, max_pixels=1000, on_error="skip").load("train").x) == 1


def test_a_transform_that_cannot_do_it_is_no_broken_file(tmp_path: Path) -> None:
    save(tmp_path / "a.png", size=(50, 20))
    with pytest.raises(UserError, match=r"a\.png: a 50x20 picture does not fit"):
        Folder(tmp_path, PadTo(32), on_error="skip").load("train")


# Splits


def test_the_test_split_is_a_share_and_stays_when_files_are_added(tmp_path: Path) -> None:
    def parts() -> tuple[set[int], set[int]]:
        source = folder(tmp_path, test_fraction=0.3)
        return tuple(set(source.load(split).x[:, 0, 0, 0].tolist()) for split in ("train", "test"))

    for i in range(0, 120, 2):
        save(tmp_path / f"{i}.png", (i, 0, 0))
    train, test = parts()
    assert not train & test
    assert len(train | test) == 60
    assert 8 <= len(test) <= 28
    for i in range(1, 120, 2):
        save(tmp_path / f"{i}.png", (i, 0, 0))
    more_train, more_test = parts()
    assert train < more_train
    assert test < more_test


def test_an_empty_split_names_the_cure(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"none of 1 pictures .* test split; set data\.test_fraction higher"):
        folder(tmp_path).load("test")


# The cache


def entries(cache: Path) -> list[Path]:
    return [p for p in (cache / "folder").iterdir() if not p.name.startswith(".")]


def test_the_second_start_decodes_nothing(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = folder(photos).load("train")
    monkeypatch.setattr(module, "decoded", None)
    second = folder(photos).load("train")
    assert (first.x == second.x).all()
    assert (first.y == second.y).all()


def test_another_file_size_mtime_or_setting_is_another_entry(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def count(**settings) -> int:
        Folder(photos, settings.pop("transform", Resize(8)), cache_dir=cache, **settings).load("train")
        return len(entries(cache))

    assert count() == count() == 1
    assert count(transform=Resize(8, filter="box")) == 2
    assert count(channels=1) == 3
    assert count(test_fraction=0.5) == 4
    os.utime(photos / "cat" / "1.png", (1, 1))
    assert count() == 5
    save(photos / "cat" / "new.png")
    assert count() == 6
    (photos / "cat" / "new.png").rename(photos / "cat" / "newer.png")
    assert count() == 7


def test_twin_folders_do_not_share_an_entry(tmp_path: Path) -> None:
    for shade in (10, 20):  # unpacked archives often give all files one time
        os.utime(save(tmp_path / str(shade) / "a.bmp", (shade,) * 3), (1, 1))
    assert [pixel(tmp_path / str(shade))[0] for shade in (10, 20)] == [10, 20]


@pytest.mark.parametrize("spoilt", ["train_x.npy", "train_y.npy", "meta.json"])
def test_a_damaged_entry_is_made_anew(photos: Path, tmp_path: Path, spoilt: str) -> None:
    cache = tmp_path / "cache"
    whole = np.array(folder(photos, cache_dir=cache).load("train").x)
    (entry,) = entries(cache)
    file = entry / spoilt
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert (folder(photos, cache_dir=cache).load("train").x == whole).all()
    assert os.listdir(cache / "folder") == [entry.name]


def test_a_build_that_dies_leaves_nothing_behind(photos: Path, tmp_path: Path, monkeypatch) -> None:
    cache = tmp_path / "cache"

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "decoded", killed)
    with pytest.raises(KeyboardInterrupt):
        folder(photos, cache_dir=cache).load("train")
    assert os.listdir(cache / "folder") == []
    monkeypatch.undo()
    old, new = cache / "folder" / ".building-old", cache / "folder" / ".building-new"
    old.mkdir()
    new.mkdir()
    os.utime(old, (time.time() - 7 * 86_400,) * 2)
    folder(photos, cache_dir=cache).load("train")
    assert not old.exists()
    assert new.exists()  # another process may be at work in it


def test_two_processes_may_build_one_entry_at_once(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    context = multiprocessing.get_context("fork")
    gate, answers = context.Barrier(2), context.Queue()

    def build() -> None:
        gate.wait(20)
        answers.put(int(folder(photos, cache_dir=cache).load("train").x.astype(np.int64).sum()))

    processes = [context.Process(target=build) for _ in range(2)]
    for process in processes:
        process.start()
    sums = [answers.get(timeout=20) for _ in processes]
    for process in processes:
        process.join(20)
    assert [p.exitcode for p in processes] == [0, 0]
    assert sums[0] == sums[1] == int(folder(photos, cache_dir=cache).load("train").x.astype(np.int64).sum())
    assert len(os.listdir(cache / "folder")) == 1


def test_the_loser_of_a_race_takes_the_winners_entry(photos: Path, tmp_path: Path, monkeypatch) -> None:
    cache = tmp_path / "cache"
    fill = Folder._fill

    def slow_fill(self, listing, work):
        monkeypatch.undo()
        folder(photos, cache_dir=cache).load("train")  # the other process, done first
        return fill(self, listing, work)

    monkeypatch.setattr(Folder, "_fill", slow_fill)
    assert len(folder(photos, cache_dir=cache).load("train").x) == 20
    assert len(os.listdir(cache / "folder")) == 1


def test_an_unusable_cache_names_it_and_the_cure(photos: Path, tmp_path: Path, monkeypatch) -> None:
    blocked = save(tmp_path / "file.png") / "cache"
    with pytest.raises(UserError, match=r"file\.png/cache cannot be written .*data\.cache_dir or GAN_KIT_CACHE"):
        folder(photos, cache_dir=blocked).load("train")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module._Growing, "extend", full)
    with pytest.raises(UserError, match="No space left on device"):
        folder(photos, cache_dir=tmp_path / "cache").load("train")
    assert os.listdir(tmp_path / "cache" / "folder") == []


def test_the_cache_goes_where_the_environment_says(photos: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GAN_KIT_CACHE", str(tmp_path / "mine"))
    folder(photos).load("train")
    (entry,) = entries(tmp_path / "mine")
    assert json.loads((entry / "meta.json").read_text())["counts"] == {"train": 20, "test": 0}


def test_more_pictures_than_a_chunk_keep_their_order(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)
    for i in range(10):
        save(tmp_path / f"{i}.png", (i * 20, 0, 0))
    (tmp_path / "5x.png").touch()
    with pytest.warns(UserWarning, match="1 of 11"):
        x = folder(tmp_path, on_error="skip").load("train").x
    assert x[:, 0, 0, 0].tolist() == [i * 20 for i in range(10)]
