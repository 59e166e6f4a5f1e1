"""torch.compile of a GAN's nets, one by one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from gan_kit.types import UserError

__all__ = ["Compile"]


class Compile(Callback):
    """Compiles the forward pass of the nets that are named for the training step alone: weights, checkpoints, bundles,
    the averaged generator and callbacks that stand behind this one know nothing of it.

    nets: of "generator" and "discriminator"; backend, mode: torch.compile's

    The first steps are slow, and what comes out differs by rounding. Compiled code has no double backward: in a step
    that takes a penalty of D's slope, D runs as it is written.
    Raises UserError for names that the module doesn't have, for a D of which every step takes such a penalty, and
    where code for the CPU can't be compiled.
    """

    def __init__(
        self, nets: Sequence[str], backend: str | Callable[..., Any] = "inductor", mode: str | None = None
    ) -> None:
        if not nets or set(nets) - {"generator", "discriminator"}:
            raise UserError(f"nets={list(nets)} to compile; have generator, discriminator")
        self.nets, self.backend, self.mode = tuple(nets), backend, mode
        self.compiled: dict[str, Callable[..., Any]] = {}

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        for name in self.nets:
            if getattr(pl_module, name, None) is None:
                raise UserError(f"{type(pl_module).__name__} has no {name} to compile; set callbacks.compile.nets")
        penalties = getattr(pl_module, "penalties", {})
        always = [name for name, p in penalties.items() if p.differentiates_x and p.every == 1]
        if "discriminator" in self.nets and always:
            raise UserError(
                f"penalty {always[0]} differentiates D twice in every step, which compiled code can't: take "
                f"compile=generator, or a lazy one, objective.penalties.{always[0]}.every=16"
            )
        on_cpu = trainer.strategy.root_device.type == "cpu"
        compilers = (os.environ.get("CXX"), "g++", "clang++", "cl")
        if self.backend == "inductor" and on_cpu and not any(shutil.which(name) for name in compilers if name):
            raise UserError("torch.compile needs a C++ compiler on the CPU: install g++, or compile=none")
        for name in self.nets:
            # shapes as they come: symbolic ones fail in some kernels' backward passes
            self.compiled[name] = torch.compile(
                getattr(pl_module, name).forward, backend=self.backend, mode=self.mode, dynamic=False
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        penalties = getattr(pl_module, "penalties", {}).values()
        twice = any(penalty.differentiates_x and penalty.due(pl_module.step) for penalty in penalties)
        for name, forward in self.compiled.items():
            if not (twice and name == "discriminator"):
                getattr(pl_module, name).forward = forward  # before the class's own

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        self._undo(pl_module)

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        self._undo(pl_module)

    def _undo(self, pl_module: Any) -> None:
        for name in self.compiled:
            getattr(pl_module, name).__dict__.pop("forward", None)
