"""The step under a real Trainer: what it counts, what it draws, whose gradients it makes; and against a plain loop."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from gan_kit.adversarial import (
    EMA,
    GAN,
    R1,
    R2,
    Cosine,
    GradientPenalty,
    Hinge,
    LeastSquares,
    Linear,
    Loss,
    NonSaturating,
    Penalty,
    Relativistic,
    Wasserstein,
)
from gan_kit.adversarial.gan import frozen
from gan_kit.adversarial.players import defaults_of, describe, differing
from gan_kit.data import ArrayDataModule, Arrays, RingData
from gan_kit.image import DiffAugment, R3GANDiscriminator, R3GANGenerator
from gan_kit.nn import Recorded
from gan_kit.noise import BatchNoise
from gan_kit.types import Batch, Critique, UserError
from gan_kit.vector import MLPDiscriminator, MLPGenerator

LOSSES = [NonSaturating, Hinge, LeastSquares, Wasserstein, Relativistic]
B = 16


def fit(gan: GAN, data: Any, steps: int, callbacks: list[Callback] | None = None, precision: Any = "32-true") -> GAN:
    Trainer(
        accelerator="cpu",
        precision=precision,
        max_epochs=-1,
        max_steps=steps,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    ).fit(gan, datamodule=data)
    return gan


def ring(batch_size: int = B, labels: bool = False, seed: int = 0) -> RingData:
    return RingData(count=200, batch_size=batch_size, labels=labels, seed=seed)


def toy(loss: Loss | None = None, G: nn.Module | None = None, D: nn.Module | None = None, **arguments: Any) -> GAN:
    adam = partial(torch.optim.Adam, lr=1e-3)
    arguments = {"optimizer_g": adam, "optimizer_d": adam, "init_seed": 0, **arguments}
    return GAN(G or MLPGenerator(width=8), D or MLPDiscriminator(width=8), loss or NonSaturating(), **arguments)


def weights(gan: GAN) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in gan.state_dict().items()}


def same(a: GAN, b: GAN) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def furthest(a: GAN, b: GAN) -> float:
    return max((v - b.state_dict()[k]).abs().max().item() for k, v in a.state_dict().items())


# ---- time -------------------------------------------------------------------------------------------------------


class Watch(Callback):
    """After each batch: which of the nets moved, and what Lightning counts."""

    def __init__(self) -> None:
        self.moved: list[set[str]] = []
        self.counts: list[int] = []

    def on_train_batch_start(self, trainer: Trainer, gan: Any, batch: Batch, batch_idx: int) -> None:
        self.before = weights(gan)

    def on_train_batch_end(self, trainer: Trainer, gan: Any, *_: Any) -> None:
        self.moved.append({k.split(".")[0] for k, v in gan.state_dict().items() if not torch.equal(v, self.before[k])})
        self.counts.append(trainer.global_step)


@pytest.mark.parametrize("n_critic", [1, 3])
def test_max_steps_counts_batches_and_g_steps_on_each_n_critic_th(n_critic: int) -> None:
    watch = Watch()
    gan = fit(toy(n_critic=n_critic, ema=EMA(100, warmup=None)), ring(), 8, [watch])  # 12 batches an epoch
    assert watch.counts == list(range(1, 9))
    assert (gan.step, gan.samples_seen) == (8, 8 * B)
    both = {"generator", "discriminator", "generator_ema"}
    assert watch.moved == [both if step % n_critic == 0 else {"discriminator"} for step in range(8)]


def test_epochs_do_not_interrupt_the_count() -> None:
    watch = Watch()
    gan = fit(toy(), ring(batch_size=64), 10, [watch])  # 3 batches an epoch
    assert watch.counts == list(range(1, 11))
    assert gan.samples_seen == 640


class RecordingAdam(torch.optim.Adam):
    """Notes lr and β2 of each of its steps."""

    def __init__(self, params: Any, **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        self.log: list[tuple[float, float]] = []

    def step(self, closure: Any = None) -> Any:
        self.log.append((self.param_groups[0]["lr"], self.param_groups[0]["betas"][1]))
        return super().step(closure)


def keep(into: list[Any], make: Callable[..., Any]) -> Callable[[Any], Any]:
    def factory(params: Any) -> Any:
        into.append(make(params))
        return into[-1]

    return factory


def test_schedules_set_lr_and_beta2_by_the_samples_seen_before_the_step() -> None:
    schedules: dict[str, Any] = {
        "lr_g": Cosine(1e-3, 1e-4, 5 * B),
        "lr_d": Linear(2e-3, 0, 10 * B),
        "beta2_g": Linear(0.9, 0.99, 4 * B),
        "beta2_d": Cosine(0.5, 0.999, 100 * B),
    }
    made: list[RecordingAdam] = []
    adam = keep(made, partial(RecordingAdam, lr=1.0, betas=(0.5, 0.5)))
    fit(toy(optimizer_g=adam, optimizer_d=adam, schedules=schedules, n_critic=2), ring(), 7)
    g, d = made
    assert d.log == [(schedules["lr_d"](i * B), schedules["beta2_d"](i * B)) for i in range(7)]
    assert g.log == [(schedules["lr_g"](i * B), schedules["beta2_g"](i * B)) for i in range(0, 7, 2)]
    assert all(opt.param_groups[0]["betas"][0] == 0.5 for opt in made)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"schedules": {"lr": Linear(0, 1, 1)}}, r"no such schedule \['lr'\]; have .*lr_g"),
        ({"n_critic": 0}, "n_critic=0"),
        ({"accumulate": 0}, "accumulate=0"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        toy(**arguments)


def test_more_micro_batches_than_samples_are_refused() -> None:
    with pytest.raises(UserError, match="a batch of 4 can't be cut into accumulate=5"):
        fit(toy(accumulate=5), ring(batch_size=4), 1)


# ---- whose gradients --------------------------------------------------------------------------------------------


class Probe(MLPDiscriminator):
    """Notes at each call whether its weights take gradients, and the dtype that its first layer answers in."""

    def __init__(self, width: int = 8, raise_at: int | None = None) -> None:
        super().__init__(width=width)
        self.log: list[tuple[bool, torch.dtype]] = []
        self.raise_at = raise_at

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        if len(self.log) == self.raise_at:
            raise RuntimeError("stop here")
        takes = {p.requires_grad for p in self.parameters()}
        assert len(takes) == 1
        self.log.append((takes.pop(), self.net[0](x).dtype))
        return super().forward(x, y)


def test_d_is_frozen_while_g_descends_and_takes_gradients_afterwards() -> None:
    D = Probe()
    fit(toy(Relativistic(), D=D), ring(), 2)
    # D on reals, on fakes; then in G's half on reals, on fakes
    assert [takes for takes, _ in D.log] == [True, True, False, False] * 2
    assert all(p.requires_grad for p in D.parameters())


def test_d_takes_gradients_again_after_an_exception_in_gs_half() -> None:
    D = Probe(raise_at=2)
    with pytest.raises(RuntimeError, match="stop here"):
        fit(toy(D=D), ring(), 2)
    assert len(D.log) == 2
    assert all(p.requires_grad for p in D.parameters())


def test_frozen_gives_back_what_it_found() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[0].requires_grad_(False)
    before = [p.requires_grad for p in net.parameters()]
    with frozen(net):
        assert not any(p.requires_grad for p in net.parameters())
    assert [p.requires_grad for p in net.parameters()] == before


def test_ds_step_leaves_no_gradient_in_g_and_gs_step_none_in_d() -> None:
    G, D = MLPGenerator(width=8), MLPDiscriminator(width=8)
    seen: list[str] = []

    class Checking(torch.optim.SGD):
        def __init__(self, params: Any, other: nn.Module, name: str) -> None:
            super().__init__(params, lr=1e-2)
            self.other, self.name = other, name

        def step(self, closure: Any = None) -> Any:
            mine = [p.grad for group in self.param_groups for p in group["params"]]
            assert all(g is not None for g in mine)
            snapshot = [None if p.grad is None else p.grad.clone() for p in self.other.parameters()]
            seen.append(self.name)
            if self.name == "d" and len(seen) == 1:
                assert snapshot == [None] * len(snapshot)
            if self.name == "g":  # D's own gradients of this batch's first half still stand, untouched
                assert all(torch.equal(a, b) for a, b in zip(snapshot, self.ds, strict=True))  # type: ignore[arg-type]
            else:
                Checking.ds = [g.clone() for g in mine]  # type: ignore[attr-defined]
            return super().step(closure)

    penalties = {"r1": R1(), "r2": R2(), "gp": GradientPenalty()}
    gan = toy(
        Relativistic(),
        G,
        D,
        penalties=penalties,
        optimizer_g=lambda params: Checking(params, D, "g"),
        optimizer_d=lambda params: Checking(params, G, "d"),
    )
    fit(gan, ring(), 3)
    assert seen == ["d", "g"] * 3


def test_what_callbacks_read_is_detached() -> None:
    gan = fit(toy(penalties={"r1": R1()}), ring(), 1)
    assert gan.scalars.keys() == {"loss_d", "loss_g", "penalty_r1", "logits_real", "logits_fake"}
    assert not any(v.requires_grad for v in gan.scalars.values())


# ---- the big batch and its parts --------------------------------------------------------------------------------


class Noisy:
    """Pictures of noise, in three classes."""

    def load(self, split: str) -> Arrays:
        rng = np.random.default_rng(0)
        return Arrays(rng.integers(0, 256, (40, 3, 8, 8), dtype=np.uint8), rng.integers(0, 3, 40), ("a", "b", "c"))


def pictures(batch_size: int = 8) -> ArrayDataModule:
    return ArrayDataModule(Noisy(), batch_size=batch_size)


def pictorial(loss: Loss, penalties: dict[str, Penalty], **arguments: Any) -> GAN:
    sgd = partial(torch.optim.SGD, lr=0.05)
    net = {"size": 8, "num_classes": 3, "width": 16, "blocks": 1, "embed_dim": 8}
    return GAN(
        R3GANGenerator(**net, z_dim=8),  # type: ignore[arg-type]
        R3GANDiscriminator(**net),  # type: ignore[arg-type]
        loss,
        penalties=penalties,
        init_seed=0,
        **{"optimizer_g": sgd, "optimizer_d": sgd, "augment": DiffAugment(), "augment_p": 0.7, **arguments},
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "penalties",
    [
        {"r1": R1(0.1), "r2": R2(0.1)},
        {"gp": GradientPenalty(0.1)},
        {"r1": R1(0.1, every=2, finite_difference_sigma=0.1)},
    ],
    ids=["r1+r2", "gp", "finite difference"],
)
def test_micro_batches_make_the_step_of_the_whole_batch(loss: type[Loss], penalties: dict[str, Penalty]) -> None:
    """With augmentation: noise belongs to the sample's place in the batch, not to the micro-batch."""
    whole = fit(pictorial(loss(), penalties), pictures(), 4)
    start = pictorial(loss(), penalties)
    assert furthest(whole, start) > 1e-3
    for accumulate in (4, 3):  # 3: parts of 3, 3 and 2
        parts = fit(pictorial(loss(), penalties, accumulate=accumulate), pictures(), 4)
        assert furthest(whole, parts) < 1e-6


