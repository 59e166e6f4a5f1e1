"""x -> x̂: a generator that restores x from what it is shown, against a discriminator (vocoders, codecs, VQGAN)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_kit.adversarial.ema import EMA
from gan_kit.adversarial.losses import Loss
from gan_kit.adversarial.penalties import Penalty
from gan_kit.adversarial.players import Players, frozen
from gan_kit.adversarial.schedule import Scheduled, value_at
from gan_kit.noise import BatchNoise
from gan_kit.types import Batch, Critique, UserError

__all__ = ["Reconstruction", "feature_distances"]


def feature_distances(on_real: Critique, on_fake: Critique) -> list[Tensor]:
    """Feature matching (Larsen et al. 2016; Kong et al. 2020, equation 7): of each sub-discriminator the mean absolute
    difference of each of its features, summed over them."""
    return [
        torch.stack([(f.float() - r.float()).abs().mean() for r, f in zip(reals, fakes, strict=True)]).sum()
        for reals, fakes in zip(on_real.features, on_fake.features, strict=True)
    ]


class Reconstruction(Players):
    """The step of a generator G(c, y) -> x̂ with c = condition(x), whose x̂ is to pass for x and to be near it.

    generator: G(c, y) -> x̂ of x's shape, its last axis longer or shorter by no more than one step of c stands for;
        discriminator: D(x, y) -> Critique
    condition: x -> c, fixed, computed without gradients; None shows x itself, to nets that encode it on their own
    terms: named distances (x̂, x) -> scalar, with `term_weights` of the same names
    adversarial_weight, feature_weight: of G's adversarial loss and of feature matching, numbers or schedules
    critic_weights: one a sub-discriminator, for losses and feature matching; None is 1 each
    adversary_from_samples: until then G learns from the terms alone, and D not at all

    All other arguments are those of `GAN`. With least squares as they stand in `losses` (halved), HiFi-GAN's weights 1,
    2, 45 are adversarial_weight=2, feature_weight=2 and 45. Raises UserError for arguments that do not fit.
    """

    counted = "g"

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: Loss,
        optimizer_g: Callable[[Iterable[nn.Parameter]], Optimizer],
        optimizer_d: Callable[[Iterable[nn.Parameter]], Optimizer],
        condition: nn.Module | None = None,
        terms: Mapping[str, nn.Module] | None = None,
        term_weights: Mapping[str, Scheduled] | None = None,
        adversarial_weight: Scheduled = 1.0,
        feature_weight: Scheduled = 2.0,
        critic_weights: Sequence[float] | None = None,
        adversary_from_samples: int = 0,
        penalties: Mapping[str, Penalty] | None = None,
        augment: nn.Module | None = None,
        augment_p: Scheduled = 1.0,
        ema: EMA | None = None,
        accumulate: int = 1,
        clip_g: float | None = None,
        clip_d: float | None = None,
        schedules: Mapping[str, Callable[[int], float]] | None = None,
        seed: int = 0,
        init_seed: int | None = None,
    ):
        super().__init__(
            generator,
            discriminator,
            loss,
            optimizer_g,
            optimizer_d,
            penalties=penalties,
            augment=augment,
            augment_p=augment_p,
            ema=ema,
            accumulate=accumulate,
            clip_g=clip_g,
            clip_d=clip_d,
            schedules=schedules,
            seed=seed,
            init_seed=init_seed,
        )
        weights, named = dict(term_weights or {}), dict(terms or {})
        if unknown := weights.keys() - named.keys():
            raise UserError(f"no such loss term {sorted(unknown)}; have {sorted(named)}")
        if missing := named.keys() - weights.keys():
            raise UserError(f"loss term {sorted(missing)} has no weight; give term_weights one for each term")
        if adversary_from_samples < 0:
            raise UserError(f"adversary_from_samples={adversary_from_samples} must not be negative")
        self.condition: Any = condition
        self.terms, self.term_weights = nn.ModuleDict(named), weights
        self.adversarial_weight, self.feature_weight = adversarial_weight, feature_weight
        self.critic_weights = critic_weights
        self.adversary_from_samples = adversary_from_samples
        self._kept: Tensor | None = None  # x̂ of D's half, for G's: the same weights would make the same

    # ---- the step -------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.set_schedules()
        opt_g, opt_d = self.optimizers()
        seen = len(batch.x) * self.world_size
        if self.has_adversary:
            self.descend(opt_d, self.d_loss, batch, phase=0, clip=self.clip_d)
        with frozen(self.discriminator):
            self.descend(opt_g, self.g_loss, batch, phase=1, clip=self.clip_g)
        if self.ema:
            self.ema.update(self.generator_ema, self.generator, seen, self.samples_seen)
        self.settle(seen if self.has_adversary else 0)
        self.step += 1
        self.samples_seen += seen

    @property
    def has_adversary(self) -> bool:
        return self.samples_seen >= self.adversary_from_samples

    def d_loss(self, real: Tensor, y: Tensor | None, noise: BatchNoise) -> Tensor:
        keep = self.accumulate == 1  # of micro-batches, only one has its graph in memory
        with torch.set_grad_enabled(keep):
            x, x_hat = self.pair(real, y)
        self._kept = x_hat if keep else None
        return self.critic_loss(x, x_hat.detach(), y, noise)

    def g_loss(self, real: Tensor, y: Tensor | None, noise: BatchNoise) -> Tensor:
        x, x_hat = self.pair(real, y, self._kept)
        self._kept = None
        loss = torch.zeros((), device=self.device)
        for name, term in self.terms.items():
            distance = self.distance(term, x_hat, x)
            self.note(f"term_{name}", distance)
            loss = loss + value_at(self.term_weights[name], self.samples_seen) * distance
        if self.has_adversary:
            critique = self.critic(y, noise)
            start = noise.calls
            with torch.no_grad():
                on_real = critique(x)
            with noise.again(start):  # features are compared under the same augmentation
                on_fake = critique(x_hat)
            adversarial = self.adversarial(self.loss.g, on_real if self.loss.g_sees_real else None, on_fake)
            matching = self.weighted(feature_distances(on_real, on_fake))
            self.note("adversarial", adversarial)
            self.note("feature_matching", matching)
            loss = loss + value_at(self.adversarial_weight, self.samples_seen) * adversarial
            loss = loss + value_at(self.feature_weight, self.samples_seen) * matching
        self.note("loss_g", loss)
        return loss

    def distance(self, term: nn.Module, x_hat: Tensor, x: Tensor) -> Tensor:
        return term(x_hat, x)

    def pair(self, real: Tensor, y: Tensor | None, made: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x and x̂, cut to one length; `made` is an x̂ that is known already."""
        if made is None:
            with torch.no_grad():
                shown = real if self.condition is None else self.condition(real)
            made = self.generator(shown, y)
            if abs(real.shape[-1] - made.shape[-1]) > made.shape[-1] / shown.shape[-1]:
                times = made.shape[-1] / real.shape[-1]
                raise UserError(
                    f"the generator makes {made.shape[-1]} of {real.shape[-1]}: it does not stretch {shown.shape[-1]} "
                    f"as its condition has shrunk them; set audio.hop_length to {times:.3g} times what it is, or take "
                    "a generator of this hop length"
                )
        length = min(real.shape[-1], made.shape[-1])
        x, x_hat = real[..., :length], made[..., :length]
        if x.shape != x_hat.shape:
            raise UserError(f"the generator makes {tuple(made.shape)} of {tuple(real.shape)}; the shapes must agree")
        return x, x_hat

    # ---- use ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x̂ from the averaged generator in evaluation mode; (B, ...), its last axis as long as G makes it."""
        net = self.generator if self.generator_ema is None else self.generator_ema
        training = net.training
        net.eval()
        try:
            return net(x if self.condition is None else self.condition(x), y)
        finally:
            net.train(training)
