"""Labels from every layout and table that people have, and a clear word where they do not fit."""

from __future__ import annotations

import io
import json
import os
import unicodedata
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gan_kit.data.prepare.labels import Labels, class_table, conflicts, read_labels
from gan_kit.data.prepare.scan import scan
from gan_kit.types import UserError

_out = io.BytesIO()
Image.new("RGB", (4, 4)).save(_out, "PNG")
PNG = _out.getvalue()


def put(root: Path, names: Iterable[str], data: bytes = PNG) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def zipped(path: Path, names: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, PNG)


def labelled(root: Path, how: str | Path = "auto", **settings) -> dict[str, str | None]:
    listing = scan(root)
    labels = read_labels(listing, how, **settings)
    assert labels.labels.shape == labels.unlabelled.shape == (len(listing.files),)
    words = [labels.class_names[i] if i >= 0 else None for i in labels.labels]
    return dict(zip([f.name for f in listing.files], words, strict=True))


def split(root: Path, how: str | Path = "auto", **settings) -> list[str | None] | None:
    return read_labels(scan(root), how, **settings).splits


# Folders


def test_folders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    put(tmp_path, ["dog/1.png", "a cat/2.png", "dog/deep/er/3.png"])
    labels = read_labels(scan(tmp_path))
    assert labels.class_names == ("a cat", "dog")
    assert labels.labels.tolist() == [0, 1, 1]
    assert labels.labels.dtype == np.int64
    assert labels.splits is None
    assert labels.notes == []


def test_numbers_come_in_their_order(tmp_path: Path) -> None:
    put(tmp_path, [f"{i}/1.png" for i in range(11)])
    assert read_labels(scan(tmp_path)).class_names == tuple(map(str, range(11)))


def test_flat_files_have_no_labels(tmp_path: Path) -> None:
    put(tmp_path, ["1.png", "2.png"])
    labels = read_labels(scan(tmp_path))
    assert (labels.class_names, labels.labels.tolist()) == ((), [-1, -1])
    assert not labels.unlabelled.any()
    with pytest.raises(UserError, match="no folders to be classes; set labels=none"):
        read_labels(scan(tmp_path), "folders")


def test_none_takes_any_layout(tmp_path: Path) -> None:
    put(tmp_path, ["1.png", "cat/2.png", "train/3.png"])
    (tmp_path / "empty").mkdir()
    assert set(labelled(tmp_path, "none").values()) == {None}


def test_one_folder_around_everything_is_looked_through(tmp_path: Path) -> None:
    put(tmp_path, ["pets/v1/cat/1.png", "pets/v1/dog/2.png"])
    assert set(labelled(tmp_path).values()) == {"cat", "dog"}
    assert "pets/v1/" in read_labels(scan(tmp_path)).notes[0]
    assert set(labelled(tmp_path, "folders").values()) == {"pets"}
    assert set(labelled(put(tmp_path / "pets" / "v1" / "cat", [])).values()) == {None}


@pytest.mark.parametrize(
    "names, empty, message",
    [
        (["a.png", "cat/1.png"], [], r"holds files \(a\.png\) beside class folders \(cat\).*labels=none"),
        (["cat/1.png", "dog/1.png"], ["eel"], "class folder eel holds no sample; fill or remove it"),
        (["cat/1.png"], ["dog"], "class folder dog holds no sample"),
        (["x/a.png", "x/cat/1.png"], [], r"/x holds files \(x/a\.png\) beside class folders \(cat\)"),
        (["train/cat/1.png", "test/2.png"], [], r"holds files \(test/2\.png\) beside class folders \(cat\)"),
        (["train/cat/1.png", "test/cat/2.png"], ["train/dog"], "class folder train/dog holds no sample"),
    ],
)
def test_unclear_layouts_are_refused_with_a_cure(tmp_path: Path, names, empty, message: str) -> None:
    put(tmp_path, names)
    for name in empty:
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=message):
        read_labels(scan(tmp_path))


def test_a_class_whose_files_were_all_refused_is_told(tmp_path: Path) -> None:
    put(tmp_path, ["cat/1.png", "dog/1.png"])
    put(tmp_path, ["eel/1.png", "eel/2.png"], b"<html>")
    labels = read_labels(scan(tmp_path))
    assert labels.class_names == ("cat", "dog")
    assert labels.notes == ["all 2 files of eel/ were refused, so that it is no class"]


