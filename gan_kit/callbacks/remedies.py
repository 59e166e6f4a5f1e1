"""What the guardian can do about a fault: turn γ, p and lr while the training runs, or take it back to where it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from gan_kit.callbacks.metrics import keep_until
from gan_kit.runs import checkpoint_path, checkpoints

__all__ = ["GOOD", "Remedies", "Turned"]

GOOD = "checkpoints/good.ckpt"  # in a run: the last state in which nothing was wrong
MOST = {"gamma": 64.0, "p": 0.8, "lr": 1 / 64}


class Turned:
    """A number or schedule, turned: samples_seen -> change(its value)"""

    def __init__(self, value: Any, change: Callable[[float], float]):
        self.value, self.change = value, change

    def __call__(self, samples_seen: int) -> float:
        return self.change(self.value(samples_seen) if callable(self.value) else self.value)


class Remedies:
    """lr and gamma: what those of the config are multiplied by; p: what is added to augmentation's

    They are part of the guardian's state in checkpoints, and functions of what all ranks know.
    """

    def __init__(self, lr_factor: float = 0.5, max_rollbacks: int = 3):
        self.lr_factor, self.max_rollbacks = lr_factor, max_rollbacks
        self.turned = {"lr": 1.0, "gamma": 1.0, "p": 0.0}
        self.rollbacks = 0
        self.able: set[str] = {"lr"}

    @property
    def rollbacks_left(self) -> int:
        return self.max_rollbacks - self.rollbacks

    def attach(self, gan: Any) -> None:
        """Put the knobs between the config's values and the step; γ is the weight of every penalty."""
        for penalty in getattr(gan, "penalties", {}).values():
            if not isinstance(penalty.weight, Turned):
                penalty.weight = Turned(penalty.weight, lambda w: w * self.turned["gamma"])
            self.able.add("gamma")
        p = getattr(gan, "augment_p", None)
        if getattr(gan, "augment", None) is not None and not hasattr(p, "settle"):  # one that adapts by itself may
            if not isinstance(p, Turned):
                gan.augment_p = Turned(p, lambda p: min(1.0, p + self.turned["p"]))
            self.able.add("p")
        for name in ("lr_g", "lr_d"):
            schedule = getattr(gan, "schedules", {}).get(name)
            if schedule is not None and not isinstance(schedule, Turned):
                gan.schedules[name] = Turned(schedule, lambda lr: lr * self.turned["lr"])

    def adapt(self, trainer: Trainer, gan: Any, fault: str) -> str:
        """Turn the knob that the fault wants, the next where it is at its end; -> what was done, "" for nothing"""
        wanted = {
            "overfitting": ("p", "gamma", "lr"),
            "memorisation": ("p", "gamma", "lr"),
            "collapse": ("gamma", "lr"),
            "divergence": ("lr", "gamma"),
        }[fault]
        for knob in wanted:
            before = self.turned[knob]
            if knob not in self.able or (before <= MOST[knob] if knob == "lr" else before >= MOST[knob]):
                continue
            if knob == "p":
                self.turned["p"] = min(MOST["p"], before + 0.1)
                return f"augmentation's p is {self.turned['p']:.1f} above its setting now"
            if knob == "gamma":
                self.turned["gamma"] = before * 2
                return f"γ is {self.turned['gamma']:g} times its setting now"
            self.set_lr(trainer, gan, before * self.lr_factor)
            return f"lr is {self.turned['lr']:g} times its setting now"
        return ""

    def set_lr(self, trainer: Trainer, gan: Any, factor: float) -> None:
        """Rates with a schedule follow it times the factor; the others are changed where they stand, and saved."""
        ratio, self.turned["lr"] = factor / self.turned["lr"], factor
        for opt, letter in zip(trainer.optimizers, "gd", strict=False):
            if f"lr_{letter}" not in gan.schedules:
                for group in opt.param_groups:
                    group["lr"] *= ratio

    # ---- going back -----------------------------------------------------------------------------------------

    def good_at(self, trainer: Trainer, gan: Any) -> int | None:
        """Samples seen by the good checkpoint, None where there is none of this run's past"""
        path = Path(trainer.default_root_dir) / GOOD
        if not path.exists():
            return None
        seen = trainer.strategy.load_checkpoint(path, weights_only=True)["gan"]["samples_seen"]
        return seen if seen <= gan.samples_seen else None

    def roll_back(self, trainer: Trainer, gan: Any, guardian: Any) -> str:
        """Weights, optimisers, clocks, data and what other callbacks remember, as they were; lr is lowered.

        Lightning's own count of batches goes on.
        """
        run = Path(trainer.default_root_dir)
        told, rollbacks, lr = list(guardian.told), self.rollbacks + 1, self.turned["lr"] * self.lr_factor
        saved = trainer.strategy.load_checkpoint(run / GOOD, weights_only=True)
        gan.on_load_checkpoint(saved)
        trainer.strategy.load_model_state_dict(saved, strict=True)
        trainer.strategy.load_optimizer_state_dict(saved)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        data.rewind(saved[type(data).__qualname__])
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if state := saved["callbacks"].get(callback.state_key):
                callback.load_state_dict(copy.deepcopy(state))
        gan.scalars = {}
        guardian.told, self.rollbacks = told, rollbacks
        self.set_lr(trainer, gan, lr)
        for log in ("metrics.jsonl", "evaluation/history.jsonl"):
            if trainer.is_global_zero:
                keep_until(run / log, gan.samples_seen)
        trainer.save_checkpoint(checkpoint_path(run, gan.samples_seen))
        if trainer.is_global_zero:
            for path in checkpoints(run):
                if path.name > checkpoint_path(run, gan.samples_seen).name:
                    path.unlink()  # of the way that led astray: resuming would take the newest
        return f"back to {gan.samples_seen:,} samples with lr {lr:g} times its setting"

    def state_dict(self) -> dict[str, Any]:
        return {"turned": dict(self.turned), "rollbacks": self.rollbacks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.turned.update(state["turned"])
        self.rollbacks = state["rollbacks"]
