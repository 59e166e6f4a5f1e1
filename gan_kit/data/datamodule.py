"""Arrays as a LightningDataModule: one generic class, and one for each source that configs name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from gan_kit.data.arrays import Arrays, Source
from gan_kit.data.cifar10 import CIFAR10
from gan_kit.data.digits import Digits
from gan_kit.data.fashion_mnist import FashionMNIST
from gan_kit.data.folder import Folder
from gan_kit.data.grid import Grid
from gan_kit.data.loader import BatchLoader, RawBatch
from gan_kit.data.ring import Ring
from gan_kit.data.stacked_digits import StackedDigits
from gan_kit.data.transforms import Transform
from gan_kit.types import Batch, DataSpec, UserError

__all__ = [
    "ArrayDataModule",
    "CIFAR10Data",
    "DigitsData",
    "FashionMNISTData",
    "FolderData",
    "GridData",
    "RingData",
    "StackedDigitsData",
]


class ArrayDataModule(LightningDataModule):
    """Batches from a source's train split; scaling to [-1, 1] and flips happen on the device.

    batch_size: of all processes together; give the Trainer use_distributed_sampler=False
    labels: False hides the classes or vectors, for an unconditional model
    hflip: mirror each picture with probability 1/2
    seed: of the order and the flips, which are pure functions of (seed, epoch, position)
    val_fraction: share of the train split that is held out of training as split "val", to watch scores on; which
        samples does not depend on the seed
    labelled: so many training samples keep their label, evenly over classes and the same ones whatever the seed; the
        others have y = -1 (semi-supervised training); None for all
    """

    draws = 0  # uniform numbers a sample that `augmented` of a subclass wants
    loader_class: type[BatchLoader] = BatchLoader

    def __init__(
        self,
        source: Source,
        batch_size: int = 64,
        labels: bool = True,
        hflip: bool = False,
        seed: int = 0,
        val_fraction: float = 0.0,
        labelled: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= val_fraction < 1:
            raise UserError(f"val_fraction={val_fraction}; set data.val_fraction from 0 to below 1")
        self.val_fraction, self.labelled = val_fraction, labelled
        self.source, self.batch_size, self.labels = source, batch_size, labels
        self.hflip, self.seed = hflip, seed
        self._arrays: dict[str, Arrays] = {}
        self._hidden = False  # whether labels have been, down to `labelled`
        self._loader: BatchLoader | None = None
        self._resume_at: dict[str, Any] | None = None

    def arrays(self, split: str) -> Arrays:
        """All of one split ("train", "val" or "test"), loaded once; y is None with labels=False.

        A source's own val split is taken before one is cut from train. Raises UserError for "val" where there is none.
        """
        if split not in self._arrays:
            has_val = "val" in getattr(self.source, "splits", ())
            if split == "test" or has_val or not self.val_fraction:
                if split == "val" and not has_val:
                    raise UserError("no validation split is held out; set data.val_fraction=0.1, say")
                self._arrays[split] = self._loaded(split)
            else:
                self._arrays["train"], self._arrays["val"] = self._cut(self._loaded("train"))
            if "train" in self._arrays and self.labelled is not None and not self._hidden:
                self._arrays["train"], self._hidden = with_few_labels(self._arrays["train"], self.labelled), True
        if split not in self._arrays:
            raise UserError(f"no split {split!r}; have train, val, test")
        return self._arrays[split]

    def _loaded(self, split: str) -> Arrays:
        arrays = self.source.load(split)
        if self.labels:
            return arrays
        return Arrays(arrays.x, sha256=arrays.sha256 and f"{arrays.sha256}/unlabelled", checked=arrays.checked)

    def _cut(self, whole: Arrays) -> tuple[Arrays, Arrays]:
        order = np.random.default_rng(0).permutation(len(whole.x))
        held = max(1, round(self.val_fraction * len(order)))
        if held >= len(order):
            raise UserError(f"data.val_fraction={self.val_fraction} of {len(order)} samples leaves none to train on")
        parts = [np.sort(order[held:]), np.sort(order[:held])]
        train, val = (Arrays(whole.x[r], None if whole.y is None else whole.y[r], whole.class_names) for r in parts)
        return train, val

    @property
    def spec(self) -> DataSpec:
        train = self.arrays("train")
        shape = tuple(train.x.shape[1:])
        if train.y is None:
            return DataSpec(shape)
        if train.vectors is not None:
            return DataSpec(shape, vector_dim=train.vectors.shape[1])
        return DataSpec(shape, len(train.class_names) or int(train.y.max()) + 1, train.class_names)

    def held_out(self, n: int) -> Batch:
        """n samples of split val (test where there is none), the classes in turn: to look at while training.

        x: (n, ...) float in [-1, 1], fewer than n where there are fewer; y: (n,), (n, E) or None
        """
        try:
            held = self.arrays("val")
        except UserError:
            held = self.arrays("test")
        rows = np.arange(len(held.x))
        if held.labels is not None:
            turn = np.empty(len(rows), int)  # the how-manieth of its class each is
            for k in np.unique(held.labels):
                turn[held.labels == k] = np.arange((held.labels == k).sum())
            rows = np.lexsort((held.labels, turn))
        rows = rows[:n]
        y = None if held.y is None else torch.from_numpy(np.array(held.y[rows]))
        return Batch(scaled(torch.from_numpy(np.array(held.x[rows]))), y)

    def vectors(self, n: int) -> Tensor | None:
        """(n, E): vectors to look at a training by, of held-out samples (where there are none, of training ones), n of
        them at most, spread over the split; None where samples have none
        """
        if not self.spec.vector_dim:
            return None
        for split in ("val", "test", "train"):
            try:
                found = self.arrays(split).vectors
            except UserError:
                continue
            assert found is not None
            rows = np.unique(np.arange(min(n, len(found))) * len(found) // min(n, len(found)))
            return torch.from_numpy(np.array(found[rows]))
        raise AssertionError("a data set has a train split")

    def seen(self, split: str, rows: np.ndarray, device: torch.device | str = "cpu") -> Batch:
        """These rows of a split on the device as networks see them, without the random changes of training."""
        arrays = self.arrays(split)
        y = None if arrays.y is None else torch.from_numpy(np.array(arrays.y[rows])).to(device)
        raw = RawBatch(torch.from_numpy(np.array(arrays.x[rows])).to(device), y, None)
        return self.on_after_batch_transfer(raw, 0)

    def prepare_data(self) -> None:
        self.arrays("train")  # one process a machine comes first: the others find its download or cache

    def training_arrays(self) -> Arrays:
        """What batches are cut from."""
        return self.arrays("train")

    def train_dataloader(self) -> BatchLoader:
        train = self.training_arrays()
        if self.hflip and train.x.ndim != 4:
            raise UserError(f"hflip mirrors pictures, not {train.x.shape[1:]}; set data.hflip=false")
        trainer = self.trainer
        self._loader = self.loader_class(
            train.x,
            train.y,
            batch_size=self.batch_size,
            seed=self.seed,
            hflip=self.hflip,
            draws=self.draws,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            endless=trainer is not None,
            checked=train.checked,
        )
        if self._resume_at is not None:
            self._loader.load_state_dict(self._resume_at)
            self._resume_at = None
        return self._loader

    # Lightning saves the loader's state too, but does not bring it back where a run that had been resumed at an
    # epoch's edge is resumed once more (2.6): the position is kept here as well.

    def state_dict(self) -> dict[str, Any]:
        return self._loader.state_dict() if self._loader else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resume_at = state_dict or None

    def rewind(self, state: dict[str, Any]) -> None:
        """Go on from the position of a checkpoint while the training runs."""
        assert self._loader is not None
        self._loader.load_state_dict(state)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """RawBatch -> Batch on its device; anything else (a user's own loader) passes through."""
        if not isinstance(batch, RawBatch):
            return batch
        x = batch.x
        if batch.flip is not None:
            # while it is uint8: a quarter of the bytes to move
            x = torch.where(batch.flip.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)
        if batch.draws is not None:
            x = self.augmented(x, batch.draws)
        out = Batch(scaled(x), batch.y)
        # bf16-true and 64-true convert what goes in before the transfer, when it is still uint8
        return self.trainer.precision_plugin.convert_input(out) if self.trainer else out

    def augmented(self, x: Tensor, draws: Tensor) -> Tensor:
        """Random changes on the device. x: (B, ...) as stored; draws: (B, self.draws) uniform in [0, 1)"""
        return x


def with_few_labels(arrays: Arrays, count: int) -> Arrays:
    """y is -1 but for `count` samples, as evenly over the classes as they allow; the same ones each time."""
    y = arrays.labels
    if y is None:
        raise UserError(f"data.labelled={count}: these data have no classes, or data.labels=false hides them")
    if not 1 <= count <= int((y >= 0).sum()):
        raise UserError(f"data.labelled={count} of {int((y >= 0).sum()):,} labelled samples; set it from 1 to that")
    order = np.random.Generator(np.random.Philox(0)).permutation(len(y))
    order = order[y[order] >= 0]
    turn = np.empty(len(order), int)  # the how-manieth of its class each is
    for k in np.unique(y[order]):
        turn[y[order] == k] = np.arange((y[order] == k).sum())
    kept = order[np.argsort(turn, kind="stable")[:count]]
    few = np.full_like(y, -1)
    few[kept] = y[kept]
    return replace(arrays, y=few, sha256=arrays.sha256 and f"{arrays.sha256}/{count} labels")


def scaled(x: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -1..1 (0 is -1 and 255 is 1, exactly), int16 -> [-1, 1); floats are so already."""
    if x.dtype == torch.int16:
        return x.to(torch.float32).div_(32768)
    return x if x.is_floating_point() else x.to(torch.float32).div_(127.5).sub_(1)


# One class a source, its arguments beside the loader's: `data.root=…`, `data.batch_size=…` in both doors.


class CIFAR10Data(ArrayDataModule):
    """`CIFAR10` in batches."""

    def __init__(
        self,
        root: str | Path | None = None,
        transform: Transform | None = None,
        check: bool = True,
        batch_size: int = 64,
        labels: bool = True,
        hflip: bool = False,
        seed: int = 0,
        val_fraction: float = 0.0,
        labelled: int | None = None,
    ) -> None:
        super().__init__(CIFAR10(root, transform, check), batch_size, labels, hflip, seed, val_fraction, labelled)


class DigitsData(ArrayDataModule):
    """`Digits` in batches."""

    def __init__(
        self,
        transform: Transform | None = None,
        batch_size: int = 64,
        labels: bool = True,
        hflip: bool = False,
        seed: int = 0,
        val_fraction: float = 0.0,
        labelled: int | None = None,
    ) -> None:
        super().__init__(Digits(transform), batch_size, labels, hflip, seed, val_fraction, labelled)


class FashionMNISTData(ArrayDataModule):
    """`FashionMNIST` in batches."""

    def __init__(
        self,
        root: str | Path | None = None,
        transform: Transform | None = None,
        batch_size: int = 64,
        labels: bool = True,
        hflip: bool = False,
        seed: int = 0,
        val_fraction: float = 0.0,
        labelled: int | None = None,
    ) -> None:
        super().__init__(FashionMNIST(root, transform), batch_size, labels, hflip, seed, val_fraction, labelled)


class FolderData(ArrayDataModule):
    """`Folder` in batches; labels=False takes any layout and reads no classes from it. path: root by its other name."""

    def __init__(
        self,
        root: str | Path | None = None,
        transform: Transform | None = None,
        channels: int | str = 3,
        on_error: str = "fail",
        test_fraction: float = 0.05,
        cache_dir: str | Path | None = None,
        workers: int | None = None,
        max_pixels: int = 89_478_485,
        batch_size: int = 64,
        labels: bool = True,
        hflip: bool = False,
        seed: int = 0,
        val_fraction: float = 0.0,
        path: str | Path | None = None,
        conditions: str | Path | None = None,
        labelled: int | None = None,
    ) -> None:
        source = Folder(
            path if root is None else root,
            transform,
            channels=channels,
            labels=labels,
            on_error=on_error,
            test_fraction=test_fraction,
            cache_dir=cache_dir,
            workers=workers,
            max_pixels=max_pixels,
            conditions=conditions,
        )
        super().__init__(source, batch_size, labels, hflip, seed, val_fraction, labelled)


class RingData(ArrayDataModule):
    """`Ring` in batches; its points have their own fixed seed."""

    def __init__(
        self,
        modes: int = 8,
        radius: float = 0.8,
        std: float = 0.02,
        count: int = 10_000,
        batch_size: int = 64,
        labels: bool = True,
        seed: int = 0,
        val_fraction: float = 0.0,
    ) -> None:
        super().__init__(Ring(modes, radius, std, count), batch_size, labels, seed=seed, val_fraction=val_fraction)


class GridData(ArrayDataModule):
    """`Grid` in batches; its points have their own fixed seed."""

    def __init__(
        self,
        side: int = 5,
        extent: float = 0.8,
        std: float = 0.02,
        count: int = 10_000,
        batch_size: int = 64,
        labels: bool = True,
        seed: int = 0,
        val_fraction: float = 0.0,
    ) -> None:
        super().__init__(Grid(side, extent, std, count), batch_size, labels, seed=seed, val_fraction=val_fraction)


class StackedDigitsData(ArrayDataModule):
    """`StackedDigits` in batches; the pictures have their own fixed seed."""

    def __init__(
        self,
        transform: Transform | None = None,
        count: int = 20_000,
        batch_size: int = 64,
        labels: bool = True,
        seed: int = 0,
        val_fraction: float = 0.0,
    ) -> None:
        source = StackedDigits(transform, count)
        super().__init__(source, batch_size, labels, seed=seed, val_fraction=val_fraction)
        self.one_channel = DigitsData(transform, batch_size)  # what a classifier of each channel is trained on
