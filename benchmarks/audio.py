"""Nets of sound beside the published architectures written plainly, and two recipes of WaveGAN.

    python benchmarks/audio.py [--threads 1] [--rounds 10] [--only forward|step|wavegan] [--cpu-time]

Both sides have the same weights, run in one process and take turns; a row is the median time of each and the median of
the rounds' ratios (plain / ours, above 1 is faster) with their quartiles. `step` is a whole training step of generator
and discriminators with mel distance and feature matching, ours under the Lightning trainer: HiFi-GAN by periods and
scales on 8,192 samples, Vocos by periods and resolutions on 16,384, as published. `--cpu-time` counts the process's
seconds instead of the clock's: for a machine with other work. `wavegan` compares the
relativistic recipe (R1 + R2 every 16 steps, one D step for each G step) with WGAN-GP (five), per real sample that D
sees and per step of G.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from gan_kit.adversarial import (
    GAN,
    R1,
    R2,
    GradientPenalty,
    Hinge,
    LeastSquares,
    Reconstruction,
    Relativistic,
    Wasserstein,
)
from gan_kit.audio import (
    Distance,
    LogMel,
    VocoderDiscriminator,
    Vocos,
    WaveGANDiscriminator,
    WaveGANGenerator,
    hifigan,
)
from gan_kit.data import ArrayDataModule, Arrays
from gan_kit.latent import Uniform
from gan_kit.types import AudioSpec, Batch

SPEC = AudioSpec(22050, 8192, center=False, fmax=8000.0)
FULL_BAND = AudioSpec(22050, 8192, center=False)
adam = partial(torch.optim.AdamW, lr=2e-4, betas=(0.8, 0.99))


# ---- the published architectures, plainly -----------------------------------------------------------------------


class PlainBlock(nn.Module):
    def __init__(self, width: int, kernel: int, dilations: Sequence[int], paired: bool):
        super().__init__()
        self.wide = nn.ModuleList(
            weight_norm(nn.Conv1d(width, width, kernel, dilation=d, padding=(kernel - 1) * d // 2)) for d in dilations
        )
        self.narrow = nn.ModuleList(
            weight_norm(nn.Conv1d(width, width, kernel, padding=kernel // 2)) for _ in dilations if paired
        )

    def forward(self, x: Tensor) -> Tensor:
        for i, conv in enumerate(self.wide):
            h = conv(F.leaky_relu(x, 0.1))
            if self.narrow:
                h = self.narrow[i](F.leaky_relu(h, 0.1))
            x = x + h
        return x


class PlainHiFiGAN(nn.Module):
    def __init__(
        self, n_mels: int, width: int, upsample_rates: Any, upsample_kernels: Any, block_kernels: Any, **more: Any
    ):
        super().__init__()
        self.pre = weight_norm(nn.Conv1d(n_mels, width, 7, padding=3))
        self.ups, self.stages = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(upsample_rates, upsample_kernels, strict=True):
            up = nn.ConvTranspose1d(width, width // 2, kernel, rate, (kernel - rate) // 2)
            width //= 2
            self.ups.append(weight_norm(up))
            branches = zip(block_kernels, more["dilations"], strict=True)
            self.stages.append(nn.ModuleList(PlainBlock(width, k, d, more["paired"]) for k, d in branches))
        self.post = weight_norm(nn.Conv1d(width, 1, 7, padding=3))

    def forward(self, mel: Tensor) -> Tensor:
        x = self.pre(mel)
        for up, stage in zip(self.ups, self.stages, strict=True):
            x = up(F.leaky_relu(x, 0.1))
            x = sum(block(x) for block in stage) / len(stage)  # type: ignore[union-attr, arg-type, assignment]
        return torch.tanh(self.post(F.leaky_relu(x)))


class PlainConvNeXt(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.w1, self.w2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        h = self.depthwise(x).transpose(1, 2)
        h = self.gamma * self.w2(F.gelu(self.w1(self.norm(h))))
        return x + h.transpose(1, 2)


class PlainVocos(nn.Module):
    def __init__(self, n_mels: int, width: int, hidden: int, blocks: int, n_fft: int, hop_length: int, center: bool):
        super().__init__()
        self.n_fft, self.hop = n_fft, hop_length
        self.embed = nn.Conv1d(n_mels, width, 7, padding=3)
        self.first_norm = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.ModuleList(PlainConvNeXt(width, hidden) for _ in range(blocks))
        self.last_norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, n_fft + 2)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.first_norm(self.embed(mel).transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        log_magnitude, phase = self.head(self.last_norm(x.transpose(1, 2))).transpose(1, 2).chunk(2, dim=1)
        magnitude = log_magnitude.exp().clip(max=1e2)
        spectrum = magnitude * (torch.cos(phase) + 1j * torch.sin(phase))
        window = torch.hann_window(self.n_fft)
        pieces = torch.fft.irfft(spectrum, self.n_fft, dim=1) * window[None, :, None]
        length = (pieces.shape[-1] - 1) * self.hop + self.n_fft
        fold = partial(F.fold, output_size=(1, length), kernel_size=(1, self.n_fft), stride=(1, self.hop))
        squares = window.square().expand(1, pieces.shape[-1], -1).transpose(1, 2)
        cut = (self.n_fft - self.hop) // 2
        return (fold(pieces)[:, :, 0, cut:-cut]) / fold(squares)[:, :, 0, cut:-cut]


class PlainPeriod(nn.Module):
    def __init__(self, period: int):
        super().__init__()
        self.period, widths = period, [1, 32, 128, 512, 1024]
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), (3, 1), padding=(2, 0))) for a, b in itertools.pairwise(widths)
        )
        self.convs.append(weight_norm(nn.Conv2d(1024, 1024, (5, 1), padding=(2, 0))))
        self.post = weight_norm(nn.Conv2d(1024, 1, (3, 1), padding=(1, 0)))

    def forward(self, x: Tensor) -> list[Tensor]:
        if rest := x.shape[-1] % self.period:
            x = F.pad(x, (0, self.period - rest), "reflect")
        x, features = x.view(len(x), 1, -1, self.period), []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            features.append(x)
        return [*features, self.post(x)]


class PlainScale(nn.Module):
    def __init__(self, norm: Callable[..., nn.Module]):
        super().__init__()
        self.convs = nn.ModuleList(
            [
                norm(nn.Conv1d(1, 128, 15, 1, padding=7)),
                norm(nn.Conv1d(128, 128, 41, 2, groups=4, padding=20)),
                norm(nn.Conv1d(128, 256, 41, 2, groups=16, padding=20)),
                norm(nn.Conv1d(256, 512, 41, 4, groups=16, padding=20)),
                norm(nn.Conv1d(512, 1024, 41, 4, groups=16, padding=20)),
                norm(nn.Conv1d(1024, 1024, 41, 1, groups=16, padding=20)),
                norm(nn.Conv1d(1024, 1024, 5, 1, padding=2)),
            ]
        )
        self.post = norm(nn.Conv1d(1024, 1, 3, padding=1))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            features.append(x)
        return [*features, self.post(x)]


class PlainResolution(nn.Module):
    def __init__(self, n_fft: int):
        super().__init__()
        self.n_fft, bins = n_fft, n_fft // 2 + 1
        edges = [int(share * bins) for share in (0, 0.1, 0.25, 0.5, 0.75, 1)]
        self.bands = list(itertools.pairwise(edges))
        self.convs = nn.ModuleList(
            nn.ModuleList(
                [
                    weight_norm(nn.Conv2d(2, 32, (3, 9), (1, 1), padding=(1, 4))),
                    *(weight_norm(nn.Conv2d(32, 32, (3, 9), (1, 2), padding=(1, 4))) for _ in range(3)),
                    weight_norm(nn.Conv2d(32, 32, (3, 3), (1, 1), padding=(1, 1))),
                ]
            )
            for _ in self.bands
        )
        self.post = weight_norm(nn.Conv2d(32, 1, (3, 3), (1, 1), padding=(1, 1)))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = x.squeeze(1) - x.mean(dim=(1, 2))[:, None]
        x = 0.8 * x / (x.abs().max(dim=-1, keepdim=True)[0] + 1e-9)
        window = torch.hann_window(self.n_fft)
        s = torch.view_as_real(torch.stft(x, self.n_fft, self.n_fft // 4, window=window, return_complex=True))
        s, features, tops = s.permute(0, 3, 2, 1), [], []
        for (low, high), convs in zip(self.bands, self.convs, strict=True):
            h = s[..., low:high]
            for conv in convs:  # type: ignore[union-attr]
                h = F.leaky_relu(conv(h), 0.1)
                features.append(h)
            tops.append(h)
        return [*features, self.post(torch.cat(tops, -1))]


class PlainDiscriminators(nn.Module):
    """MPD and MSD, or MPD and MRD: x -> of each the features, logits last."""

    def __init__(self, resolutions: Sequence[int] = ()) -> None:
        super().__init__()
        self.periods = nn.ModuleList(PlainPeriod(p) for p in (2, 3, 5, 7, 11))
        norms = () if resolutions else (spectral_norm, weight_norm, weight_norm)
        self.scales = nn.ModuleList(PlainScale(norm) for norm in norms)
        self.resolutions = nn.ModuleList(PlainResolution(n) for n in resolutions)

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        heard = [part(x) for part in [*self.periods, *self.resolutions]]
        for i, part in enumerate(self.scales):
            x = F.avg_pool1d(x, 4, 2, padding=2) if i else x
            heard.append(part(x))
        return heard


def least_squares(on_real: Tensor | None, on_fake: Tensor) -> Tensor:
    """Of D; without on_real, of G"""
    if on_real is None:
        return ((on_fake - 1) ** 2).mean()
    return ((on_real - 1) ** 2).mean() + (on_fake**2).mean()


def hinge(on_real: Tensor | None, on_fake: Tensor) -> Tensor:
    if on_real is None:
        return -on_fake.mean()
    return F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()


def same_weights(plain: nn.Module, ours: nn.Module) -> nn.Module:
    """`plain` with the weights of `ours`, which come in the same order."""
    values = ours.state_dict().values()
    plain.load_state_dict(dict(zip(plain.state_dict().keys(), values, strict=True)))
    return plain


def nets(name: str) -> tuple[nn.Module, nn.Module]:
    """ours, plain"""
    if name == "vocos":
        ours: Any = Vocos(80, center=False)
        published = {k: v for k, v in ours.init_args.items() if k not in ("prior", "refine", "polish", "spec")}
        return ours, same_weights(PlainVocos(**published), ours)
    ours = hifigan(name.removeprefix("hifigan "))
    return ours, same_weights(PlainHiFiGAN(**ours.init_args), ours)


# ---- taking turns -----------------------------------------------------------------------------------------------


def report(name: str, pairs: list[tuple[float, float]], words: str = "ours, plain") -> None:
    ratios = sorted(b / a for a, b in pairs)
    low, middle, high = statistics.quantiles(ratios, n=4)
    mine, theirs = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
    print(f"{name:34} {mine:9.1f} {theirs:9.1f} ms ({words})   {middle:5.2f} [{low:.2f}, {high:.2f}]", flush=True)


clock = time.perf_counter


def clocked(call: Callable[[], Any]) -> float:
    start = clock()
    call()
    return clock() - start


@torch.no_grad()
def forward(name: str, rounds: int) -> None:
    ours, plain = (net.eval() for net in nets(name))
    mel = torch.randn(1, 80, 86)  # a second
    assert (ours(mel) - plain(mel)).abs().max() < 1e-4
    folded = ours.without_weight_norm() if hasattr(ours, "without_weight_norm") else ours
    for module in list(plain.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    pairs = [(clocked(lambda: folded(mel)), clocked(lambda: plain(mel))) for _ in range(rounds + 1)]
    report(f"{name}, forward, 1 s of sound", pairs[1:])


class Sounds:
    """A source of noise, (N, 1, samples)."""

    def __init__(self, samples: int = 8192):
        self.samples = samples

    def load(self, split: str) -> Arrays:
        x = np.random.default_rng(0).integers(0, 256, (256, 1, self.samples))
        return Arrays(x.astype(np.uint8), None)


class SoundData(ArrayDataModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        return Batch(batch.x.float() / 127.5 - 1, batch.y)


class Turns(Callback):
    """Clocks each step of the trainer, then one of the plain loop."""

    def __init__(self, plain: Iterator[None] | None = None):
        self.plain, self.pairs = plain, []  # type: ignore[var-annotated]

    def on_train_batch_start(self, *_: Any) -> None:
        self.start = clock()

    def on_train_batch_end(self, *_: Any) -> None:
        mine = clock() - self.start
        self.pairs.append((mine, clocked(lambda: next(self.plain)) if self.plain else 0.0))


def train(module: Any, data: SoundData, steps: int, turns: Turns) -> list[tuple[float, float]]:
    Trainer(
        accelerator="cpu",
        max_epochs=-1,
        max_steps=steps,
        callbacks=[turns],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, datamodule=data)
    return turns.pairs


# of each sub-discriminator: means over five periods, and a tenth over three resolutions
VOCOS_WEIGHTS = [1 / 5] * 5 + [0.1 / 3] * 3
RESOLUTIONS = (2048, 1024, 512)


def plain_steps(
    G: nn.Module,
    D: nn.Module,
    batch_size: int,
    samples: int,
    loss_of: Callable[..., Tensor],
    weights: Sequence[float],
    matching: float,
) -> Iterator[None]:
    """A vocoder's training loop as one writes it by hand."""
    opt_g, opt_d = adam(G.parameters()), adam(D.parameters())
    mel_of, loud = LogMel(SPEC), LogMel(FULL_BAND)
    sounds = torch.from_numpy(Sounds(samples).load("train").x)
    for start in itertools.cycle(range(0, len(sounds) - batch_size, batch_size)):
        x = sounds[start : start + batch_size].float() / 127.5 - 1
        x_hat = G(mel_of(x).squeeze(1))
        on_real, on_fake = D(x), D(x_hat.detach())
        loss = sum(w * loss_of(r[-1], f[-1]) for w, r, f in zip(weights, on_real, on_fake, strict=True))
        opt_d.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        opt_d.step()
        on_real, on_fake = D(x), D(x_hat)
        near = sum(
            w * (r.detach() - f).abs().mean()
            for w, a, b in zip(weights, on_real, on_fake, strict=True)
            for r, f in zip(a, b, strict=True)
        )
        fooled = sum(w * loss_of(None, f[-1]) for w, f in zip(weights, on_fake, strict=True))
        loss = fooled + matching * near + 45 * (loud(x_hat) - loud(x)).abs().mean()
        opt_g.zero_grad()
        loss.backward()
        opt_g.step()
        yield


