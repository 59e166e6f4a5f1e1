"""Pairs from folders in all their layouts, two sets without pairs, digits made into pairs, and their batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan_kit.data import DigitPairs, DigitPairsData, Digits, PairFolder, PairsData, Resize, Unpaired, UnpairedLoader
from gan_kit.types import UserError


def put(path: Path, red: int = 0, blue: int = 0, size: tuple[int, int] = (20, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (red, 0, blue)).save(path)


def folder(root: Path, **more: object) -> PairFolder:
    return PairFolder(root, Resize(8), **more)  # type: ignore[arg-type]


def numbers(x: np.ndarray) -> tuple[list[int], list[int]]:
    """The red of a, the blue of b"""
    return x[:, 0, 0, 0].tolist(), x[:, 5, 0, 0].tolist()


@pytest.mark.parametrize("layout", ["{kind}/{split}", "{split}/{kind}", "{split}{kind}", "{split}_{kind}"])
def test_partners_share_a_name_wherever_kind_and_split_stand(layout: str, tmp_path: Path) -> None:
    for split, count in (("train", 5), ("test", 2)):
        for i in range(count):
            name = f"sub/{i}" if i % 2 else str(i)
            put(tmp_path / layout.format(split=split, kind="A") / f"{name}.png", red=10 + i)
            put(tmp_path / layout.format(split=split, kind="B") / f"{name}.png", blue=10 + i)
    source = folder(tmp_path)
    assert set(source.splits) == {"train", "test"}
    train, test = source.load("train"), source.load("test")
    assert train.x.shape == (5, 6, 8, 8)
    assert train.x.dtype == np.uint8
    assert test.x.shape == (2, 6, 8, 8)
    a, b = numbers(train.x)
    assert a == b
    assert sorted(a) == [10, 11, 12, 13, 14]
    assert train.y is None
    back = folder(tmp_path, direction="ba").load("train").x
    assert np.array_equal(back, np.concatenate([train.x[:, 3:], train.x[:, :3]], axis=1))


def test_pictures_side_by_side(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for i in range(3):
            (tmp_path / split).mkdir(exist_ok=True)
            both = Image.new("RGB", (40, 20), (10 + i, 0, 0))
            both.paste((0, 0, 10 + i), (20, 0, 40, 20))
            both.save(tmp_path / split / f"{i}.png")
    source = folder(tmp_path)
    assert set(source.splits) == {"train", "test"}  # val stands in for the test split that is not there
    assert numbers(source.load("train").x) == ([10, 11, 12], [10, 11, 12])
    put(tmp_path / "train" / "odd.png", size=(41, 20))
    with pytest.raises(UserError, match=r"odd.png cannot be read \(41x20: two pictures side by side"):
        folder(tmp_path).load("train")


def test_without_splits_some_names_are_held_out_for_good(tmp_path: Path) -> None:
    for i in range(40):
        put(tmp_path / "A" / f"{i}.png", red=i)
        put(tmp_path / "B" / f"{i}.png", blue=i)
    source = folder(tmp_path, test_fraction=0.2)
    held = numbers(source.load("test").x)
    assert held[0] == held[1]
    assert 3 <= len(held[0]) <= 14
    assert sorted(held[0] + numbers(source.load("train").x)[0]) == list(range(40))
    put(tmp_path / "A" / "new.png", red=99)
    put(tmp_path / "B" / "new.png", blue=99)
    after = numbers(folder(tmp_path, test_fraction=0.2).load("test").x)[0]
    assert set(held[0]) <= set(after)
    assert len(folder(tmp_path, test_fraction=1e-6).load("test").x) == 1


def test_two_sets_without_pairs(tmp_path: Path) -> None:
    for i in range(6):
        put(tmp_path / "trainA" / f"horse{i}.png", red=i)
    for i in range(4):
        put(tmp_path / "trainB" / f"zebra{i}.png", blue=i)
    for kind in "AB":
        put(tmp_path / f"test{kind}" / f"{kind}.png")
    x = folder(tmp_path, paired=False).load("train").x
    assert isinstance(x, Unpaired)
    assert x.shape == (6, 6, 8, 8)
    assert numbers(x[:]) == ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 0, 1])
    assert x[4].shape == (6, 8, 8)
    assert numbers(x[np.array([5, 1])]) == ([5, 1], [1, 1])
    with pytest.raises(UserError, match="2 pictures have no partner, A of A first"):
        folder(tmp_path).load("train")


def test_each_set_has_epochs_of_its_own() -> None:
    a, b = (np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1) for n in (12, 8))
    loader = UnpairedLoader(Unpaired(a, b), batch_size=4, seed=1, endless=True)
    stream = iter(loader)
    drawn = torch.cat([next(stream).x for _ in range(6)]).flatten(1)  # (24, 2)
    for column, n in ((0, 12), (1, 8)):
        for start in range(0, 24, n):
            assert sorted(drawn[start : start + n, column].tolist()) == list(range(n))
    again = UnpairedLoader(Unpaired(a, b), batch_size=4, seed=1, endless=True)
    again.load_state_dict(loader.state_dict())
    assert torch.equal(next(iter(again)).x, next(stream).x)
    halves = [
        UnpairedLoader(Unpaired(a, b), batch_size=4, seed=1, rank=r, world_size=2).batch(1, 2).x for r in range(2)
    ]
    assert torch.equal(torch.cat(halves), loader.batch(1, 2).x)
    same = UnpairedLoader(Unpaired(a, a), batch_size=12, seed=1).batch(0, 0).x
    assert not torch.equal(same[:, 0], same[:, 1])  # sets as long as each other are not shuffled alike


def test_digit_pairs_are_what_they_say() -> None:
    x = DigitPairs("ink").load("test").x
    assert x.shape == (300, 6, 8, 8)
    grey, ink = x[:, 0].astype(int), x[:, 3:].astype(int)
    assert (x[:, :1] == x[:, :3]).all()
    for channel, (paper, dark) in enumerate(((250, 20), (230, 40), (160, 120))):
        assert abs(ink[:, channel] - (paper + grey / 255 * (dark - paper))).max() <= 0.51
    edges = DigitPairs("edges", transform=Resize(16)).load("test").x
    labels = Digits().load("test").y
    assert labels is not None
    hues = np.stack([edges[labels == k][:, 3:].sum((0, 2, 3)) / edges[labels == k][:, 3:].sum() for k in range(10)])
    apart = np.linalg.norm(hues[:, None] - hues[None], axis=2) + np.eye(10)
    assert apart.min() > 0.05  # ten colours
    apart_sets = DigitPairs("ink", paired=False).load("train").x
    assert isinstance(apart_sets, Unpaired)
    assert len(apart_sets.a) + len(apart_sets.b) == 1497


def test_jitter_shifts_a_and_b_alike_and_mirrors_edges() -> None:
    module = DigitPairsData("ink", transform=Resize(8), jitter=2)
    x = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(3, 6, 8, 8)
    still, up, left = module.augmented(x, torch.tensor([[0.5, 0.5], [0.0, 0.5], [0.5, 0.99]]))
    assert torch.equal(still, x[0])
    assert torch.equal(up[0, 2:], x[0, 0, :-2])
    assert torch.equal(up[0, :2], x[0, 0, [2, 1]])
    assert torch.equal(left[:, :, :6], x[0][:, :, 2:])
    assert torch.equal(left[0], left[5])
    assert module.draws == 2


def test_modules_give_samples_in_range() -> None:
    for paired in (True, False):
        module = DigitPairsData(paired=paired, transform=Resize(16), batch_size=8, hflip=True, jitter=1)
        assert module.spec.shape == (6, 16, 16)
        batch = module.on_after_batch_transfer(next(iter(module.train_dataloader())), 0)
        assert batch.x.shape == (8, 6, 16, 16)
        assert batch.y is None
        assert batch.x.min() >= -1
        assert batch.x.max() <= 1
        assert module.held_out(5).x.shape == (5, 6, 16, 16)
        assert len(module.arrays("train").fingerprint()) == 64


def test_a_folders_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder of pictures given"):
        PairsData(None, Resize(8))
    with pytest.raises(UserError, match="no folder"):
        folder(tmp_path / "none").load("train")
    with pytest.raises(UserError, match="no picture in"):
        folder(tmp_path).load("train")
    for i in range(3):
        put(tmp_path / "A" / f"{i}.png")
    with pytest.raises(UserError, match="has no pictures in B"):
        folder(tmp_path, paired=False).load("train")
    put(tmp_path / "B" / "0.png")
    with pytest.raises(UserError, match="2 pictures have no partner, 1 of A first"):
        folder(tmp_path).load("train")
    for i in (1, 2):
        put(tmp_path / "B" / f"{i}.png")
    put(tmp_path / "stray.png")
    with pytest.raises(UserError, match=r"stray.png lies neither in A nor in B"):
        folder(tmp_path, test_fraction=0.9).load("train")
    (tmp_path / "stray.png").unlink()
    put(tmp_path / "A" / "1.jpg")
    with pytest.raises(UserError, match=r"A/1.jpg and A/1.png stand for the same picture"):
        folder(tmp_path).load("train")
    (tmp_path / "A" / "1.jpg").unlink()
    whole = (tmp_path / "B" / "1.png").read_bytes()
    (tmp_path / "B" / "1.png").write_bytes(whole[:40])
    source = folder(tmp_path)
    split = "train" if "1" in source.found["train"]["b"] else "test"
    with pytest.raises(UserError, match=r"B/1.png cannot be read \(truncated"):
        source.load(split)


@pytest.mark.parametrize(
    "more, message",
    [
        ({"direction": "AtoB"}, "no direction='AtoB'; have ab, ba"),
        ({"channels": 2}, "channels=2"),
        ({"test_fraction": 0}, "test_fraction=0"),
        ({"transform": None}, "need one size"),
        ({"jitter": -1}, "jitter=-1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(more: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        PairsData(**{"root": tmp_path, "transform": Resize(8), **more})  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no task='sketch'; have edges, ink"):
        DigitPairs("sketch")
