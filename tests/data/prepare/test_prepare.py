"""The whole way from a folder to a data set: nothing lost, the same bytes however it was interrupted, faults told."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import tarfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from doors import Door, run
from hypothesis import given
from hypothesis import strategies as st
from odd import Odd
from PIL import Image

from gan_kit.data import Packed, Resize
from gan_kit.data.loader import BatchLoader
from gan_kit.data.packed import Shards, verify
from gan_kit.data.prepare import Images, Limits, Settings, prepare
from gan_kit.data.prepare.decoding import _cuts
from gan_kit.data.prepare.types import Domain
from gan_kit.runs import checkpoints, is_whole
from gan_kit.types import UserError


def textured(seed: int, side: int = 48) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """Thirty pictures of two classes, three copies, and what lies about in folders."""
    root = tmp_path / "messy"
    for i in range(30):
        path = root / ("a", "b")[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        textured(i).save(path)
    (root / "a" / "copy.png").write_bytes((root / "a" / "00.png").read_bytes())
    textured(2).save(root / "a" / "again.JPEG", quality=80)
    textured(5, 96).save(root / "b" / "large", "PNG")  # no extension, and more pixels
    return root


def bytes_of(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(out.iterdir())}


IMAGES = Images(Resize(16))


def made(root: Path, out: Path, domain: Domain = IMAGES, workers: int = 1, **settings) -> dict:
    """-> the manifest's rows by name"""
    limits = settings.pop("limits", None)
    prepare(root, out, domain, Settings(**settings), limits, workers=workers, report=False, progress=False)
    return {row["name"]: row for row in map(json.loads, (out / "manifest.jsonl").open())}


# What comes out


def test_a_folder_becomes_a_data_set(messy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = made(messy, out, val_fraction=0.2, test_fraction=0.2)
    kept = [row for row in rows.values() if row["status"] == "kept"]
    assert len(kept) == 30
    duplicates = {name: row for name, row in rows.items() if row["status"] == "duplicate"}
    assert {name: (row["duplicate_of"], row["reason"]) for name, row in duplicates.items()} == {
        "a/copy.png": ("a/00.png", "exact"),
        "a/again.JPEG": ("a/02.png", "near"),
        "b/05.png": ("b/large", "near"),  # the larger one stays
    }  # fmt: skip
    packed = Packed(out)
    assert sum(packed.index["counts"].values()) == 30
    for row in kept:
        arrays = packed.load(row["split"])
        source = Image.open(messy / row["name"]).convert("RGB")
        assert (arrays.x[row["row"]] == np.asarray(Resize(16)(source)).transpose(2, 0, 1)).all()
        assert arrays.y is not None
        assert arrays.class_names[arrays.y[row["row"]]] == row["name"][0]
    assert verify(out, progress=False) == []


def test_the_report_and_card_are_made(messy: Path, tmp_path: Path) -> None:
    done = prepare(messy, tmp_path / "out", IMAGES, workers=1, progress=False)
    assert {p.name for p in done.files} >= {"report.html", "data_card.md", "samples.png"}
    assert all(p.stat().st_size > 100 for p in done.files)
    assert not (tmp_path / "out" / ".preparing").exists()


def test_the_number_of_processes_changes_no_byte(messy: Path, tmp_path: Path) -> None:
    for i in range(200):
        textured(1000 + i, 24).save(messy / "a" / f"more{i}.png")
    outs = [tmp_path / f"with{n}" for n in (1, 3)]
    for out, workers in zip(outs, (1, 3), strict=True):
        prepare(messy, out, IMAGES, Settings(shard_bytes=20_000), workers=workers, progress=False)
    assert bytes_of(outs[0]) == bytes_of(outs[1])
    assert len(list(outs[0].glob("train-*.npy"))) > 5


def test_duplicates_may_stay_but_in_one_split(messy: Path, tmp_path: Path) -> None:
    rows = made(messy, tmp_path / "out", duplicates="keep", val_fraction=0.3, test_fraction=0.3)
    assert all(row["status"] == "kept" for row in rows.values())
    for a, b in (("a/00.png", "a/copy.png"), ("a/02.png", "a/again.JPEG"), ("b/05.png", "b/large")):
        assert rows[a]["split"] == rows[b]["split"]
        assert rows[a]["cluster"] == rows[b]["cluster"]


def test_flagged_samples_go_only_when_asked(messy: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), (9, 9, 9)).save(messy / "a" / "blank.png")
    assert made(messy, tmp_path / "x")["a/blank.png"]["status"] == "kept"
    row = made(messy, tmp_path / "y", drop=("blank",))["a/blank.png"]
    assert (row["status"], row["reason"]) == ("dropped", "blank")


