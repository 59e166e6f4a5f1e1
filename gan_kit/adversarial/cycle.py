"""a <-> b learned without pairs: two generators, two discriminators, and the way there and back (Zhu et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_kit.adversarial.ema import EMA
from gan_kit.adversarial.losses import Loss
from gan_kit.adversarial.penalties import Penalty
from gan_kit.adversarial.players import Players, describe, frozen
from gan_kit.adversarial.schedule import Scheduled, value_at
from gan_kit.adversarial.translation import halves
from gan_kit.noise import BatchNoise, mix
from gan_kit.types import Batch, Critique, UserError

__all__ = ["Cycle", "History"]


class Both(nn.Module):
    """Two nets as one player, each with its own half of x = (a, b), (B, 2 C, ...)."""

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first: Any = first
        self.second: Any = second

    @property
    def init_args(self) -> dict[str, Any]:
        return {"first": describe(self.first), "second": describe(self.second)}

    def reset_parameters(self) -> None:
        self.first.reset_parameters()
        self.second.reset_parameters()


class Generators(Both):
    """(a, b) -> (â, b̂) = (second(b), first(a)): what stands for a is made of b, and the other way round."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        a, b = halves(x)
        a_hat, b_hat = self.second(b, y), self.first(a, y)
        if a_hat.shape != a.shape or b_hat.shape != b.shape:
            raise UserError(f"the generators make {tuple(b_hat.shape)} and {tuple(a_hat.shape)} of {tuple(a.shape)}")
        return torch.cat([a_hat, b_hat], dim=1)

    def same(self, x: Tensor) -> Tensor:
        """(a, b) -> (second(a), first(b)), which are to be a and b: each is of the kind it is made into already."""
        a, b = halves(x)
        return torch.cat([self.second(a), self.first(b)], dim=1)