@pytest.mark.parametrize("around", ["", "data/"])
def test_folders_named_as_splits_give_splits(tmp_path: Path, around: str) -> None:
    some = [f"{around}{s}/{c}/1.png" for s in ("Train", "validation", "test") for c in ("cat", "dog")]
    put(tmp_path, some)
    assert set(labelled(tmp_path).values()) == {"cat", "dog"}
    assert split(tmp_path) == ["train", "train", "test", "test", "val", "val"]
    assert split(tmp_path, split_folders="ignore") is None
    assert set(labelled(tmp_path, split_folders="ignore").values()) == {"cat", "dog"}
    assert set(labelled(tmp_path, split_folders="class").values()) == {"Train", "test", "validation"}


def test_splits_without_classes_and_a_lone_split(tmp_path: Path) -> None:
    put(tmp_path / "x", ["train/1.png", "test/2.png"])
    assert labelled(tmp_path / "x") == {"train/1.png": None, "test/2.png": None}
    assert split(tmp_path / "x") == ["test", "train"]
    put(tmp_path / "y", ["train/images/1.png", "val/images/2.png"])
    assert set(labelled(tmp_path / "y").values()) == {None}
    put(tmp_path / "z", ["train/cat/1.png", "train/dog/2.png"])
    assert split(tmp_path / "z") is None
    assert set(labelled(tmp_path / "z").values()) == {"cat", "dog"}
    put(tmp_path / "w", ["train/1.png", "car/2.png"])  # vehicles
    assert set(labelled(tmp_path / "w").values()) == {"train", "car"}


def test_archives_count_as_unpacked_where_they_lie(tmp_path: Path) -> None:
    zipped(tmp_path / "one" / "pets.zip", ["cat/1.png", "dog/2.png"])
    assert set(labelled(tmp_path / "one").values()) == {"cat", "dog"}
    assert set(labelled(tmp_path / "one" / "pets.zip").values()) == {"cat", "dog"}
    for name in ("cat", "dog"):
        zipped(tmp_path / "flat" / f"{name}.zip", ["1.png", "2.png"])
    assert set(labelled(tmp_path / "flat").values()) == {"cat", "dog"}
    for name in ("train", "test"):
        zipped(tmp_path / "split" / f"{name}.zip", ["cat/1.png", "dog/2.png"])
    assert split(tmp_path / "split") == ["test", "test", "train", "train"]
    zipped(tmp_path / "mixed" / "more.zip", ["cat/3.png"])
    put(tmp_path / "mixed", ["cat/1.png", "dog/1.png"])
    assert labelled(tmp_path / "mixed")["more.zip!cat/3.png"] == "cat"


# Tables


@pytest.fixture
def three(tmp_path: Path) -> Path:
    return put(tmp_path / "set", ["a/1.png", "a/2.png", "b/3 ä.png"])


WANTED = {"a/1.png": "cat", "a/2.png": "dog, small", "b/3 ä.png": "cat"}
CSV = 'file,label\na/1.png,cat\na/2.png,"dog, small"\nb/3 ä.png,cat\n'


def table(root: Path, text: str, name: str = "labels.csv", encoding: str = "utf-8") -> Path:
    path = root.parent / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        CSV,
        CSV.replace("\n", "\r\n"),
        CSV.replace("file,label", "Path, Class"),
        CSV.replace("file,label\n", ""),
        CSV.replace(",", ";").replace("dog; small", "dog, small"),
        CSV.replace(",", "\t").replace("dog\t small", "dog, small"),
        CSV.replace("a/", ".\\a\\"),
        CSV.replace("a/", "./a//"),
        "id,age,label,file\n1,9,cat,a/1.png\n2,9,'x',b/3 ä.png\n".replace("'x'", "cat") + '3,9,"dog, small",a/2.png\n',
        CSV.replace("a/", "").replace("b/", ""),
        CSV.replace("a/", "").replace("b/", "").replace(".png", ""),
        CSV.replace("a/", "set/a/").replace("b/", "set/b/"),
        "\n" + CSV + "\n,\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_tables_of_every_hand(three: Path, text: str, encoding: str) -> None:
    assert labelled(three, table(three, text, encoding=encoding)) == WANTED


def test_accents_are_one_letter_or_two(three: Path) -> None:
    assert labelled(three, table(three, unicodedata.normalize("NFD", CSV))) == WANTED


def test_absolute_paths(three: Path) -> None:
    text = CSV.replace("a/", f"{three.resolve()}/a/").replace("b/3", f"{three.resolve()}/b/3")
    assert labelled(three, table(three, text)) == WANTED


