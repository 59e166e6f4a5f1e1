"""Regularisers of the discriminator: a formula over one view of it, for data of any rank."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gan_kit.adversarial.schedule import Scheduled, value_at
from gan_kit.noise import BatchNoise
from gan_kit.types import Critique, UserError

__all__ = ["DRAGAN", "R1", "R2", "SAN", "DView", "GradientPenalty", "Latent", "Lazy", "Penalty", "sq_grad_norm"]


@dataclass
class Latent:
    """The z that fakes were made of, and the generator to make them of another.

    z: (B, z_dim); generate: z -> x, with the labels and the generator's own draws as they were
    """

    z: Tensor
    generate: Callable[[Tensor], Tensor]


@dataclass
class DView:
    """What a penalty sees of one discriminator step.

    critique: x -> Critique, with the labels bound and the augmentation inside
    real, fake: (B, ...) un-augmented, leaves that take gradients
    on_real, on_fake: the critiques already made of them
    call_real, call_fake: `noise.calls` before these, to augment in the same way again
    y: labels, bound in `critique`; discriminator: D itself, for its weights
    latent: where the fakes come from, in z -> x trainings
    """

    critique: Callable[[Tensor], Critique]
    real: Tensor
    fake: Tensor
    on_real: Critique
    on_fake: Critique
    noise: BatchNoise
    call_real: int = 0
    call_fake: int = 0
    y: Tensor | None = None
    discriminator: nn.Module | None = None
    latent: Latent | None = None


def sq_grad_norm(critique: Critique, x: Tensor) -> Tensor:
    """‖∇ₓ Σ logits‖² of each sample: (B, ...) -> (B,), differentiable."""
    total = torch.stack([logits.float().sum() for logits in critique.logits]).sum()
    (grad,) = torch.autograd.grad(total, x, create_graph=True)
    return grad.float().flatten(1).square().sum(1)


def sq_slope(view: DView, critique: Critique, x: Tensor, call: int, sigma: float) -> Tensor:
    """((D(x + σε) - D(x)) / σ)², whose mean over ε ~ N(0, 1) is ‖∇ₓD‖² as σ -> 0: (B, ...) -> (B,).

    One forward pass in place of a double backward, at the price of a noisy estimate.
    """
    step = sigma * view.noise.randn(*x.shape[1:]).to(x)
    with view.noise.again(call):  # another augmentation would differ by far more than σ
        moved = view.critique(x.detach() + step)
    rises = [
        (a - b).flatten(1).sum(1) if a.dim() > 1 else a - b for a, b in zip(moved.logits, critique.logits, strict=True)
    ]
    return (torch.stack(rises).sum(0) / sigma).square()


class Lazy:
    """A weight (a number or a schedule) and laziness: applied on each `every`-th step with `every` times the weight
    (lazy regularisation, Karras et al. 2020, appendix B), which leaves the expected gradient as it is."""

    def __init__(self, weight: Scheduled, every: int = 1):
        name = "penalty" if isinstance(self, Penalty) else "term"
        if every < 1:
            raise UserError(f"{name} every={every} must be at least 1 step")
        if not callable(weight) and weight < 0:
            raise UserError(f"{name} weight={weight} must not be negative")
        self.weight, self.every = weight, every

    def due(self, step: int) -> bool:
        return step % self.every == 0

    def weight_at(self, samples_seen: int) -> float:
        return self.every * value_at(self.weight, samples_seen)


class Penalty(Lazy, ABC):
    """A formula `(view) -> (B,)` of D's half of the step, with a weight and laziness."""

    differentiates_x = True  # takes a gradient with respect to x: such a step is taken in fp32

    def prepare(self, discriminator: nn.Module) -> None:
        """Called once with D before the training; raise UserError where this penalty can't be taken of it."""

    def __call__(self, view: DView, samples_seen: int) -> Tensor:
        return self.weight_at(samples_seen) * self.formula(view).mean()

    @abstractmethod
    def formula(self, view: DView) -> Tensor:
        """-> (B,), differentiable with respect to the discriminator's weights"""


