"""Data parallel training for modules with two optimisers."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gan_kit.types import UserError

__all__ = ["DataParallel", "how_it_ended", "lost_connection"]

WORDS = ("SIGINT", "SIGTERM", "SIGUSR1", "save")  # what ranks may tell each other along with their gradients


class DataParallel(DDPStrategy):
    """One process a device, the module not wrapped: whoever steps an optimiser calls `average_gradients` first.

    torch's own wrapper expects one forward and one backward of the whole module a step; an adversarial step has two or
    three over halves of it, through methods the wrapper does not see. Modules under automatic optimisation are averaged
    after their backward pass.

    timeout_minutes: how long a rank waits for the others before it gives up; what rank 0 does alone (features of the
        held-out data, scores) must fit in. A rank that dies is found out at once.

    Batch norm sees a rank's share of the batch (a warning says so); its running statistics are averaged over the ranks.
    Raises UserError where the timeout is not positive.
    """

    def __init__(self, timeout_minutes: float = 30.0, process_group_backend: str | None = None, **more: Any) -> None:
        if timeout_minutes <= 0:
            raise UserError(f"timeout_minutes={timeout_minutes} must be positive; 30, say")
        super().__init__(
            timeout=timedelta(minutes=timeout_minutes), process_group_backend=process_group_backend, **more
        )
        self._telling = [0.0] * len(WORDS)
        self._under_way: Tensor | None = None
        self.heard: set[str] = set()  # told by some rank, known to all at the same step
        self._statistics: list[Tensor] = []

    def setup(self, trainer: Trainer) -> None:
        super().setup(trainer)
        # Signals travel with the gradients. Lightning's own broadcast of them is one more message before each step,
        # which on a GPU waits for the whole step before it (pytorch-lightning #21487).
        loop: Any = trainer.fit_loop.epoch_loop
        loop._broadcast_sigterm_tensor = lambda: None

    def configure_ddp(self) -> None:
        module = self.lightning_module
        assert module is not None
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.detach(), src=0)
        norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
        self._statistics = [b for m in norms for b in m.buffers() if b.is_floating_point()]
        # running means that a network names: the mean over ranks is what the whole batch would have given
        self._statistics += [getattr(m, name) for m in module.modules() if m.training for name in _averages(m)]
        if any(not isinstance(m, nn.SyncBatchNorm) for m in norms) and self.world_size > 1 and self.is_global_zero:
            warnings.warn(
                f"batch norm sees the 1/{self.world_size} of each batch that is on its process, so that training is "
                "not the same as on one: take nets without it, or trainer.sync_batchnorm=true (GPU, without gradient "
                "penalties)",
                stacklevel=2,
            )

    def average_gradients(
        self, parameters: Iterable[nn.Parameter], meanwhile: Callable[[], None] | None = None
    ) -> None:
        """Each gradient becomes its mean over all ranks; one message a dtype.

        meanwhile: work that needs none of the means, done while they are under way. Running statistics, which it may
            change, then wait for the next message: their mean is the same at the end
        """
        grads = [p.grad for p in parameters if p.grad is not None]  # the same set on all ranks: they take one step
        if not grads:
            return
        words = torch.tensor(self._telling, device=grads[0].device)
        averaged = [*grads, *(self._statistics if meanwhile is None else ()), words]
        messages = []
        for dtype in dict.fromkeys(t.dtype for t in averaged):
            some = [t for t in averaged if t.dtype == dtype]
            flat = torch.cat([t.flatten() for t in some])
            messages.append((some, flat, dist.all_reduce(flat, async_op=True)))
        if meanwhile is not None:
            meanwhile()
        for some, flat, work in messages:
            work.wait()
            flat /= self.world_size
            means = [m.view_as(t) for t, m in zip(some, flat.split([t.numel() for t in some]), strict=True)]
            torch._foreach_copy_(some, means)
        self._telling = [0.0] * len(WORDS)
        # read one message later, when it has long arrived: a GPU is not waited for
        before, self._under_way = self._under_way, words
        if before is not None:
            self.heard |= {word for word, said in zip(WORDS, before.tolist(), strict=True) if said}

    def tell(self, word: str) -> None:
        """Have `word` in every rank's `heard`, within two steps and on all of them at the same one."""
        self._telling[WORDS.index(word)] = 1.0

    def post_backward(self, closure_loss: Tensor) -> None:
        module = self.lightning_module
        if self.world_size > 1 and module is not None and module.automatic_optimization:
            self.average_gradients(module.parameters())

    def disband(self) -> None:
        """After a training that ended well: wait for the ranks that were launched here, leave no process group."""
        for process in getattr(self._launcher, "procs", []):
            process.wait(60)
        if dist.is_initialized():
            dist.destroy_process_group()

    def _configure_launcher(self) -> None:
        if self._start_method == "popen":
            assert self.cluster_environment is not None
            self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)
        else:
            super()._configure_launcher()


def _averages(module: nn.Module) -> tuple[str, ...]:
    """The buffers that a network says to average over ranks, such as StyleGAN2's mean w."""
    names = getattr(module, "averages", ())
    return names if isinstance(names, tuple) else ()


class _Launcher(_SubprocessScriptLauncher):
    """Starts the other ranks of this machine, and ends the job where one of them dies.

    Lightning's own observer kills this process within 5 s, without a word; here it first has the time to say why.
    """

    GRACE_SECONDS = 10.0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._ended = threading.Event()

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            threading.Thread(target=self._watch, daemon=True).start()
        try:
            return function(*args, **kwargs)
        finally:
            self._ended.set()

    def _watch(self) -> None:
        while not any(process.poll() for process in self.procs):
            if self._ended.wait(0.2):
                return
        # gloo raises in the main thread at once; NCCL would wait for its timeout
        if self._ended.wait(self.GRACE_SECONDS):
            return
        print(f"error: {how_it_ended(self.procs)}: ending the job", file=sys.stderr, flush=True)
        self.kill(signal.SIGKILL)
        os._exit(1)


def how_it_ended(processes: list[Any], seconds: float = 0.0) -> str:
    """Which of the launched ranks (1, 2, ...) died and of what, or ""; waits for one up to `seconds`."""
    deadline = time.monotonic() + seconds
    while not any(p.poll() for p in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    for local_rank, process in enumerate(processes, 1):
        if code := process.poll():
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            return f"local rank {local_rank} (process {process.pid}) {how}"
    return ""


def lost_connection(error: BaseException) -> bool:
    """Whether an exception says that other ranks are gone or don't answer."""
    if isinstance(error, dist.DistError):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and any(
        word in said for word in ("gloo", "Connection closed by peer", "Connection reset by peer", "Timed out waiting")
    )


StrategyRegistry.register("gan_ddp", DataParallel, "data parallel for two optimisers")
StrategyRegistry.register(
    "gan_ddp_notebook", DataParallel, "as gan_ddp, from a notebook: processes forked from it", start_method="fork"
)
StrategyRegistry.register(
    "gan_ddp_spawn", DataParallel, "as gan_ddp, processes begun anew by a script's function", start_method="spawn"
)
