"""What the Lightning step costs over a hand-written loop, and which variant of the step is the fastest on this machine.

    python benchmarks/step.py [--threads 1] [--rounds 30] [--only overhead|variants]

Both sides run in one process and take turns: a callback stops the trainer's clock every few batches, runs as many steps
of the plain loop under a clock of its own, and goes on. A figure is the median of the rounds' ratios with their
quartiles, so that a machine whose speed drifts, or that others use too, says the same.
"""

from __future__ import annotations

import argparse
import copy
import logging
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from gan_kit.adversarial import EMA, GAN, R1, R2, NonSaturating, Relativistic
from gan_kit.callbacks import Budget, Guard, Interrupt, MetricsLog, Progress
from gan_kit.data import ArrayDataModule
from gan_kit.data.arrays import Arrays
from gan_kit.image import DCGANDiscriminator, DCGANGenerator, R3GANDiscriminator, R3GANGenerator

BATCH, CLASSES, COUNT = 64, 10, 8192
SMALL = {"widths": [128, 96, 48], "blocks": 1, "expansion": 1, "group_size": None, "patch": 2}


class Random:
    """A source of uint8 noise, (N, 1, 32, 32)."""

    def load(self, split: str) -> Arrays:
        rng = np.random.default_rng(0)
        return Arrays(rng.integers(0, 256, (COUNT, 1, 32, 32), np.uint8), rng.integers(0, CLASSES, COUNT))


def adam(fused: bool | None = True, foreach: bool | None = None) -> Any:
    return partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999), fused=fused, foreach=foreach)


def dcgan(width: int) -> tuple[nn.Module, nn.Module]:
    return DCGANGenerator(32, 1, CLASSES, width=width), DCGANDiscriminator(32, 1, CLASSES, width=width)


def r3gan() -> tuple[nn.Module, nn.Module]:
    return R3GANGenerator(32, 1, CLASSES, **SMALL), R3GANDiscriminator(32, 1, CLASSES, **SMALL)  # type: ignore[arg-type]


def plain_steps(
    nets: tuple[nn.Module, nn.Module],
    optimizer: Any,
    relativistic_every: int | None = None,
    precision: Any = nullcontext,
    freeze: bool = True,
) -> Iterator[None]:
    """The loop one writes by hand: non-saturating without penalty, or relativistic with R1 + R2 every few steps."""
    G, D = nets
    G_ema = copy.deepcopy(G).requires_grad_(False)
    opt_g, opt_d = optimizer(G.parameters()), optimizer(D.parameters())
    arrays = Random().load("train")
    x, y = torch.from_numpy(arrays.x), torch.from_numpy(arrays.y)
    ours, averaged = list(G.parameters()), list(G_ema.parameters())
    step = 0
    while True:
        order = torch.randperm(COUNT)
        for rows in order.split(BATCH):
            real, label = x[rows].to(torch.float32).div_(127.5).sub_(1), y[rows]
            due = relativistic_every is not None and step % relativistic_every == 0
            opt_d.zero_grad()
            with precision() if not due else nullcontext():
                with torch.no_grad():
                    fake = G(torch.randn(BATCH, G.z_dim), label).float()
                if due:
                    real.requires_grad_(), fake.requires_grad_()
                on_real, on_fake = D(real, label).logits[0].float(), D(fake, label).logits[0].float()
                if relativistic_every is None:
                    loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
                else:
                    loss = F.softplus(on_fake - on_real).mean()
                if due:
                    slopes = torch.autograd.grad(on_real.sum() + on_fake.sum(), [real, fake], create_graph=True)
                    loss = loss + sum(relativistic_every * g.square().flatten(1).sum(1).mean() / 2 for g in slopes)
            loss.backward()
            opt_d.step()
            if freeze:
                D.requires_grad_(False)
            opt_g.zero_grad()
            with precision():
                fake = G(torch.randn(BATCH, G.z_dim), label)
                if relativistic_every is None:
                    loss = F.softplus(-D(fake, label).logits[0].float()).mean()
                else:
                    with torch.no_grad():
                        on_real = D(real.detach(), label).logits[0].float()
                    loss = F.softplus(on_real - D(fake, label).logits[0].float()).mean()
            loss.backward()
            opt_g.step()
            if freeze:
                D.requires_grad_(True)
            with torch.no_grad():
                torch._foreach_lerp_(averaged, ours, 0.01)
                for mine, theirs in zip(G_ema.buffers(), G.buffers(), strict=True):
                    mine.copy_(theirs)
            step += 1
            yield


