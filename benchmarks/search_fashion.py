"""Search a small-machine preset: which GAN makes the best conditional Fashion-MNIST in so many CPU-minutes?

    python benchmarks/search_fashion.py --candidates dcgan,r3gan --cpu-minutes 5 --out runs/search
    python benchmarks/search_fashion.py --list
    python benchmarks/search_fashion.py --score runs/image/fashion_mnist_r3gan --out runs/search
    python benchmarks/search_fashion.py --report --out runs/search --figure docs/results/fashion_search.png

A plain loop over gan_kit's nets, losses, penalties, EMA and augmentation: the step is that of
`gan_kit.adversarial.GAN`, draw for draw, without Lightning. A candidate is a line of CANDIDATES; a finished one is a
line of OUT/results.jsonl and a grid in OUT/grids, and isn't run again.

The budget is in the process's CPU-seconds, which a busy machine changes little, unless two threads share a core. The
step is timed first, so that all schedules end where the budget does. On a machine that others use give --worth instead:
as much CPU time as so many samples of the baseline take, both timed in turns, in the same precision.

The score is the Fréchet distance, in the penultimate features of a small classifier trained here on 50,000 of the
training pictures, between 10,000 samples and the other 10,000 training
pictures. The test split isn't touched: it is the reference for --score alone, which judges finished runs.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gan_kit
from gan_kit.adversarial.ema import EMA
from gan_kit.adversarial.gan import frozen
from gan_kit.adversarial.losses import Hinge, NonSaturating, Relativistic
from gan_kit.adversarial.penalties import R1, R2, DView, Penalty
from gan_kit.adversarial.schedule import Cosine, Linear
from gan_kit.data import FashionMNIST, PadTo
from gan_kit.evaluate import frechet_distance, mean_and_cov
from gan_kit.image import DCGANDiscriminator, DCGANGenerator, DiffAugment, R3GANDiscriminator, R3GANGenerator
from gan_kit.noise import BatchNoise, mix

LOSSES = {"relativistic": Relativistic, "non_saturating": NonSaturating, "hinge": Hinge}
NUM_CLASSES = 10
REFERENCE = "dcgan_r1"  # the baseline whose samples --worth counts


# ---- the candidates -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """What is tried. Schedules run from their first to their second value over the whole run."""

    family: str = "r3gan"  # or "dcgan"
    # nets
    widths: tuple[int, ...] = (128, 96, 32)  # r3gan: from 4x4 upwards
    blocks: int | tuple[int, ...] = 1
    resample: str = "bilinear"
    d_widths: tuple[int, ...] | None = None  # of the critic, where they are others
    d_blocks: int | tuple[int, ...] | None = None
    expansion: float = 1
    group_size: int | None = None  # None: dense
    patch: int = 2
    pixel_kernel: int = 1  # of the convolutions from and to pixels
    smooth: int = 0  # channels of one more 3x3 convolution at full resolution, after the pixel shuffle
    dense: bool = False  # r3gan's 4x4 map and head
    tanh: bool = False  # at the end of r3gan's generator (dcgan has one)
    width: int = 32  # dcgan
    z_dim: int = 64
    embed_dim: int = 64
    # training
    batch: int = 64
    loss: str = "relativistic"
    lr: tuple[float, float] = (5e-4, 5e-5)
    beta1: float = 0.0
    beta2: tuple[float, float] = (0.9, 0.99)
    penalty: str = "r1r2"  # "r1", "r2", "" (none)
    gamma: tuple[float, float] = (0.5, 0.05)
    every: int = 4
    sigma: float | None = None  # finite differences instead of a double backward
    ema_share: float = 0.03  # half-life as a share of the run
    augment_p: float = 0.0
    augment: tuple[str, ...] = ("colour", "translation", "cutout")
    bf16: bool = False  # the steps without a penalty
    seed: int = 0


def dcgan(**changes: Any) -> Candidate:
    base: dict[str, Any] = {
        "family": "dcgan",
        "z_dim": 100,
        "loss": "non_saturating",
        "penalty": "",
        "lr": (2e-4, 2e-4),
        "beta1": 0.5,
        "beta2": (0.999, 0.999),
    }
    return Candidate(**base | changes)


def small(**changes: Any) -> Candidate:
    """Where the first round led."""
    base: dict[str, Any] = {
        "widths": (64, 48, 32),
        "tanh": True,
        "pixel_kernel": 3,
        "lr": (1e-3, 1e-4),
        "beta2": (0.9, 0.99),
        "gamma": (1.0, 0.1),
    }
    return Candidate(**base | changes)


def strided(**changes: Any) -> Candidate:
    """R3GAN's blocks at 4x4 and 8x8 alone, strided convolutions from there to pixels."""
    base: dict[str, Any] = {
        "widths": (128, 64, 32),
        "blocks": (1, 1, 0),
        "expansion": 0.5,
        "resample": "strided",
        "dense": True,
        "tanh": True,
        "lr": (1e-3, 1e-4),
        "gamma": (1.0, 1.0),
        "every": 8,
        "bf16": True,
    }
    return Candidate(**base | changes)