@pytest.mark.parametrize("clip", [0.01, 1e6])
def test_clipping_holds_the_norm_of_the_whole_batchs_gradient(clip: float) -> None:
    sgd = partial(torch.optim.SGD, lr=1.0)
    arguments: dict[str, Any] = {"optimizer_g": sgd, "optimizer_d": sgd}
    start = toy(**arguments)
    free = fit(toy(**arguments), ring(), 1)
    clipped = fit(toy(**arguments, clip_d=clip, clip_g=1e9), ring(), 1)
    steps = [
        torch.cat([(q - p).flatten() for p, q in zip(start.discriminator.parameters(), net.parameters(), strict=True)])
        for net in (free.discriminator, clipped.discriminator)
    ]
    norm = steps[0].norm().item()
    assert norm > 0.05
    assert steps[1].norm().item() == pytest.approx(min(norm, clip), rel=1e-3)
    assert torch.allclose(steps[1], steps[0] * min(1, clip / norm), atol=1e-6)


def test_clipping_g_leaves_d_alone_and_sees_the_sum_of_the_micro_batches() -> None:
    sgd = partial(torch.optim.SGD, lr=1.0)
    arguments: dict[str, Any] = {"optimizer_g": sgd, "optimizer_d": sgd}
    start, free = toy(**arguments), fit(toy(**arguments), ring(), 1)
    clipped = fit(toy(**arguments, clip_g=0.01, accumulate=4), ring(), 1)
    assert all(
        torch.allclose(p, q, atol=1e-6)
        for p, q in zip(free.discriminator.parameters(), clipped.discriminator.parameters(), strict=True)
    )
    pairs = zip(start.generator.parameters(), clipped.generator.parameters(), strict=True)
    assert math.hypot(*((q - p).norm().item() for p, q in pairs)) == pytest.approx(0.01, rel=1e-3)


