"""What a step costs: floating-point operations counted where torch carries them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gan_kit.adversarial.players import frozen
from gan_kit.types import Batch

__all__ = ["StepCost", "flops_of", "step_cost"]


class _Counter(TorchDispatchMode):
    """Adds up matrix products and convolutions, backward ones too, a multiplication and an addition being two.

    torch's own FlopCounterMode stumbles over gradients with respect to a leaf (pytorch #131753), which penalties take.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def flops_of(call: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products and convolutions in a call."""
    with _Counter() as counter:
        call()
    return counter.total


@dataclass(frozen=True)
class StepCost:
    """FLOPs for each real sample shown to D.

    generator: G forward, for a sample drawn; d_step: of D without penalties; g_step: of G, shared out over n_critic;
    penalties: by name, shared out over `every`
    """

    generator: float
    d_step: float
    g_step: float
    penalties: dict[str, float]

    @property
    def total(self) -> float:
        return self.d_step + self.g_step + sum(self.penalties.values())


def step_cost(gan: Any, batch: Batch) -> StepCost:
    """Count one batch of a GAN's step, each part alone, forward and backward. Its weights stay as they are."""
    n = len(batch.x)

    def backward(loss_of: Callable[..., Tensor], phase: int) -> int:
        count = flops_of(lambda: loss_of(batch.x, batch.y, gan.noise(phase, n)).backward())
        gan.zero_grad(set_to_none=True)
        return count

    kept, step = gan.penalties, gan.step
    try:
        gan.step = 0  # on which every penalty is due
        gan.penalties = {}
        plain = backward(gan.d_loss, 0)
        penalties = {}
        for name, penalty in kept.items():
            gan.penalties = {name: penalty}
            penalties[name] = (backward(gan.d_loss, 0) - plain) / penalty.every / n
        with frozen(gan.discriminator):
            g_step = backward(gan.g_loss, 1)
    finally:
        gan.penalties, gan.step = kept, step
    with torch.no_grad():
        z = gan.prior(gan.noise(0, n), gan.generator.z_dim)
        generator = flops_of(lambda: gan.generator(z, batch.y))
    return StepCost(generator / n, plain / n, g_step / gan.n_critic / n, penalties)
