"""State that follows the training: the same on all ranks, whatever the micro-batches, and saved in checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gan_kit.types import Critique, UserError

__all__ = ["Adaptive", "AdaptiveP", "Mean"]

Mean = Callable[[Tensor], Tensor]  # of a tensor over all ranks; every rank must call it


class Adaptive(ABC):
    """A penalty, a term or a schedule with state. The step shows it what D says and settles it once, at its end."""

    def watch(self, on_real: Critique, on_fake: Critique) -> None:  # noqa: B027
        """The critiques of D's half, of one micro-batch on this rank: gather sums of them."""

    @abstractmethod
    def settle(self, mean: Mean, samples: int) -> None:
        """The step is over, `samples` reals went into it on all ranks together: take the new state from the sums."""

    @abstractmethod
    def readings(self) -> dict[str, Tensor]:
        """What a curve should show: {suffix of its name: scalar}"""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values"""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class AdaptiveP(Adaptive):
    """A probability that rises while D tells its reals from the rest too surely (ADA, Karras et al. 2020, section 3.1).

    r_t = E[sign(D(real))] is compared with `target` each `every` steps; p moves up or down by so much that it would go
    from 0 to 1 within `speed_samples`. Wherever a schedule fits, this does: `augment_p`, `pseudo_p`.

    start, most: p at first, and its largest value
    Raises UserError for values that make no sense. Relativistic losses leave the level of logits free, so that their
    sign says nothing of overfitting: give them a fixed or a scheduled p.
    """

    def __init__(
        self,
        target: float = 0.6,
        speed_samples: int = 500_000,
        every: int = 4,
        start: float = 0.0,
        most: float = 1.0,
    ):
        if not -1 < target < 1:
            raise UserError(f"target={target} of a mean sign must lie between -1 and 1, 0.6 say")
        if speed_samples < 1 or every < 1:
            raise UserError(f"speed_samples={speed_samples} and every={every} must be at least 1")
        if not 0 <= start <= most <= 1:
            raise UserError(f"start={start}, most={most}: keep 0 <= start <= most <= 1")
        self.target, self.speed_samples, self.every, self.most = target, speed_samples, every, most
        self.p, self.sign, self.steps, self.samples = float(start), 0.0, 0, 0
        self.sums = torch.zeros(2)  # of the signs, and their number

    def __call__(self, samples_seen: int) -> float:
        return self.p

    def watch(self, on_real: Critique, on_fake: Critique) -> None:
        for logits in on_real.logits:
            sign = logits.detach().sign().sum().float()
            self.sums = self.sums.to(sign.device) + torch.stack([sign, sign.new_tensor(logits.numel())])

    def settle(self, mean: Mean, samples: int) -> None:
        self.steps, self.samples = self.steps + 1, self.samples + samples
        if self.steps % self.every:
            return
        total, count = mean(self.sums).tolist()
        self.sign = total / max(count, 1e-9)
        up = (self.sign > self.target) - (self.sign < self.target)
        self.p = min(max(self.p + up * self.samples / self.speed_samples, 0.0), self.most)
        self.samples, self.sums = 0, torch.zeros_like(self.sums)

    def readings(self) -> dict[str, Tensor]:
        return {"": torch.tensor(self.p), "_sign": torch.tensor(self.sign)}

    def state_dict(self) -> dict[str, Any]:
        names = ("p", "sign", "steps", "samples")
        return {"sums": self.sums.cpu(), **{name: getattr(self, name) for name in names}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.p = min(self.p, self.most)

    def __repr__(self) -> str:
        return f"AdaptiveP({self.p:g}, target={self.target:g}, speed_samples={self.speed_samples:,})"
