"""From arrays to batches on the device: the range, the flips, the labels, and what is refused."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from gan_kit.data import ArrayDataModule, Arrays, DigitsData, RawBatch, Resize, RingData
from gan_kit.types import Batch, DataSpec, UserError


class Fixed:
    def __init__(self, x: np.ndarray, y: np.ndarray | None = None, names: tuple[str, ...] = ()) -> None:
        self.arrays, self.loads = Arrays(x, y, names), 0

    def load(self, split: str) -> Arrays:
        self.loads += 1
        return self.arrays


def pictures(n: int = 20, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, channels, 4, 4), dtype=np.uint8)


def on_device(data: ArrayDataModule) -> list[Batch]:
    return [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]


def test_all_grey_levels_go_to_minus_one_and_one_and_back() -> None:
    data = ArrayDataModule(Fixed(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)), batch_size=1)
    (batch,) = on_device(data)
    x = batch.x.flatten()
    assert x.dtype == torch.float32
    assert (x[0], x[255]) == (-1, 1)
    assert torch.equal(((x + 1) * 127.5).round().int(), torch.arange(256, dtype=torch.int32))
    assert (x.diff() > 0).all()


def test_floats_are_left_as_they_are() -> None:
    data = RingData(count=64, batch_size=64)
    (batch,) = on_device(data)
    points = data.arrays("train").x
    assert sorted(batch.x.tolist()) == sorted(points.tolist())


def test_the_stored_arrays_are_never_written_to() -> None:
    x = pictures()
    data = ArrayDataModule(Fixed(x), batch_size=5, hflip=True)
    before = x.copy()
    for batch in on_device(data):
        batch.x.zero_()
    assert (x == before).all()


def test_flips_mirror_just_the_pictures_drawn() -> None:
    data = ArrayDataModule(Fixed(pictures(channels=3)), batch_size=10, hflip=True)
    raw = next(iter(data.train_dataloader()))
    plain = data.on_after_batch_transfer(raw._replace(flip=None), 0).x
    flipped = data.on_after_batch_transfer(raw, 0).x
    assert 0 < raw.flip.sum() < 10
    for i, flip in enumerate(raw.flip):
        assert torch.equal(flipped[i], plain[i].flip(-1) if flip else plain[i])


def test_spec_tells_shape_and_classes_and_loads_once() -> None:
    source = Fixed(pictures(), np.arange(20) % 3, ("a", "b", "c"))
    data = ArrayDataModule(source)
    assert data.spec == data.spec == DataSpec((1, 4, 4), 3, ("a", "b", "c"))
    assert source.loads == 1
    assert ArrayDataModule(Fixed(pictures(), np.arange(20) % 3)).spec.num_classes == 3


@pytest.mark.parametrize("y, labels", [(None, True), (np.arange(20) % 3, False)])
def test_without_labels_there_are_no_classes(y: np.ndarray | None, labels: bool) -> None:
    data = ArrayDataModule(Fixed(pictures(), y, () if y is None else ("a", "b", "c")), 5, labels=labels)
    assert data.spec == DataSpec((1, 4, 4))
    assert all(batch.y is None for batch in on_device(data))
    assert data.arrays("test").y is None


def test_labels_false_reaches_a_typed_source() -> None:
    assert DigitsData(labels=False).spec == DataSpec((1, 8, 8))
    assert DigitsData().spec.num_classes == 10


def test_what_is_no_raw_batch_passes_through() -> None:
    batch = {"x": torch.zeros(1)}
    assert ArrayDataModule(Fixed(pictures())).on_after_batch_transfer(batch, 0) is batch


def test_each_process_of_a_trainer_takes_its_share() -> None:
    shares = []
    for rank in range(2):
        data = ArrayDataModule(Fixed(pictures(), np.arange(20)), batch_size=10)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2)
        loader = data.train_dataloader()
        shares += [y for batch in islice(loader, len(loader)) for y in batch.y.tolist()]
    assert sorted(shares) == list(range(20))


def test_vectors_have_no_mirror() -> None:
    with pytest.raises(UserError, match=r"data\.hflip=false"):
        ArrayDataModule(Fixed(np.zeros((64, 2), np.float32)), hflip=True).train_dataloader()


def test_too_few_pictures_for_a_batch_names_the_cure() -> None:
    with pytest.raises(UserError, match=r"20 samples .*data\.batch_size=20"):
        ArrayDataModule(Fixed(pictures()), batch_size=64).train_dataloader()


class Probe(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.layer = torch.nn.Conv2d(1, 1, 3)
        self.got: list[Batch] = []

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.layer(batch.x)
        self.got.append(batch)

    def configure_optimizers(self) -> None:
        return None


@pytest.mark.parametrize(
    "precision, dtype",
    [
        ("32-true", torch.float32),
        ("64-true", torch.float64),
        ("bf16-true", torch.bfloat16),
        ("bf16-mixed", torch.float32),
    ],
)
def test_a_trainer_gets_whole_batches_of_the_precision_it_runs_in(tmp_path, precision: str, dtype) -> None:
    data = ArrayDataModule(Fixed(pictures(), np.arange(20)), batch_size=5, hflip=True)
    probe = Probe()
    Trainer(
        max_epochs=2,
        accelerator="cpu",
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
    ).fit(probe, data)
    assert len(probe.got) == 8
    for epoch in (probe.got[:4], probe.got[4:]):
        assert sorted(torch.cat([b.y for b in epoch]).tolist()) == list(range(20))
    assert {batch.x.dtype for batch in probe.got} == {dtype}
    assert {batch.x.shape for batch in probe.got} == {(5, 1, 4, 4)}


def test_a_raw_batch_is_small() -> None:
    raw = next(iter(ArrayDataModule(Fixed(pictures()), batch_size=5).train_dataloader()))
    assert isinstance(raw, RawBatch)
    assert raw.x.dtype == torch.uint8
    assert raw.x.is_contiguous()


def test_a_validation_split_is_held_out_of_training_whatever_the_seed():
    plain = DigitsData(Resize(8))
    held = DigitsData(Resize(8), val_fraction=0.2)
    train, val, whole = held.arrays("train"), held.arrays("val"), plain.arrays("train")
    assert len(val.x) == round(0.2 * len(whole.x))
    assert len(train.x) + len(val.x) == len(whole.x)
    together = np.concatenate([train.x, val.x]).reshape(len(whole.x), -1)
    assert sorted(map(bytes, together)) == sorted(map(bytes, whole.x.reshape(len(whole.x), -1)))
    other = DigitsData(Resize(8), val_fraction=0.2, seed=5)
    assert other.arrays("val").fingerprint() == val.fingerprint()
    assert held.arrays("test").fingerprint() == plain.arrays("test").fingerprint()
    assert val.fingerprint() != train.fingerprint() != whole.fingerprint()


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 0.9999])
def test_a_validation_split_leaves_something_to_train_on(fraction):
    with pytest.raises(UserError, match="val_fraction"):
        DigitsData(Resize(8), val_fraction=fraction).arrays("train")


def test_no_validation_split_unless_asked_for():
    with pytest.raises(UserError, match="val_fraction"):
        DigitsData(Resize(8)).arrays("val")
    with pytest.raises(UserError, match="no split"):
        DigitsData(Resize(8), val_fraction=0.1).arrays("vall")