class R1(Penalty):
    """½‖∇D‖² at reals; weight is γ (Mescheder et al. 2018, equation 9).

    finite_difference_sigma: estimate the norm from one more forward pass at x + σε (see `sq_slope`) instead
    """

    def __init__(self, weight: Scheduled = 1.0, every: int = 1, finite_difference_sigma: float | None = None):
        super().__init__(weight, every)
        if finite_difference_sigma is not None and finite_difference_sigma <= 0:
            raise UserError(f"finite_difference_sigma={finite_difference_sigma} must be positive, 0.01 say")
        self.sigma = finite_difference_sigma

    def formula(self, view: DView) -> Tensor:
        return self.half_norm(view, view.on_real, view.real, view.call_real)

    def half_norm(self, view: DView, critique: Critique, x: Tensor, call: int) -> Tensor:
        if self.sigma is not None:
            return sq_slope(view, critique, x, call, self.sigma) / 2
        return sq_grad_norm(critique, x) / 2


class R2(R1):
    """½‖∇D‖² at fakes; weight is γ (Mescheder et al. 2018, equation 10)."""

    def formula(self, view: DView) -> Tensor:
        return self.half_norm(view, view.on_fake, view.fake, view.call_fake)


class GradientPenalty(Penalty):
    """(‖∇D‖ - 1)² on lines between reals and fakes; weight is λ (WGAN-GP, Gulrajani et al. 2017, section 4)."""

    def __init__(self, weight: Scheduled = 10.0, every: int = 1):
        super().__init__(weight, every)

    def formula(self, view: DView) -> Tensor:
        t = view.noise.rand(*[1] * (view.real.dim() - 1)).to(view.real)
        x = torch.lerp(view.real.detach(), view.fake.detach(), t).requires_grad_()
        return (sq_grad_norm(view.critique(x), x).add(1e-12).sqrt() - 1).square()


class DRAGAN(Penalty):
    """(‖∇D‖ - 1)² near reals, at x + σε with ε ~ N(0, 1); weight is λ (Kodali et al. 2017, equation 1)."""

    def __init__(self, weight: Scheduled = 10.0, every: int = 1, sigma: float = 0.25):
        super().__init__(weight, every)
        if sigma <= 0:
            raise UserError(f"DRAGAN's sigma={sigma} must be positive, half the data's spread say")
        self.sigma = sigma

    def formula(self, view: DView) -> Tensor:
        real = view.real.detach()
        x = (real + self.sigma * view.noise.randn(*real.shape[1:]).to(real)).requires_grad_()
        return (sq_grad_norm(view.critique(x), x).add(1e-12).sqrt() - 1).square()


class SAN(Penalty):
    """⟨ω, h(fake)⟩ - ⟨ω, h(real)⟩, of which ω alone, the direction of D's last layer, learns; with it h learns from the
    adversarial loss alone, whichever that is (slicing adversarial networks, Takida et al. 2024, equation 13).

    For a D that ends in `gan_kit.nn.ClassHead`; see there. Raises UserError for any other.
    """

    differentiates_x = False

    def __init__(self, weight: Scheduled = 1.0):
        super().__init__(weight)

    def prepare(self, discriminator: nn.Module) -> None:
        heads: list[Any] = [module for module in discriminator.modules() if hasattr(module, "sliced")]
        if not heads:
            raise UserError(
                f"{type(discriminator).__name__} does not end in a gan_kit.nn.ClassHead, whose direction SAN would "
                f"train; choose another discriminator or another objective"
            )
        for head in heads:
            head.sliced = True

    def formula(self, view: DView) -> Tensor:
        on_real, on_fake = view.on_real.aux, view.on_fake.aux
        if on_real is None or on_fake is None or on_real.direction is None or on_fake.direction is None:
            raise UserError("the discriminator's head gives no direction in Critique.aux; SAN can't be taken of it")
        return on_fake.direction - on_real.direction