# ---- precision --------------------------------------------------------------------------------------------------


def test_bf16_trains_and_steps_with_penalties_see_fp32() -> None:
    D = Probe()
    gan = toy(D=D, penalties={"r1": R1(0.1, every=2), "gp": GradientPenalty(0.1, every=2)}, ema=EMA(100))
    start = weights(gan)
    fit(gan, ring(), 4, precision="bf16-mixed")
    f32, bf16 = torch.float32, torch.bfloat16
    with_penalties = [f32, f32, f32, bf16]  # reals, fakes, between them; then G's half
    without = [bf16, bf16, bf16]
    assert [dtype for _, dtype in D.log] == (with_penalties + without) * 2
    assert all(p.dtype == f32 and p.isfinite().all() for p in gan.parameters())
    assert all(not torch.equal(v, start[k]) for k, v in gan.state_dict().items() if k.endswith("0.weight"))
    assert gan.scalars["loss_d"].dtype == f32


def test_bf16_follows_fp32_closely() -> None:
    full, half = (fit(toy(penalties={"r1": R1(0.1)}), ring(), 3, precision=p) for p in ("32-true", "bf16-mixed"))
    assert 0 < furthest(full, half) < 0.01


def test_fp16_is_refused() -> None:
    trainer = Trainer(  # asked for by name on a CPU, Lightning makes bf16 of it
        accelerator="cpu",
        plugins=[MixedPrecision("16-mixed", "cpu")],
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
    )
    gan = toy()
    before = weights(gan)
    with pytest.raises(UserError, match=r"16-mixed .* use bf16-mixed or 32-true"):
        trainer.fit(gan, datamodule=ring())
    assert all(torch.equal(v, before[k]) for k, v in gan.state_dict().items())