def step(name: str, rounds: int, batch_size: int) -> None:
    G, plain_g = nets(name)
    vocos = name == "vocos"
    samples = 16384 if vocos else 8192
    D = VocoderDiscriminator(scales=0, resolutions=RESOLUTIONS) if vocos else VocoderDiscriminator()
    plain_d = same_weights(PlainDiscriminators(RESOLUTIONS if vocos else ()), D)
    weights = VOCOS_WEIGHTS if vocos else [1.0] * 8
    module = Reconstruction(
        G,
        D,
        Hinge() if vocos else LeastSquares(),
        adam,
        adam,
        condition=LogMel(SPEC),
        terms={"mel": Distance(LogMel(FULL_BAND))},
        term_weights={"mel": 45.0},
        adversarial_weight=1.0 if vocos else 2.0,  # our least squares are halved
        feature_weight=1.0 if vocos else 2.0,
        critic_weights=weights,
    )
    loss_of, matching = (hinge, 1.0) if vocos else (least_squares, 2.0)
    turns = Turns(plain_steps(plain_g, plain_d, batch_size, samples, loss_of, weights, matching))
    pairs = train(module, SoundData(Sounds(samples), batch_size=batch_size), rounds + 2, turns)
    report(f"{name}, step, batch {batch_size}", pairs[2:])


