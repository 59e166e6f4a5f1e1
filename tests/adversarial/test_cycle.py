"""a -> b with and without pairs under a real Trainer: the papers' steps written out, history, resume, learning."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from torch import Tensor, nn

from gan_kit.adversarial import EMA, L1, R1, Cycle, LeastSquares, NonSaturating, Relativistic, Translation
from gan_kit.adversarial.cycle import History
from gan_kit.adversarial.translation import halves
from gan_kit.data import ArrayDataModule, Arrays
from gan_kit.nn import Recorded
from gan_kit.types import Critique, UserError

B, SGD = 6, partial(torch.optim.SGD, lr=0.01)


class Mapper(Recorded, nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(1, width, 1), nn.Tanh(), nn.Conv1d(width, 1, 1))

    def reset_parameters(self) -> None:
        for m in (self.net[0], self.net[2]):
            m.reset_parameters()  # type: ignore[operator]

    def forward(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        return self.net(a)


class Judge(Recorded, nn.Module):
    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(channels, 8, 1), nn.Conv1d(8, 1, 1)

    def reset_parameters(self) -> None:
        self.a.reset_parameters()
        self.b.reset_parameters()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        h = F.leaky_relu(self.a(x), 0.2)
        return Critique([self.b(h).squeeze(1)], [[h]])


class Points:
    """a uniform on [0, 0.8], b = -a / 2: (N, 2, 4) uint8; the two in an order of their own where not paired."""

    def __init__(self, paired: bool):
        self.paired = paired

    def load(self, split: str) -> Arrays:
        rng = np.random.default_rng(0)
        a = rng.uniform(0, 0.8, (48, 1, 4))
        b = -a / 2 if self.paired else -rng.permutation(a) / 2
        return Arrays(np.round((np.concatenate([a, b], 1) + 1) * 127.5).astype(np.uint8))


def data(paired: bool = False) -> ArrayDataModule:
    return ArrayDataModule(Points(paired), batch_size=B)


def cycle(**more: Any) -> Cycle:
    arguments: dict[str, Any] = {"loss": LeastSquares(), "optimizer_g": SGD, "optimizer_d": SGD, "init_seed": 0, **more}
    return Cycle(Mapper(), Mapper(), Judge(), Judge(), **arguments)


def translation(**more: Any) -> Translation:
    arguments: dict[str, Any] = {
        "loss": NonSaturating(), "optimizer_g": SGD, "optimizer_d": SGD, "init_seed": 0,
        "terms": {"l1": L1()}, "term_weights": {"l1": 100.0}, "feature_weight": 0.0, **more,
    }  # fmt: skip
    return Translation(Mapper(), Judge(2), **arguments)


def fit(module: Any, steps: int, root: Path | None = None, resume: Path | None = None) -> Any:
    trainer = Trainer(
        accelerator="cpu", max_epochs=-1, max_steps=steps, default_root_dir=root, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=data(isinstance(module, Translation)), ckpt_path=resume, weights_only=True)
    if root is not None:
        trainer.save_checkpoint(root / f"{steps}.ckpt")
    return module


def batches(paired: bool, n: int) -> list[Tensor]:
    stream = data(paired)
    loader = stream.train_dataloader()
    return [stream.on_after_batch_transfer(loader.batch(*divmod(i, len(loader))), 0).x for i in range(n)]


def furthest(a: nn.Module, b: nn.Module) -> float:
    return max((v - b.state_dict()[k]).abs().max().item() for k, v in a.state_dict().items())


# ---- without pairs ----------------------------------------------------------------------------------------------


def test_the_step_is_cyclegans_written_out() -> None:
    """Zhu et al. 2017, equations 1 to 3 and sections 4 and 5.2, whose least squares are twice ours."""
    ours = cycle(history=0)
    G, F_, D_a, D_b = (
        copy.deepcopy(net)
        for net in (*ours.generator.children(), *ours.discriminator.children())
    )  # fmt: skip
    opt_g = SGD([*G.parameters(), *F_.parameters()])
    opt_d = SGD([*D_a.parameters(), *D_b.parameters()])
    fit(ours, 3)
    for x in batches(False, 3):
        a, b = x[:, :1], x[:, 1:]
        fake_a, fake_b = F_(b), G(a)
        adversarial = sum((D(f).logits[0] - 1).square().mean() for D, f in ((D_a, fake_a), (D_b, fake_b)))
        cycled = (F_(fake_b) - a).abs().mean() + (G(fake_a) - b).abs().mean()
        same = (F_(a) - a).abs().mean() + (G(b) - b).abs().mean()
        opt_g.zero_grad()
        (adversarial + 10 * cycled + 5 * same).backward()
        opt_g.step()
        opt_d.zero_grad()
        for D, real, fake in ((D_a, a, fake_a.detach()), (D_b, b, fake_b.detach())):
            loss = ((D(real).logits[0] - 1).square().mean() + D(fake).logits[0].square().mean()) / 2
            loss.backward()
        opt_d.step()
    for mine, theirs in zip(
        (*ours.generator.children(), *ours.discriminator.children()), (G, F_, D_a, D_b), strict=True
    ):
        assert furthest(mine, theirs) < 1e-6
    assert furthest(ours.generator, cycle().generator) > 1e-3


def test_history_is_shrivastavas_pool() -> None:
    history = History(5)
    kept: list[float] = []
    swapped = 0
    for step in range(60):
        fakes = torch.arange(3.0) + 3 * step
        shown = history(fakes, (7, step)).tolist()
        for row, fake in enumerate(fakes.tolist()):
            if len(kept) < 5:
                kept.append(fake)
                assert shown[row] == fake
            elif shown[row] != fake:
                assert kept.count(shown[row]) == 1  # a kept one, which leaves
                kept[kept.index(shown[row])] = fake
                swapped += 1
    assert history.kept.tolist() == kept
    assert 60 < swapped < 115  # half of 175
    assert torch.equal(History(0)(fakes, (0,)), fakes)
    with pytest.raises(UserError, match="history=-1"):
        History(-1)


def test_discriminators_see_earlier_fakes() -> None:
    made: list[Tensor] = []
    shown: list[Tensor] = []
    module = cycle(history=3)
    real_d, real_memory = module.d_loss, module.remembered

    def watched(both: Tensor, *rest: Any) -> Tensor:
        shown.append(halves(both)[1])
        return real_d(both, *rest)

    def memory(fakes: Tensor) -> Tensor:
        made.append(fakes)
        return real_memory(fakes)

    module.d_loss, module.remembered = watched, memory  # type: ignore[method-assign]
    fit(module, 8)
    for kind in (0, 1):
        fresh = (torch.stack(shown)[:, :, kind] == torch.stack(made)[:, :, kind]).all(-1)  # (8, B)
        assert fresh[0, :3].all()
        assert 0.3 < fresh[1:].float().mean() < 0.7
        earlier = torch.cat(made[:-1])[:, kind]
        for row in shown[-1][~fresh[-1]][:, kind]:
            assert (row == torch.cat([earlier, made[-1][:, kind]])).all(1).any()
    assert module.history_a.kept.shape == (3, 1, 4)
    assert not torch.equal(module.history_a.kept, module.history_b.kept)


@pytest.mark.parametrize("more", [{}, {"loss": Relativistic(), "penalties": {"r1": R1(0.1)}}], ids=["lsgan", "r3gan"])
def test_micro_batches_make_the_step_of_the_whole_batch(more: dict[str, Any]) -> None:
    whole = fit(cycle(history=8, **more), 4)
    for accumulate in (2, 4):
        assert furthest(whole, fit(cycle(history=8, accumulate=accumulate, **more), 4)) < 1e-5


@pytest.mark.parametrize("make", [cycle, translation])
@pytest.mark.parametrize("stop", [3, 8])
def test_a_resumed_training_is_the_uninterrupted_one(make: Any, stop: int, tmp_path: Path) -> None:
    more: dict[str, Any] = {"ema": EMA(20), "penalties": {"r1": R1(0.1)}}
    if make is cycle:
        more["history"] = 10  # filling at the stop, or full
    whole = fit(make(**more), 12)
    fit(make(**more), stop, tmp_path)
    resumed = fit(make(**more), 12, resume=tmp_path / f"{stop}.ckpt")
    assert resumed.samples_seen == whole.samples_seen == 12 * B
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_checkpoint_of_other_nets_is_refused(tmp_path: Path) -> None:
    fit(cycle(), 1, tmp_path)
    other = Cycle(Mapper(4), Mapper(), Judge(), Judge(), LeastSquares(), SGD, SGD)
    with pytest.raises(UserError, match="another generator"):
        fit(other, 2, resume=tmp_path / "1.ckpt")


def test_the_two_ways_begin_with_weights_of_their_own() -> None:
    module = cycle()
    assert furthest(module.generator.first, module.generator.second) > 0.01
    assert furthest(module.generator, cycle().generator) == 0


def test_rows_to_look_at_and_nets_to_ship() -> None:
    module = cycle(ema=EMA(10))
    x = torch.rand(3, 2, 4)
    rows = module.compared(x)
    assert len(rows) == 6
    assert torch.equal(rows[0], x[:, :1])
    assert torch.equal(rows[3], x[:, 1:])
    torch.testing.assert_close(rows[2], module.generator_ema.second(module.generator_ema.first(x[:, :1])))
    shipped = module.shipped(x)
    assert set(shipped) == {"", "_back"}
    assert shipped["_back"][0] is module.generator_ema.second
    paired = translation()
    assert [r.shape[1] for r in paired.compared(x)] == [1, 1, 1]
    assert paired.shipped(x)[""][0] is paired.generator


def test_samples_that_are_no_pairs_are_refused() -> None:
    with pytest.raises(UserError, match="3 channels are no pairs"):
        halves(torch.zeros(1, 3, 4))
    module = cycle()
    with pytest.raises(UserError, match="history=-2"):
        cycle(history=-2)
    module.generator.first = nn.Upsample(scale_factor=2)
    module.generator.first.forward = lambda x, y=None: F.interpolate(x, scale_factor=2)  # type: ignore[method-assign]
    with pytest.raises(UserError, match="the generators make"):
        module.generator(torch.zeros(1, 2, 4))


@pytest.mark.slow
def test_a_cycle_finds_the_way_between_two_distributions() -> None:
    adam = partial(torch.optim.Adam, lr=5e-3, betas=(0.5, 0.9))
    module: Any = cycle(optimizer_g=adam, optimizer_d=adam, identity_weight=0.0, penalties={"r1": R1(0.1)})
    fit(module, 400)
    a = torch.linspace(0, 0.8, 48).view(12, 1, 4)
    b = module.translate(a)
    assert b.mean().item() == pytest.approx(-0.2, abs=0.08)
    assert (module.translate(b, backwards=True) - a).abs().mean() < 0.06


# ---- from pairs -------------------------------------------------------------------------------------------------


def test_the_step_is_pix2pixs_written_out() -> None:
    """Isola et al. 2017, equations 1, 3 and 4, with log(1 - D) in G as -log D (section 3.3); D first."""
    ours = translation()
    G, D = copy.deepcopy(ours.generator), copy.deepcopy(ours.discriminator)
    opt_g, opt_d = SGD(G.parameters()), SGD(D.parameters())
    fit(ours, 3)
    bce = F.binary_cross_entropy_with_logits
    for x in batches(True, 3):
        a, b = x[:, :1], x[:, 1:]
        b_hat = G(a)
        real, fake = (D(torch.cat([a, t], 1)).logits[0] for t in (b, b_hat.detach()))
        opt_d.zero_grad()
        (bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))).backward()
        opt_d.step()
        judged = D(torch.cat([a, b_hat], 1)).logits[0]
        opt_g.zero_grad()
        (bce(judged, torch.ones_like(judged)) + 100 * (b_hat - b).abs().mean()).backward()
        opt_g.step()
    assert furthest(ours.generator, G) < 1e-5
    assert furthest(ours.discriminator, D) < 1e-5
    assert furthest(ours, translation()) > 1e-3


def test_a_condition_is_laid_over_a() -> None:
    class Less(nn.Module):
        def forward(self, a: Tensor) -> Tensor:
            return a - 1

    plain, less = translation(), translation(condition=Less())
    x = torch.rand(2, 2, 4)
    torch.testing.assert_close(less.compared(x)[1], plain.reconstruct(x[:, :1] - 1))
    torch.testing.assert_close(less.pair(x, None)[1][:, 1:], plain.reconstruct(x[:, :1] - 1))


def test_a_translator_learns_its_pairs() -> None:
    adam = partial(torch.optim.Adam, lr=1e-2)
    module: Any = fit(translation(optimizer_g=adam, optimizer_d=adam), 150)
    a = torch.linspace(0, 0.8, 48).view(12, 1, 4)
    assert (module.reconstruct(a) + a / 2).abs().mean() < 0.03


def test_another_shape_is_refused() -> None:
    module = Translation(nn.Upsample(scale_factor=2), Judge(2), NonSaturating(), SGD, SGD)
    module.generator.forward = lambda x, y=None: F.interpolate(x, scale_factor=2)
    with pytest.raises(UserError, match=r"the generator makes \(1, 1, 8\) of \(1, 1, 4\)"):
        module.pair(torch.zeros(1, 2, 4), None)
