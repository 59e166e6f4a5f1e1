"""Ranks as torchrun starts them, from the fork server of `doors`: with its environment, without its seconds."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import torch
from doors import Done, Door

from gan_kit.runs import checkpoints

RING = ["+experiment=ring", "data.batch_size=64", "logger=none", "log_every_steps=5"]
ALONE = [*RING, "trainer=cpu"]
DDP = [*RING, "trainer=ddp_cpu"]
STEP = 64


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def environment(rank: int, world: int, port: int) -> dict[str, str | None]:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0}
    return {k: str(v) for k, v in numbers.items()} | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
        "OMP_NUM_THREADS": "1",
    }


def start(world: int, *arguments: str, cwd: Path, env: dict[str, str] | None = None) -> list[Door]:
    port = free_port()
    return [
        Door("train", *arguments, f"trainer.devices={world}", cwd=cwd, env=environment(r, world, port) | (env or {}))
        for r in range(world)
    ]


def wait(doors: list[Door], seconds: float = 60) -> list[Done]:
    deadline = time.monotonic() + seconds
    try:
        return [door.wait(max(deadline - time.monotonic(), 1)) for door in doors]
    finally:
        for door in doors:
            if door.process.is_alive():
                door.process.kill()


def train(world: int, *arguments: str, cwd: Path) -> list[Done]:
    done = wait(start(world, *arguments, cwd=cwd))
    assert [d.returncode for d in done] == [0] * world, "".join(d.stderr for d in done)
    return done


def state(folder: Path) -> dict[str, Any]:
    """What the newest checkpoint holds of the training."""
    saved = torch.load(checkpoints(folder)[-1], weights_only=True)
    return {k: saved[k] for k in ("state_dict", "optimizer_states", "gan", "global_step")}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def close(a: Path, b: Path, tolerance: float = 1e-4) -> None:
    """The weights of two runs agree but for rounding."""
    one, two = state(a), state(b)
    assert one["gan"]["samples_seen"] == two["gan"]["samples_seen"]
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], value, rtol=tolerance, atol=tolerance, msg=name)


def alive(pid: int | None) -> bool:
    return pid is not None and Path(f"/proc/{pid}").exists() and os.path.exists(f"/proc/{pid}/exe")
