"""The guardian on trainings that are made to fail in each way, and on healthy ones."""

from __future__ import annotations

import json
import math
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from gan_kit.adversarial import EMA, GAN, R1, R2, LeastSquares, Loss, NonSaturating, Penalty, Relativistic
from gan_kit.callbacks import AtomicCheckpointIO, Budget, Checkpoints, Guardian, MetricsLog, signs
from gan_kit.callbacks.guardian import FAULTS, faults
from gan_kit.data import ArrayDataModule, DigitsData, GridData, RingData
from gan_kit.image import DCGANDiscriminator, DCGANGenerator
from gan_kit.nn import Recorded
from gan_kit.runs import checkpoints
from gan_kit.types import UserError
from gan_kit.vector import MLPDiscriminator, MLPGenerator


class Replay(Recorded, nn.Module):
    """The first `rows` of the training digits, which training leaves alone: z (B, 1) -> x (B, 1, 8, 8)"""

    z_dim, num_classes = 1, 0

    def __init__(self, rows: int = 600) -> None:
        super().__init__()
        self.table = DigitsData(labels=False, val_fraction=0.2).seen("train", np.arange(rows)).x
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        uniform = 0.5 * (1 + torch.erf(z[:, 0] / math.sqrt(2)))
        return self.table[(uniform * len(self.table)).long().clamp(max=len(self.table) - 1)] + 0 * self.nothing


def fit(
    folder: Path,
    data: ArrayDataModule,
    *callbacks: Callback,
    generator: nn.Module | None = None,
    loss: Loss | None = None,
    penalties: dict[str, Penalty] | None = None,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.5, 0.9),
    steps: int = 400,
    seed: int = 0,
    resume: Path | None = None,
    **more: Any,
) -> GAN:
    torch.manual_seed(seed)
    shape = data.spec.shape
    if len(shape) == 1:
        nets: tuple[Any, Any] = (MLPGenerator(width=64), MLPDiscriminator(width=64))
    else:
        net: Any = {"size": shape[1], "channels": 1, "num_classes": data.spec.num_classes, "width": 16}
        nets = (DCGANGenerator(**net, z_dim=32), DCGANDiscriminator(**net, norm="none"))
    adam = partial(torch.optim.Adam, lr=lr, betas=betas)
    given = penalties or {}
    D, kind = nets[1], loss or NonSaturating()
    G = nets[0] if generator is None else generator
    gan = GAN(G, D, kind, adam, adam, given, ema=EMA(2000), init_seed=None if generator else seed, seed=seed, **more)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=-1,
        default_root_dir=folder,
        callbacks=[Budget(steps * data.batch_size), *callbacks],
        plugins=AtomicCheckpointIO(),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=any(isinstance(c, Checkpoints) for c in callbacks),
    )
    trainer.fit(gan, datamodule=data, ckpt_path=resume, weights_only=True)
    return gan


def curve(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "guardian/sign" in row or "guardian/peak_loss" in row]