@pytest.mark.parametrize(
    "value",
    [
        "\n".join(json.dumps({"file_name": f, "label": y}) for f, y in WANTED.items()),
        json.dumps([{"image": f, "category": y, "more": [1, 2]} for f, y in WANTED.items()]),
        json.dumps(WANTED),
    ],
)
def test_json_of_every_shape(three: Path, value: str) -> None:
    for name in ("labels.jsonl", "labels.json"):
        assert labelled(three, table(three, value + "\n", name)) == WANTED


def test_one_line_of_json_is_a_row(tmp_path: Path) -> None:
    root = put(tmp_path / "set", ["1.png"])
    assert labelled(root, table(root, '{"file": "1.png", "label": 0}', "l.jsonl")) == {"1.png": "0"}


def test_numbers_are_names_too_and_zero_is_one(three: Path) -> None:
    rows = zip(WANTED, (0, 10.0, 2), strict=True)
    path = table(three, "\n".join(json.dumps({"file": f, "label": y}) for f, y in rows), "l.jsonl")
    labels = read_labels(scan(three), path)
    assert labels.class_names == ("0", "2", "10")
    assert labels.labels.tolist() == [0, 2, 1]


def test_columns_can_be_named(three: Path) -> None:
    path = table(three, "wo;was;wann\na/1.png;x;train\na/2.png;y;dev\nb/3 ä.png;y;\n")
    with pytest.raises(UserError, match=r"no column that is known as the file \(it has wo, was, wann\).*columns="):
        read_labels(scan(three), path)
    labels = read_labels(scan(three), path, columns={"file": "wo", "label": "was", "split": "wann"})
    assert labels.class_names == ("x", "y")
    assert labels.splits == ["train", "val", None]
    with pytest.raises(UserError, match=r"has no column 'wer'; it has wo, was, wann"):
        read_labels(scan(three), path, columns={"file": "wer"})
    with pytest.raises(UserError, match=r"no column \['klasse'\] to name; have file, label, split"):
        read_labels(scan(three), path, columns={"klasse": "was"})


def test_rows_for_files_that_are_not_there(three: Path) -> None:
    path = table(three, CSV + "".join(f"gone/{i}.png,cat\n" for i in range(12)))
    with pytest.raises(UserError, match=r"names 12 files that are not there: gone/0\.png, .* 2 more; .*missing=skip"):
        read_labels(scan(three), path)
    assert labelled(three, path, missing="skip") == WANTED
    put(three, [f"gone/{i}.png" for i in range(12)], b"<html>")  # there, but refused: nobody's mistake in the table
    assert labelled(three, path) == WANTED
    with pytest.raises(UserError, match=r"none of the 1 files .* names is in .*it names x\.png; there are a/1\.png"):
        read_labels(scan(three), table(three, "file,label\nx.png,cat\n"))


def test_files_without_a_row(three: Path) -> None:
    path = table(three, "file,label\na/1.png,cat\na/2.png,\n")
    with pytest.raises(UserError, match=r"2 files have no label in .*: a/2\.png, b/3 ä\.png; .*unlabelled=drop"):
        read_labels(scan(three), path)
    kept = read_labels(scan(three), path, unlabelled="keep")
    assert kept.labels.tolist() == [0, -1, -1]
    assert not kept.unlabelled.any()
    assert read_labels(scan(three), path, unlabelled="drop").unlabelled.tolist() == [False, True, True]


def test_rows_that_disagree(three: Path) -> None:
    path = table(three, CSV + "a/1.png,dog\n")
    with pytest.raises(UserError, match=r"gives 1 files two labels: a/1\.png \(cat, line 2, and dog, line 5\)"):
        read_labels(scan(three), path)
    assert labelled(three, table(three, CSV + "a/1.png,cat\n")) == WANTED


def test_bare_names_that_several_files_have_match_none(tmp_path: Path) -> None:
    root = put(tmp_path / "set", ["a/1.png", "b/1.png", "b/2.png"])
    with pytest.raises(UserError, match=r"names 1 files that are not there: 1\.png"):
        read_labels(scan(root), table(root, "file,label\n1.png,x\n2.png,y\n"))


