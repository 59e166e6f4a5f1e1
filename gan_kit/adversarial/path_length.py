"""Path length regularisation (Karras et al. 2020, section 3.2): equal steps in w change a sample by equal amounts."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gan_kit.adversarial.adaptive import Adaptive, Mean
from gan_kit.adversarial.schedule import Scheduled
from gan_kit.adversarial.terms import GView, Term
from gan_kit.noise import BatchNoise
from gan_kit.types import UserError

__all__ = ["PathLength"]


class PathLength(Term, Adaptive):
    """(‖Jᵀv‖ - a)², J = ∂x/∂w, v ~ N(0, 1) / √positions; a is the running mean of the lengths ‖Jᵀv‖ (equation 4).

    decay: how far a moves to the mean of a step's lengths
    shrink: the lengths are taken of each `shrink`-th sample of the batch (StyleGAN2-ADA, appendix C: of half of it)

    a follows the lengths of all ranks and micro-batches once the step is over, so that within a step it is a constant;
    a length is the root of the mean square over layers, for w (B, num_ws, w_dim). Taken in fp32, without style mixing.
    Raises UserError for a generator without `mapping` and `synthesis`.
    """

    def __init__(self, weight: Scheduled = 2.0, every: int = 4, decay: float = 0.01, shrink: int = 2):
        super().__init__(weight, every)
        if not 0 < decay <= 1 or shrink < 1:
            raise UserError(f"path length with decay={decay}, shrink={shrink}; give 0 < decay <= 1 and shrink >= 1")
        self.decay, self.shrink = decay, shrink
        self.average = torch.zeros(())
        self.sums = torch.zeros(2)  # of the lengths, and their number
        self.taken = False  # this step had its turn
        self.length = torch.zeros(())  # mean of the latest step that took any

    def prepare(self, generator: Any) -> None:
        if not all(callable(getattr(generator, name, None)) for name in ("mapping", "synthesis")):
            raise UserError(
                f"path length is taken along w, which {type(generator).__name__} does not have; use "
                "generator=stylegan2, or leave the term out"
            )

    def formula(self, view: GView) -> Tensor:
        noise = _Rows(view.noise, self.shrink)
        z, y = view.latent.z[noise.rows], None if view.y is None else view.y[noise.rows]
        if not len(z):
            return view.fake.new_zeros(1)
        with torch.autocast(z.device.type, enabled=False):
            w = view.generator.mapping(z, y)
            if not w.requires_grad:
                w = w.detach().requires_grad_()
            x = view.generator.synthesis(w, noise=noise)
            v = noise.randn(*x.shape[1:]).to(x) / math.sqrt(x[0, 0].numel())
            (slope,) = torch.autograd.grad((x * v).sum(), w, create_graph=True)
        lengths = (slope.square().sum(2).mean(1) + 1e-12).sqrt()
        total = lengths.detach().sum()
        self.sums = self.sums.to(total.device) + torch.stack([total, total.new_tensor(len(z))])
        self.taken = True
        return (lengths - self.average.to(lengths.device)).square()

    def settle(self, mean: Mean, samples: int) -> None:
        if not self.taken:
            return
        total, count = mean(self.sums).unbind()
        self.length = total / count
        self.average = torch.lerp(self.average.to(self.length), self.length, self.decay)
        self.sums, self.taken = torch.zeros_like(self.sums), False

    def readings(self) -> dict[str, Tensor]:
        return {"_length": self.length, "_average": self.average}

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).cpu() for name in ("average", "length")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


class _Rows:
    """Each k-th sample of the global batch, wherever its rows are: the draws of those that are here."""

    def __init__(self, noise: BatchNoise, k: int):
        self.noise, self.rows = noise, slice(-noise.start % k, None, k)

    def randn(self, *shape: int) -> Tensor:
        return self.noise.randn(*shape)[self.rows]

    def rand(self, *shape: int) -> Tensor:
        return self.noise.rand(*shape)[self.rows]
