"""The torchmetrics classes: one bank for all, no network in a checkpoint, the same figure on any number of ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from gan_kit.evaluate import (
    FeatureBank,
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    Pixels,
    PrecisionRecallDensityCoverage,
    RandomFeatures,
)
from gan_kit.evaluate import functional as f
from gan_kit.types import UserError


def sides() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(101, 4, generator=g), torch.randn(90, 4, generator=g) + 0.5


def test_one_pass_feeds_all():
    real, fake = sides()
    bank = FeatureBank(Pixels((4,)))
    fd, kd = FrechetDistance(bank), KernelDistance(bank, subsets=5, subset_size=50)
    pr = PrecisionRecallDensityCoverage(bank)
    for x, is_real in ((real, True), (fake, False)):
        for part in x.split(32):
            bank.update(part, real=is_real)
    assert fd.compute() == f.frechet_distance_of(real, fake)
    assert kd.compute()[0].item() == f.kernel_distance(real, fake, subsets=5, subset_size=50).value
    assert pr.compute()["recall"].item() == f.prdc(real, fake).recall
    bank.update(real, real=False)
    assert fd.compute() == f.frechet_distance_of(real, torch.cat([fake, real]))  # nothing stale is kept
    bank.reset()
    with pytest.raises(UserError, match="N >= 2"):
        fd.compute()


def test_on_its_own():
    real, fake = sides()
    fd = FrechetDistance(Pixels((4,)))
    fd.update(real, real=True)
    fd.update(fake, real=False)
    assert fd.compute() == f.frechet_distance_of(real, fake)
    fd.reset()
    fd.update(real, real=True)
    fd.update(real, real=False)
    assert fd.compute() < 1e-6


def test_a_checkpoint_holds_no_network():
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fd = FrechetDistance(RandomFeatures(8, 1))

    assert list(Model().state_dict()) == []


def test_samples_of_one_id_count_once_and_come_in_their_order():
    real, fake = sides()
    a, b = FeatureBank(Pixels((4,))), FeatureBank(Pixels((4,)))
    a.update(real, real=True)
    a.update(fake, real=False)
    order = torch.randperm(101)
    b.update(real[order], real=True, ids=order)
    b.update(real[:10], real=True, ids=torch.arange(10))
    b.update(fake, real=False, ids=torch.arange(90))
    assert a.compute().real.equal(b.compute().real)


def test_without_probabilities_there_is_no_inception_score():
    score = InceptionScore(Pixels((4,)))
    score.update(sides()[1], real=False)
    with pytest.raises(UserError, match="no class probabilities"):
        score.compute()


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    real, fake = sides()
    fd = FrechetDistance(Pixels((4,)))
    for x, is_real in ((real, True), (fake, False)):
        rows = torch.arange(rank, len(x) + len(x) % 2, 2) % len(x)  # padded with a duplicate, as samplers do
        fd.update(x[rows], real=is_real, ids=rows)
    value = fd.compute()
    torch.save(value, f"{folder}/{rank}.pt")
    with pytest.raises(UserError, match="ids="):
        fd.update(real, real=True)
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_give_the_figure_of_one_to_the_last_bit(tmp_path: Path):
    mp.spawn(_rank, (str(tmp_path),), nprocs=2)
    real, fake = sides()
    alone = f.frechet_distance_of(real, fake)
    for rank in (0, 1):
        assert torch.load(tmp_path / f"{rank}.pt").equal(alone)