CANDIDATES: dict[str, Candidate] = {
    "s": small(),
    "s_wide": small(widths=(128, 96, 32)),
    "s_deep": small(widths=(96, 64, 32), blocks=2),
    "s_k1": small(pixel_kernel=1),
    "s_batch_32": small(batch=32),
    "s_every_16": small(every=16),
    "s_fd": small(sigma=0.01),
    "s_r1": small(penalty="r1"),
    "s_lr_2e3": small(lr=(2e-3, 1e-4)),
    "s_beta_05": small(beta1=0.5, beta2=(0.99, 0.99)),
    "s_gamma_01": small(gamma=(0.1, 0.01)),
    "s_smooth": small(smooth=8),
    "s_smooth_deep": small(smooth=8, blocks=2),
    "s_embed_256": small(embed_dim=256),
    "s_patch_4": small(widths=(128, 64), patch=4),
    "s_patch_1": small(widths=(96, 64, 32, 16), patch=1),
    "s_grouped": small(widths=(128, 96, 48), group_size=16),
    "s_ns": small(loss="non_saturating"),
    "s_bf16": small(bf16=True),
    "s_augment": small(augment_p=0.2),
    "dcgan": dcgan(),
    "dcgan_lr5": dcgan(lr=(5e-4, 5e-4)),
    "dcgan_cos": dcgan(lr=(5e-4, 5e-5)),
    "dcgan_hinge": dcgan(loss="hinge"),
    "dcgan_b128": dcgan(batch=128, lr=(4e-4, 4e-4)),
    "dcgan_w64": dcgan(width=64),
    "dcgan_r1": dcgan(penalty="r1", gamma=(0.5, 0.5), beta1=0.0, beta2=(0.99, 0.99), lr=(1e-3, 1e-4)),
    "dcgan_r1_bf16": dcgan(penalty="r1", gamma=(0.5, 0.5), beta1=0.0, beta2=(0.99, 0.99), lr=(1e-3, 1e-4), bf16=True),
    "t": strided(),
    "t_fall": strided(gamma=(0.5, 0.05)),
    "t_0": strided(blocks=0),
    "t_x1": strided(expansion=1.0),
    "t_b32": strided(batch=32),
    "t_lr2": strided(lr=(2e-3, 1e-4)),
    "t_b99": strided(beta2=(0.99, 0.99)),
    "dcgan_rp": dcgan(
        loss="relativistic", penalty="r1r2", gamma=(0.5, 0.05), beta1=0.0, beta2=(0.9, 0.99), lr=(1e-3, 1e-4)
    ),
    "s_patch_1_as_dcgan_r1": small(
        widths=(96, 64, 32, 16), patch=1, loss="non_saturating", penalty="r1", gamma=(0.5, 0.5), beta2=(0.99, 0.99)
    ),
    "s_first_128": small(widths=(128, 64, 32), gamma=(0.5, 0.05)),
    "s_first_128_as_dcgan_r1": small(
        widths=(128, 64, 32), loss="non_saturating", penalty="r1", gamma=(0.5, 0.5), beta2=(0.99, 0.99)
    ),
    "s_patch_4_as_dcgan_r1": small(
        widths=(192, 64), patch=4, loss="non_saturating", penalty="r1", gamma=(0.5, 0.5), beta2=(0.99, 0.99)
    ),
    "s_grouped_as_dcgan_r1": small(
        widths=(256, 96, 32), group_size=16, loss="non_saturating", penalty="r1", gamma=(0.5, 0.5), beta2=(0.99, 0.99)
    ),
    "d": small(widths=(128, 64, 32), gamma=(0.5, 0.05), dense=True),
    "d_gamma_20": small(widths=(128, 64, 32), gamma=(20.0, 20.0), dense=True),
    "d_gamma_5": small(widths=(128, 64, 32), gamma=(5.0, 5.0), dense=True),
    "d_half": small(widths=(128, 96, 48), expansion=0.5, gamma=(5.0, 5.0), dense=True),
    "r3gan": Candidate(),
    "lr_2e3_pixel_3": Candidate(lr=(2e-3, 1e-4), pixel_kernel=3),
    "lr_2e3_every_8": Candidate(lr=(2e-3, 1e-4), every=8),
    "lr_2e3_patch_1": Candidate(lr=(2e-3, 1e-4), widths=(128, 64, 32, 16), patch=1),
    "gamma_2": Candidate(gamma=(2.0, 0.2)),
    "gamma_01": Candidate(gamma=(0.1, 0.01)),
    "gamma_002": Candidate(gamma=(0.02, 0.002)),
    "lr_1e3": Candidate(lr=(1e-3, 1e-4)),
    "lr_2e3": Candidate(lr=(2e-3, 1e-4)),
    "lr_2e3_b99": Candidate(lr=(2e-3, 1e-4), beta2=(0.99, 0.99)),
    "lr_1e3_every_1": Candidate(lr=(1e-3, 1e-4), every=1),
    "lr_1e3_every_8": Candidate(lr=(1e-3, 1e-4), every=8),
    "lr_1e3_thin": Candidate(lr=(1e-3, 1e-4), widths=(96, 64, 32)),
    "lr_1e3_gamma_01": Candidate(lr=(1e-3, 1e-4), gamma=(0.1, 0.01)),
    "lr_1e3_gamma_2": Candidate(lr=(1e-3, 1e-4), gamma=(2.0, 0.2)),
    "lr_1e3_batch_32": Candidate(lr=(1e-3, 1e-4), batch=32),
    "lr_1e3_patch_4": Candidate(lr=(1e-3, 1e-4), widths=(192, 96), patch=4),
    "lr_1e3_pixel_3": Candidate(lr=(1e-3, 1e-4), pixel_kernel=3),
    "lr_2e4": Candidate(lr=(2e-4, 5e-5)),
    "batch_32": Candidate(batch=32),
    "batch_128": Candidate(batch=128),
    "every_1": Candidate(every=1),
    "every_8": Candidate(every=8),
    "every_16": Candidate(every=16),
    "r1_only": Candidate(penalty="r1"),
    "thin": Candidate(widths=(96, 64, 32)),
    "patch_4": Candidate(widths=(192, 96), patch=4),
    "grouped": Candidate(widths=(128, 128, 64), group_size=16),
    "pixel_3": Candidate(pixel_kernel=3),
}