# ---- randomness -------------------------------------------------------------------------------------------------


class Dropping(MLPGenerator):
    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(F.dropout(z, 0.3, self.training), y)


class DroppingCritic(MLPDiscriminator):
    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        return super().forward(F.dropout(x, 0.3, self.training), y)


class Greedy(Callback):
    """Draws from every global generator around each batch."""

    def on_train_batch_start(self, *_: Any) -> None:
        torch.rand(3)
        np.random.rand(2)

    def on_train_batch_end(self, trainer: Trainer, gan: Any, *_: Any) -> None:
        torch.randn(5)
        gan.sample(BatchNoise((1,), 4))


def dropping(**arguments: Any) -> GAN:
    return toy(
        Relativistic(), Dropping(width=8), DroppingCritic(width=8), penalties={"gp": GradientPenalty()}, **arguments
    )


def test_a_seed_fixes_the_whole_training_bitwise() -> None:
    a, b, other = (fit(dropping(seed=seed, ema=EMA()), ring(), 5) for seed in (3, 3, 4))
    assert same(a, b)
    assert not same(a, other)


def test_neither_global_state_nor_callbacks_that_draw_change_the_training() -> None:
    plain = fit(dropping(), ring(), 5)
    torch.manual_seed(999)
    np.random.seed(7)
    disturbed = dropping()
    torch.rand(17)
    assert same(plain, fit(disturbed, ring(), 5, [Greedy()]))