def test_splits_of_a_table_are_given(three: Path) -> None:
    path = table(three, "file,label,split\na/1.png,x,train\na/2.png,x,TEST\nb/3 ä.png,y,holdout\n")
    labels = read_labels(scan(three), path)
    assert labels.splits == ["train", "test", None]
    assert "holdout" in labels.notes[0]


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("l.csv", "", "is empty"),
        ("l.csv", "file,label\na/1.png,dog, small\n", "line 2 has 3 columns and the header 2; put names with commas"),
        ("l.jsonl", '{"file": "a"}\nnonsense\n', "line 2 is no JSON"),
        ("l.jsonl", '{"file": "a", "label": "x"}\n[1]\n', "line 2 is no object"),
        ("l.json", "[1, 2]", "no list of objects"),
        ("l.jsonl", '{"file": "a/1.png", "label": ["x", "y"]}\n', "line 1: several labels for one file"),
        ("l.csv", "file,label\n,x\n", "line 2 names no file"),
        ("l.csv", "file,label\n", "has no rows"),
        ("l.csv", ",,\n,,\n", "is empty"),
    ],
)
def test_damaged_tables_name_the_line(three: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_labels(scan(three), table(three, text, name))


def test_bad_settings_name_the_value(three: Path) -> None:
    listing = scan(three)
    with pytest.raises(UserError, match=r"labels=nowhere\.csv is no file; set labels to auto, folders, none, or"):
        read_labels(listing, "nowhere.csv")
    for setting in ("split_folders", "unlabelled", "missing"):
        with pytest.raises(UserError, match=f"no {setting}='x'; have"):
            read_labels(listing, **{setting: "x"})


def test_names_that_are_no_text_can_be_told(tmp_path: Path) -> None:
    put(tmp_path, [os.fsdecode(b"caf\xe9.png"), "cat/1.png"])
    with pytest.raises(UserError) as caught:
        read_labels(scan(tmp_path))
    str(caught.value).encode()


@given(st.text(max_size=300), st.sampled_from(["l.csv", "l.jsonl", "l.json"]))
def test_any_text_is_a_table_or_told(tmp_path_factory: pytest.TempPathFactory, text: str, name: str) -> None:
    root = put(tmp_path_factory.getbasetemp() / "any", ["1.png"])
    (root / name).write_text(text, encoding="utf-8", errors="replace")
    try:
        labels = read_labels(scan(root), root / name)
    except UserError as e:
        assert str(e)  # noqa: PT017 # either is right
    else:
        assert len(labels.class_names) <= 1


@pytest.mark.parametrize("how", ["auto", "labels.csv"])
def test_clothing_by_folders_or_by_its_table(how: str) -> None:
    home = Path(os.environ.get("GAN_KIT_DATA", "")) / "clothing10_128"
    if not os.environ.get("GAN_KIT_DATA") or not home.is_dir():
        pytest.skip("no clothing10_128 under $GAN_KIT_DATA")
    listing = scan(home / "clothing10_128_jpg.zip")
    labels = read_labels(listing, "auto" if how == "auto" else home / how)
    assert len(listing.files) == 3781
    assert not listing.refused
    assert len(labels.class_names) == 10
    counts = {s: (labels.splits or []).count(s) for s in ("train", "val", "test")}
    assert sum(counts.values()) == 3781
    assert all(counts.values())
    assert sum(row["count"] for row in class_table(labels)) == 3781


# Balance and conflicts


def test_the_class_table_counts_every_sample_once() -> None:
    labels = Labels(("a", "b", "c"), np.array([0, 0, 2, -1]), None, np.zeros(4, bool))
    assert class_table(labels) == [
        {"class": "a", "count": 2, "share": 0.5},
        {"class": "b", "count": 0, "share": 0.0},
        {"class": "c", "count": 1, "share": 0.25},
        {"class": "", "count": 1, "share": 0.25},
    ]
    row = class_table(labels, np.array([1, 1, 1]), ["train", "test", "train"])[1]
    assert row == {"class": "b", "count": 3, "share": 1.0, "train": 2, "val": 0, "test": 1}


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 2)), max_size=30))
def test_conflicts_are_clusters_with_two_labels(rows) -> None:
    clusters = np.array([c for c, _ in rows], np.int64)
    labels = np.array([y for _, y in rows], np.int64)
    found = {c.cluster: c for c in conflicts(clusters, labels)}
    for cluster in set(clusters.tolist()):
        have = {y for c, y in rows if c == cluster and y >= 0}
        assert (cluster in found) == (len(have) > 1)
        if cluster in found:
            assert set(found[cluster].labels) == have
            assert all(clusters[row] == cluster for row in found[cluster].rows)