# ---- training -----------------------------------------------------------------------------------------------------


def build(c: Candidate) -> tuple[nn.Module, nn.Module]:
    if c.family == "dcgan":
        G: nn.Module = DCGANGenerator(32, 1, NUM_CLASSES, c.z_dim, c.embed_dim, c.width)
        D: nn.Module = DCGANDiscriminator(32, 1, NUM_CLASSES, c.width, norm="none" if c.penalty else "batch")
    else:
        shape = {
            "widths": c.widths,
            "blocks": c.blocks,
            "expansion": c.expansion,
            "group_size": c.group_size,
            "patch": c.patch,
            "dense": c.dense,
            "resample": c.resample,
        }
        G = R3GANGenerator(32, 1, NUM_CLASSES, c.z_dim, c.embed_dim, **shape)  # type: ignore[arg-type]
        critic = {"widths": c.d_widths or c.widths, "blocks": c.blocks if c.d_blocks is None else c.d_blocks}
        D = R3GANDiscriminator(32, 1, NUM_CLASSES, c.embed_dim, **shape | critic)  # type: ignore[arg-type]
        if c.pixel_kernel > 1:
            G.to_pixels[0], D.from_pixels[1] = wider(G.to_pixels[0], c), wider(D.from_pixels[1], c)  # type: ignore[index]
        if c.smooth:
            G.to_pixels[0] = nn.Conv2d(c.widths[-1], c.smooth * c.patch**2, 1, bias=False)  # type: ignore[index]
            last = nn.Conv2d(c.smooth, 1, 3, padding=1)
            G.to_pixels.extend([nn.LeakyReLU(0.2), last])  # type: ignore[operator]
        if c.tanh and not isinstance(G.to_pixels[-1], nn.Tanh):
            G.to_pixels.append(nn.Tanh())  # type: ignore[operator]
    for net, name in ((G, "generator"), (D, "discriminator")):
        torch.manual_seed(mix(c.seed, *name.encode()))
        net.reset_parameters()  # type: ignore[operator]
        if c.smooth and net is G:
            nn.init.normal_(last.weight, std=1 / math.sqrt(last.weight[0].numel()))
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return G, D