def wavegan(rounds: int, batch_size: int, width: int) -> None:
    def gan(loss: Any, penalties: dict[str, Any], n_critic: int) -> GAN:
        nets = WaveGANGenerator(width=width), WaveGANDiscriminator(width=width)
        half = partial(torch.optim.Adam, lr=1e-4, betas=(0.5, 0.9))
        return GAN(*nets, loss, half, half, penalties=penalties, n_critic=n_critic, prior=Uniform(), init_seed=0)

    recipes = {
        "modern": lambda: gan(Relativistic(), {"r1": R1(every=16), "r2": R2(every=16)}, 1),
        "WGAN-GP 5:1": lambda: gan(Wasserstein(), {"gp": GradientPenalty()}, 5),
    }
    cycles = {"modern": 16, "WGAN-GP 5:1": 5}
    per_sample: dict[str, list[float]] = {name: [] for name in recipes}
    for _ in range(rounds):
        for name, make in recipes.items():
            data = SoundData(Sounds(16384), batch_size=batch_size)
            times = [t for t, _ in train(make(), data, 1 + cycles[name], Turns())][1:]
            per_sample[name].append(sum(times) / cycles[name] / batch_size)
    pairs = list(zip(*per_sample.values(), strict=True))
    report(f"WaveGAN {width}, a sample seen", pairs, "modern, WGAN-GP")
    report(f"WaveGAN {width}, a step of G", [(a * batch_size, 5 * b * batch_size) for a, b in pairs], "modern, WGAN-GP")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=32, help="of WaveGAN; 64 as published")
    parser.add_argument("--nets", nargs="+", default=["hifigan v1", "hifigan v3", "vocos"])
    parser.add_argument("--only", choices=["forward", "step", "wavegan"])
    parser.add_argument("--cpu-time", action="store_true")
    args = parser.parse_args()
    if args.cpu_time:
        global clock
        clock = time.process_time
    torch.set_num_threads(args.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    seconds = "CPU seconds" if args.cpu_time else "seconds"
    print(f"{platform.processor() or platform.machine()}, {args.threads} threads, torch {torch.__version__}, {seconds}")
    for name in args.nets:
        if args.only in (None, "forward"):
            forward(name, args.rounds)
        if args.only in (None, "step"):
            step(name, args.rounds, args.batch)
    if args.only in (None, "wavegan"):
        wavegan(max(2, args.rounds // 3), args.batch, args.width)


if __name__ == "__main__":
    main()
