"""Data parallel training for modules with two optimisers."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch import Tensor, nn

__all__ = ["DataParallel"]


class DataParallel(DDPStrategy):
    """One process a device, the module not wrapped: whoever steps an optimiser calls `average_gradients` first.

    torch's own wrapper expects one forward and one backward of the whole module a step; an adversarial step has two or
    three over halves of it, through methods the wrapper does not see.
    """

    def configure_ddp(self) -> None:
        assert self.lightning_module is not None
        for tensor in (*self.lightning_module.parameters(), *self.lightning_module.buffers()):
            dist.broadcast(tensor.detach(), src=0)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Each gradient becomes its mean over all ranks; one message a dtype."""
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for p in parameters:
            if p.grad is not None:  # the step is the same on all ranks, and so is the set of these
                by_dtype.setdefault(p.grad.dtype, []).append(p.grad)
        for grads in by_dtype.values():
            flat = torch.cat([g.flatten() for g in grads])
            dist.all_reduce(flat)
            flat /= dist.get_world_size()
            for g, mean in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
                g.copy_(mean.view_as(g))


StrategyRegistry.register("gan_ddp", DataParallel, "data parallel for two optimisers")