def state(gan: GAN) -> dict[str, Any]:
    return {
        "weights": {k: v.clone() for k, v in gan.state_dict().items()},
        "adam": [opt.state_dict()["state"] for opt in gan.optimizers()] if gan._trainer else [],
        "clock": (gan.step, gan.samples_seen),
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def warned(caught: list[warnings.WarningMessage]) -> list[str]:
    """The faults that were told of, in order."""
    said = [str(w.message).split(" at ")[0] for w in caught]
    return [fault for fault in said if fault in FAULTS]


# ---- the signs ----------------------------------------------------------------------------------------------


def test_the_sign_statistic_is_one_where_d_knows_all_and_zero_where_it_guesses() -> None:
    ramp = torch.linspace(-1, 1, 100)
    assert signs.sign_statistic(ramp.abs()) == 1
    assert signs.sign_statistic(ramp) == 0
    assert signs.sign_statistic(ramp + 7, ramp + 7) == 0  # a relativistic D's offset is nothing
    assert signs.sign_statistic(ramp + 7, ramp) == 1


@pytest.mark.parametrize("scale, offset", [(1, 0), (-3, 0), (10, 100)])
def test_the_held_out_gap_is_where_held_out_logits_lie_between_reals_and_fakes(scale: float, offset: float) -> None:
    noise = torch.linspace(-1, 1, 101)
    train, fake = 4 + noise, noise
    for share in (0.0, 0.5, 1.0):
        held = 4 * (1 - share) + noise
        gap = signs.held_out_gap(*(abs(scale) * x + offset for x in (train, held, fake)))
        assert gap.value == pytest.approx(share, abs=1e-4)
        assert (gap.z > 4) == (share > 0)
    assert signs.held_out_gap(fake, fake, train).value == 0  # D prefers the fakes: nothing to measure by


def test_diversity_is_within_classes() -> None:
    y = torch.arange(200) % 2
    real = torch.randn(200, 8) + 10 * y[:, None]
    assert signs.diversity(real, real, y, y) == pytest.approx(1)
    one_a_class = torch.zeros(200, 8) + 10 * y[:, None]
    assert signs.diversity(real, one_a_class, y, y) == 0
    assert signs.diversity(real, one_a_class) > 0.9  # without labels, the classes are variety
    assert signs.diversity(torch.zeros(4, 2), torch.ones(4, 2)) == 1  # nothing to lack


def test_recall_is_the_share_of_modes_that_are_left() -> None:
    centres = torch.tensor([[0.0, 0], [9, 0], [0, 9], [9, 9]]).repeat(50, 1)
    real, fake = centres + torch.randn(200, 2) / 9, centres + torch.randn(200, 2) / 9
    assert signs.recall(real, fake) > 0.9
    two = fake[fake[:, 0] < 4]
    assert signs.recall(real, two) == pytest.approx(0.5, abs=0.05)


def test_copies_are_nearer_than_held_out_data() -> None:
    reference = torch.rand(1000) + 0.5
    assert signs.copy_share(torch.zeros(100), reference) == 1
    assert signs.copy_share(torch.rand(4000) + 0.5, reference) == pytest.approx(0.05, abs=0.03)
    duplicates = torch.zeros(10)  # data that repeat themselves: only exact copies count
    assert signs.copy_share(torch.tensor([0.0, 0.1]), duplicates) == 0.5


def test_growth_is_over_what_was_usual() -> None:
    assert signs.growth([1, 2, 3], 20) == 10
    assert signs.growth([], 20, least=10) == 2


GOOD: dict[str, float] = {"peak_loss": 2, "growth": 1, "diversity": 0.8, "recall": 0.7, "copies": 0.05, "order": 0.6}


def test_a_young_generator_is_not_a_collapsed_one() -> None:
    seen = [0.001, 0.004, 0.01, 0.03]
    past: list[dict[str, float]] = []
    for diversity in seen:
        row = GOOD | {"diversity": diversity, "recall": 0.0}
        assert not faults(row, past) or len(past) < 2
        past.append(row)
    assert "collapse" in faults(GOOD | {"diversity": 0.01, "recall": 0.0}, past)


@pytest.mark.parametrize(
    "fault, row",
    [
        ("overfitting", {"gap": 0.9, "gap_z": 9}),
        ("overfitting", {"order": 0.999}),
        ("collapse", {"diversity": 0.01}),
        ("collapse", {"diversity": 0.3, "recall": 0.0}),
        ("divergence", {"peak_loss": 5000, "growth": 500}),
        ("divergence", {"peak_loss": math.nan, "growth": math.nan}),
        ("memorisation", {"copies": 0.8}),
    ],
)
def test_each_fault_by_its_sign(fault: str, row: dict[str, float]) -> None:
    assert list(faults(GOOD | row, [GOOD, GOOD])) == [fault]


@pytest.mark.parametrize("row", [{}, {"gap": 0.9, "gap_z": 2}, {"growth": 30, "peak_loss": 9}, {"order": 1, "gap": 0}])
def test_what_is_no_fault(row: dict[str, float]) -> None:
    assert not faults({"gap_z": 9} | GOOD | row, [GOOD])


@pytest.mark.parametrize(
    "given, words",
    [
        ({"action": "panic"}, "'panic'"),
        ({"action": {"colapse": "warn"}}, "'colapse'"),
        ({"limits": {"reecall": 1.0}}, "'reecall'"),
        ({"lr_factor": 0.0}, "lr_factor=0"),
        ({"samples": 3}, "samples=3"),
        ({"patience": 0}, "patience=0"),
    ],
)
def test_settings_that_make_no_sense_are_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Guardian(**given)


# ---- around a training --------------------------------------------------------------------------------------

BATCH = 32


def ring() -> RingData:
    return RingData(count=640, batch_size=BATCH, labels=False, std=0.05, val_fraction=0.2)


def digits(**more: Any) -> DigitsData:
    return DigitsData(batch_size=BATCH, **more)


@pytest.mark.parametrize("make", [ring, lambda: digits(val_fraction=0.1), digits], ids=["ring", "held out", "digits"])
def test_looking_changes_nothing(make: Any, tmp_path: Path) -> None:
    """Not even the running statistics of G's batch norm."""
    ends = []
    for name, watch in (("with", [Guardian(2 * BATCH, samples=32)]), ("without", [])):
        ends.append(state(fit(tmp_path / name, make(), *watch, steps=7, penalties={"r1": R1(0.5)})))
    assert same(*ends)
    assert len(curve(tmp_path / "with")) == 3


def replaying(folder: Path, *callbacks: Callback, **more: Any) -> GAN:
    """A training whose samples are copies: quick, and at fault from the first look on."""
    return fit(folder, digits(labels=False, val_fraction=0.2), *callbacks, generator=Replay(), **more)


EAGER: Any = {"every_samples": 2 * BATCH, "samples": 64, "grace_looks": 0, "every_steps": 1}


def test_one_warning_a_fault_with_what_to_try(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"memorisation at 128 samples .*augment=diffaugment") as caught:
        replaying(tmp_path, Guardian(**EAGER), steps=12)
    assert warned(list(caught)) == ["memorisation"]
    assert [row["guardian/copies"] for row in curve(tmp_path)] == [1.0] * 6


def test_a_fault_can_be_left_alone(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        replaying(tmp_path, Guardian(**EAGER, action={"memorisation": "off"}), steps=8)
    assert warned(caught) == []


def test_stop_saves_and_ends(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="memorisation at 128 .*stopping"):
        gan = replaying(tmp_path, Guardian(**EAGER, action="stop"), Checkpoints(), steps=99)
    assert gan.samples_seen == 128
    assert [p.stem for p in checkpoints(tmp_path)] == [f"samples={128:012d}"]


def test_adapting_turns_the_penalty_and_then_the_rate(tmp_path: Path) -> None:
    watch = Guardian(**EAGER, action="adapt", patience=1)
    with pytest.warns(UserWarning, match="γ is 2 times"):
        gan = replaying(tmp_path, watch, steps=20, penalties={"r1": R1(0.5)})
    assert gan.penalties["r1"].weight_at(0) == 0.5 * 64
    assert watch.remedies.turned == {"lr": 0.5**4, "gamma": 64.0, "p": 0.0}
    assert {group["lr"] for opt in gan.trainer.optimizers for group in opt.param_groups} == {1e-3 * 0.5**4}


def test_an_adapted_training_resumes_bitwise(tmp_path: Path) -> None:
    def run(name: str, steps: int, resume: Path | None = None) -> dict[str, Any]:
        watch = [Guardian(**EAGER, action="adapt", patience=1), Checkpoints()]
        scheduled = {"lr_g": lambda samples: 1e-3}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return state(
                replaying(
                    tmp_path / name, *watch, steps=steps, penalties={"r1": R1(0.5)}, schedules=scheduled, resume=resume
                )
            )

    whole = run("whole", 19)
    run("cut", 15)
    assert same(run("cut", 19, checkpoints(tmp_path / "cut")[-1]), whole)


class Break(Callback):
    """Makes the loss no number, once."""

    def __init__(self, at: int, times: int = 1) -> None:
        self.at, self.left = at, times

    def on_train_batch_end(self, trainer: Trainer, gan: Any, *_: Any) -> None:
        if gan.step == self.at and self.left:
            self.left -= 1
            gan.scalars["loss_d"] = torch.tensor(math.nan)


@pytest.mark.parametrize("at", [3, 7, 19], ids=["before the first look", "later", "in a later epoch"])
def test_back_to_where_all_was_well_and_on_as_if_nothing_had_been(at: int, tmp_path: Path) -> None:
    """With lr times 1 what follows is bitwise the training that nothing went wrong in: data, noise, clocks, Adam."""
    rows = []
    ends = []
    for name, wrong in (("well", []), ("ill", [Break(at)])):
        watch = Guardian(**EAGER, action="rollback", lr_factor=1.0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            gan = fit(tmp_path / name, ring(), *wrong, watch, MetricsLog(1), Checkpoints(), steps=24)
        assert any("back to" in str(w.message) for w in caught) == bool(wrong)
        ends.append(state(gan))
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        rows.append([(r["step"], r.get("loss_d"), r.get("guardian/gap")) for r in map(json.loads, lines)])
    assert same(*ends)
    assert rows[0] == rows[1]


def test_a_rollback_lowers_the_rate_is_kept_and_comes_to_an_end(tmp_path: Path) -> None:
    watch = Guardian(**EAGER, action="rollback", max_rollbacks=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(UserError, match="no number"):
            fit(tmp_path, ring(), Break(7, times=3), watch, Checkpoints(every_samples=BATCH, keep=9), steps=24)
    assert [str(w.message).split("lr ")[-1] for w in caught if "back to" in str(w.message)] == [
        "0.5 times its setting",
        "0.25 times its setting",
    ]
    newest = torch.load(checkpoints(tmp_path)[-1], weights_only=True)
    assert newest["optimizer_states"][0]["param_groups"][0]["lr"] == 1e-3 / 4
    assert newest["gan"]["step"] == 6


# ---- trainings that fail, and some that don't ---------------------------------------------------------------


def told(folder: Path, make: Any, **more: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watch = Guardian(more.pop("every", 3200), grace_looks=1, every_steps=10, limits=more.pop("limits", None))
        fit(folder, make, watch, **more)
    return warned(caught)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [NonSaturating, Relativistic])
def test_d_that_has_32_digits_overfits(loss: type[Loss], tmp_path: Path) -> None:
    data = digits(labels=False, val_fraction=1 - 32 / 1497)
    assert told(tmp_path, data, steps=550, loss=loss()) == ["overfitting"]
    gaps = [row["guardian/gap"] for row in curve(tmp_path)]
    assert gaps[0] < 0.2 < 1 < gaps[-1]


@pytest.mark.slow
def test_g_without_a_penalty_at_a_huge_rate_collapses(tmp_path: Path) -> None:
    data = GridData(batch_size=64, labels=False)
    assert "collapse" in told(tmp_path, data, lr=2e-2, betas=(0.9, 0.999), steps=600)


@pytest.mark.parametrize("loss", [NonSaturating, LeastSquares])
def test_a_rate_of_one_diverges(loss: type[Loss], tmp_path: Path) -> None:
    data = RingData(batch_size=64, labels=False)
    with pytest.raises(UserError, match="beyond 1e"):
        told(tmp_path, data, lr=1.0, steps=100, loss=loss(), every=640)


def test_losses_that_run_away_slowly_are_told_of(tmp_path: Path) -> None:
    class Inflate(Callback):
        def on_train_batch_end(self, trainer: Trainer, gan: Any, *_: Any) -> None:
            gan.scalars["loss_d"] = torch.tensor(1.075**gan.step)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(tmp_path, ring(), Inflate(), Guardian(20 * BATCH, samples=32), steps=180)
    assert "divergence" in warned(caught)


@pytest.mark.slow
def test_quiet_on_a_healthy_ring(tmp_path: Path) -> None:
    data = RingData(batch_size=64, labels=False, std=0.05)
    penalties: dict[str, Penalty] = {"r1": R1(0.2), "r2": R2(0.2)}
    assert told(tmp_path, data, lr=4e-3, steps=800, loss=Relativistic(), penalties=penalties) == []
    assert curve(tmp_path)[-1]["guardian/diversity"] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("val_fraction", [0.0, 0.1])
def test_quiet_on_healthy_digits(val_fraction: float, tmp_path: Path) -> None:
    data = digits(val_fraction=val_fraction)
    assert told(tmp_path, data, steps=800, penalties={"r1": R1(0.5)}) == []