def test_labels_from_a_table(messy: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    names = sorted(p.relative_to(messy).as_posix() for p in messy.rglob("*.*"))
    table.write_text("file,label\n" + "".join(f"{name},{i % 3}\n" for i, name in enumerate([*names, "b/large"])))
    rows = made(messy, tmp_path / "out", labels=str(table))
    assert Packed(tmp_path / "out").index["class_names"] == ["0", "1", "2"]
    assert [rows[name]["label"] for name in names] == [i % 3 for i in range(len(names))]


@given(st.lists(st.integers(0, 2**26), max_size=300))
def test_segments_hold_all_files_in_order_and_little_each(sizes: list[int]) -> None:
    cuts = list(_cuts(sizes))
    assert [i for start, stop in cuts for i in range(start, stop)] == list(range(len(sizes)))
    for start, stop in cuts:
        assert 1 <= stop - start <= 64
        assert stop - start == 1 or sum(sizes[start:stop]) <= 2**25


def test_few_large_files_are_many_segments() -> None:
    """so that no process has the last ones all to itself"""
    cuts = list(_cuts([2**20] * 200))
    assert max(stop - start for start, stop in cuts) <= 200 / 16
    assert cuts[-1] == (199, 200)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.data())
def test_shards_are_one_array(counts: list[int], data: st.DataObject) -> None:
    whole = np.arange(sum(counts) * 2).reshape(-1, 2)
    shards = Shards(np.split(whole, np.cumsum(counts)[:-1]))
    rows = data.draw(st.lists(st.integers(-len(whole), len(whole) - 1), max_size=9))
    assert (shards[np.array(rows, int)] == whole[np.array(rows, int)]).all()
    start, stop, step = (data.draw(st.one_of(st.none(), st.integers(-9, 9).filter(bool))) for _ in range(3))
    assert (shards[start:stop:step] == whole[start:stop:step]).all()
    assert (shards[rows[0]] == whole[rows[0]]).all() if rows else True
    assert (np.array(list(shards)) == whole).all()
    assert (np.asarray(shards) == whole).all()
    with pytest.raises(IndexError):
        shards[np.array([len(whole)])]


