"""Folders as people have them: mixed sizes and modes, broken files, odd layouts, full disks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_kit.data import Folder, FolderData, PadTo, Resize
from gan_kit.data.prepare import building
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


def test_folders_named_as_splits_are_splits(photos: Path) -> None:
    (photos / "cat").rename(photos / "train")
    (photos / "a dog").rename(photos / "test")
    source = folder(photos)
    assert [len(source.load(split).x) for split in ("train", "test")] == [10, 10]
    assert source.load("train").y is None


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda root: save(root / "a.png"), r"a\.png\) beside class folders \(a dog\).*data\.labels=false"),
        (lambda root: (root / "empty").mkdir(), "class folder empty holds no sample.*data\\.labels=false"),
    ],
)  # fmt: skip
def test_unclear_layouts_are_refused(photos: Path, spoil, message: str) -> None:
    spoil(photos)
    with pytest.raises(UserError, match=message):
        folder(photos).load("train")


def test_a_folder_without_pictures_tells_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no picture in .*set data\.root"):
        folder(tmp_path).load("train")
    (tmp_path / "a.txt").write_bytes(b"x")
    with pytest.raises(UserError, match=r"it holds 1 \.txt"):
        folder(tmp_path).load("train")


def test_a_missing_folder_or_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*nowhere; set data\.root"):
        folder(tmp_path / "nowhere").load("train")
    with pytest.raises(UserError, match="is a file"):
        folder(save(tmp_path / "a.png")).load("train")
    with pytest.raises(UserError, match=r"data\.root=/path"):
        FolderData()


def test_files_beside_pictures_are_no_matter_but_false_pictures_are(photos: Path) -> None:
    (photos / "cat" / "readme.txt").write_bytes(b"x")
    (photos / "cat" / "film.mp4").write_bytes(b"x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder(photos).load("train")
    (photos / "cat" / "a.heic").write_bytes(b"x")
    with pytest.raises(UserError, match=r"cat/a\.heic: plain text named \.heic"):
        folder(photos).load("train")


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
    message = r"mixes 2 grey pictures \(grey/a\.png\) and 1 colour ones \(colour/a\.png\); set data\.channels=3 or"
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


BROKEN = {
    "cat/cut.jpg": "truncated",
    "cat/cut.png": "truncated",
    "cat/text.png": "plain text named .png",
    "cat/empty.webp": "an empty file",
    "cat/link.png": "a link to nothing",
    "cat/script.jpg": "PostScript named .jpg",  # Pillow, left to itself, would hand it to Ghostscript
}


def test_broken_files_fail_with_the_list_and_the_cure(broken: Path) -> None:
    with pytest.raises(UserError, match=r"6 files .* 20 can.*data\.on_error=skip") as e:
        folder(broken).load("train")
    for name, reason in BROKEN.items():
        assert f"{name}: {reason}" in str(e.value)


def test_broken_files_are_skipped_with_the_list(broken: Path) -> None:
    with pytest.warns(UserWarning, match="6 files") as caught:
        arrays = folder(broken, on_error="skip").load("train")
    assert all(name in str(caught[0].message) for name in BROKEN)
    assert np.bincount(arrays.y).tolist() == [10, 10]
    for name in BROKEN:
        (broken / name).unlink()
    mended = folder(broken).load("train")
    assert (arrays.x == mended.x).all()
    assert (arrays.y == mended.y).all()


def decodes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "decode_all", None)


def test_what_was_learnt_of_broken_files_is_kept(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="6 files"):
        folder(broken).load("train")
    decodes_nothing(monkeypatch)
    with pytest.warns(UserWarning, match="6 files"):
        assert len(folder(broken, on_error="skip").load("train").x) == 20
    with pytest.raises(UserError, match="6 files"):
        folder(broken).load("train")


def test_many_broken_files_are_counted_and_ten_are_named(photos: Path) -> None:
    for i in range(15):
        (photos / "cat" / f"bad{i}.png").touch()
    with pytest.raises(UserError, match=r"15 files(.|\n)*and 5 more") as e:
        folder(photos).load("train")
    assert str(e.value).count("an empty file") == 10


def test_nothing_but_broken_files_is_an_error_even_with_skip(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match=r"no picture in .*an empty file"):
        folder(tmp_path, on_error="skip").load("train")
    save(tmp_path / "b.jpg", size=(99, 99)).write_bytes((tmp_path / "b.jpg").read_bytes()[:300])
    with pytest.raises(UserError, match=r"none of 1 files .*truncated"):
        folder(tmp_path, on_error="skip").load("train")


def test_a_decompression_bomb_is_left_out(tmp_path: Path) -> None:
    save(tmp_path / "small.png", size=(50, 20))
    save(tmp_path / "bomb.png", size=(50, 21))
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
    with pytest.raises(UserError, match=r"none of .* test split; set data\.test_fraction higher"):
        folder(tmp_path).load("test")


def test_copies_of_one_picture_count_once_and_lie_in_one_split(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for i in range(40):
        image = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(
            (64, 64), Image.Resampling.BICUBIC
        )
        image.save(tmp_path / f"{i}.png")
        image.save(tmp_path / f"{i}_again.jpg", quality=90)
    source = folder(tmp_path, test_fraction=0.3)
    assert len(source.load("train").x) + len(source.load("test").x) == 40


# Prepared folders


def test_a_prepared_folder_is_taken_as_it_is(photos: Path, tmp_path: Path) -> None:
    from gan_kit.data.prepare import Images, Settings, prepare

    out = tmp_path / "out"
    settings = Settings(val_fraction=0.3, test_fraction=0.3, seed=1)
    prepare(photos, out, Images(Resize(8)), settings, workers=1, report=False)
    data = FolderData(out, Resize(8), batch_size=2, val_fraction=0.9)
    counts = {split: len(data.arrays(split).x) for split in ("train", "val", "test")}
    assert counts == json.loads((out / "dataset.json").read_text())["counts"]
    assert data.spec.class_names == ("a dog", "cat")
    assert data.arrays("train").fingerprint() != data.arrays("val").fingerprint()
    with pytest.raises(UserError, match="set image_size=8"):
        FolderData(out, Resize(16)).arrays("train")
    with pytest.raises(UserError, match=r"set data\.channels=3"):
        FolderData(out, Resize(8), channels=1).arrays("train")


# The cache


def entries(cache: Path) -> list[Path]:
    return list((cache / "prepared").iterdir())


def test_the_second_start_decodes_nothing(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = folder(photos).load("train")
    decodes_nothing(monkeypatch)
    second = folder(photos).load("train")
    assert (first.x == second.x).all()
    assert (first.y == second.y).all()


def test_another_file_or_setting_is_seen(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def made(**settings) -> str:
        source = Folder(photos, settings.pop("transform", Resize(8)), cache_dir=cache, **settings)
        return source.packed.index["plan_sha256"]

    seen = [made(), made(transform=Resize(8, filter="box")), made(channels=1), made(test_fraction=0.5)]
    assert made() == seen[0]
    assert len(entries(cache)) == 4
    os.utime(photos / "cat" / "1.png", (1, 1))
    seen.append(made())
    save(photos / "cat" / "new.png")
    seen.append(made())
    (photos / "cat" / "new.png").rename(photos / "cat" / "newer.png")
    seen.append(made())
    assert len(set(seen)) == len(seen)
    assert len(entries(cache)) == 4  # what is made of other files takes the place of the old


def test_twin_folders_do_not_share_an_entry(tmp_path: Path) -> None:
    for shade in (10, 20):  # unpacked archives often give all files one time
        os.utime(save(tmp_path / str(shade) / "a.bmp", (shade,) * 3), (1, 1))
    assert [pixel(tmp_path / str(shade))[0] for shade in (10, 20)] == [10, 20]


@pytest.mark.parametrize("spoilt", ["train-00000.npy", "train-labels.npy", "dataset.json"])
def test_a_damaged_entry_is_made_anew(photos: Path, tmp_path: Path, spoilt: str) -> None:
    cache = tmp_path / "cache"
    whole = np.array(folder(photos, cache_dir=cache).load("train").x)
    (entry,) = entries(cache)
    file = entry / spoilt
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert (folder(photos, cache_dir=cache).load("train").x == whole).all()
    assert entries(cache) == [entry]


LOAD = """
import sys
from gan_kit.data import Folder, Resize
if __name__ == "__main__":
    x = Folder(sys.argv[1], Resize(8), cache_dir=sys.argv[2], test_fraction=0).load("train").x
    print(int(x.astype("i8").sum()))
