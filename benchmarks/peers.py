"""Our training step beside those of other toolkits: the same net, batch, loss and number of D's steps, on this CPU.

    python benchmarks/peers.py --mimicry PATH --studiogan PATH --r3gan PATH --pytorch-dcgan PATH --lynnho PATH
        --stylegan2 PATH [--only NAME ...] [--rounds 8] [--batch N] [--threads 1] [--r3gan-width 128]

The checkouts are yours: https://github.com/ kwotsin/mimicry, POSTECH-CVLab/PyTorch-StudioGAN, brownvc/R3GAN,
pytorch/examples, LynnHo/DCGAN-LSGAN-WGAN-GP-DRAGAN-Pytorch, rosinality/stylegan2-pytorch. What is not given is left
out. Ours is the whole thing, a Lightning trainer with its callbacks and data; theirs is the bare step of their script
(see `peer_steps.py`). They take turns in one process, a round of each after the other, as many steps as it takes until
every net and penalty has had its turn. A ratio is how many times as many steps ours makes, of the processor's time
(other work on the machine lengthens the wall's, not this), the median of the rounds with their quartiles.
"""

from __future__ import annotations

import argparse
import logging
import math
import platform
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as L
import numpy as np
import peer_steps
import torch
from torch import nn

from gan_kit.adversarial import EMA, GAN, R1, R2, Hinge, NonSaturating, PathLength, Relativistic
from gan_kit.callbacks import Budget, Guard, Interrupt, MetricsLog, Progress
from gan_kit.data import ArrayDataModule
from gan_kit.data.arrays import Arrays
from gan_kit.image import (
    DCGANDiscriminator,
    DCGANGenerator,
    R3GANDiscriminator,
    R3GANGenerator,
    ResNetDiscriminator,
    ResNetGenerator,
    StyleGAN2Discriminator,
    StyleGAN2Generator,
)


@dataclass
class Contest:
    """ours: makes the training; cycle: steps until all that is due at times has been due once

    peers: {option of the command: how its side is made, (folder, batch, size) -> Side}
    """

    name: str
    ours: Callable[[], GAN]
    batch: int
    cycle: int
    peers: dict[str, Callable[[Path, int, int], peer_steps.Side]]
    size: int = 32
    classes: int = 0


class Seconds(NamedTuple):
    """Of one step, in one round."""

    cpu: float
    wall: float


def clock() -> Seconds:
    return Seconds(time.process_time(), time.perf_counter())


def since(began: Seconds, steps: int) -> Seconds:
    now = clock()
    return Seconds((now.cpu - began.cpu) / steps, (now.wall - began.wall) / steps)


def adam(lr: float = 2e-4, betas: tuple[float, float] = (0.5, 0.999)) -> Any:
    return partial(torch.optim.Adam, lr=lr, betas=betas, fused=True)  # as conf/optimizer has it


def dcgan(size: int) -> GAN:
    G, D = DCGANGenerator(size, width=64), DCGANDiscriminator(size, width=64)
    return GAN(G, D, NonSaturating(), adam(), adam())


def sngan(classes: int) -> GAN:
    G, D = ResNetGenerator(32, num_classes=classes), ResNetDiscriminator(32, num_classes=classes)
    return GAN(G, D, Hinge(), adam(betas=(0.0, 0.9)), adam(betas=(0.0, 0.9)), n_critic=5)


def stylegan2(mapping: int, mixing: float, architecture: str, group: int, path: bool) -> GAN:
    G = StyleGAN2Generator(32, mapping_layers=mapping, mixing=mixing)
    D = StyleGAN2Discriminator(32, architecture=architecture, mbstd_group=group)
    optimizer = adam(2e-3, (0.0, 0.99))
    terms = {"path_length": PathLength(2.0, 4)} if path else {}
    return GAN(G, D, NonSaturating(), optimizer, optimizer, {"r1": R1(1.0, 16)}, terms, ema=EMA(10_000))


def r3gan(width: int) -> GAN:
    optimizer = adam(betas=(0.0, 0.9))
    penalties = {"r1": R1(0.05), "r2": R2(0.05)}
    G, D = R3GANGenerator(32, width=width), R3GANDiscriminator(32, width=width)
    return GAN(G, D, Relativistic(), optimizer, optimizer, penalties, ema=EMA(10_000))


def contests(r3gan_width: int = 128) -> list[Contest]:
    p = peer_steps
    both = {"pytorch-dcgan": p.examples_dcgan, "lynnho": p.lynnho_dcgan}
    config_f = partial(stylegan2, 8, 0.9, "residual", 4, True)
    cifar = partial(stylegan2, 2, 0.0, "plain", 32, False)
    return [
        Contest("DCGAN-32", partial(dcgan, 32), 64, 4, {"lynnho": p.lynnho_dcgan}),
        Contest("DCGAN-64", partial(dcgan, 64), 64, 1, both, 64),
        Contest("SNGAN-32", partial(sngan, 0), 64, 5, {"mimicry": p.mimicry_sngan}),
        Contest("SNGAN-32, classes", partial(sngan, 10), 64, 5, {"studiogan": p.studiogan_sngan}, classes=10),
        Contest("StyleGAN2-32, config F", config_f, 4, 16, {"stylegan2": p.rosinality_stylegan2}),
        Contest("StyleGAN2-32, CIFAR-10's", cifar, 4, 16, {"studiogan": p.studiogan_stylegan2}),
        Contest("R3GAN-32", partial(r3gan, r3gan_width), 16, 1, {"r3gan": partial(p.r3gan, width=r3gan_width)}),
    ]