def wider(conv: nn.Conv2d, c: Candidate) -> nn.Conv2d:
    k = c.pixel_kernel
    return nn.Conv2d(conv.in_channels, conv.out_channels, k, padding=k // 2, bias=False)


class Trainer:
    """One candidate's nets, optimisers and clock; `total` samples is where its schedules end."""

    def __init__(self, c: Candidate, nets: tuple[nn.Module, nn.Module], total: int):
        self.c, (self.G, self.D), self.total = c, nets, total
        self.G_ema = copy.deepcopy(self.G).eval().requires_grad_(False)
        self.loss = LOSSES[c.loss]()
        self.opt_g, self.opt_d = (
            torch.optim.Adam(net.parameters(), lr=c.lr[0], betas=(c.beta1, c.beta2[0]), eps=1e-8, fused=True)
            for net in nets
        )
        self.lr, self.beta2 = Cosine(*c.lr, total), Cosine(*c.beta2, total)
        self.augment, self.augment_p = DiffAugment(c.augment), Linear(0.0, c.augment_p, max(1, total // 4))
        self.ema = EMA(c.ema_share * total)
        gamma = Cosine(*c.gamma, total)
        self.penalties: list[Penalty] = []
        if "r1" in c.penalty:
            self.penalties.append(R1(gamma, c.every, c.sigma))
        if "r2" in c.penalty:
            self.penalties.append(R2(gamma, c.every, c.sigma))
        self.step = self.samples_seen = 0

    def noise(self, phase: int, size: int) -> BatchNoise:
        return BatchNoise((self.c.seed, self.step, phase), size)

    def critic(self, y: Tensor, noise: BatchNoise) -> Callable[[Tensor], Any]:
        p = self.augment_p(self.samples_seen)
        return lambda x: self.D(self.augment(x, p, noise), y)

    def draw(self, noise: BatchNoise, y: Tensor) -> Tensor:
        return self.G(noise.randn(self.c.z_dim), y)

    def train_step(self, real: Tensor, y: Tensor) -> None:
        for opt in (self.opt_g, self.opt_d):
            for group in opt.param_groups:
                group["lr"] = self.lr(self.samples_seen)
                group["betas"] = (self.c.beta1, self.beta2(self.samples_seen))
        self.descend(self.opt_d, self.d_loss(real, y, self.noise(0, len(real))))
        with frozen(self.D):
            self.descend(self.opt_g, self.g_loss(real, y, self.noise(1, len(real))))
        self.ema.update(self.G_ema, self.G, len(real), self.samples_seen)
        self.step += 1
        self.samples_seen += len(real)

    def descend(self, opt: torch.optim.Optimizer, loss: Tensor) -> None:
        opt.zero_grad()
        loss.backward()
        opt.step()

    def autocast(self, wanted: bool) -> Any:
        return torch.autocast("cpu", torch.bfloat16) if self.c.bf16 and wanted else nullcontext()

    def d_loss(self, real: Tensor, y: Tensor, noise: BatchNoise) -> Tensor:
        due = [penalty for penalty in self.penalties if penalty.due(self.step)]
        with torch.no_grad(), self.autocast(True):
            fake = self.draw(noise, y)
        with self.autocast(not due):
            real, fake = real.detach().requires_grad_(bool(due)), fake.float().requires_grad_(bool(due))
            critique = self.critic(y, noise)
            on_real, on_fake = critique(real), critique(fake)
            loss = self.loss.d(on_real.logits[0].float(), on_fake.logits[0].float())
            view = DView(critique, real, fake, on_real, on_fake, noise)
            for penalty in due:
                loss = loss + penalty(view, self.samples_seen)
        return loss

    def g_loss(self, real: Tensor, y: Tensor, noise: BatchNoise) -> Tensor:
        with self.autocast(True):
            fake = self.draw(noise, y)
            critique = self.critic(y, noise)
            on_real = None
            if self.loss.g_sees_real:
                with torch.no_grad():
                    on_real = critique(real).logits[0].float()
            return self.loss.g(on_real, critique(fake).logits[0].float())


def batches(x: Tensor, y: Tensor, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    epoch = 0
    while True:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(mix(seed, epoch)))
        for start in range(0, len(x) - size + 1, size):
            rows = order[start : start + size]
            yield scaled(x[rows]), y[rows]
        epoch += 1


def scaled(x: Tensor) -> Tensor:
    return (x.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def cpu_per_step(c: Candidate, data: tuple[Tensor, Tensor], seconds: float = 6.0) -> float:
    """CPU-seconds of a step in the mean over whole periods of the lazy penalty, on nets that are thrown away."""
    trainer, source = Trainer(c, build(c), 1_000_000), batches(*data, c.batch, c.seed)
    for _ in range(c.every + 4):
        trainer.train_step(*next(source))
    steps, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        for _ in range(c.every):
            trainer.train_step(*next(source))
        steps += c.every
    return (time.process_time() - start) / steps


def relative_cost(a: Candidate, b: Candidate, data: tuple[Tensor, Tensor], rounds: int = 3) -> float:
    """CPU-seconds a sample of `a` by those of `b`, timed in turns: the smallest of each, for a busy machine."""
    seconds = [[cpu_per_step(c, data, 1.5) / c.batch for c in (a, b)] for _ in range(rounds)]
    mine, other = map(min, zip(*seconds, strict=True))
    return mine / other


# ---- the score ----------------------------------------------------------------------------------------------------


class Classifier(nn.Module):
    """x: (B, 1, 32, 32) in [-1, 1] -> features (B, 128), logits (B, 10)"""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in ((1, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 128), nn.ReLU())
        self.head = nn.Linear(128, NUM_CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x)
        return features, self.head(F.dropout(features, 0.3, self.training))


class Judge:
    """The classifier, what it says of the held-out pictures, and the floor: the same of the pictures trained on."""

    def __init__(self, train: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor], cache: Path, epochs: int = 6):
        self.net = Classifier().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        saved = torch.load(cache, weights_only=True) if cache.exists() else {}
        if saved:
            self.net.load_state_dict(saved["net"])
        else:
            print(f"training the classifier for {epochs} epochs …", flush=True)
            self.fit(train, epochs)
        self.net.eval()
        self.real, logits = self(held[0])
        self.real_y = held[1]
        self.accuracy = (logits.argmax(1) == held[1]).double().mean().item()
        self.stats = mean_and_cov(self.real)
        self.spread = within_class_variance(self.real, held[1])
        if not saved:
            seen = self(train[0])[0]
            saved = {"net": self.net.state_dict()}
            for key, part in (("floor", seen), ("floor_equal", seen[: len(held[0])])):
                saved[key] = frechet_distance(*mean_and_cov(part), *self.stats).item()
            cache.parent.mkdir(parents=True, exist_ok=True)
            torch.save(saved, cache)
        self.floor, self.floor_equal = saved["floor"], saved["floor_equal"]

    def fit(self, data: tuple[Tensor, Tensor], epochs: int) -> None:
        torch.manual_seed(0)
        net, batch = self.net.train(), 128
        for module in net.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]
        steps = epochs * (len(data[0]) // batch)
        opt = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(opt, 2e-3, total_steps=steps)
        for _, (x, y) in zip(range(steps), batches(*data, batch, seed=1), strict=False):
            opt.zero_grad()
            F.cross_entropy(net(x)[1], y, label_smoothing=0.05).backward()
            opt.step()
            schedule.step()

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (N, 1, 32, 32) uint8 -> features, logits"""
        parts = [self.net(scaled(part)) for part in x.split(500)]
        return torch.cat([f for f, _ in parts]), torch.cat([l for _, l in parts])

    def score(self, G: nn.Module, z_dim: int, count: int) -> dict[str, float]:
        """`count` samples, equally many of each class."""
        x, y = sample(G, z_dim, count, seed=123)
        features, logits = self(x)
        return {
            "fd": frechet_distance(*mean_and_cov(features), *self.stats).item(),
            "accuracy": (logits.argmax(1) == y).double().mean().item(),
            "diversity": within_class_variance(features, y) / self.spread,
        }


def within_class_variance(features: Tensor, y: Tensor) -> float:
    """Trace of the covariance within a class, in the mean over classes."""
    return float(np.mean([features[y == k].double().var(0).sum().item() for k in range(NUM_CLASSES)]))


@torch.no_grad()
def sample(G: nn.Module, z_dim: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """-> x (count, 1, 32, 32) uint8, rounded and clamped as a PNG would be; y (count,)"""
    y = torch.arange(count) % NUM_CLASSES
    z = torch.randn(count, z_dim, generator=torch.Generator().manual_seed(seed))
    training = G.training
    G.eval()
    x = torch.cat([G(a, b) for a, b in zip(z.split(250), y.split(250), strict=True)])
    G.train(training)
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8), y


def grid(x: Tensor, columns: int, path: Path, scale: int = 2) -> None:
    """x: (N, 1, H, W) uint8 -> PNG, row by row."""
    from PIL import Image

    _, _, h, w = x.shape
    page = x.view(-1, columns, h, w).permute(0, 2, 1, 3).reshape(-1, columns * w)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(page.numpy())
    image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST).save(path, optimize=True)


def sample_grid(G: nn.Module, z_dim: int, path: Path, columns: int = 16) -> None:
    """One row a class."""
    x, y = sample(G, z_dim, columns * NUM_CLASSES, seed=7)
    grid(x[torch.argsort(y, stable=True)], columns, path)


# ---- one candidate ------------------------------------------------------------------------------------------------


def run(
    name: str, c: Candidate, minutes: float, worth: int, judge: Judge, data: tuple[Tensor, Tensor], out: Path
) -> dict[str, Any]:
    step_seconds = cpu_per_step(c, data)
    reference = dataclasses.replace(CANDIDATES[REFERENCE], bf16=c.bf16, seed=c.seed)
    ratio = (1.0 if c == reference else relative_cost(c, reference, data)) if worth else None
    steps = math.ceil(worth / ratio / c.batch if ratio else minutes * 60 / step_seconds)
    nets = build(c)
    trainer, source = Trainer(c, nets, steps * c.batch), batches(*data, c.batch, c.seed)
    marks = {round(steps * share): share for share in (0.125, 0.25, 0.5, 0.75)}
    params = [sum(p.numel() for p in net.parameters()) for net in nets]
    print(
        f"{name}: {1e3 * step_seconds:.1f} CPU-ms a step, {steps:,} steps, {params[0]:,} + {params[1]:,} parameters",
        flush=True,
    )
    curve, used = [], 0.0
    start, wall = time.process_time(), time.time()
    failed = ""
    while trainer.step < steps:
        trainer.train_step(*next(source))
        if trainer.step in marks:
            used += time.process_time() - start
            scores = judge.score(trainer.G_ema, c.z_dim, 5_000)
            curve.append({"samples": trainer.samples_seen, "cpu_seconds": used, **scores})
            print(f"  {name} {used / 60:5.1f} min {trainer.samples_seen:,} samples {shown(scores)}", flush=True)
            start = time.process_time()
            if not math.isfinite(scores["fd"]):
                failed = "not finite"
                break
    used += time.process_time() - start
    final = judge.score(trainer.G_ema, c.z_dim, 10_000)
    curve.append({"samples": trainer.samples_seen, "cpu_seconds": used, **final})
    raw = judge.score(trainer.G, c.z_dim, 10_000)
    folder = out / "grids"
    label = f"{name}_{worth}" if worth else f"{name}_{minutes:g}min"
    sample_grid(trainer.G_ema, c.z_dim, folder / f"{label}.png")
    if minutes >= 10 or worth >= 300_000:
        torch.save({"settings": dataclasses.asdict(c), "G_ema": trainer.G_ema.state_dict()}, out / f"{label}.pt")
    record = {
        "name": name, "settings": dataclasses.asdict(c), "cpu_minutes": minutes, "worth": worth, "relative_cost": ratio,
        "cpu_seconds": used,
        "wall_seconds": time.time() - wall, "step_cpu_ms": 1e3 * used / max(1, trainer.step), "steps": trainer.step,
        "samples": trainer.samples_seen, **final, "fd_raw": raw["fd"], "failed": failed, "curve": curve,
        "parameters": params, "floor": judge.floor_equal, "classifier_accuracy": judge.accuracy,
        "threads": torch.get_num_threads(), "load": os.getloadavg()[0], "torch": torch.__version__,
        "machine": f"{os.cpu_count()} x {cpu_name()}", "commit": commit(), "time": time.strftime("%F %T"),
    }  # fmt: skip
    print(
        f"  {name} DONE {used / 60:.1f} CPU-min {trainer.samples_seen:,} samples {shown(final)} raw {raw['fd']:.2f}",
        flush=True,
    )
    return record


def shown(scores: dict[str, float]) -> str:
    return f"FD {scores['fd']:7.2f}  accuracy {scores['accuracy']:.3f}  diversity {scores['diversity']:.2f}"


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip()


# ---- the report ---------------------------------------------------------------------------------------------------


def read(out: Path) -> list[dict[str, Any]]:
    path = out / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def differences(settings: dict[str, Any]) -> str:
    base = dataclasses.asdict(dcgan() if settings["family"] == "dcgan" else Candidate())
    plain = lambda v: list(v) if isinstance(v, tuple) else v  # noqa: E731  JSON has lists only
    changed = [f"{k} {_terse(v)}" for k, v in settings.items() if plain(v) != plain(base.get(k))]
    return ", ".join(changed) or "the base"


def _terse(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "→".join(_terse(v) for v in value) if value and isinstance(value[0], float) else str(list(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def budget(record: dict[str, Any]) -> str:
    worth = record.get("worth", 0)
    return f"{worth:,} samples of {REFERENCE}" if worth else f"{record['cpu_minutes']:g} CPU-minutes"


def report(records: list[dict[str, Any]], figure: Path | None) -> None:
    for limit in sorted({budget(r) for r in records}):
        rows = sorted((r for r in records if budget(r) == limit), key=lambda r: (bool(r["failed"]), r["fd"]))
        print(f"\n{limit}\n")
        print("| name | differs from the base by | CPU-ms a step | thousand samples | FD | accuracy | diversity |")
        print("|-|-|-|-|-|-|-|")
        for r in rows:
            print(
                f"| {r['name']} | {differences(r['settings'])} | {r['step_cpu_ms']:.0f} | {r['samples'] / 1e3:,.0f} | "
                f"{r['failed'] or format(r['fd'], '.2f')} | {r['accuracy']:.3f} | {r['diversity']:.2f} |"
            )
    if figure:
        draw(records, figure)


def draw(records: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    budgets = sorted({budget(r) for r in records})
    plot, axes = plt.subplots(1, len(budgets), figsize=(5.5 * len(budgets), 4), squeeze=False)
    for ax, limit in zip(axes[0], budgets, strict=True):
        rows = sorted((r for r in records if budget(r) == limit), key=lambda r: r["fd"])
        named = {r["name"] for r in rows[:4]} | {r["name"] for r in rows if r["settings"]["family"] == "dcgan"}
        for r in rows:
            minutes_used = [p["cpu_seconds"] / 60 for p in r["curve"]]
            dashed = r["settings"]["family"] == "dcgan"
            style = {"label": f"{r['name']} {r['fd']:.1f}"} if r["name"] in named else {"color": "0.8", "zorder": 0}
            ax.plot(minutes_used, [p["fd"] for p in r["curve"]], "--" if dashed else "-", **style)
        ax.axhline(rows[0]["floor"], color="k", lw=0.5)
        ax.set(yscale="log", xlabel="CPU-minutes", title=f"budget of {limit}")
        ax.legend(fontsize=7)
    axes[0][0].set_ylabel("Fréchet distance, classifier features")
    plot.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    plot.savefig(path, dpi=80)
    print(f"\n{path}")


# ---- the door -----------------------------------------------------------------------------------------------------


def score_runs(runs: list[Path], judge: Judge, train: tuple[Tensor, Tensor], held_out: bool) -> None:
    """10,000 samples of each run against the 10,000 pictures of the test split, or of the search; a markdown table."""
    accuracy, floor = judge.accuracy, judge.floor_equal
    if not held_out:
        test = FashionMNIST(transform=PadTo(32)).load("test")
        assert test.y is not None
        y = torch.from_numpy(test.y)
        features, logits = judge(torch.from_numpy(test.x))
        judge.stats, judge.spread = mean_and_cov(features), within_class_variance(features, y)
        floor = frechet_distance(*mean_and_cov(judge(train[0][:10_000])[0]), *judge.stats).item()
        accuracy = (logits.argmax(1) == y).double().mean().item()
    print("| run | samples seen | FD | class accuracy | diversity |\n|---|---|---|---|---|")
    print(f"| 10,000 training pictures (the floor) | | {floor:.2f} | {accuracy:.3f} (of real pictures) | 1 |")
    for path in runs:
        gan = gan_kit.load(path)
        scores = judge.score(gan.generator, gan.generator.z_dim, 10_000)  # type: ignore[arg-type]
        seen = f"{gan.facts['samples_seen']:,}"
        print(f"| {path} | {seen} | {scores['fd']:.2f} | {scores['accuracy']:.3f} | {scores['diversity']:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", default="", help="names, with commas between")
    parser.add_argument("--cpu-minutes", type=float, default=5.0)
    parser.add_argument("--worth", type=int, default=0, help=f"the CPU-time of so many samples of {REFERENCE} instead")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, help="in place of the candidates' own; their names get it as a suffix")
    parser.add_argument("--out", type=Path, default=Path("runs/search_fashion"))
    parser.add_argument("--score", type=Path, nargs="+", help="runs or bundles to judge by the test split")
    parser.add_argument("--held-out", action="store_true", help="--score by the search's pictures, not the test split")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--figure", type=Path, help="with --report: where to draw the curves")
    args = parser.parse_args()
    if args.list or not (args.candidates or args.report or args.score):
        for name, c in CANDIDATES.items():
            print(f"{name:24} {c.family:6} {differences(dataclasses.asdict(c))}")
        return
    if args.report:
        report(read(args.out), args.figure)
        return
    names = [name for name in args.candidates.split(",") if name]
    if unknown := set(names) - CANDIDATES.keys():
        parser.error(f"no such candidate {sorted(unknown)}; have {', '.join(CANDIDATES)}")
    torch.set_num_threads(args.threads)
    arrays = FashionMNIST(transform=PadTo(32)).load("train")
    assert arrays.y is not None
    x, y = torch.from_numpy(arrays.x), torch.from_numpy(arrays.y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(2017))
    train, held = (x[order[:50_000]], y[order[:50_000]]), (x[order[50_000:]], y[order[50_000:]])
    judge = Judge(train, held, args.out / "classifier.pt")
    print(
        f"classifier {judge.accuracy:.4f} on held-out pictures; floor {judge.floor_equal:.3f} "
        f"(10,000 pictures; {judge.floor:.3f} of all 50,000)",
        flush=True,
    )
    if args.score:
        score_runs(args.score, judge, train, args.held_out)
        return
    rows = held[1].argsort(stable=True).view(-1)
    real = torch.cat([held[0][rows[held[1][rows] == k][:16]] for k in range(NUM_CLASSES)])
    grid(real, 16, args.out / "grids" / "real.png")
    for name in names:
        c = CANDIDATES[name]
        if args.seed is not None:
            c, name = dataclasses.replace(c, seed=args.seed), f"{name}@{args.seed}"
        settings = json.loads(json.dumps(dataclasses.asdict(c)))
        wanted = budget({"cpu_minutes": args.cpu_minutes, "worth": args.worth})
        if any(r["settings"] == settings and budget(r) == wanted for r in read(args.out)):
            print(f"{name}: done before", flush=True)
            continue
        record = run(name, c, args.cpu_minutes, args.worth, judge, train, args.out)
        with (args.out / "results.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