class TakeTurns(L.Callback):
    """Every `block` batches of the trainer, `block` steps of the other side."""

    def __init__(self, other: Iterator[None], block: int, rounds: int):
        self.other, self.block, self.rounds = other, block, rounds
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.step, self.began = 0, 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.step += 1
        if self.step % self.block:
            return
        now = time.perf_counter()
        if self.step > 2 * self.block:  # after warm-up
            self.ours.append((now - self.began) / self.block)
            self.theirs.append(timed(self.other, self.block))
        else:
            timed(self.other, self.block)
        trainer.should_stop = len(self.ours) >= self.rounds
        self.began = time.perf_counter()


def timed(steps: Iterator[None], n: int) -> float:
    began = time.perf_counter()
    for _ in range(n):
        next(steps)
    return (time.perf_counter() - began) / n


def row(name: str, ours: list[float], theirs: list[float]) -> None:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"| {name} | {1e3 * statistics.median(ours):.2f} | {1e3 * statistics.median(theirs):.2f} | {middle:.3f} "
        f"| {low:.3f} to {high:.3f} |",
        flush=True,
    )


def overhead(name: str, make: Callable[[], tuple[nn.Module, nn.Module]], every: int | None, rounds: int) -> None:
    """Our step in a Trainer with the callbacks of conf/callbacks/default.yaml, against the plain loop."""
    G, D = make()
    penalties = {} if every is None else {"r1": R1(1.0, every), "r2": R2(1.0, every)}
    loss = NonSaturating() if every is None else Relativistic()
    gan = GAN(G, D, loss, adam(), adam(), penalties, ema=EMA(6400, warmup=None))  # type: ignore[arg-type]
    block = 8 if every is None else max(8, every)
    turns = TakeTurns(plain_steps(make(), adam(), every), block, rounds)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[Budget(10**9), Interrupt(), Guard(), MetricsLog(), Progress(10**9), turns],
        )
        trainer.fit(gan, datamodule=ArrayDataModule(Random(), BATCH))
    row(name, turns.ours, turns.theirs)


def variant(name: str, changed: Iterator[None], default: Iterator[None], rounds: int, block: int = 8) -> None:
    for steps in (changed, default):
        timed(steps, 2 * block)
    pairs = [(timed(changed, block), timed(default, block)) for _ in range(rounds)]
    row(name, [a for a, _ in pairs], [b for _, b in pairs])


def layout(nets: tuple[nn.Module, nn.Module], memory_format: torch.memory_format) -> tuple[nn.Module, nn.Module]:
    G, D = (net.to(memory_format=memory_format) for net in nets)  # type: ignore[call-overload]
    return G, D


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", choices=["overhead", "variants"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    print(f"torch {torch.__version__}, {args.threads} thread(s), {platform.machine()}, batch {BATCH}\n")
    if args.only != "variants":
        print("| step | Lightning, ms | plain loop, ms | ratio | quartiles |\n|---|---|---|---|---|")
        overhead("DCGAN-32, width 64", lambda: dcgan(64), None, args.rounds)
        overhead("DCGAN-32, width 8", lambda: dcgan(8), None, args.rounds * 3)
        overhead("R3GAN-32, small, R1 + R2 every 8", r3gan, 8, args.rounds)
    if args.only != "overhead":
        bf16 = partial(torch.autocast, "cpu", torch.bfloat16)
        first = torch.contiguous_format  # the nets come in channels_last
        print("\n| variant | it, ms | the default, ms | ratio | quartiles |\n|---|---|---|---|---|")
        wide, r = lambda: dcgan(64), args.rounds
        variant("DCGAN contiguous", plain_steps(layout(wide(), first), adam()), plain_steps(wide(), adam()), r)
        variant("DCGAN bf16", plain_steps(wide(), adam(), precision=bf16), plain_steps(wide(), adam()), r)
        variant("DCGAN foreach Adam", plain_steps(wide(), adam(None, True)), plain_steps(wide(), adam()), r)
        variant("DCGAN, D not frozen for G", plain_steps(wide(), adam(), freeze=False), plain_steps(wide(), adam()), r)
        variant("R3GAN contiguous", plain_steps(layout(r3gan(), first), adam(), 8), plain_steps(r3gan(), adam(), 8), r)
        variant("R3GAN bf16", plain_steps(r3gan(), adam(), 8, bf16), plain_steps(r3gan(), adam(), 8), r)
        try:
            nets = dcgan(64)
            compiled = (torch.compile(nets[0]), torch.compile(nets[1]))
            variant("DCGAN torch.compile", plain_steps(compiled, adam()), plain_steps(wide(), adam()), r)  # type: ignore[arg-type]
        except Exception as error:
            print(f"| DCGAN torch.compile | not here: {str(error).splitlines()[0][:80]} | | | |")


if __name__ == "__main__":
    main()
