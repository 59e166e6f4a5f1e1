"""Vectors of pictures: the file they come from, and the pictures they go to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_kit.data import ArrayDataModule, Arrays, FolderData, Resize
from gan_kit.data.conditions import Conditions, with_vectors
from gan_kit.data.datamodule import with_few_labels
from gan_kit.data.loader import BatchLoader
from gan_kit.data.prepare import Images, Settings, prepare
from gan_kit.types import UserError


def pictures(folder: Path, n: int = 24) -> dict[str, np.ndarray]:
    """Noise, in two subfolders; -> {path from the folder: the vector of its mean colour}"""
    made = {}
    for i in range(n):
        name = f"{'a' if i % 2 else 'b'}/{i:02d}.png"
        pixels = np.random.default_rng(i).integers(0, 256, (12, 12, 3), np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
        made[name] = (pixels.mean((0, 1)) / 255).astype(np.float32)
    return made


def write(path: Path, vectors: dict[str, np.ndarray]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, names=np.array(list(vectors)), vectors=np.stack(list(vectors.values())))
    else:
        rows = [",".join([name, *(repr(float(v)) for v in vector)]) for name, vector in vectors.items()]
        path.write_text("\n".join(["file,red,green,blue", *rows]) + "\n")
    return path


def matched(data: FolderData) -> bool:
    """Whether each picture of each split has the vector that is its mean colour"""
    for split in ("train", "test"):
        arrays = data.arrays(split)
        assert arrays.vectors is not None
        if not np.allclose(arrays.x.mean((2, 3)) / 255, arrays.vectors, atol=1e-6):
            return False
    return True


@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_each_picture_has_its_vector_whatever_order_the_file_is_in(kind: str, tmp_path: Path) -> None:
    made = pictures(tmp_path / "pictures")
    back = dict(reversed(made.items()))
    data = FolderData(
        tmp_path / "pictures", Resize(12), test_fraction=0.3, conditions=write(tmp_path / f"c.{kind}", back)
    )
    assert matched(data)
    assert data.spec.vector_dim == 3
    assert data.spec.num_classes == 0
    assert data.held_out(2).y is not None


def test_a_prepared_set_finds_its_vectors_by_the_paths_it_was_made_from(tmp_path: Path) -> None:
    made = pictures(tmp_path / "pictures")
    shares = Settings(val_fraction=0.0, test_fraction=0.3)
    prepare(tmp_path / "pictures", tmp_path / "pack", Images(Resize(12)), shares, progress=False, workers=1)
    assert matched(FolderData(tmp_path / "pack", Resize(12), conditions=write(tmp_path / "c.npz", made)))


@pytest.mark.parametrize(
    "spell", [lambda n: "./" + n, lambda n: n.replace("/", "\\"), lambda n: n[2:], lambda n: n[2:-4]]
)
def test_names_may_be_spelled_otherwise(spell: object, tmp_path: Path) -> None:
    made = pictures(tmp_path / "pictures", 6)
    path = write(tmp_path / "c.csv", {spell(name): v for name, v in made.items()})  # type: ignore[operator]
    assert np.allclose(Conditions(path).of(list(made)), np.stack(list(made.values())))


def test_a_bare_name_that_two_files_have_is_nobodys(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", {"1.png": np.zeros(3)})
    assert Conditions(path).of(["a/1.png"]).shape == (1, 3)
    with pytest.raises(UserError, match=r"no vector for 2 of 2 pictures: a/1\.png, b/1\.png"):
        Conditions(path).of(["a/1.png", "b/1.png"])


def test_pictures_without_a_vector_are_named(tmp_path: Path) -> None:
    made = pictures(tmp_path / "pictures")
    del made["a/03.png"], made["a/05.png"], made["b/08.png"]
    data = FolderData(tmp_path / "pictures", Resize(12), test_fraction=0.3, conditions=write(tmp_path / "c.csv", made))
    with pytest.raises(UserError, match=r"no vector for 3 of 24 pictures: .*\.png, .*\.png, .*\.png"):
        data.arrays("train")


def test_another_vector_is_another_data_set(tmp_path: Path) -> None:
    made = pictures(tmp_path / "pictures")
    one = FolderData(tmp_path / "pictures", Resize(12), conditions=write(tmp_path / "c.csv", made))
    moved = {name: vector + 1 for name, vector in made.items()}
    two = FolderData(tmp_path / "pictures", Resize(12), conditions=write(tmp_path / "d.csv", moved))
    assert one.arrays("train").fingerprint() != two.arrays("train").fingerprint()


BAD = {
    "nan": ("c.csv", "file,a,b\nx.png,1,nan\n", r"vectors of x\.png hold NaN"),
    "length": ("c.csv", "file,a,b\nx.png,1,2\ny.png,1\n", "line 3: a vector of 1, where the headings have 2"),
    "word": ("c.csv", "file,a\nx.png,red\n", "line 2: could not convert string to float"),
    "twice": ("c.csv", "file,a\nx.png,1\n./x.png,2\n", r"two vectors for x\.png"),
    "empty": ("c.csv", "file,a\n", "holds no vectors"),
    "no vector": ("c.csv", "file\nx.png\n", "holds no vectors"),
    "kind": ("c.parquet", "", "give an .npz"),
    "no zip": ("c.npz", "nothing", "can't be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_of_vectors_that_is_none_is_refused(case: str, tmp_path: Path) -> None:
    name, text, message = BAD[case]
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        Conditions(tmp_path / name)
    with pytest.raises(UserError, match="no file"):
        Conditions(tmp_path / "missing.csv")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"names": np.array(["x"])}, "no array 'vectors'"),
        ({"names": np.array(["x"]), "vectors": np.zeros(3)}, r"must be \(1, E\)"),
        ({"names": np.array(["x", "y"]), "vectors": np.zeros((3, 2))}, r"must be \(2, E\)"),
        ({"names": np.zeros(2), "vectors": np.zeros((2, 2))}, "names must be"),
        ({"names": np.array(["x"]), "vectors": np.array([["a"]])}, "numbers"),
    ],
)
def test_arrays_that_are_no_vectors_by_name_are_refused(
    arrays: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "c.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        Conditions(tmp_path / "c.npz")


class Numbered:
    """Sample i is i everywhere, its vector (i, -i)."""

    def load(self, split: str) -> Arrays:
        i = np.arange(20)
        x = np.broadcast_to(i[:, None, None, None], (20, 1, 4, 4)).astype(np.uint8)
        return Arrays(x, np.stack([i, -i], 1).astype(np.float32))


def test_a_batch_hands_over_each_samples_vector_and_ranks_cut_them_alike() -> None:
    data = ArrayDataModule(Numbered(), batch_size=8, val_fraction=0.1)
    whole = data.train_dataloader().batch(0, 0)
    assert whole.y is not None
    assert whole.y.shape == (8, 2)
    assert whole.y[:, 0].equal(whole.x[:, 0, 0, 0].float())
    train = data.arrays("train")
    ranks = [BatchLoader(train.x, train.y, batch_size=8, rank=r, world_size=2).batch(0, 0).y for r in (0, 1)]
    assert whole.y.equal(torch.cat(ranks))  # type: ignore[arg-type]
    assert len(data.arrays("val").x) == 2
    assert data.vectors(10).shape == (2, 2)  # type: ignore[union-attr]
    hidden = ArrayDataModule(Numbered(), batch_size=8, labels=False)
    assert hidden.spec.vector_dim == 0
    assert hidden.vectors(3) is None


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_file_of_vectors_is_told_in_one_line(save: Any, tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    save(path, names=np.array(["a", "b"]), vectors=np.random.default_rng(0).random((2, 300)))
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:400] + bytes(500) + whole[900:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"v\.npz can't be read"):
            Conditions(path)


def test_a_short_row_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("name,a,b\nx.png,1,2\ny.png,1\n")
    with pytest.raises(UserError) as told:
        Conditions(path)
    assert str(told.value).count("line 3") == 1
    assert "numbers" not in str(told.value)


def test_shards_stay_watched_under_vectors_and_few_labels() -> None:
    def watch(rows: np.ndarray) -> np.ndarray:
        return rows

    x = np.zeros((4, 1, 8, 8), np.uint8)
    arrays = Arrays(x, np.array([0, 1, 0, 1]), checked=watch)
    assert with_vectors(arrays, np.zeros((4, 3), np.float32)).checked is watch
    assert with_few_labels(arrays, 2).checked is watch