class Discriminators(Both):
    """(a, b) -> the Critique of a by the first and of b by the second, as sub-discriminators of one."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        a, b = halves(x)
        of_a, of_b = self.first(a, y), self.second(b, y)
        return Critique(of_a.logits + of_b.logits, of_a.features + of_b.features)


class History(nn.Module):
    """The latest fakes mixed with up to `size` earlier ones, for D to remember (Shrivastava et al. 2017, section 2.3).

    While it fills, fakes pass and are kept; then each is exchanged, at a chance of one half, for a kept one drawn
    evenly, whose place it takes. State is in buffers, the same on all ranks, and draws are a function of `key`.
    """

    def __init__(self, size: int):
        super().__init__()
        if size < 0:
            raise UserError(f"history={size} must not be negative; 50 as published, 0 for none")
        self.size = size
        self.register_buffer("kept", torch.empty(0))
        self.kept: Tensor

    def forward(self, fakes: Tensor, key: tuple[int, ...]) -> Tensor:
        """fakes: (B, ...) of one kind, in the order of the global batch -> (B, ...)"""
        if not self.size:
            return fakes
        kept = list(self.kept)
        shown = []
        for row, fake in enumerate(fakes):
            bits = mix(*key, row)
            if len(kept) < self.size:
                kept.append(fake)
                shown.append(fake)
            elif bits & 1:
                slot = (bits >> 1) % self.size
                shown.append(kept[slot])
                kept[slot] = fake
            else:
                shown.append(fake)
        self.kept = torch.stack(kept)
        return torch.stack(shown)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if (kept := state_dict.get(f"{prefix}kept")) is not None:
            self.kept = self.kept.new_empty(kept.shape)  # as full as the checkpoint's
        super()._load_from_state_dict(state_dict, prefix, *args)


class Cycle(Players):
    """The step of G: a -> b̂ and F: b -> â on samples x = (a, b) that are no pairs, stacked on the channels.

    generator_ab, generator_ba: G and F, nets (a, y) -> b̂ of the same shape; discriminator_a, discriminator_b: of what
        is a and what is b
    cycle_weight: of |F(G(a)) - a| + |G(F(b)) - b|, λ (equation 2)
    identity_weight: of |F(a) - a| + |G(b) - b|, which keeps what needs no change, colours say (section 5.2); 0: none
    adversarial_weight: of G's and F's adversarial losses; 2 with least squares as they stand in `losses` (halved)
    history: fakes of each kind that are kept for the discriminators, see `History`

    Both generators descend together, then both discriminators on the same fakes. All other arguments are those of
    `GAN`. Raises UserError for arguments that do not fit.
    """

    def __init__(
        self,
        generator_ab: nn.Module,
        generator_ba: nn.Module,
        discriminator_a: nn.Module,
        discriminator_b: nn.Module,
        loss: Loss,
        optimizer_g: Callable[[Iterable[nn.Parameter]], Optimizer],
        optimizer_d: Callable[[Iterable[nn.Parameter]], Optimizer],
        cycle_weight: Scheduled = 10.0,
        identity_weight: Scheduled = 5.0,
        adversarial_weight: Scheduled = 2.0,
        history: int = 50,
        penalties: Mapping[str, Penalty] | None = None,
        ema: EMA | None = None,
        accumulate: int = 1,
        clip_g: float | None = None,
        clip_d: float | None = None,
        schedules: Mapping[str, Callable[[int], float]] | None = None,
        seed: int = 0,
        init_seed: int | None = None,
    ):
        super().__init__(
            Generators(generator_ab, generator_ba),
            Discriminators(discriminator_a, discriminator_b),
            loss,
            optimizer_g,
            optimizer_d,
            penalties=penalties,
            ema=ema,
            accumulate=accumulate,
            clip_g=clip_g,
            clip_d=clip_d,
            schedules=schedules,
            seed=seed,
            init_seed=init_seed,
        )
        self.cycle_weight, self.identity_weight = cycle_weight, identity_weight
        self.adversarial_weight = adversarial_weight
        self.history_a, self.history_b = History(history), History(history)
        self._made: list[Tensor] = []  # fakes of the generators' half, for the discriminators'

    # ---- the step -------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.set_schedules()
        opt_g, opt_d = self.optimizers()
        seen = len(batch.x) * self.world_size
        with frozen(self.discriminator):
            self.descend(opt_g, self.g_loss, batch, phase=1, clip=self.clip_g)
        shown = self.remembered(torch.cat(self._made))
        self._made.clear()
        self.descend(opt_d, self.d_loss, Batch(torch.cat([batch.x, shown], 1), batch.y), phase=0, clip=self.clip_d)
        if self.ema:
            self.ema.update(self.generator_ema, self.generator, seen, self.samples_seen)
        self.settle(seen)
        self.step += 1
        self.samples_seen += seen

    def g_loss(self, real: Tensor, y: Tensor | None, noise: BatchNoise) -> Tensor:
        fake = self.generator(real, y)
        self._made.append(fake.detach())
        critique = self.critic(y, noise)
        on_real = None
        if self.loss.g_sees_real:
            with torch.no_grad():
                on_real = critique(real)
        adversarial = self.adversarial(self.loss.g, on_real, critique(fake))
        # each half's mean: what `l1_loss` gives of both together, twice
        cycle = 2 * F.l1_loss(self.generator(fake, y).float(), real.float())
        self.note("adversarial", adversarial)
        self.note("term_cycle", cycle)
        loss = value_at(self.adversarial_weight, self.samples_seen) * adversarial
        loss = loss + value_at(self.cycle_weight, self.samples_seen) * cycle
        if weight := value_at(self.identity_weight, self.samples_seen):
            identity = 2 * F.l1_loss(self.generator.same(real).float(), real.float())
            self.note("term_identity", identity)
            loss = loss + weight * identity
        self.note("loss_g", loss)
        return loss

    def d_loss(self, both: Tensor, y: Tensor | None, noise: BatchNoise) -> Tensor:
        real, fake = halves(both)
        return self.critic_loss(real, fake, y, noise)

    @torch.no_grad()
    def remembered(self, fakes: Tensor) -> Tensor:
        """(B, 2 C, ...) fakes of this rank, exchanged in part for earlier ones of any rank."""
        n = len(fakes)
        if self.world_size > 1:
            fakes = self.all_gather(fakes).flatten(0, 1)  # type: ignore[union-attr]
        pairs = zip((self.history_a, self.history_b), halves(fakes), strict=True)
        mixed = [history(half, (self.seed, self.step, kind)) for kind, (history, half) in enumerate(pairs)]
        return torch.cat(mixed, dim=1)[self.global_rank * n : (self.global_rank + 1) * n]

    # ---- use ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def translate(self, x: Tensor, backwards: bool = False) -> Tensor:
        """a -> b̂, or b -> â `backwards`, by the averaged generator in evaluation mode; (B, C, ...)"""
        both = self.generator if self.generator_ema is None else self.generator_ema
        net = both.second if backwards else both.first
        training = net.training
        net.eval()
        try:
            return net(x)
        finally:
            net.train(training)

    def compared(self, x: Tensor) -> list[Tensor]:
        """a, b̂, and a once more made of it; b, â, and b once more: rows to look at"""
        a, b = halves(x)
        b_hat, a_hat = self.translate(a), self.translate(b, backwards=True)
        return [a, b_hat, self.translate(b_hat, backwards=True), b, a_hat, self.translate(a_hat)]

    def shipped(self, x: Tensor) -> dict[str, tuple[nn.Module, Tensor]]:
        """What bundles are made of: {suffix of its name: (net, examples of what it is shown)}"""
        both = self.generator if self.generator_ema is None else self.generator_ema
        a, b = halves(x)
        return {"": (both.first, a), "_back": (both.second, b)}
