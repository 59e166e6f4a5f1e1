"""Less memory for D's half of a step, by micro-batches or by activation checkpointing: a row each, for decision 8.

    OMP_NUM_THREADS=1 python benchmarks/checkpointing.py [--width 16] [--batch 32]

R3GAN's D at 32 x 32 with R1 and R2, forward, double backward and all. Each way runs in a process of its own, whose peak
above what it held before is told, beside the CPU time of a step and how far its gradients are from the plain ones'.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gan_kit.image import R3GANDiscriminator

WAYS = ("plain", "micro-batches of a quarter", "micro-batches of a sixteenth", "checkpointing")


def critic(width: int) -> Any:
    torch.manual_seed(0)
    widths = [2 * width, 2 * width, width, width]
    return R3GANDiscriminator(32, 3, 0, widths=widths, blocks=2, expansion=1, group_size=None)


def checkpointed(net: Any) -> None:
    """Each stage is computed again in the backward pass."""
    for stage in net.stages:
        forward = stage.forward
        stage.forward = lambda x, forward=forward: checkpoint(forward, x, use_reentrant=False)


def loss(net: Any, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    logits = net(x).logits[0]
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return torch.nn.functional.softplus(logits).mean() + slope.flatten(1).square().sum(1).mean()


def measure(way: str, width: int, batch: int, back: Connection) -> None:
    torch.set_num_threads(1)
    net = critic(width)
    x = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    if way == "checkpointing":
        checkpointed(net)
    parts = {"micro-batches of a quarter": 4, "micro-batches of a sixteenth": 16}.get(way, 1)
    loss(net, x[:1]).backward()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(4):
        net.zero_grad()
        began = time.process_time()
        for part in x.chunk(parts):
            (loss(net, part) * len(part) / batch).backward()
        seconds.append(time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    grads = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    back.send((statistics.median(seconds[1:]), peak / 1024, grads.numpy()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    a = parser.parse_args()
    print("| D's half | CPU time of a step | peak, MiB | gradients differ by |\n|---|---|---|---|")
    context = multiprocessing.get_context("spawn")
    found: dict[str, Any] = {}
    for way in WAYS:
        ours, theirs = context.Pipe()
        process = context.Process(target=measure, args=(way, a.width, a.batch, theirs))
        process.start()
        theirs.close()
        found[way] = seconds, peak, grads = ours.recv()
        process.join()
        first, _, plain = found["plain"]
        off = float(abs(grads - plain).max() / abs(plain).max())
        print(f"| {way} | {seconds / first:.2f} ({seconds:.2f} s) | {peak:,.0f} | {off:.0e} |", flush=True)


if __name__ == "__main__":
    main()
