"""z -> x: a generator and a discriminator trained against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_kit.adversarial.ema import EMA
from gan_kit.adversarial.losses import Loss
from gan_kit.adversarial.penalties import Penalty
from gan_kit.adversarial.players import Players, describe, frozen
from gan_kit.adversarial.schedule import Scheduled
from gan_kit.latent import Normal, Prior
from gan_kit.noise import BatchNoise, Noise
from gan_kit.types import Batch, UserError

__all__ = ["GAN", "frozen"]


class GAN(Players):
    """The adversarial step over injected networks, losses and optimisers; data of any rank.

    generator: G(z, y) -> x with an attribute `z_dim`; discriminator: D(x, y) -> Critique
    optimizer_g, optimizer_d: parameters -> Optimizer, e.g. a partial of `torch.optim.Adam`
    penalties: named regularisers of D
    augment: augment(x, p, noise) -> x, inside D's input path for reals and fakes; augment_p may be a schedule
    ema: how the sampling generator follows the trained one; None samples from the trained one
    prior: where z comes from
    n_critic: D steps for each G step; accumulate: micro-batches a batch is cut into, for the same gradients
    clip_g, clip_d: largest gradient norm, or None
    schedules: lr_g, lr_d, beta2_g, beta2_d as functions of samples seen
    seed: all draws of a step are a pure function of (seed, step)
    init_seed: when given, both nets' `reset_parameters` run under seeds of their own, so that the initial weights
        do not depend on the order in which nets were built; None leaves the nets as they come

    The clock is `samples_seen`: reals shown to D. Raises UserError for arguments that do not fit.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: Loss,
        optimizer_g: Callable[[Iterable[nn.Parameter]], Optimizer],
        optimizer_d: Callable[[Iterable[nn.Parameter]], Optimizer],
        penalties: Mapping[str, Penalty] | None = None,
        augment: nn.Module | None = None,
        augment_p: Scheduled = 1.0,
        ema: EMA | None = None,
        prior: Prior | None = None,
        n_critic: int = 1,
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
        if n_critic < 1:
            raise UserError(f"n_critic={n_critic} must be at least 1")
        self.prior, self.n_critic = prior or Normal(), n_critic

    # ---- the step -------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.set_schedules()
        opt_g, opt_d = self.optimizers()
        seen = len(batch.x) * self.world_size
        self.descend(opt_d, self.d_loss, batch, phase=0, clip=self.clip_d)
        if self.step % self.n_critic == 0:
            with frozen(self.discriminator):
                self.descend(opt_g, self.g_loss, batch, phase=1, clip=self.clip_g)
            if self.ema:
                self.ema.update(self.generator_ema, self.generator, seen * self.n_critic, self.samples_seen)
        self.step += 1
        self.samples_seen += seen

    def d_loss(self, real: Tensor, y: Tensor | None, noise: BatchNoise) -> Tensor:
        with torch.no_grad():
            fake = self.generator(self.prior(noise, self.generator.z_dim), y)
        return self.critic_loss(real, fake, y, noise)

    def g_loss(self, real: Tensor, y: Tensor | None, noise: Noise) -> Tensor:
        fake = self.generator(self.prior(noise, self.generator.z_dim), y)
        critique = self.critic(y, noise)
        on_real = None
        if self.loss.g_sees_real:
            with torch.no_grad():
                on_real = critique(real)
        loss = self.adversarial(self.loss.g, on_real, critique(fake))
        self.note("loss_g", loss)
        return loss

    # ---- sampling -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, noise: Noise, y: Tensor | None = None, psi: float = 1.0) -> Tensor:
        """(B, ...) from the averaged generator in evaluation mode; `noise` and `y` say which."""
        net = self.generator if self.generator_ema is None else self.generator_ema
        training = net.training
        net.eval()
        try:
            return net(self.prior(noise, net.z_dim, psi).to(self.device), y)
        finally:
            net.train(training)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["gan"]["prior"] = describe(self.prior)