def test_dropout_differs_from_step_to_step() -> None:
    masks: list[Tensor] = []

    class Telling(Dropping):
        def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
            masks.append(F.dropout(torch.ones(64), 0.5))
            return super().forward(z, y)

    fit(toy(G=Telling(width=8)), ring(), 3)
    assert len({tuple(m.tolist()) for m in masks}) == len(masks) == 6


def test_initial_weights_depend_on_the_seed_and_not_on_the_order_of_building() -> None:
    def nets(first: str, init_seed: int | None) -> GAN:
        torch.manual_seed(1)
        if first == "G":
            G, D = MLPGenerator(width=8), MLPDiscriminator(width=8)
        else:
            D = MLPDiscriminator(width=8)
            G = MLPGenerator(width=8)
        return toy(G=G, D=D, init_seed=init_seed, ema=EMA())

    assert same(nets("G", 5), nets("D", 5))
    assert not same(nets("G", 5), nets("G", 6))
    assert not same(nets("G", None), nets("D", None))
    model = nets("G", 5)
    pairs = zip(model.generator.parameters(), model.generator_ema.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)  # the average begins at the same weights


def test_seeding_the_weights_leaves_the_global_stream_alone() -> None:
    G, D = MLPGenerator(width=8), MLPDiscriminator(width=8)
    before = torch.get_rng_state()
    toy(G=G, D=D, init_seed=5)
    assert torch.equal(torch.get_rng_state(), before)


# ---- checkpoints ------------------------------------------------------------------------------------------------


def saved(gan: GAN) -> dict[str, Any]:
    checkpoint: dict[str, Any] = {}
    gan.on_save_checkpoint(checkpoint)
    return checkpoint


def test_the_clock_is_saved_and_restored() -> None:
    gan, other = fit(toy(), ring(), 3), toy()
    other.on_load_checkpoint(saved(gan))
    assert (other.step, other.samples_seen) == (3, 3 * B)


@pytest.mark.parametrize(
    "here, message",
    [
        ({"G": MLPGenerator(width=16)}, "another generator: width was 8, is 16"),
        ({"D": MLPDiscriminator(width=8, depth=2)}, "another discriminator: depth was 3, is 2"),
        ({"D": Probe()}, "another discriminator: .*target was 'gan_kit.vector.mlp.MLPDiscriminator', is '.*Probe'"),
    ],
)
def test_a_checkpoint_of_another_architecture_is_refused_naming_the_difference(
    here: dict[str, nn.Module], message: str
) -> None:
    checkpoint = saved(fit(toy(), ring(), 2))
    other = toy(**here)
    with pytest.raises(UserError, match=message):
        other.on_load_checkpoint(checkpoint)
    assert (other.step, other.samples_seen) == (0, 0)


def test_checkpoints_of_the_same_architecture_in_other_words_are_taken() -> None:
    checkpoint = saved(toy(G=MLPGenerator(2, 0, 16, 8)))
    toy(G=MLPGenerator(width=8)).on_load_checkpoint(checkpoint)


# ---- against a plain loop ---------------------------------------------------------------------------------------


class Tiny(Recorded, nn.Module):
    """A smooth critic with a label."""

    def __init__(self, num_classes: int = 8) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 12), nn.Linear(12, 1)
        self.embed = nn.Embedding(num_classes, 12)

    def reset_parameters(self) -> None:
        for m in (self.a, self.b, self.embed):
            m.reset_parameters()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        return Critique([self.b(torch.tanh(self.a(x) + self.embed(y))).squeeze(1)], [[]])


def batches(data: RingData) -> Iterator[Batch]:
    loader, epoch = data.train_dataloader(), 0
    while True:
        for position in range(len(loader)):
            yield data.on_after_batch_transfer(loader.batch(epoch, position), 0)
        epoch += 1


