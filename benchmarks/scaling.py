"""The model of docs/scaling.md: fitted to what is measured here, held against steps it has not seen, and what it
foretells of R3GAN's presets on GPUs.

    python benchmarks/scaling.py [--rounds 5]
    python benchmarks/scaling.py --only gpus --tflops 30 --node-gbytes 200 --network-gbytes 25     measures nothing

A step of a process with b samples takes c + s b: c is what calling torch costs however few they are. Summing g bytes
over two processes takes l + g / w. Both are lines by least squares through medians; the training is that of
benchmarks/ddp.py.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from ddp import Bare, begun, made
from models import PRESETS, of_shapes, training

from gan_kit.data.loader import BatchLoader

SIZES = (8, 16, 32, 64)
BYTES = (2**14, 2**18, 2**20, 2**22)
STEPS = 16  # one of them takes the penalties


def line(x: list[float], y: list[float]) -> tuple[float, float]:
    """Intercept and slope; y is positive, and each point counts by its relative error."""
    design = np.stack([np.ones(len(x)), np.array(x)], 1) / np.array(y)[:, None]
    (a, b), *_ = np.linalg.lstsq(design, np.ones(len(y)), rcond=None)
    return float(a), float(b)


def data_seconds(rounds: int) -> float:
    """Of a sample of 32 x 32."""
    loader = BatchLoader(np.zeros((20_000, 1, 32, 32), np.uint8), batch_size=64, hflip=True)
    seconds = []
    for epoch in range(rounds):
        loader.order(epoch)
        began = time.perf_counter()
        for i in range(100):
            loader.batch(epoch, i)
        seconds.append((time.perf_counter() - began) / 6400)
    return statistics.median(seconds)


def here(rounds: int) -> None:
    torch.set_num_threads(1)
    turn, end = begun(threads_alone=1)
    calls = [("alone", size, STEPS) for size in SIZES] + [("all-reduce", size, 30) for size in BYTES]
    calls += [("ours", 2 * size, STEPS) for size in SIZES]
    for call in calls:
        turn(*call)
    found: dict[tuple[str, int], list[float]] = {(side, size): [] for side, size, _ in calls}
    for _ in range(rounds):
        for side, size, steps in calls:
            found[side, size].append(turn(side, size, steps)[0] / steps)
    end()
    seconds = {key: statistics.median(values) for key, values in found.items()}
    c, s = line([float(b) for b in SIZES], [seconds["alone", b] for b in SIZES])
    latency, per_byte = line([float(b) for b in BYTES], [seconds["all-reduce", b] for b in BYTES])
    data = data_seconds(rounds)
    gan = made(Bare, 0, 1, None)
    gradients = [4 * sum(p.numel() for p in net.parameters()) for net in (gan.generator, gan.discriminator)]
    waiting = latency + gradients[0] * per_byte  # G's alone: D's travel while G makes the fakes of its half
    print(f"step: {1e3 * c:.2f} ms + {1e3 * s:.3f} ms a sample; data {1e6 * data:.1f} us a sample")
    print(
        f"all-reduce: {1e3 * latency:.2f} ms + {1e-9 / per_byte:.2f} GB/s; {sum(gradients) / 1e6:.2f} MB of gradients"
    )
    print("\n| samples a process | two processes, ms | the model, ms | measured / model |\n|---|---|---|---|")
    for size in SIZES:
        measured, model = seconds["ours", 2 * size], c + (s + data) * size + waiting
        print(f"| {size} | {1e3 * measured:.1f} | {1e3 * model:.1f} | {measured / model:.2f} |")


def gpus(tflops: float, node: float, network: float) -> None:
    """A prediction for R3GAN's presets: no GPU was at hand."""
    print(f"{tflops:g} TFLOP/s a GPU, {node:g} GB/s within a node of 8, {network:g} GB/s between nodes\n")
    print("| preset | global batch | gradients | GPUs | compute, ms | waiting for sums, ms | efficiency | hours |")
    print("|---|---|---|---|---|---|---|---|")
    for name in (name for name in PRESETS if "r3gan" in name):
        for row in foretold(name, tflops, node, network):
            print(row, flush=True)


def foretold(name: str, tflops: float, node: float, network: float) -> list[str]:
    """The table's rows of a preset: 1, 8 and 64 GPUs."""
    gan, few, cfg = of_shapes(name, PRESETS[name])
    cost, batch = training(gan, few), cfg.data.batch_size
    g_bytes, d_bytes = (4 * sum(p.numel() for p in net.parameters()) for net in (gan.generator, gan.discriminator))
    one, forward = (batch * flops / tflops / 1e12 for flops in (cost.total, cost.generator))
    rows = []
    for count in (1, 8, 64):
        speed = 1e9 * (node if count <= 8 else network)
        of_g, of_d = (2 * (count - 1) / count * size / speed for size in (g_bytes, d_bytes))
        waiting = of_g + max(of_d - forward / count, 0.0)  # D's travel while G makes the fakes of its half
        step = one / count + waiting
        cells = (
            f"`{name}`", f"{batch:,}", f"{(g_bytes + d_bytes) / 1e6:,.0f} MB", str(count), f"{1e3 * one / count:,.0f}",
            f"{1e3 * waiting:.1f}", f"{one / count / step:.2f}", f"{cfg.budget_samples / batch * step / 3600:,.0f}",
        )  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tflops", type=float, default=30)
    parser.add_argument("--node-gbytes", type=float, default=200)
    parser.add_argument("--network-gbytes", type=float, default=25)
    parser.add_argument("--only", choices=("here", "gpus"))
    a = parser.parse_args()
    if a.only != "gpus":
        here(a.rounds)
    if a.only != "here":
        print()
        gpus(a.tflops, a.node_gbytes, a.network_gbytes)


if __name__ == "__main__":
    main()
