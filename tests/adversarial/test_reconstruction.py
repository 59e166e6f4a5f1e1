"""x -> x̂ under a real Trainer: what descends when, the papers' step written out, resume, and that it learns."""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from gan_kit.adversarial import EMA, R1, Hinge, LeastSquares, Linear, Reconstruction, Relativistic
from gan_kit.adversarial.reconstruction import feature_distances
from gan_kit.audio import Distance, HiFiGAN, LogMel, VocoderDiscriminator, Vocos
from gan_kit.data import ArrayDataModule, Arrays
from gan_kit.nn import Recorded
from gan_kit.types import AudioSpec, Batch, Critique, UserError

B = 8


class Signals:
    """Tones of one pitch each, (N, 1, 512)."""

    def load(self, split: str) -> Arrays:
        rng = np.random.default_rng(0)
        f, phase = rng.uniform(0.005, 0.2, (40, 1, 1)), rng.uniform(0, 6, (40, 1, 1))
        x = np.sin(2 * np.pi * f * np.arange(512) + phase)
        return Arrays((127 * x + 128).astype(np.uint8), None)


class SignalData(ArrayDataModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        return Batch(batch.x.float() / 127.5 - 1, batch.y)


def data() -> SignalData:
    return SignalData(Signals(), batch_size=B)


class Coder(Recorded, nn.Module):
    """Encodes and decodes x on its own, by a quarter of its width."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down, self.up = nn.Conv1d(1, width, 8, 4, 2), nn.ConvTranspose1d(width, 1, 8, 4, 2)
        self.calls = 0

    def reset_parameters(self) -> None:
        self.down.reset_parameters()
        self.up.reset_parameters()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        self.calls += 1
        return self.up(torch.tanh(self.down(x)))


class Critic(Recorded, nn.Module):
    """Two small critics, of the signal and of its differences."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.a = nn.ModuleList(nn.Conv1d(1, width, 9, 4) for _ in range(2))
        self.b = nn.ModuleList(nn.Conv1d(width, 1, 3) for _ in range(2))

    def reset_parameters(self) -> None:
        for m in (*self.a, *self.b):
            m.reset_parameters()  # type: ignore[operator]

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        hidden = [F.leaky_relu(a(h), 0.1) for a, h in zip(self.a, (x, x.diff()), strict=True)]
        logits = [b(h) for b, h in zip(self.b, hidden, strict=True)]
        return Critique([l.flatten(1) for l in logits], [list(pair) for pair in zip(hidden, logits, strict=True)])


class Absolute(nn.Module):
    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return (x_hat - x).abs().mean()


def model(G: nn.Module | None = None, D: nn.Module | None = None, **arguments: Any) -> Reconstruction:
    adam = partial(torch.optim.AdamW, lr=2e-3, betas=(0.8, 0.99))
    arguments = {
        "loss": LeastSquares(),
        "optimizer_g": adam,
        "optimizer_d": adam,
        "terms": {"absolute": Absolute()},
        "term_weights": {"absolute": 45.0},
        "init_seed": 0,
        **arguments,
    }
    return Reconstruction(G or Coder(), D or Critic(), **arguments)


def trainer(steps: int, root: Path | None = None, callbacks: list[Callback] | None = None) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=-1,
        max_steps=steps,
        default_root_dir=root,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def fit(module: Reconstruction, steps: int, callbacks: list[Callback] | None = None) -> Reconstruction:
    trainer(steps, callbacks=callbacks).fit(module, datamodule=data())
    return module


def furthest(a: nn.Module, b: nn.Module) -> float:
    return max((v - b.state_dict()[k]).abs().max().item() for k, v in a.state_dict().items())


# ---- the step ---------------------------------------------------------------------------------------------------


def test_the_step_is_hifigans_written_out() -> None:
    """Kong et al. 2020, equations 1 to 9: three steps in plain PyTorch give the same weights.

    Their least squares are twice ours, so that weights 1, 2, 45 are 2, 2, 45 here; D's own scale is lost in Adam but
    for its ε.
    """
    ours = model(adversarial_weight=2.0, feature_weight=2.0)
    g, d = copy.deepcopy(ours.generator), copy.deepcopy(ours.discriminator)
    opt_g, opt_d = ours.optimizer_g(g.parameters()), ours.optimizer_d(d.parameters())
    fit(ours, 3)
    stream = data()
    loader = stream.train_dataloader()
    for step in range(3):
        x, y = stream.on_after_batch_transfer(loader.batch(0, step), 0)
        x_hat = g(x, y)
        on_real, on_fake = d(x), d(x_hat.detach())
        pairs = zip(on_real.logits, on_fake.logits, strict=True)
        loss_d = sum(((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2 for r, f in pairs)
        opt_d.zero_grad()
        loss_d.backward()
        opt_d.step()
        on_real, on_fake = d(x), d(x_hat)
        adversarial = sum(((f - 1) ** 2).mean() for f in on_fake.logits)
        matching = sum(
            (a - b).abs().mean()
            for p, q in zip(on_real.features, on_fake.features, strict=True)
            for a, b in zip(p, q, strict=True)
        )
        loss_g = adversarial + 2 * matching + 45 * (x_hat - x).abs().mean()
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()
    assert furthest(ours.generator, g) < 1e-6
    assert furthest(ours.discriminator, d) < 1e-6


def test_both_halves_share_one_pass_of_the_generator() -> None:
    assert fit(model(), 3).generator.calls == 3
    assert fit(model(accumulate=2), 3).generator.calls == 12


class Watch(Callback):
    """Which nets moved in each step, and what Lightning counts."""

    def __init__(self) -> None:
        self.moved: list[set[str]] = []
        self.counts: list[int] = []

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Batch, batch_idx: int) -> None:
        self.before = {k: v.clone() for k, v in module.state_dict().items()}

    def on_train_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:
        now = module.state_dict()
        self.moved.append({k.split(".")[0] for k, v in now.items() if not torch.equal(v, self.before[k])})
        self.counts.append(trainer.global_step)


def test_the_adversary_joins_late_and_steps_count_batches() -> None:
    watch = Watch()
    module = fit(model(adversary_from_samples=3 * B, ema=EMA(20, warmup=None)), 5, [watch])
    alone = {"generator", "generator_ema"}
    assert watch.moved == [alone] * 3 + [alone | {"discriminator"}] * 2
    assert watch.counts == [1, 2, 3, 4, 5]
    assert (module.step, module.samples_seen) == (5, 5 * B)
    assert all(p.requires_grad for p in module.discriminator.parameters())


def test_what_callbacks_read() -> None:
    module = fit(model(penalties={"r1": R1(0.1)}), 1)
    assert module.scalars.keys() == {
        *("loss_d", "logits_real", "logits_fake", "penalty_r1"),
        *("loss_g", "adversarial", "feature_matching", "term_absolute"),
    }
    assert not any(v.requires_grad for v in module.scalars.values())
    assert module._kept is None


@pytest.mark.parametrize("loss", [LeastSquares, Hinge, Relativistic])
def test_micro_batches_make_the_step_of_the_whole_batch(loss: Any) -> None:
    sgd = partial(torch.optim.SGD, lr=0.01)
    more: dict[str, Any] = {"loss": loss(), "optimizer_g": sgd, "optimizer_d": sgd, "penalties": {"r1": R1(0.1)}}
    whole = fit(model(**more), 4)
    assert furthest(whole, model(**more)) > 1e-3
    for accumulate in (3, 4):
        assert furthest(whole, fit(model(**more, accumulate=accumulate), 4)) < 1e-5


def test_weights_of_critics_weigh_both_losses() -> None:
    only_first = fit(model(critic_weights=[1.0, 0.0]), 2)
    start = model()
    moved = [
        max((p - q).abs().max().item() for p, q in zip(a.parameters(), b.parameters(), strict=True))
        for a, b in zip(only_first.discriminator.b, start.discriminator.b, strict=True)
    ]
    assert moved[0] > 1e-3
    assert moved[1] < 1e-4  # but for weight decay
    with pytest.raises(UserError, match="3 critic_weights for 2 sub-discriminators"):
        fit(model(critic_weights=[1.0, 1.0, 1.0]), 1)


def test_feature_distance_of_a_critique_to_itself_is_none() -> None:
    D, x = Critic(), torch.randn(3, 1, 64)
    assert [v.item() for v in feature_distances(D(x), D(x))] == [0, 0]
    a, b = Critique([], [[torch.zeros(2, 3), torch.ones(4)]]), Critique([], [[torch.ones(2, 3), torch.full((4,), 3.0)]])
    assert [float(v) for v in feature_distances(a, b)] == [3.0]


def test_weights_follow_schedules() -> None:
    fading = model(term_weights={"absolute": Linear(1.0, 0.0, 2 * B)}, adversarial_weight=0.0, feature_weight=0.0)
    watch = Watch()
    fit(fading, 4, [watch])
    assert fading.scalars["loss_g"] == 0
    assert fading.scalars["term_absolute"] > 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"term_weights": {"absolute": 1.0, "mel": 45.0}}, r"no such loss term \['mel'\]; have \['absolute'\]"),
        ({"term_weights": {}}, r"loss term \['absolute'\] has no weight"),
        ({"adversary_from_samples": -1}, "adversary_from_samples=-1"),
        ({"accumulate": 0}, "accumulate=0"),
        ({"schedules": {"lr": Linear(0, 1, 1)}}, "no such schedule"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model(**arguments)


def test_a_generator_of_another_shape_is_refused() -> None:
    class Stereo(Coder):
        def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            return super().forward(x, y).expand(-1, 2, -1)

    with pytest.raises(UserError, match=r"the generator makes \(8, 2, 512\) of \(8, 1, 512\)"):
        fit(model(Stereo()), 1)


def test_a_generator_of_another_hop_is_refused() -> None:
    with pytest.raises(UserError, match=r"makes 2048 of 512: it does not stretch 32.*hop_length to 4 times"):
        fit(vocoder(HiFiGAN(10, 16, (8, 8), (16, 16), (3,), ((1,),)), SPEC), 1)


# ---- resume -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [2, 5, 6])  # 5 batches an epoch: within one, at its edge, behind it
def test_a_resumed_training_is_the_uninterrupted_one(stop: int, tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "ema": EMA(30),
        "schedules": {"lr_g": Linear(2e-3, 0, 100)},
        "adversary_from_samples": 3 * B,
        "penalties": {"r1": R1(0.1, every=2)},
    }
    whole = fit(model(**more), 9)
    first = trainer(stop)
    first.fit(model(**more), datamodule=data())
    first.save_checkpoint(tmp_path / "half.ckpt")
    resumed = model(**more, init_seed=9)
    trainer(9).fit(resumed, datamodule=data(), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert (resumed.step, resumed.samples_seen) == (9, 9 * B)
    assert furthest(whole, resumed) == 0


def test_a_checkpoint_of_other_nets_is_refused() -> None:
    checkpoint: dict[str, Any] = {}
    model().on_save_checkpoint(checkpoint)
    with pytest.raises(UserError, match="another generator: width was 16, is 8"):
        model(Coder(8)).on_load_checkpoint(checkpoint)


# ---- vocoders ---------------------------------------------------------------------------------------------------

SPEC = AudioSpec(8000, 512, 64, 16, 64, center=False, n_mels=10)
CENTRED = AudioSpec(8000, 512, 64, 16, 64, center=True, n_mels=10)
CRITIC: dict[str, Any] = {"periods": (2, 3), "scales": 1, "resolutions": (128,)}
WIDTHS: dict[str, Any] = {"period_width": 4, "scale_width": 16, "resolution_width": 4}


def hifigan(center: bool) -> HiFiGAN:
    return HiFiGAN(10, 16, (4, 4), (8, 8), (3,), ((1, 3),), center=center)


def vocoder(G: nn.Module, spec: AudioSpec, **arguments: Any) -> Reconstruction:
    return model(
        G,
        VocoderDiscriminator(**CRITIC, **WIDTHS),
        condition=LogMel(spec),
        terms={"mel": Distance(LogMel(SPEC))},
        term_weights={"mel": 15.0},
        **arguments,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hifigan", "hifigan centred", "vocos", "vocos uncentred"])
def test_vocoders_learn(name: str) -> None:
    """The averaged net's mel distance falls by more than a third in 60 steps."""
    center = name in ("hifigan centred", "vocos")
    G = hifigan(center) if "hifigan" in name else Vocos(10, 32, 64, 2, 64, 16, center=center)
    module = vocoder(G, CENTRED if center else SPEC, ema=EMA(20))
    x = torch.from_numpy(Signals().load("train").x[:16]).float() / 127.5 - 1
    distance = Distance(LogMel(SPEC))

    def far() -> float:
        x_hat = module.reconstruct(x)
        assert x_hat.shape == x.shape
        return float(distance(x_hat, x))

    before = far()
    fit(module, 60)
    assert far() < 0.65 * before
    assert math.isfinite(float(module.scalars["loss_d"]))


@pytest.mark.parametrize("name", ["hifigan", "vocos"])
def test_a_vocoder_learns_before_its_adversary_joins(name: str) -> None:
    G, spec = (hifigan(False), SPEC) if name == "hifigan" else (Vocos(10, 32, 64, 2, 64, 16), CENTRED)
    quick = partial(torch.optim.AdamW, lr=5e-3, betas=(0.8, 0.99))
    module = vocoder(G, spec, adversary_from_samples=10_000, optimizer_g=quick)
    x = torch.from_numpy(Signals().load("train").x[:16]).float() / 127.5 - 1
    distance = Distance(LogMel(SPEC))
    before = distance(module.reconstruct(x), x)
    fit(module, 120)  # after 40 a CPU without AVX-512, whose sums round otherwise, stood at .68
    assert distance(module.reconstruct(x), x) < 0.65 * before  # .40 and .46


def test_an_average_of_weight_normed_nets_is_kept() -> None:
    module = fit(vocoder(hifigan(False), SPEC, ema=EMA(0, warmup=None)), 3)
    mel = LogMel(SPEC)(torch.randn(2, 1, 512))
    assert torch.equal(module.generator(mel), module.generator_ema(mel))
    assert not any(p.requires_grad for p in module.generator_ema.parameters())


def test_a_vocoder_resumes_bitwise(tmp_path: Path) -> None:
    """Weight and spectral norm, snake, the average: all of it is in the checkpoint."""

    def built(init_seed: int = 0) -> Reconstruction:
        G = HiFiGAN(10, 16, (4, 4), (8, 8), (3,), ((1,),), activation="snake_beta", anti_aliased=True)
        return vocoder(G, SPEC, ema=EMA(30), init_seed=init_seed)

    whole = fit(built(), 4)
    first = trainer(2)
    first.fit(built(), datamodule=data())
    first.save_checkpoint(tmp_path / "half.ckpt")
    resumed = built(5)
    trainer(4).fit(resumed, datamodule=data(), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert furthest(whole, resumed) == 0
