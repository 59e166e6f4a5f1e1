"""z -> x: a generator and a discriminator trained against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_kit.adversarial.ema import EMA
from gan_kit.adversarial.losses import Loss
from gan_kit.adversarial.penalties import Latent, Penalty
from gan_kit.adversarial.players import Players, describe, frozen
from gan_kit.adversarial.schedule import Scheduled, value_at
from gan_kit.adversarial.terms import GView, Term
from gan_kit.latent import Normal, Prior, draw, generate
from gan_kit.noise import BatchNoise, Noise
from gan_kit.types import Batch, Critique, UserError, conditional, missing, without

__all__ = ["GAN", "frozen"]


class GAN(Players):
    """The adversarial step over injected networks, losses and optimisers; data of any rank.

    generator: G(z, y) -> x with an attribute `z_dim`; discriminator: D(x, y) -> Critique
    optimizer_g, optimizer_d: parameters -> Optimizer, e.g. a partial of `torch.optim.Adam`
    penalties: named regularisers of D; terms: what G learns from beside the adversarial loss, named
    augment: augment(x, p, noise) -> x, inside D's input path for reals and fakes; augment_p may be a schedule
    ema: how the sampling generator follows the trained one; None samples from the trained one
    prior: where z comes from
    label_dropout: share of the labels (or vectors) that both nets don't see, each step others: they get the null class,
        as those do that are missing (y < 0, a row of NaN). Both nets must be built with null_class=True
    pseudo_p: share of D's reals that are fakes instead (APA, Jiang et al. 2021): a number, a schedule or `AdaptiveP`
    top_k: share of the fakes that G learns from, those with the highest logits (Sinha et al. 2020); chosen within a
        micro-batch
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
        terms: Mapping[str, Term] | None = None,
        augment: nn.Module | None = None,
        augment_p: Scheduled = 1.0,
        ema: EMA | None = None,
        prior: Prior | None = None,
        label_dropout: float = 0.0,
        pseudo_p: Scheduled = 0.0,
        top_k: Scheduled = 1.0,
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
        if not 0 <= label_dropout <= 1:
            raise UserError(f"label_dropout={label_dropout} must lie between 0 and 1")
        self.null_class = all(getattr(net, "null_class", False) for net in (generator, discriminator))
        if label_dropout and not self.null_class:
            raise UserError(
                f"label_dropout={label_dropout} needs a class for samples without a label in both networks; build "
                f"them with null_class=True (generator.null_class=true discriminator.null_class=true)"
            )
        self.prior, self.n_critic, self.label_dropout = prior or Normal(), n_critic, label_dropout
        self.terms, self.pseudo_p, self.top_k = dict(terms or {}), pseudo_p, top_k
        self._ahead: tuple[BatchNoise, Tensor | None, Tensor, Latent] | None = None  # fakes of G's half, made in D's
        self.follow(pseudo_p=pseudo_p, **{f"term_{name}": term for name, term in self.terms.items()})
        for term in self.terms.values():
            term.prepare(generator)

    # ---- the step -------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.set_schedules()
        opt_g, opt_d = self.optimizers()
        seen = len(batch.x) * self.world_size
        both = self.step % self.n_critic == 0
        self._ahead = None
        # of micro-batches, only one has its graph in memory
        meanwhile = partial(self.go_ahead, batch) if both and self.accumulate == 1 else None
        self.descend(opt_d, self.d_loss, batch, phase=0, clip=self.clip_d, meanwhile=meanwhile)
        if both:
            with frozen(self.discriminator):
                self.descend(opt_g, self.g_loss, batch, phase=1, clip=self.clip_g)
            if self.ema:
                self.ema.update(self.generator_ema, self.generator, seen * self.n_critic, self.samples_seen)
        self.settle(seen)
        self.step += 1
        self.samples_seen += seen

    def d_loss(self, real: Tensor, y: Tensor | None, noise: BatchNoise) -> Tensor:
        y = self.labels(y, noise)
        with torch.no_grad():
            fake, latent = self.fakes(y, noise)
            real = self.deceived(real, y, noise)
        return self.critic_loss(real, fake, y, noise, latent)

    def go_ahead(self, batch: Batch) -> None:
        """Make the fakes of G's half, which D's step does not change, while D's gradients travel."""
        noise = self.noise(1, len(batch.x))
        y = self.labels(batch.y, noise)
        self._ahead = (noise, y, *self.fakes(y, noise))

    def g_loss(self, real: Tensor, y: Tensor | None, noise: BatchNoise) -> Tensor:
        if self._ahead is None:
            y = self.labels(y, noise)
            fake, latent = self.fakes(y, noise)
        else:
            (noise, y, fake, latent), self._ahead = self._ahead, None
        critique = self.critic(y, noise)
        due = {name: term for name, term in self.terms.items() if term.due(self.step // self.n_critic)}
        on_real = None
        if self.loss.g_sees_real or any(term.sees_real for term in due.values()):
            with torch.no_grad():
                on_real = critique(real)
        on_fake = critique(fake)
        loss = self.adversarial(self.loss.g, *self.best(on_real, on_fake))
        self.note("loss_g", loss)
        view = GView(self.generator, critique, latent, noise, y, real, fake, on_fake, on_real, self.samples_seen)
        for name, term in due.items():
            value = term(view)
            self.note(f"term_{name}", value / term.every)
            loss = loss + value
        return loss

    def on_fit_start(self) -> None:
        super().on_fit_start()
        labelled = getattr(self.trainer.datamodule, "labelled", None)  # type: ignore[attr-defined]
        if labelled is None or self.null_class:
            return
        told = getattr(self.discriminator, "init_args", {}).get("conditioning", "projection")
        by_class = conditional(self.discriminator) and told in ("projection", "concat")
        if conditional(self.generator) or by_class:
            raise UserError(
                f"data.labelled={labelled} leaves samples without a label, which these networks have no class for; set "
                f"generator.null_class=true discriminator.null_class=true, or generator.num_classes=0 with a "
                f"discriminator.conditioning that predicts classes"
            )

    # ---- its parts ------------------------------------------------------------------------------------------

    def fakes(self, y: Tensor | None, noise: BatchNoise) -> tuple[Tensor, Latent]:
        """(B, ...) and what they were made of."""
        z, start = self.prior(noise, self.generator.z_dim), noise.calls

        def again(z: Tensor) -> Tensor:
            with noise.again(start):
                return generate(self.generator, z, noise, y)

        return generate(self.generator, z, noise, y), Latent(z, again)

    def labels(self, y: Tensor | None, noise: Noise) -> Tensor | None:
        """As the nets are to see them: those that are missing or dropped are the null class, or a vector of NaN."""
        if y is not None and y.is_floating_point():
            self.require_vectors(y)
        if y is None or not self.null_class:
            return y
        rows = missing(y)
        if self.label_dropout:
            rows = rows | (noise.rand() < self.label_dropout)
        return without(y, rows, self.generator.num_classes)

    def require_vectors(self, y: Tensor) -> None:
        """Raises UserError for a network that would not look at the vectors of the data, or takes none at all."""
        for name, net in (("generator", self.generator), ("discriminator", self.discriminator)):
            if getattr(net, "vector_dim", 0) != y.shape[1]:
                raise UserError(
                    f"the data give a vector of {y.shape[1]} with each sample, and the {name}, {type(net).__name__}, "
                    f"takes {getattr(net, 'vector_dim', 0) or 'none'}; build it with vector_dim={y.shape[1]} if it "
                    f"has that argument, or leave the vectors out (data.conditions=null)"
                )

    def deceived(self, real: Tensor, y: Tensor | None, noise: Noise) -> Tensor:
        """The reals, each of them with probability `pseudo_p` a fake of the same label."""
        p = value_at(self.pseudo_p, self.samples_seen)
        if p <= 0:
            return real
        struck = (noise.rand() < p).to(real.device).view(-1, *[1] * (real.dim() - 1))
        return torch.where(struck, draw(self.generator, self.prior, noise, y).to(real), real)

    def best(self, on_real: Critique | None, on_fake: Critique) -> tuple[Critique | None, Critique]:
        """The logits of those fakes that G is to learn from, and of the reals that stand opposite."""
        share = value_at(self.top_k, self.samples_seen)
        if share >= 1:
            return on_real, on_fake
        scores = torch.stack(
            [logits.detach().float().reshape(len(logits), -1).mean(1) for logits in on_fake.logits]
        ).sum(0)
        rows = scores.topk(max(round(share * len(scores)), 1)).indices
        pick = [None if c is None else c._replace(logits=[x[rows] for x in c.logits]) for c in (on_real, on_fake)]
        return pick[0], pick[1]  # type: ignore[return-value]

    # ---- sampling -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, noise: Noise, y: Tensor | None = None, psi: float = 1.0) -> Tensor:
        """(B, ...) from the averaged generator in evaluation mode; `noise` and `y` say which."""
        net = self.generator if self.generator_ema is None else self.generator_ema
        training = net.training
        net.eval()
        try:
            return draw(net, self.prior, noise, y, psi)
        finally:
            net.train(training)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["gan"]["prior"] = describe(self.prior)
