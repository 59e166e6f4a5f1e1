"""What data parallel training costs: two processes of one thread against one process of two, and our strategy against
a DistributedDataParallel around each net.

    python benchmarks/ddp.py [--batch 64 128 256] [--rounds 6] [--steps 16]

The training is that of an experiment made for two cores, image/fashion_mnist_r3gan. Two ranks run for the whole time
and take turns with one process of two threads: while one works, the others wait in a socket, which takes no CPU. A
figure is the median of the rounds' ratios with their quartiles, so that a machine that others use too says the same;
but two OpenMP threads that share a core with somebody else wait for each other in a loop and slow down many times
over: believe the throughput of a quiet machine only.

Averaging and waiting is the share of a step that a rank spends in `average_gradients`, without what it does meanwhile.
`--batch` counts the samples of both ranks together: what it costs to call torch's operations falls on each process
whole, however few its samples are.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import statistics
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hydra.utils import instantiate
from lightning.fabric.plugins.environments import LightningEnvironment
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel as DDP

from gan_kit import _door
from gan_kit.adversarial import GAN
from gan_kit.noise import Noise
from gan_kit.strategies import DataParallel
from gan_kit.types import Batch

PRESET = "image/fashion_mnist_r3gan"


class Bare(GAN):
    """The GAN's own step without a Trainer: `average` is what comes between backward and the optimiser."""

    def wrap(self) -> None:
        pass

    def begin(self, rank: int, world: int, average: Any) -> None:
        self.both = self.configure_optimizers()
        strategy = SimpleNamespace(average_gradients=average)
        self.place: Any = SimpleNamespace(world_size=world, global_rank=rank, strategy=strategy)

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return self.both

    @property
    def world_size(self) -> int:
        return self.place.world_size

    @property
    def global_rank(self) -> int:
        return self.place.global_rank

    @property
    def trainer(self) -> Any:
        return self.place

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def manual_backward(self, loss: Tensor, *_: Any, **__: Any) -> None:
        loss.backward()


def made(kind: type[Bare], rank: int, world: int, average: Any) -> Bare:
    cfg = _door.compose("train", [f"+experiment={PRESET}"])
    cfg.spec = {"shape": [1, 32, 32], "num_classes": 10, "vector_dim": 0}
    OmegaConf.set_struct(cfg, False)
    del cfg.model["_target_"]
    gan = kind(**instantiate(cfg.model, _convert_="all"))
    gan.wrap()
    gan.begin(rank, world, average)
    return gan


class PerNet(DDP):
    """A net in a wrapper of its own, with the net's attributes."""

    def __getattr__(self, name: str) -> Any:  # z_dim, num_classes
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


class Wrapped(Bare):
    """What one writes with torch's wrapper: G's half goes past D's, which would wait for gradients that don't come."""

    def wrap(self) -> None:
        for name in ("generator", "discriminator"):
            setattr(self, name, PerNet(getattr(self, name), broadcast_buffers=False))

    def g_loss(self, real: Tensor, y: Tensor | None, noise: Noise) -> Tensor:
        wrapper, self.discriminator = self.discriminator, self.discriminator.module
        try:
            return super().g_loss(real, y, noise)
        finally:
            self.discriminator = wrapper