def test_the_r3gan_step_is_the_papers_algorithm() -> None:
    """Huang et al. 2024, equation 2 and appendix, written out: ten steps in plain PyTorch give the same weights."""
    n, steps, z_dim, horizon = 32, 10, 6, 200
    G, D = MLPGenerator(num_classes=8, width=16, z_dim=z_dim), Tiny()
    gan = GAN(
        G,
        D,
        Relativistic(),
        partial(torch.optim.Adam, lr=2e-3, betas=(0.0, 0.9), eps=1e-8),
        partial(torch.optim.Adam, lr=2e-3, betas=(0.0, 0.9), eps=1e-8),
        {"r1": R1(Cosine(0.5, 0.05, horizon)), "r2": R2(Cosine(0.5, 0.05, horizon))},
        ema=EMA(Cosine(0, 100, horizon), warmup=None),
        schedules={
            "lr_g": Cosine(2e-3, 5e-4, horizon),
            "lr_d": Cosine(2e-3, 5e-4, horizon),
            "beta2_g": Cosine(0.9, 0.99, horizon),
            "beta2_d": Cosine(0.9, 0.99, horizon),
        },
        seed=11,
        init_seed=2,
    )
    g, d, average = copy.deepcopy(G), copy.deepcopy(D), copy.deepcopy(G)
    fit(gan, ring(n, labels=True), steps)

    def cosine(start: float, end: float, seen: int) -> float:
        t = min(seen / horizon, 1)
        return end + (start - end) * (1 + math.cos(math.pi * t)) / 2

    moments: dict[Tensor, Tensor] = {}

    def adam(params: list[Tensor], grads: tuple[Tensor, ...], lr: float, beta2: float, t: int) -> None:
        """β1 = 0; the bias correction is PyTorch's, with the current β2"""
        for p, grad in zip(params, grads, strict=True):
            v = moments[p] = beta2 * moments.get(p, torch.zeros_like(p)) + (1 - beta2) * grad**2
            p.data -= lr * grad / ((v / (1 - beta2**t)).sqrt() + 1e-8)

    stream = batches(ring(n, labels=True))
    for step in range(steps):
        x, y = next(stream)
        seen = step * n
        gamma, lr, beta2 = cosine(0.5, 0.05, seen), cosine(2e-3, 5e-4, seen), cosine(0.9, 0.99, seen)

        x_real = x.clone().requires_grad_()
        x_fake = g(BatchNoise((11, step, 0), n).randn(z_dim), y).detach().requires_grad_()
        real, fake = d(x_real, y).logits[0], d(x_fake, y).logits[0]
        (grad_real,) = torch.autograd.grad(real.sum(), x_real, create_graph=True)
        (grad_fake,) = torch.autograd.grad(fake.sum(), x_fake, create_graph=True)
        penalty = gamma / 2 * (grad_real.pow(2).sum(1) + grad_fake.pow(2).sum(1))
        loss = (torch.log1p(torch.exp(-(real - fake))) + penalty).mean()
        adam(list(d.parameters()), torch.autograd.grad(loss, list(d.parameters())), lr, beta2, step + 1)

        fake = d(g(BatchNoise((11, step, 1), n).randn(z_dim), y), y).logits[0]
        loss = torch.log1p(torch.exp(-(fake - d(x, y).logits[0]))).mean()
        adam(list(g.parameters()), torch.autograd.grad(loss, list(g.parameters())), lr, beta2, step + 1)

        halflife = cosine(0, 100, seen)
        decay = 0.5 ** (n / halflife) if halflife else 0
        for slow, fast in zip(average.parameters(), g.parameters(), strict=True):
            slow.data = decay * slow.data + (1 - decay) * fast.data

    for mine, theirs in ((gan.generator, g), (gan.discriminator, d), (gan.generator_ema, average)):
        for (name, p), q in zip(mine.named_parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(p, q, rtol=0, atol=1e-6), name


def test_an_argument_that_older_checkpoints_did_not_have_is_no_difference_at_its_default() -> None:
    now = describe(R3GANGenerator(16, width=8, group_size=None))
    before = {"target": now["target"], "args": {k: v for k, v in now["args"].items() if k != "vector_dim"}}
    defaults = defaults_of(R3GANGenerator(16, width=8, group_size=None))
    assert differing(before, now, defaults) == ""
    given = describe(R3GANGenerator(16, width=8, group_size=None, vector_dim=3))
    assert differing(before, given, defaults) == "vector_dim was 0, is 3"
    assert differing(before | {"target": "other"}, now, defaults) == f"target was 'other', is {now['target']!r}"