@pytest.mark.parametrize("key", ["data.root", "data.path"])
def test_a_training_takes_it(messy: Path, tmp_path: Path, key: str) -> None:
    prepare(messy, tmp_path / "out", Images(Resize(16)), workers=1, report=False, progress=False)
    done = run(
        "train", "+experiment=image/folder", f"{key}={tmp_path / 'out'}", "image_size=16", "debug=two_steps",
        "generator.width=8", "discriminator.width=8", "data.batch_size=8", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 classes" in done.stdout


def test_a_data_set_as_tars(messy: Path, tmp_path: Path) -> None:
    out, tars = tmp_path / "out", tmp_path / "tars"
    made(messy, out, test_fraction=0.2)
    done = run("prepare", f"out={out}", f"webdataset={tars}", "shard_bytes=9000", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tars.glob("train-*.tar"))) > 2
    for split in Packed(out).splits:
        arrays = Packed(out).load(split)
        found = {}
        for path in sorted(tars.glob(f"{split}-*.tar")):
            with tarfile.open(path) as tar:
                found |= {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
        for i, (x, y) in enumerate(zip(arrays.x, arrays.y, strict=True)):  # type: ignore[arg-type]
            pixels = np.asarray(Image.open(io.BytesIO(found[f"{split}_{i:09d}.png"])))
            assert (pixels.transpose(2, 0, 1) == x).all()
            assert int(found[f"{split}_{i:09d}.cls"]) == y
            assert json.loads(found[f"{split}_{i:09d}.json"])["class"] == arrays.class_names[y]


def test_clips_of_one_recording_stay_together_and_are_all_kept(tmp_path: Path) -> None:
    sf = pytest.importorskip("soundfile")
    from gan_kit.data.prepare import Sounds

    root = tmp_path / "takes"
    root.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):  # four seconds of one beat: clips of it are all alike
        beat = np.tile(rng.normal(0, 0.2, 2000) * np.exp(-np.arange(2000) / 400), 16)
        sf.write(root / f"{i}.wav", beat, 8000)
    rows = {}
    prepare(
        root, tmp_path / "out", Sounds(8000, 8000, fit="slice"), Settings(val_fraction=0.3, test_fraction=0.3),
        workers=1, report=False, progress=False,
    )  # fmt: skip
    for row in map(json.loads, (tmp_path / "out" / "manifest.jsonl").open()):
        rows.setdefault(row["name"], []).append(row)
    assert len(rows) == 12
    for clips in rows.values():
        assert len(clips) == 4
        assert len({clip["split"] for clip in clips if clip["status"] == "kept"}) == 1
        assert all(clip["reason"] == "exact" for clip in clips if clip["status"] != "kept")
    assert Packed(tmp_path / "out").index["spec"] == {"sample_rate": 8000}
    assert Packed(tmp_path / "out").load("train").x.dtype == np.int16


# What is wrong with files


def test_what_is_broken_is_told_and_nothing_good_is_lost(messy: Path, tmp_path: Path) -> None:
    jpeg = messy / "a" / "again.JPEG"
    faults = {
        "b/zero.jpg": (b"", "an empty file"),
        "b/page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        "b/cut.jpg": (jpeg.read_bytes()[: jpeg.stat().st_size // 2], "truncated"),
        "b/cut.png": ((messy / "b" / "01.png").read_bytes()[:-40], "truncated"),
        "b/noise.png": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "PNG|damaged|truncated"),
    }
    for name, (data, _) in faults.items():
        (messy / name).write_bytes(data)
    with (messy / "b" / "sparse.jpg").open("wb") as file:
        file.write(jpeg.read_bytes()[:200])
        file.truncate(10 * 2**30)
    (messy / ".DS_Store").write_bytes(b"x")
    rows = made(messy, tmp_path / "out")
    for name, (_, words) in faults.items():
        assert rows[name]["status"] in ("broken", "refused")
        assert any(word in rows[name]["reason"] for word in words.split("|")), rows[name]
    assert "max_bytes" in rows["b/sparse.jpg"]["reason"]
    assert Counter(row["status"] for row in rows.values())["kept"] == 30


