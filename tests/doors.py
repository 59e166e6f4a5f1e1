"""Doors in processes of their own that begin where the imports are done: ~0.3 s instead of ~6 s.

A fork server has torch, Lightning and Hydra loaded; each call forks a child with its own pid, folder, environment and
output, which runs `gan_kit.<door>.main()` as `python -m` would. Signals, limits and `kill -9` are the real ones.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "gan_kit.train", "gan_kit.sweep", "gan_kit.cli", "gan_kit._command_line",
        "gan_kit.sample", "gan_kit.explore", "gan_kit._explore_tools",
        "gan_kit.prepare", "gan_kit.data.prepare.pipeline",
        "gan_kit.evaluate.__main__", "gan_kit.evaluate.suite",
        "gan_kit.bundle", "gan_kit.callbacks", "gan_kit.adversarial", "gan_kit.data",
        "gan_kit.image", "gan_kit.vector", "hydra", "omegaconf", "lightning.pytorch",
        "torch.utils.tensorboard", "torch",
    ]
)  # fmt: skip


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


class Door:
    """A door that is running in `cwd`."""

    def __init__(
        self,
        door: str,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str | None] | None = None,
        limits: Mapping[int, int] | None = None,
    ) -> None:
        self._streams = [cwd.parent / f"{cwd.name}.{time.monotonic_ns()}.{name}" for name in ("out", "err")]
        passed = {k: v for k, v in os.environ.items() if k.startswith("GAN_KIT_")} | dict(env or {})
        self.process: BaseProcess = _CONTEXT.Process(
            target=_main, args=(door, arguments, str(cwd), passed, dict(limits or {}), *map(str, self._streams))
        )
        self.process.start()

    @property
    def stdout(self) -> str:
        return self._read(0)

    @property
    def stderr(self) -> str:
        return self._read(1)

    def _read(self, which: int) -> str:
        try:
            return self._streams[which].read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def until(self, condition: Callable[[], object], seconds: float = 60) -> Door:
        """Wait for a condition; fails where the door ends before it holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.is_alive(), f"ended with {self.process.exitcode}: {self.stdout}{self.stderr}"
            late = time.monotonic() > deadline
            if late:
                self.process.kill()  # or pytest waits for it at its end
            assert not late, f"waited in vain: {self.stdout}{self.stderr}"
            time.sleep(0.005)
        return self

    def send(self, signum: signal.Signals) -> Door:
        assert self.process.pid is not None
        os.kill(self.process.pid, signum)
        return self

    def wait(self, seconds: float = 120) -> Done:
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            raise AssertionError(f"still running after {seconds} s: {self.stdout}{self.stderr}")
        assert self.process.exitcode is not None
        done = Done(self.process.exitcode, self.stdout, self.stderr)
        for stream in self._streams:
            stream.unlink(missing_ok=True)
        return done


def run(
    door: str,
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str | None] | None = None,
    limits: Mapping[int, int] | None = None,
    seconds: float = 120,
) -> Done:
    return Door(door, *arguments, cwd=cwd, env=env, limits=limits).wait(seconds)


def _main(
    door: str,
    arguments: tuple[str, ...],
    cwd: str,
    env: dict[str, str | None],
    limits: dict[int, int],
    out: str,
    err: str,
) -> None:
    import importlib
    import importlib.util

    import torch

    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(cwd)
    for name, value in env.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    for what, most in limits.items():
        if what == resource.RLIMIT_FSIZE:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # Python's own choice: write() fails with EFBIG
        resource.setrlimit(what, (most, resource.getrlimit(what)[1]))
    torch.set_num_threads(1)
    sys.argv = [f"gan_kit.{door}", *arguments]
    sys.modules["__main__"].__spec__ = importlib.util.find_spec(f"gan_kit.{door}")  # what Lightning starts ranks by
    try:
        importlib.import_module(f"gan_kit.{door}").main()
    finally:
        sys.stdout.flush()