"""


def start(photos: Path, cache: Path) -> subprocess.Popen:
    script = cache.parent / "load.py"
    script.write_text(LOAD)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.Popen(
        [sys.executable, script, photos, cache], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )


def test_several_processes_may_want_one_entry_at_once(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    both = [start(photos, cache) for _ in range(3)]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0, 0], said
    assert len({out.splitlines()[-1] for out, _ in said}) == 1
    assert sum("prepared" in out for out, _ in said) == 1
    assert len(entries(cache)) == 1


def test_a_build_that_is_killed_is_gone_on_with(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    process = start(photos, cache)
    deadline = time.monotonic() + 60
    while not list(cache.glob("prepared/*/.preparing/segments/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(folder(photos, cache_dir=cache).load("train").x) == 20
    (entry,) = entries(cache)
    assert not (entry / ".preparing").exists()


def test_an_unusable_cache_names_it_and_the_cure(photos: Path, tmp_path: Path) -> None:
    blocked = save(tmp_path / "file.png") / "cache"
    with pytest.raises(UserError, match=r"file\.png/cache.* cannot be written .*data\.cache_dir or GAN_KIT_CACHE"):
        folder(photos, cache_dir=blocked).load("train")


def test_the_cache_goes_where_the_environment_says(photos: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GAN_KIT_CACHE", str(tmp_path / "mine"))
    folder(photos).load("train")
    (entry,) = entries(tmp_path / "mine")
    assert json.loads((entry / "dataset.json").read_text())["counts"] == {"train": 20, "val": 0, "test": 0}
