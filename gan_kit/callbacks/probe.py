"""A look at a running training from outside: what D says of fixed reals and of fresh fakes. It changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.noise import SampleNoise
from gan_kit.types import conditional, missing, without

__all__ = ["Probe", "Sight", "thumbnails"]

BYTES = 2**29  # of training data that thumbnails are made of, at most


@dataclass
class Sight:
    """What was seen, on the CPU. (N,) logits and (N, F) features of D; distances to the nearest training sample.

    reference: distances of held-out reals, or of training reals to the nearest other one where none are held out
    """

    train: Tensor
    held: Tensor | None
    fake: Tensor
    real_features: Tensor
    fake_features: Tensor
    y: Tensor | None
    near: Tensor
    reference: Tensor


class Probe:
    """samples: of each kind; reference: training samples among which the nearest is looked for, at most

    The reals are the same at each look, spread evenly over at most 16 classes; fakes have their labels.
    data: an ArrayDataModule, whose split "val" is what is held out, if it has one
    """

    def __init__(self, data: Any, samples: int = 256, reference: int = 20_000, seed: int = 0, batch_size: int = 64):
        self.data, self.seed, self.batch_size = data, seed, batch_size
        train = data.arrays("train")
        self.rows = spread_rows(train.labels, len(train.x), samples, seed)
        self.has_held = has_held_out(data)
        self.held_rows = np.arange(0)
        if self.has_held:
            held = data.arrays("val")
            self.held_rows = spread_rows(held.labels, len(held.x), samples, seed)
        size = max(1, int(np.prod(train.x.shape[1:])) * train.x.dtype.itemsize)
        count = min(len(train.x), reference, max(samples, BYTES // size))
        self.known = np.sort(np.random.default_rng(seed).permutation(len(train.x))[:count])
        self.thumbs: Tensor | None = None
        self.near_held: np.ndarray | None = None

    def look(self, gan: Any) -> Sight:
        """Seen by the nets in evaluation mode, with noise of its own: the training goes on as without it."""
        D = gan.discriminator
        real = self.batch("train", self.rows, gan)
        with torch.no_grad(), evaluating(D):
            train, real_features = self.judged(D, real.x, real.y)
            fake = self.generated(gan, real.y)
            on_fake, fake_features = self.judged(D, fake, real.y)
            held = None
            if self.has_held:
                batch = self.batch("val", self.held_rows, gan)
                held, held_features = self.judged(D, batch.x, batch.y)
            if self.thumbs is None:
                self.remember(gan)
            assert self.thumbs is not None
            assert self.near_held is not None
            nearest = self.known[nearest_rows(thumbnails(fake).cpu(), self.thumbs)]
            near = (fake_features - self.features_of(gan, nearest)).norm(dim=1)
            # with the labels that the training samples have themselves
            own = held_features if self.has_held else real_features
            reference = (own - self.features_of(gan, self.near_held)).norm(dim=1)
        y = None if real.y is None or real.y.is_floating_point() else real.y.cpu()
        return Sight(train, held, on_fake, real_features, fake_features, y, near, reference)

    def batch(self, split: str, rows: np.ndarray, gan: Any) -> Any:
        batch = self.data.seen(split, rows, gan.device)
        if batch.y is None or not getattr(gan, "null_class", False):
            return batch
        return batch._replace(y=without(batch.y, missing(batch.y), gan.generator.num_classes))

    def generated(self, gan: Any, y: Tensor | None) -> Tensor:
        """(N, ...) of the averaged generator, as it samples"""
        n, size = len(self.rows), self.batch_size
        wanted = y if conditional(gan.generator) else None
        parts = []
        for i in range(0, n, size):
            noise = SampleNoise(self.seed, range(i, min(i + size, n)), gan.device)
            parts.append(gan.sample(noise, None if wanted is None else wanted[i : i + size]))
        return torch.cat(parts)

    def judged(self, D: nn.Module, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """-> (N,) logits, (N, F) features; of D's last layers, or the samples' own where D hands out none"""
        logits, features = [], []
        dtype = next(D.parameters()).dtype
        for i in range(0, len(x), self.batch_size):
            part, label = x[i : i + self.batch_size].to(dtype), None if y is None else y[i : i + self.batch_size]
            more = {"noise": SampleNoise(self.seed, range(i, i + len(part)), x.device)} if takes_noise(D) else {}
            critique = D(part, label, **more)
            logits.append(
                torch.stack(
                    [lo.float().flatten(1).mean(1) if lo.dim() > 1 else lo.float() for lo in critique.logits]
                ).mean(0)
            )
            last = [f[-1].float() for f in critique.features if f]
            pooled = [h.flatten(2).mean(2) if h.dim() > 2 else h for h in last]
            features.append(torch.cat(pooled, 1) if pooled else thumbnails(part.float()))
        return torch.cat(logits).cpu(), torch.cat(features).cpu()

    def features_of(self, gan: Any, rows: np.ndarray) -> Tensor:
        batch = self.batch("train", rows, gan)
        return self.judged(gan.discriminator, batch.x, batch.y)[1]

    def remember(self, gan: Any) -> None:
        """Thumbnails of the training data, and the training sample nearest to each real that is compared with."""
        parts = [
            thumbnails(self.batch("train", self.known[i : i + 1024], gan).x).cpu()
            for i in range(0, len(self.known), 1024)
        ]
        self.thumbs = torch.cat(parts)
        if self.has_held:
            held = thumbnails(self.batch("val", self.held_rows, gan).x).cpu()
            self.near_held = self.known[nearest_rows(held, self.thumbs)]
            return
        mine = thumbnails(self.batch("train", self.rows, gan).x).cpu()
        place = np.searchsorted(self.known, self.rows)
        own = torch.from_numpy(np.where(self.known[np.minimum(place, len(self.known) - 1)] == self.rows, place, -1))
        self.near_held = self.known[nearest_rows(mine, self.thumbs, own)]


def has_held_out(data: Any) -> bool:
    return bool(getattr(data, "val_fraction", 0)) or "val" in getattr(getattr(data, "source", None), "splits", ())


def takes_noise(net: nn.Module) -> bool:
    return bool(getattr(net, "takes_noise", False))


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Within, the net is in evaluation mode: running statistics and spectral norms stay as they are."""
    before = {m: m.training for m in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for m, training in before.items():
            m.training = training


def spread_rows(y: np.ndarray | None, count: int, samples: int, seed: int) -> np.ndarray:
    """`samples` rows of `count` or all, evenly of at most 16 classes; sorted"""
    order = np.random.default_rng(seed).permutation(count)
    if y is not None and len(classes := np.unique(y)) > 1:
        some = np.random.default_rng(seed).permutation(classes)[:16]
        each = max(2, samples // len(some))
        order = np.concatenate([order[np.asarray(y)[order] == k][:each] for k in some])
    return np.sort(order[:samples])


def thumbnails(x: Tensor) -> Tensor:
    """(N, ...) -> (N, F) in which near samples are near: pictures of 8x8, random projections of longer signals."""
    if x.dim() == 4:
        return F.adaptive_avg_pool2d(x.float(), (min(8, x.shape[2]), min(8, x.shape[3]))).flatten(1)
    flat = x.float().flatten(1)
    if flat.shape[1] <= 256:
        return flat
    g = torch.Generator().manual_seed(0)
    return flat @ torch.randn(flat.shape[1], 64, generator=g).to(flat) / 8


def nearest_rows(queries: Tensor, base: Tensor, without: Tensor | None = None) -> np.ndarray:
    """Which row of `base` is nearest to each query. without: (N,) a row that is not to be, or -1"""
    found = []
    for i in range(0, len(queries), 64):
        distance = torch.cdist(queries[i : i + 64], base)
        if without is not None:
            mine = without[i : i + 64]
            rows = (mine >= 0).nonzero()[:, 0]
            distance[rows, mine[rows]] = torch.inf
        found.append(distance.argmin(1))
    return torch.cat(found).numpy()