def batch_of(size: int, rank: int, world: int) -> Batch:
    x = torch.rand(size, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mine = slice(rank * size // world, (rank + 1) * size // world)
    return Batch(x[mine], (torch.arange(size) % 10)[mine])


def serve(commands: Connection, rank: int, world: int, port: int, threads: int) -> None:
    """Take steps when told to; -> (seconds, seconds of them in average_gradients, D's last loss). The side "all-reduce"
    sums so many bytes over the ranks instead."""
    warnings.simplefilter("ignore")  # torch's, of the wrapper's strides and arguments
    torch.set_num_threads(threads)
    sides: dict[str, Bare] = {}
    spent = [0.0]
    if world > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        dist.init_process_group("gloo", rank=rank, world_size=world)
        where = LightningEnvironment()
        where.set_world_size(world)
        strategy = DataParallel(cluster_environment=where)

        def average(parameters: Any, meanwhile: Callable[[], None] | None) -> None:
            def timed() -> None:
                began = time.perf_counter()
                meanwhile()  # type: ignore[misc]
                spent[0] -= time.perf_counter() - began

            began = time.perf_counter()
            strategy.average_gradients(parameters, meanwhile and timed)
            spent[0] += time.perf_counter() - began

        sides["ours"] = made(Bare, rank, world, average)
        sides["per-net DDP"] = made(Wrapped, rank, world, lambda *_: None)
    else:
        sides["alone"] = made(Bare, rank, world, None)
    while (told := commands.recv()) is not None:
        side, size, steps = told
        if side == "all-reduce":
            commands.send((all_reduced(size, steps), 0.0, 0.0))
            continue
        batch = batch_of(size, rank, world)
        if world > 1:
            dist.barrier()
        spent[0], began = 0.0, time.perf_counter()
        for _ in range(steps):
            sides[side].training_step(batch, 0)
        commands.send((time.perf_counter() - began, spent[0], float(sides[side].scalars["loss_d"])))
    if world > 1:
        dist.destroy_process_group()


def all_reduced(size: int, times: int) -> float:
    """Seconds."""
    flat = torch.zeros(size // 4)
    dist.barrier()
    began = time.perf_counter()
    for _ in range(times):
        dist.all_reduce(flat)
    return time.perf_counter() - began


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def begun(threads_alone: int) -> tuple[Callable[..., tuple[float, float, float]], Callable[[], None]]:
    """Two ranks of one thread and a process alone. -> turn(side, batch, steps) -> seconds, share of averaging, D's
    loss; and what ends the processes."""
    os.environ.pop("OMP_NUM_THREADS", None)
    context = mp.get_context("spawn")
    port = free_port()
    lines, processes = [], []
    for rank, world, threads in ((0, 2, 1), (1, 2, 1), (0, 1, threads_alone)):
        ours, theirs = context.Pipe()
        given = (theirs, rank, world, port, threads)
        processes.append(context.Process(target=serve, args=given, daemon=True))
        processes[-1].start()
        theirs.close()  # or a process that fails is waited for
        lines.append(ours)

    def turn(side: str, size: int, steps: int) -> tuple[float, float, float]:
        these = lines[2:] if side == "alone" else lines[:2]
        for line in these:
            line.send((side, size, steps))
        answers = [line.recv() for line in these]
        losses = [loss for _, _, loss in answers]
        return max(s for s, _, _ in answers), statistics.mean(w / s for s, w, _ in answers), statistics.mean(losses)

    def end() -> None:
        for line, process in zip(lines, processes, strict=True):
            line.send(None)
            process.join()

    return turn, end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128, 256], help="global; a row of the table each")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=16, help="of a turn; one in sixteen takes the penalties")
    a = parser.parse_args()
    turn, end = begun(threads_alone=2)
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}, {PRESET}")
    print(f"{a.rounds} rounds of {a.steps} steps: ", end="")
    print("median (quartiles)\n")
    rows = [measured(size, a.steps, a.rounds, turn) for size in a.batch]
    end()
    print(f"\n| {' | '.join(rows[0])} |\n{'|---' * len(rows[0])}|")
    for found in rows:
        print(f"| {' | '.join(found.values())} |")


def measured(size: int, steps: int, rounds: int, turn: Callable[..., Any]) -> dict[str, str]:
    """A row of the table for a global batch: the sides take turns of some steps."""
    sides = ("alone", "ours", "per-net DDP")
    for side in sides:
        turn(side, size, steps)  # warm-up; all sides have then taken the same steps
    times: dict[str, list[float]] = {side: [] for side in sides}
    shares, losses = [], {}
    for round_ in range(rounds):
        for side in sides if round_ % 2 else sides[::-1]:
            seconds, share, losses[side] = turn(side, size, steps)
            times[side].append(seconds / steps)
            if side == "ours":
                shares.append(share)
    print(f"batch {size}: loss_d " + ", ".join(f"{side} {losses[side]:.6f}" for side in sides), flush=True)
    alone, ours, wrapped = (times[side] for side in sides)
    return {
        "batch": str(size),
        "one process of 2 threads, ms a step": quartiles([1e3 * t for t in alone]),
        "two of 1 thread, ms a step": quartiles([1e3 * t for t in ours]),
        "throughput of two, of one's": quartiles([x / y for x, y in zip(alone, ours, strict=True)]),
        "averaging and waiting, share of a step": quartiles(shares),
        "our time, of per-net DDP's": quartiles([x / y for x, y in zip(ours, wrapped, strict=True)]),
    }


if __name__ == "__main__":
    main()