class Random:
    """A source of uint8 noise, (1024, 3, size, size)."""

    def __init__(self, size: int, classes: int):
        self.size, self.classes = size, classes

    def load(self, split: str) -> Arrays:
        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (1024, 3, self.size, self.size), np.uint8)
        return Arrays(x, rng.integers(0, self.classes, 1024) if self.classes else None)


class TakeTurns(L.Callback):
    """Every `block` batches of the trainer, `block` steps of each other side; the first round warms up.

    taken: {"": ours, name: another side's}, one entry a round
    """

    def __init__(self, others: dict[str, Iterator[None]], block: int, rounds: int):
        self.others, self.block, self.rounds = others, block, rounds
        self.taken: dict[str, list[Seconds]] = {name: [] for name in ["", *others]}
        self.batches, self.began = 0, clock()

    def on_train_start(self, *_: Any) -> None:
        self.began = clock()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.batches += 1
        if self.batches % self.block:
            return
        round_ = {"": since(self.began, self.block)}
        for name, steps in self.others.items():
            began = clock()
            for _ in range(self.block):
                next(steps)
            round_[name] = since(began, self.block)
        if self.batches > self.block:
            for name, seconds in round_.items():
                self.taken[name].append(seconds)
        trainer.should_stop = len(self.taken[""]) >= self.rounds
        self.began = clock()


def race(gan: GAN, contest: Contest, sides: dict[str, peer_steps.Side], rounds: int) -> dict[str, list[Seconds]]:
    """Seconds a step of ours ("") and of the others, round by round."""
    turns = TakeTurns({name: side.steps for name, side in sides.items()}, contest.cycle, rounds)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[Budget(10**9), Interrupt(), Guard(), MetricsLog(), Progress(10**9, log_seconds=math.inf), turns],
        )
        trainer.fit(gan, datamodule=ArrayDataModule(Random(contest.size, contest.classes), contest.batch))
    return turns.taken


def millions(net: nn.Module) -> str:
    return f"{sum(p.numel() for p in net.parameters()) / 1e6:.3f}"


def row(contest: Contest, peer: str, gan: GAN, side: peer_steps.Side, taken: dict[str, list[Seconds]]) -> str:
    ours, theirs = taken[""], taken[peer]
    ratios = [b.cpu / a.cpu for a, b in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    wall = statistics.median(b.wall / a.wall for a, b in zip(ours, theirs, strict=True))
    sizes = [f"{millions(a.generator)}, {millions(a.discriminator)}" for a in (gan, side)]
    cpu = [f"{1e3 * statistics.median(s.cpu for s in which):.0f}" for which in (ours, theirs)]
    cells = [contest.name, str(contest.batch), peer, *sizes, *cpu, f"{middle:.2f}", f"{low:.2f} to {high:.2f}"]
    return "| " + " | ".join([*cells, f"{wall:.2f}"]) + " |"


def commit_of(folder: Path) -> str:
    """Of a checkout, or that it is none."""
    if not (folder / ".git").exists():
        return "no checkout"
    told = subprocess.run(["git", "-C", folder, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return told.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options = sorted({option for contest in contests() for option in contest.peers})
    for option in options:
        parser.add_argument(f"--{option}", type=Path, metavar="PATH", dest=option)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="contests whose name holds one of these")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--batch", type=int, help="in place of each contest's own")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--r3gan-width", type=int, default=128, help="channels of every stage; 768 as published")
    args = parser.parse_args()
    folders = {option: vars(args)[option].resolve() for option in options if vars(args)[option]}
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    print(f"torch {torch.__version__}, {args.threads} thread(s), {platform.machine()}, fp32, parameters in millions")
    print(*(f"{option}: {commit_of(folder)}" for option, folder in folders.items()), sep=", ")
    print("\n| net | batch | beside | G, D: ours | theirs | ours, ms | theirs, ms | times as fast | quartiles | wall |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for contest in contests(args.r3gan_width):
        if args.only and not any(name.lower() in contest.name.lower() for name in args.only):
            continue
        contest.batch = args.batch or contest.batch
        for option in contest.peers.keys() - folders.keys():
            print(f"| {contest.name} | | left out: give --{option} PATH | | | | | | | |", flush=True)
        sides = {o: make(folders[o], contest.batch, contest.size) for o, make in contest.peers.items() if o in folders}
        if not sides:
            continue
        torch.manual_seed(0)
        gan = contest.ours()
        taken = race(gan, contest, sides, max(args.rounds, 2))
        for option, side in sides.items():
            print(row(contest, option, gan, side, taken), flush=True)


if __name__ == "__main__":
    main()