def test_names_that_no_terminal_can_print(messy: Path, tmp_path: Path) -> None:
    good, bad = os.fsencode(messy / "a") + b"/\xff\xfe.png", os.fsencode(messy / "a") + b"/\xff\ncut.png"
    data = (messy / "a" / "00.png").read_bytes()
    textured(77).save(messy / "new.png")
    os.rename(messy / "new.png", good)
    with open(bad, "wb") as file:
        file.write(data[:90])
    textured(78).save(messy / "b" / f"{'x' * 250}.png")
    done = run("prepare", f"source={messy}", f"out={tmp_path / 'out'}", "image_size=16", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert r"a/\udcff\ncut.png: truncated" in done.stdout
    rows = {row["name"]: row for row in map(json.loads, (tmp_path / "out" / "manifest.jsonl").open())}
    assert rows[os.fsdecode(b"a/\xff\xfe.png")]["status"] == "kept"
    assert rows[f"b/{'x' * 250}.png"]["status"] == "kept"


@pytest.mark.slow
def test_one_bad_file_ends_nothing(tmp_path: Path) -> None:
    root = tmp_path / "odd"
    root.mkdir()
    good = "ABDEFGHIJLMNOPQRSTUVWYZ"
    for i, letter in enumerate([*good, *"khcxmu"]):
        (root / f"{letter}{i:02d}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(60) + letter.encode())
    began = time.monotonic()
    rows = made(root, tmp_path / "out", Odd(), workers=2, limits=Limits(seconds=1.0))
    assert time.monotonic() - began < 40  # some 10
    assert sum(row["status"] == "kept" for row in rows.values()) == len(good)
    reasons = {name[0]: row["reason"] for name, row in rows.items() if row["status"] == "broken"}
    assert reasons == {
        "k": "the decoder died of it (exit status -9)",
        "h": "decoding took longer than 1 s",
        "c": "decoding did not stop after 1 s",
        "x": "decoding failed (RuntimeError: an odd file)",
        "m": "too large for memory",
        "u": "no good",
    }


# Stops and faults


@pytest.fixture
def many(tmp_path: Path) -> Path:
    root = tmp_path / "many"
    root.mkdir()
    for i in range(500):
        textured(i, 24).save(root / f"{i:03d}.png")
    return root


SET = ["image_size=16", "workers=2", "shard_bytes=50000"]


def segments(out: Path) -> list[Path]:
    return sorted((out / ".preparing" / "segments").glob("*.npz"))


@pytest.mark.slow
def test_a_killed_run_goes_on_and_gives_the_same_bytes(many: Path, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert run("prepare", f"source={many}", f"out={whole}", *SET, cwd=tmp_path).returncode == 0
    door = Door("prepare", f"source={many}", f"out={part}", *SET, cwd=tmp_path)
    door.until(lambda: len(segments(part)) >= 2).send(signal.SIGKILL).wait()
    assert not (part / "dataset.json").exists()
    first = segments(part)[0]
    written = first.stat().st_mtime_ns
    spoilt = segments(part)[1]
    spoilt.write_bytes(spoilt.read_bytes()[:-100])
    door = Door("prepare", f"source={many}", f"out={part}", *SET, cwd=tmp_path)
    door.until(lambda: len(segments(part)) >= 4)
    assert first.stat().st_mtime_ns == written  # kept, not made again
    done = door.wait()
    assert done.returncode == 0, done.stderr
    assert bytes_of(whole) == bytes_of(part)


@pytest.mark.slow
def test_a_run_killed_while_it_packs_goes_on_too(many: Path, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    small = ["image_size=16", "workers=2", "shard_bytes=3000"]  # hundreds of shards: time to be killed in
    assert run("prepare", f"source={many}", f"out={whole}", *small, cwd=tmp_path).returncode == 0
    door = Door("prepare", f"source={many}", f"out={part}", *small, cwd=tmp_path)
    door.until(lambda: (part / ".preparing" / "out" / "train-00005.npy").exists()).send(signal.SIGKILL).wait()
    assert not (part / "dataset.json").exists()
    with pytest.raises(UserError, match="interrupted"):
        Packed(part)
    done = run("prepare", f"source={many}", f"out={part}", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert bytes_of(whole) == bytes_of(part)


def test_a_segment_damaged_in_its_middle_is_made_anew(messy: Path, tmp_path: Path) -> None:
    from gan_kit.data.prepare import building

    out = tmp_path / "out"
    pack = building.Build.pack

    def spoil(self: building.Build, plan: dict) -> None:
        _, path = self.decoded[0]
        data = bytearray(path.read_bytes())
        at = data.index(b"x.npy") + 200
        data[at] ^= 255
        path.write_bytes(data)
        pack(self, plan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building.Build, "pack", spoil)
        with pytest.raises(UserError, match="run the same command again"):
            made(messy, out)
    assert sum(row["status"] == "kept" for row in made(messy, out).values()) == 30


def test_an_out_that_is_removed_meanwhile_is_told(messy: Path, tmp_path: Path) -> None:
    from gan_kit.data.prepare import building

    out = tmp_path / "out"
    pack = building.Build.pack

    def removed(self: building.Build, plan: dict) -> None:
        shutil.rmtree(out)
        pack(self, plan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building.Build, "pack", removed)
        with pytest.raises(UserError, match="cannot be written"):
            made(messy, out)
    assert sum(row["status"] == "kept" for row in made(messy, out).values()) == 30


def test_ctrl_c_says_how_to_go_on(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    door = Door("prepare", f"source={many}", f"out={out}", *SET, cwd=tmp_path)
    done = door.until(lambda: segments(out)).send(signal.SIGINT).wait()
    assert done.returncode == 130
    assert "run the same command again" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_full_disk_keeps_what_was_done(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ["prepare", f"source={many}", f"out={out}", "image_size=16", "workers=1"]
    done = run(*given, cwd=tmp_path, limits={resource.RLIMIT_FSIZE: 250_000})  # shards are larger, segments are not
    assert done.returncode == 2
    assert "is full" in done.stderr
    assert "it goes on where it stopped" in done.stderr
    assert len(segments(out)) == 8
    assert not (out / "dataset.json").exists()
    done = run(*given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sum(Packed(out).index["counts"].values()) == 500


def test_a_data_set_is_not_replaced_unasked(messy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made(messy, out)
    before = bytes_of(out)
    with pytest.raises(UserError, match=r"seed was 0, is 1.*overwrite=true"):
        made(messy, out, seed=1)
    textured(99).save(messy / "a" / "new.png")
    with pytest.raises(UserError, match="the files have changed"):
        made(messy, out)
    assert bytes_of(out) == before
    prepare(messy, out, IMAGES, workers=1, overwrite=True, report=False, progress=False)
    assert Packed(out).index["outcomes"]["kept"] == 31
    other = tmp_path / "letters"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match=r"letter\.txt"):
        made(messy, other)


def test_a_dry_run_writes_nothing(messy: Path, tmp_path: Path) -> None:
    done = run("prepare", f"source={messy}", f"out={tmp_path / 'out'}", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing was written" in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spoilt", ["train-00000.npy", "train-labels.npy", "manifest.jsonl"])
def test_verify_finds_one_changed_bit(messy: Path, tmp_path: Path, spoilt: str) -> None:
    out = tmp_path / "out"
    made(messy, out)
    data = bytearray((out / spoilt).read_bytes())
    data[-3] ^= 1
    (out / spoilt).write_bytes(data)
    assert verify(out, progress=False) == [f"{spoilt} is not what was written"]
    (out / spoilt).unlink()
    done = run("prepare", "--verify", str(out), cwd=tmp_path)
    assert done.returncode == 2
    assert f"{spoilt} is missing" in done.stderr


@pytest.mark.parametrize(
    "given, words",
    [
        ([], "no source given"),
        (["source=nowhere", "out=x"], "no folder nowhere"),
        (["source=.", "out=."], "source and out are both"),
        (["source=.", "out=x", "domain=smell"], "no domain 'smell'"),
        (["source=.", "out=x", "duplicates=burn"], "no duplicates='burn'"),
        (["source=.", "out=x", "test_fraction=1.5"], "test_fraction=1.5"),
        (["source=.", "out=x", "domain.alpha=plaid"], "no alpha='plaid'"),
        (["source=.", "out=x", "image_sise=3"], "image_sise"),
        (["source=.", "out=x", "--quick"], "--quick"),
        (["--verify"], "--verify takes one data set"),
        (["--verify", "nowhere"], "no prepared data set"),
        (["source=.", "out=x", "labels=none.csv"], "none.csv"),
        (["source=.", "out=x", "drop=[ugly]"], "ugly"),
    ],
)
def test_mistakes_are_one_line(given: list[str], words: str, tmp_path: Path) -> None:
    textured(1).save(tmp_path / "1.png")
    done = run("prepare", *given, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "x" / "dataset.json").exists()


def spoil(path: Path, how: str) -> None:
    """In place, as a mapping sees it."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        if how == "cut":
            file.truncate(size // 2)
        elif how == "overwritten":
            file.seek(size // 2)
            file.write(b"\xff" * (size - size // 2))
        else:  # written again as it was
            data = file.read()
            file.seek(0)
            file.write(data)


@pytest.mark.parametrize("how", ["cut", "overwritten"])
@pytest.mark.parametrize("skip", [False, True])
def test_a_shard_that_is_damaged_while_in_use_is_named_and_left_out_or_stops_it(
    messy: Path, tmp_path: Path, how: str, skip: bool
) -> None:
    out = tmp_path / "out"
    prepare(messy, out, Images(Resize(16)), Settings(shard_bytes=4000), workers=1, report=False, progress=False)
    arrays = Packed(out, skip=skip).load("train")
    x, y, watch = np.array(arrays.x), arrays.y, arrays.checked.__self__
    assert len(watch.files) > 2
    loader = BatchLoader(arrays.x, y, batch_size=8, checked=arrays.checked)
    victim = watch.files[1][0]
    spoil(victim, how)
    if not skip:
        with pytest.raises(UserError, match=f"{victim.name} is .* since it was opened"):
            loader.batch(0, 0)
        return
    with pytest.warns(UserWarning, match=f"{victim.name} is .* left out") as told:
        batches = [loader.batch(epoch, i) for epoch in (0, 1) for i in range(len(loader))]
    assert len(told) == 1
    sound = {row.tobytes(): int(y[i]) for i, row in enumerate(x) if not watch.starts[1] <= i < watch.starts[2]}
    for batch in batches:
        for row, label in zip(batch.x.numpy(), batch.y.tolist(), strict=True):
            assert sound[row.tobytes()] == label


def test_a_shard_that_is_touched_only_or_removed_is_still_read(messy: Path, tmp_path: Path) -> None:
    prepare(messy, tmp_path / "out", Images(Resize(16)), workers=1, report=False, progress=False)
    arrays = Packed(tmp_path / "out").load("train")
    before, rows = np.array(arrays.x), np.arange(len(arrays.x))
    path = arrays.checked.__self__.files[0][0]
    spoil(path, "as it was")
    assert (arrays.checked(rows) == rows).all()
    path.unlink()
    assert (arrays.checked(rows) == rows).all()
    assert (np.array(arrays.x) == before).all()


def test_a_training_whose_data_are_cut_short_stops_by_name_and_keeps_its_checkpoint(
    messy: Path, tmp_path: Path
) -> None:
    prepare(messy, tmp_path / "out", Images(Resize(16)), workers=1, report=False, progress=False)
    folder = tmp_path / "run"
    door = Door(
        "train", "+experiment=image/folder", f"data.root={tmp_path / 'out'}", "image_size=16", "data.batch_size=8",
        "generator.width=8", "discriminator.width=8", "logger=none", "trainer=cpu", "budget_samples=10_000_000",
        "callbacks.checkpoints.every_samples=16", f"paths.output_dir={folder}", cwd=tmp_path,
    )  # fmt: skip
    door.until(lambda: checkpoints(folder), seconds=240)
    shard = Packed(tmp_path / "out").load("train").checked.__self__.files[0][0]
    spoil(shard, "cut")
    done = door.wait()
    assert done.returncode == 2, done.stderr
    said = done.stderr.strip().splitlines()[-1]  # after lines of progress
    assert said.startswith("error: ")
    assert f"{shard.name} is cut short" in said
    assert "Traceback" not in done.stderr
    assert is_whole(checkpoints(folder)[-1])
