"""Watches a GAN's training for what goes wrong: tells, and by choice mends, goes back, or ends it."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor

from gan_kit.callbacks import signs
from gan_kit.callbacks.clock import crossed
from gan_kit.callbacks.guard import Guard
from gan_kit.callbacks.metrics import log_row
from gan_kit.callbacks.probe import Probe, Sight
from gan_kit.callbacks.remedies import GOOD, Remedies
from gan_kit.types import UserError

__all__ = ["ADVICE", "FAULTS", "Guardian"]

FAULTS = ("overfitting", "collapse", "divergence", "memorisation")
ACTIONS = ("off", "warn", "adapt", "rollback", "stop")
# beyond which a sign is a fault; docs/train.md tells what healthy trainings have
LIMITS = {"gap": 0.5, "order": 0.98, "diversity": 0.05, "recall": 0.05, "growth": 20.0, "copies": 0.5}
REMEMBERED = ("diversity", "recall")
SURE = 4.0  # standard errors between D's logits of training and of held-out reals
LOUD = 50.0  # a loss below this is no divergence, however much it grew
ADVICE = {
    "overfitting": "D knows the training data by heart: augment=diffaugment augment.p=0.3, a larger γ, or more data",
    "collapse": "the samples are alike: a larger γ, a smaller lr, a smaller optimizer.*.betas[0]",
    "divergence": "losses run away: a smaller lr, a larger γ, model.clip_g=1.0 model.clip_d=1.0",
    "memorisation": "samples are copies of training data: augment=diffaugment, a smaller generator, or more data",
}


class Guardian(Guard):
    """Every `every_samples` samples looks at `samples` reals and fakes, writes what it sees into metrics.jsonl and the
    loggers, and acts on each fault that shows in `patience` more looks than it does not.

    action: for all faults, or {fault: action, others: "warn"}. The faults are overfitting of D, collapse onto few
        modes, divergence, and memorisation (samples that are copies). The actions:
        off, warn (once a fault), adapt (γ times two, augmentation's p up, or lr down, as the fault wants it),
        rollback (to where all was well, lr times `lr_factor`), stop (after saving)
    limits: of the signs, over the defaults: gap, order, diversity, recall, growth, copies
    grace_looks: looks that have no consequence, while G still learns its first shapes
    max_rollbacks: then the training ends. reference: training samples among which copies are looked for, at most
    every_steps, explosion: see Guard. What is no number ends the training, unless divergence has action rollback

    It draws nothing from the training's random numbers: with actions off or warn the training is bitwise as without.
    """

    def __init__(
        self,
        every_samples: int = 25_000,
        action: str | Mapping[str, str] = "warn",
        samples: int = 256,
        patience: int = 2,
        grace_looks: int = 2,
        limits: Mapping[str, float] | None = None,
        lr_factor: float = 0.5,
        max_rollbacks: int = 3,
        reference: int = 20_000,
        seed: int = 0,
        every_steps: int = 50,
        explosion: float = 1e6,
    ):
        super().__init__(every_steps, explosion)
        for name, value, least in (
            ("every_samples", every_samples, 1),
            ("patience", patience, 1),
            ("samples", samples, 16),
            ("reference", reference, 2),
            ("grace_looks", grace_looks, 0),
            ("max_rollbacks", max_rollbacks, 0),
        ):
            if value < least:
                raise UserError(f"{name}={value} must be at least {least}")
        if unknown := (limits or {}).keys() - LIMITS.keys():
            raise UserError(f"no such limit {sorted(unknown)[0]!r}; have {', '.join(LIMITS)}")
        if not 0 < lr_factor <= 1:
            raise UserError(f"lr_factor={lr_factor} must lie above 0 and at most at 1")
        self.every_samples, self.samples, self.patience, self.grace_looks = (
            every_samples,
            samples,
            patience,
            grace_looks,
        )
        self.action = actions(action)
        self.limits = {**LIMITS, **(limits or {})}
        self.reference, self.seed = reference, seed
        self.remedies = Remedies(lr_factor, max_rollbacks)
        self.probe: Probe | None = None
        self.past: list[dict[str, float]] = []  # what was seen at each look
        self.peaks: list[float] = []  # the largest losses of the latest stretches between two looks
        self.streaks: dict[str, int] = {}
        self.told: list[str] = []

    # ---- when -----------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        if {"adapt", "rollback"} & set(self.action.values()):
            self.remedies.attach(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.is_global_zero and hasattr(pl_module, "sample") and hasattr(data, "seen"):
            self.probe = Probe(data, self.samples, self.reference, self.seed)
        if "rollback" in self.action.values() and not self.remedies.good_at(trainer, pl_module):
            trainer.save_checkpoint(Path(trainer.default_root_dir) / GOOD)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        seen = pl_module.samples_seen
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        went_back = pl_module.samples_seen != seen  # to a look that was taken already
        if not went_back and crossed(self.every_samples, pl_module, batch, trainer):
            self.look(trainer, pl_module)

    # ---- what -----------------------------------------------------------------------------------------------

    def look(self, trainer: Trainer, gan: Any) -> None:
        """See how things are, write it down, act."""
        peak = self.peak(trainer)
        row = {"peak_loss": peak, "growth": signs.growth(self.peaks, peak, least=LOUD)}
        if trainer.is_global_zero:
            if self.probe is not None:
                row.update(read(self.probe.look(gan), relative=bool(getattr(gan.loss, "g_sees_real", False))))
            for net in ("generator", "discriminator"):
                if hasattr(gan, net):
                    row[f"gradient_{net[0]}"] = gradient_norm(getattr(gan, net))
            log_row(trainer, gan, {f"guardian/{k}": v for k, v in row.items()})
        row = trainer.strategy.broadcast(row)
        found = faults(row, self.past, self.limits)
        if len(self.past) < self.grace_looks:
            found = {fault: why for fault, why in found.items() if fault == "divergence"}
        found = {fault: why for fault, why in found.items() if self.action[fault] != "off"}
        self.past.append({sign: row[sign] for sign in REMEMBERED if sign in row})
        if "divergence" not in found:  # what has run away is no measure of what comes
            self.peaks = [*self.peaks[-4:], peak]
        # a fault that comes and goes is one, too
        before = {fault: self.streaks.get(fault, 0) for fault in FAULTS}
        self.streaks = {f: n + 1 if f in found else max(n - 1, 0) for f, n in before.items()}
        for fault in found:
            if self.streaks[fault] >= self.patience and self.act(trainer, gan, fault, found[fault]):
                return
        if not found and "rollback" in self.action.values():
            trainer.save_checkpoint(Path(trainer.default_root_dir) / GOOD)

    def act(self, trainer: Trainer, gan: Any, fault: str, why: str) -> bool:
        """-> whether the training is no longer where it was"""
        action = self.action[fault]
        what = f"{fault} at {gan.samples_seen:,} samples ({why})"
        if action == "rollback" and not trainer.should_stop:
            return self.go_back(trainer, gan, what)
        if action == "adapt":
            self.streaks[fault] = 0
            done = self.remedies.adapt(trainer, gan, fault)
            self.say(trainer, f"{what}: {done}" if done else f"{what}: nothing is left to adapt; {ADVICE[fault]}")
            return False
        if action == "stop":
            self.say(trainer, f"{what}: stopping. {ADVICE[fault]}")
            trainer.should_stop = True
            return False
        if fault not in self.told:
            self.told.append(fault)
            self.say(trainer, f"{what}. {ADVICE[fault]} (docs/train.md)")
        return False

    def go_back(self, trainer: Trainer, gan: Any, what: str) -> bool:
        if not self.remedies.rollbacks_left:
            self.say(trainer, f"{what}: all {self.remedies.max_rollbacks} rollbacks are used up, stopping")
            trainer.should_stop = True
            return False
        done = self.remedies.roll_back(trainer, gan, self)
        self.say(trainer, f"{what}: {done}")
        self.forget(gan.device)
        self.streaks = {}
        return True

    def broken(self, trainer: Trainer, pl_module: Any, what: str) -> None:
        able = self.action["divergence"] == "rollback" and self.remedies.rollbacks_left and not trainer.should_stop
        if not able:
            super().broken(trainer, pl_module, what)
        self.go_back(trainer, pl_module, what)

    def say(self, trainer: Trainer, what: str) -> None:
        if trainer.is_global_zero:
            warnings.warn(what, stacklevel=2)

    # ---- its state ------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        names = ("past", "peaks", "streaks", "told")
        mine = {name: copy.deepcopy(getattr(self, name)) for name in names}
        return {**mine, "remedies": self.remedies.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.past, self.peaks = list(state_dict["past"]), list(state_dict["peaks"])
        self.streaks, self.told = dict(state_dict["streaks"]), list(state_dict["told"])
        self.remedies.load_state_dict(state_dict["remedies"])


def actions(action: str | Mapping[str, str]) -> dict[str, str]:
    """{fault: action} for all faults. Raises UserError for others."""
    if isinstance(action, str):
        given = dict.fromkeys(FAULTS, action)
    else:
        if unknown := action.keys() - {*FAULTS, "others"}:
            raise UserError(f"no such fault {sorted(unknown)[0]!r}; have {', '.join(FAULTS)} and others")
        given = {fault: action.get(fault, action.get("others", "warn")) for fault in FAULTS}
    for fault, name in given.items():
        if name not in ACTIONS:
            raise UserError(f"action {name!r} on {fault}; have {', '.join(ACTIONS)}")
    return given


def read(sight: Sight, relative: bool) -> dict[str, float]:
    """The signs of one look. relative: D's logits are judged by their differences alone (relativistic losses)"""
    real, fake = signs.standardised(sight.real_features, sight.fake_features)
    row = {
        "sign": signs.sign_statistic(sight.train, sight.fake if relative else None),
        "order": signs.sign_statistic(sight.train, sight.fake),
        "diversity": signs.diversity(real, fake, sight.y, sight.y),
        "recall": signs.recall(real, fake),
        "copies": signs.copy_share(sight.near, sight.reference),
    }
    if sight.held is not None:
        gap = signs.held_out_gap(sight.train, sight.held, sight.fake)
        row.update(gap=gap.value, gap_z=gap.z)
    return row


def faults(
    row: Mapping[str, float], past: Sequence[Mapping[str, float]] = (), limits: Mapping[str, float] = LIMITS
) -> dict[str, str]:
    """{fault: the sign that says so, in words}; past: the rows of the looks before, oldest first"""
    found = {}
    loud = not math.isfinite(row["peak_loss"]) or row["peak_loss"] > LOUD
    if loud and not row["growth"] <= limits["growth"]:
        found["divergence"] = f"a loss of {row['peak_loss']:.3g}, {row['growth']:.3g} times what it was"
    if "diversity" in row and (why := alike(row, past, limits)):
        found["collapse"] = why
    if "gap" in row:
        if row["gap"] > limits["gap"] and row["gap_z"] > SURE:
            found["overfitting"] = f"held-out gap {row['gap']:.2f}"
    elif row.get("order", 0) > limits["order"] and not found:  # where G has failed, D need not know much
        known = (row["order"] + 1) / 2
        found["overfitting"] = (
            f"D tells {known:.1%} of reals from fakes, or G is far behind: data.val_fraction=0.1 would tell which"
        )
    if row.get("copies", 0) > limits["copies"]:
        found["memorisation"] = f"{row['copies']:.0%} of samples nearer to training data than reals not in it"
    return found


def alike(row: Mapping[str, float], past: Sequence[Mapping[str, float]], limits: Mapping[str, float]) -> str:
    """How one sees that the samples are few of a kind, or ""; a generator that is only young gets more varied."""
    diversity, before = row["diversity"], [r["diversity"] for r in past if "diversity" in r]
    rising = len(before) > 1 and diversity >= 0.8 * max(before) and diversity > 1.5 * before[-2]
    if diversity < limits["diversity"] and not rising:
        return f"diversity {diversity:.3f} of the reals'"
    fell = max((r["recall"] for r in past if "recall" in r), default=0) > 0.5
    if row["recall"] < limits["recall"] and fell and diversity < 0.5:
        return f"recall {row['recall']:.3f}, diversity {diversity:.2f} of the reals'"
    return ""


def gradient_norm(net: Any) -> float:
    """Of the latest step, before the next one forgets it; 0 without one"""
    squares: list[Tensor] = [p.grad.float().square().sum() for p in net.parameters() if p.grad is not None]
    return math.sqrt(sum(float(s) for s in squares))
