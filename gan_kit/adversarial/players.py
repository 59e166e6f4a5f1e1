"""What every adversarial step stands on: two nets that descend in turn, and the clock they share."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import lightning.pytorch as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_kit.adversarial.adaptive import Adaptive
from gan_kit.adversarial.ema import EMA
from gan_kit.adversarial.losses import Loss
from gan_kit.adversarial.penalties import DView, Latent, Penalty
from gan_kit.adversarial.schedule import Scheduled, value_at
from gan_kit.noise import BatchNoise, Noise, mix
from gan_kit.types import Batch, Critique, UserError

__all__ = ["Players", "describe", "differing", "frozen"]

SCHEDULES = ("lr_g", "lr_d", "beta2_g", "beta2_d")


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Within the block no parameter of `net` takes gradients."""
    taking = [p for p in net.parameters() if p.requires_grad]
    for p in taking:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in taking:
            p.requires_grad_(True)


class Players(L.LightningModule):
    """Generator, discriminator, their optimisers, averages and schedules; subclasses say what each descends on.

    The arguments are those of `GAN` and `Reconstruction`. The clock is `samples_seen`: reals shown to the step.
    """

    counted = "d"  # whose optimiser steps once with every batch: Lightning counts that one's steps
    critic_weights: Sequence[float] | None = None  # one a sub-discriminator, in both losses; None: 1 each

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
        accumulate: int = 1,
        clip_g: float | None = None,
        clip_d: float | None = None,
        schedules: Mapping[str, Callable[[int], float]] | None = None,
        seed: int = 0,
        init_seed: int | None = None,
    ):
        super().__init__()
        self.automatic_optimization = False
        if accumulate < 1:
            raise UserError(f"accumulate={accumulate} must be at least 1")
        if unknown := (schedules or {}).keys() - set(SCHEDULES):
            raise UserError(f"no such schedule {sorted(unknown)}; have {sorted(SCHEDULES)}")
        self.generator: Any = generator
        self.discriminator: Any = discriminator
        if init_seed is not None:
            for name, net in (("generator", generator), ("discriminator", discriminator)):
                with torch.random.fork_rng():
                    torch.manual_seed(mix(init_seed, *name.encode()))
                    net.reset_parameters()  # type: ignore[operator]
        self.loss, self.penalties = loss, dict(penalties or {})
        self.augment, self.augment_p = augment, augment_p
        self.ema = ema
        self.generator_ema: Any = copy.deepcopy(generator).eval().requires_grad_(False) if ema else None
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        self.accumulate = accumulate
        self.clip_g, self.clip_d = clip_g, clip_d
        self.schedules = dict(schedules or {})
        self.seed = seed
        self.step, self.samples_seen = 0, 0
        self._settings: list[list[dict[str, Any]]] = []  # of the optimisers, as configured here and in the checkpoint
        self._saved_settings: list[list[dict[str, Any]]] | None = None
        self.adaptive: dict[str, Adaptive] = {}
        self.follow(augment_p=augment_p, **{f"penalty_{name}": penalty for name, penalty in self.penalties.items()})
        for penalty in self.penalties.values():
            penalty.prepare(discriminator)
        self.scalars: dict[str, Tensor] = {}  # of the latest step, detached: callbacks read them when they wish

    # ---- the step -------------------------------------------------------------------------------------------

    def descend(
        self,
        opt: Any,
        loss_of: Callable[..., Tensor],
        batch: Batch,
        phase: int,
        clip: float | None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """One optimiser step on the batch, whose micro-batches' gradients add up to the whole batch's.

        meanwhile: what may be done between the last gradient and the step, while ranks wait for each other's
        """
        opt.zero_grad()
        noise = self.noise(phase, len(batch.x))
        for start, stop in self.cuts(len(batch.x)):
            y = None if batch.y is None else batch.y[start:stop]
            share = (stop - start) / len(batch.x)
            self.manual_backward(loss_of(batch.x[start:stop], y, noise.part(start, stop)) * share)
        if self.world_size > 1:
            strategy: Any = self.trainer.strategy
            strategy.average_gradients((p for group in opt.param_groups for p in group["params"]), meanwhile)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_([p for group in opt.param_groups for p in group["params"]], clip)
        opt.step()

    def critic_loss(
        self, real: Tensor, fake: Tensor, y: Tensor | None, noise: BatchNoise, latent: Latent | None = None
    ) -> Tensor:
        """D's loss on reals and fakes, with the penalties that are due."""
        due = {name: penalty for name, penalty in self.penalties.items() if penalty.due(self.step)}
        twice = any(penalty.differentiates_x for penalty in due.values())
        # double backward is not to be trusted in half precision: a step with such penalties is taken in fp32
        with torch.autocast(real.device.type, enabled=torch.is_autocast_enabled(real.device.type) and not twice):
            real, fake = real.detach().requires_grad_(twice), fake.to(real.dtype).requires_grad_(twice)
            critique = self.critic(y, noise)
            call_real, on_real = noise.calls, critique(real)
            call_fake, on_fake = noise.calls, critique(fake)
            loss = self.adversarial(self.loss.d, on_real, on_fake)
            self.note("loss_d", loss)
            self.note("logits_real", on_real.logits[0].mean())
            self.note("logits_fake", on_fake.logits[0].mean())
            calls = (call_real, call_fake)
            view = DView(critique, real, fake, on_real, on_fake, noise, *calls, y, self.discriminator, latent)
            for name, penalty in due.items():
                term = penalty(view, self.samples_seen)
                self.note(f"penalty_{name}", term / penalty.every)
                loss = loss + term
        for state in self.adaptive.values():
            state.watch(on_real, on_fake)
        return loss

    def settle(self, samples: int) -> None:
        """The end of a step for whatever adapts: `samples` reals went into it, on all ranks."""
        for name, state in self.adaptive.items():
            state.settle(self.mean_over_ranks, samples)
            for suffix, value in state.readings().items():
                self.note(name + suffix, value)

    # ---- its parts ------------------------------------------------------------------------------------------

    def critic(self, y: Tensor | None, noise: Noise) -> Callable[[Tensor], Critique]:
        """D behind its augmentation, with the labels bound; gradients reach the un-augmented x.

        A D that draws random numbers says so (`takes_noise`) and is given `noise`.
        """
        more = {"noise": noise} if getattr(self.discriminator, "takes_noise", False) else {}
        if self.augment is None:
            return lambda x: self.discriminator(x, y, **more)
        p = value_at(self.augment_p, self.samples_seen)
        return lambda x: self.discriminator(self.augment(x, p, noise), y, **more)  # type: ignore[misc]

    def adversarial(self, loss: Callable[..., Tensor], on_real: Critique | None, on_fake: Critique) -> Tensor:
        """The loss summed over sub-discriminators, in fp32."""
        reals = [None] * len(on_fake.logits) if on_real is None else [r.float() for r in on_real.logits]
        losses = [loss(r, f.float()) for r, f in zip(reals, on_fake.logits, strict=True)]
        return self.weighted(losses)

    def weighted(self, losses: Sequence[Tensor]) -> Tensor:
        """One scalar of one a sub-discriminator."""
        weights = self.critic_weights or [1.0] * len(losses)
        if len(weights) != len(losses):
            raise UserError(f"{len(weights)} critic_weights for {len(losses)} sub-discriminators; give one each")
        return sum((w * x for w, x in zip(weights, losses, strict=True)), torch.zeros((), device=self.device))

    def noise(self, phase: int, batch_size: int) -> BatchNoise:
        """Draws of this step and phase for the global batch, of which this rank takes its rows."""
        start = self.global_rank * batch_size
        total = batch_size * self.world_size
        return BatchNoise((self.seed, self.step, phase), total, start, start + batch_size, device=self.device)

    def mean_over_ranks(self, x: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(x, reduce_op="mean") if self.world_size > 1 else x

    def follow(self, **things: Any) -> None:
        """Settle these with each step and keep their state, where they have one."""
        self.adaptive.update({name: thing for name, thing in things.items() if isinstance(thing, Adaptive)})

    @property
    def world_size(self) -> int:
        return self._trainer.world_size if self._trainer else 1

    def cuts(self, batch_size: int) -> list[tuple[int, int]]:
        if batch_size < self.accumulate:
            raise UserError(f"a batch of {batch_size} can't be cut into accumulate={self.accumulate} micro-batches")
        size = math.ceil(batch_size / self.accumulate)
        return [(start, min(start + size, batch_size)) for start in range(0, batch_size, size)]

    def note(self, name: str, value: Tensor) -> None:
        self.scalars[name] = value.detach()

    def set_schedules(self) -> None:
        if not self.schedules:
            return
        for opt, letter in zip(self.optimizers(), "gd", strict=True):
            for group in opt.param_groups:
                if lr := self.schedules.get(f"lr_{letter}"):
                    group["lr"] = lr(self.samples_seen)
                if beta2 := self.schedules.get(f"beta2_{letter}"):
                    group["betas"] = (group["betas"][0], beta2(self.samples_seen))

    # ---- Lightning ------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[Optimizer]:
        made = [self.optimizer_g(self.generator.parameters()), self.optimizer_d(self.discriminator.parameters())]
        self._settings = [[{k: v for k, v in g.items() if k != "params"} for g in o.param_groups] for o in made]
        return made

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        """G's and D's. Lightning counts a step for each `step()` of its own wrapper: only `counted`'s goes through it,
        so that `global_step` is the number of batches."""
        both: Any = super().optimizers(use_pl_optimizer)
        return tuple(
            opt.optimizer if letter != self.counted and isinstance(opt, LightningOptimizer) else opt
            for letter, opt in zip("gd", both, strict=True)
        )

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.generator_ema is not None:
            self.generator_ema.eval()
        return self

    def on_fit_start(self) -> None:
        if self.trainer.precision == "16-mixed":
            raise UserError(
                "precision 16-mixed shares one loss scaler between both optimisers; use bf16-mixed or 32-true"
            )
        strategy = self.trainer.strategy
        if self.world_size > 1 and not hasattr(strategy, "average_gradients"):
            raise UserError(
                f"{type(strategy).__name__} does not average the gradients of two optimisers; use strategy=gan_ddp"
            )

    def on_train_start(self) -> None:
        # a checkpoint brings back lr and betas too: a resumed run that was given others is to use them
        for opt, now, before in zip(self.optimizers(), self._settings, self._saved_settings or [], strict=False):
            for group, mine, saved in zip(opt.param_groups, now, before, strict=False):
                group.update({k: v for k, v in mine.items() if k in saved and saved[k] != v})

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # dropout and the like draw from the global generators: make them a function of (seed, step, rank) too
        torch.default_generator.manual_seed(mix(self.seed, self.step, self.global_rank))
        if self.device.type == "cuda":
            torch.cuda.manual_seed(mix(self.seed, self.step, self.global_rank))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["gan"] = {
            "step": self.step,
            "samples_seen": self.samples_seen,
            "generator": describe(self.generator),
            "discriminator": describe(self.discriminator),
            "settings": self._settings,
            "adaptive": {name: state.state_dict() for name, state in self.adaptive.items()},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint["gan"]
        for name, net in (("generator", self.generator), ("discriminator", self.discriminator)):
            if differences := differing(saved[name], describe(net), defaults_of(net)):
                raise UserError(
                    f"the checkpoint holds another {name}: {differences}; resume without changing the networks, "
                    f"or start a new run"
                )
        self.step, self.samples_seen = saved["step"], saved["samples_seen"]
        self._saved_settings = saved.get("settings")
        for name, state in saved.get("adaptive", {}).items():
            if name in self.adaptive:
                self.adaptive[name].load_state_dict(state)


def describe(thing: Any) -> dict[str, Any]:
    """{"target": import path, "args": its plain constructor arguments where it records them}"""
    cls = type(thing)
    given = getattr(thing, "init_args", {}).items()
    args = {k: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for k, v in given}  # type: ignore[arg-type]
    return {"target": f"{cls.__module__}.{cls.__qualname__}", "args": args}


def defaults_of(thing: Any) -> dict[str, Any]:
    """What the arguments of its constructor are where they are not given, those that have such a value"""
    given = inspect.signature(type(thing)).parameters.items()
    return {
        k: list(p.default) if isinstance(p.default, tuple) else p.default for k, p in given if p.default is not p.empty
    }


def differing(saved: dict[str, Any], here: dict[str, Any], defaults: Mapping[str, Any] | None = None) -> str:
    """The differences of two descriptions in words, or ""

    defaults: of arguments that what was saved, by an older version, did not have yet
    """
    known = {k: v for k, v in (defaults or {}).items() if k in here["args"]}
    a = _flat({**known, "target": saved["target"], **saved["args"]})
    b = _flat({"target": here["target"], **here["args"]})
    return ", ".join(
        f"{k} was {a.get(k)!r}, is {b.get(k)!r}" for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)
    )


def _flat(args: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """{"spec": {"fmax": 8000.0}} -> {"spec.fmax": 8000.0}: of two specs only what differs is told"""
    out: dict[str, Any] = {}
    for name, value in args.items():
        out |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) and value else {before + name: value}
    return out
