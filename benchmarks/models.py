"""Writes docs/models.md: every network of conf/, its size beside the published one, its cost, its conditioning.

python benchmarks/models.py            # writes; --check only compares, and exits with 1 where the page is out of date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from gan_kit import _door
from gan_kit.cost import StepCost, flops_of, step_cost
from gan_kit.types import Batch

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"


@dataclass
class Net:
    """generator, discriminator: names in conf/; size: of the pictures; classes: 0 is unconditional

    published: parameters in millions, G and D, where the paper, its code's log or a public implementation tells them
    """

    generator: str
    discriminator: str
    paper: str
    size: int
    channels: int = 3
    classes: int = 0
    settings: tuple[str, ...] = ()
    published: tuple[str, str] = ("", "")


ALL = "none, projection, concat, auxiliary, d2d-ce, k+1"
NETS = [
    Net("dcgan", "dcgan", "Radford et al. 2016", 64, published=("3.58", "2.77")),  # PyTorch's example
    Net("sngan", "sngan", "Miyato et al. 2018", 32, classes=10, published=("4.30", "1.06")),  # StudioGAN
    Net("wgan_gp_resnet", "wgan_gp_resnet", "Gulrajani et al. 2017", 32),
    Net("sagan", "sagan", "Zhang et al. 2019, CIFAR-10", 32, classes=10, published=("4.39", "1.08")),  # StudioGAN
    Net("sagan", "sagan", "Zhang et al. 2019", 128, classes=1000),
    Net("biggan", "biggan", "Brock et al. 2019, CIFAR-10", 32, classes=10, published=("9.42", "2.42"),  # StudioGAN
        settings=("+experiment=image/cifar10_biggan",)),
    Net("biggan", "biggan", "Brock et al. 2019", 128, classes=1000, published=("158.3 together", ""),
        settings=("generator.attention=64", "discriminator.attention=64")),
    Net("stylegan2", "stylegan2", "Karras et al. 2020, FFHQ-256", 256, published=("24.77", "24.00"),  # rosinality
        settings=("+experiment=image/ffhq256_stylegan2",)),
    Net("stylegan2_cifar", "stylegan2_cifar", "Karras et al. 2020, ADA", 32, published=("19.95", "20.72")),  # StudioGAN
    Net("fastgan", "fastgan", "Liu et al. 2021", 256),
    Net("r3gan", "r3gan", "Huang et al. 2024, CIFAR-10", 32, classes=10, published=("20.78", "21.28"),
        settings=("+experiment=image/cifar10_r3gan",)),
    Net("r3gan", "r3gan", "Huang et al. 2024, FFHQ-64", 64, published=("22.43", "22.38"),
        settings=("+experiment=image/ffhq64_r3gan",)),
    Net("r3gan", "r3gan", "Huang et al. 2024, FFHQ-256", 256, published=("23.06", "23.01"),
        settings=("+experiment=image/ffhq256_r3gan",)),
    Net("r3gan", "r3gan", "Huang et al. 2024, ImageNet-32", 32, classes=1000, published=("82.91", "86.55"),
        settings=("+experiment=image/imagenet32_r3gan",)),
    Net("r3gan", "r3gan", "Huang et al. 2024, ImageNet-64", 64, classes=1000, published=("103.57", "107.21"),
        settings=("+experiment=image/imagenet64_r3gan",)),
    Net("vit", "vit", "pixel-space, after GAT (2025)", 32, classes=10),
]  # fmt: skip
PRESETS = {  # trainings of published size, and their classes
    "cifar10_sngan": 10,
    "cifar10_wgan_gp": 0,
    "cifar10_biggan": 10,
    "cifar10_stylegan2": 10,
    "cifar10_vit": 10,
    "cifar10_r3gan": 10,
    "ffhq64_r3gan": 0,
    "ffhq256_stylegan2": 0,
    "ffhq256_r3gan": 0,
    "afhq_stylegan2_ada": 0,
    "imagenet128_biggan": 1000,
    "imagenet32_r3gan": 1000,
    "imagenet64_r3gan": 1000,
}
RATE = 30e12  # FLOP/s of one GPU, a guess: docs/scaling.md
SOUND = [
    ("hifigan_v1", "13.93"),
    ("hifigan_v2", ".93"),
    ("hifigan_v3", "1.46"),
    ("vocos", "13.5"),
    ("vocos_tiny", ".5"),
]


def built(net: Net) -> tuple[Any, Any]:
    settings = [f"generator={net.generator}", f"discriminator={net.discriminator}", *net.settings]
    cfg = _door.compose("train", settings)
    cfg.spec = {"shape": [net.channels, net.size, net.size], "num_classes": net.classes, "vector_dim": 0}
    OmegaConf.resolve(cfg.generator)
    return instantiate(cfg.generator, _convert_="all"), instantiate(cfg.discriminator, _convert_="all")


def millions(module: Any) -> str:
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.2f}"


def digits(value: float) -> str:
    """Two of them that count: 0.21, 14, 220, 1,100"""
    return f"{float(f'{value:.2g}'):,g}"


def row(net: Net) -> str:
    from gan_kit.latent import Normal, draw
    from gan_kit.noise import SampleNoise

    G, D = built(net)
    G.eval(), D.eval()
    y = torch.zeros(1, dtype=torch.long) if net.classes else None
    with torch.no_grad():
        noise = SampleNoise(0, range(1))
        x = draw(G, Normal(), noise, y)
        costs = [flops_of(lambda: draw(G, Normal(), SampleNoise(0, range(1)), y)), flops_of(lambda: D(x, y))]
    kinds = ALL if "conditioning" in D.init_args else "none, projection"
    counts = [
        f"{have}" + (f" ({told})" if told else "")
        for have, told in zip((millions(G), millions(D)), net.published, strict=True)
    ]
    what = f"{net.size}²" + (f", {net.classes} classes" if net.classes else "")
    gigas = [digits(c / 1e9) for c in costs]
    return (
        f"| `{net.generator}` | {net.paper} | {what} | {counts[0]} | {counts[1]} | {gigas[0]} | {gigas[1]} | {kinds} |"
    )


class Shapes:
    """A noise that is shapes alone, of n samples."""

    calls = start = 0

    def __init__(self, n: int):
        self.total = self.stop = n

    def randn(self, *shape: int) -> torch.Tensor:
        return torch.empty(self.total, *shape, device="meta")

    rand = randn

    @contextmanager
    def again(self, call: int) -> Iterator[None]:
        yield


def of_shapes(name: str, classes: int) -> tuple[Any, Batch, DictConfig]:
    """That training's module and a batch for it, of shapes alone, and its config."""
    cfg = _door.compose("train", [f"+experiment=image/{name}"])
    cfg.spec = {"shape": [3, cfg.image_size, cfg.image_size], "num_classes": classes, "vector_dim": 0}
    cfg.model.init_seed = None
    with torch.device("meta"):
        gan = instantiate(cfg.model, _convert_="all")
        gan.noise = lambda phase, n: Shapes(n)
        batch = Batch(torch.empty(8, *cfg.spec.shape), torch.zeros(8, dtype=torch.long) if classes else None)
    return gan, batch, cfg


def training(gan: Any, batch: Batch) -> StepCost:
    """What a sample costs in that training; counted on shapes, nothing is computed."""
    # autocast knows no tensors of shapes alone
    with patch("torch.autocast", lambda *_, **__: nullcontext()), patch("torch.is_autocast_enabled", lambda *_: False):
        return step_cost(gan, batch)


def preset(name: str, classes: int) -> str:
    gan, batch, cfg = of_shapes(name, classes)
    cost, samples = training(gan, batch), cfg.budget_samples
    total = cost.total * samples
    cells = (f"{cost.total / 1e9:,.0f}", f"{samples / 1e6:,.0f}", digits(total / 1e18), digits(total / RATE / 3600))
    return f"| `image/{name}` | {' | '.join(cells)} |"


def experiments() -> list[str]:
    lines = []
    for name in _door.options("experiment"):
        text = (_door.conf_dir() / "experiment" / f"{name}.yaml").read_text().splitlines()
        about = next((t[2:] for t in text if t.startswith("# ") and "@package" not in t), "")
        lines.append(f"| `{name}` | {about} | {'[trained](results.md)' if trained(name) else 'two steps'} |")
    return lines


def trained(name: str) -> bool:
    """Whether docs/results.md has a figure of it, by its name."""
    results = PAGE.with_name("results.md").read_text(encoding="utf-8")
    return re.search(rf"(?<![\w/]){re.escape(name)}(?!\w)", results) is not None


def sound(name: str) -> str:
    spec = ["audio.n_fft=1024", "audio.hop_length=256", "audio.win_length=1024"]
    spec.append(f"audio.n_mels={100 if name == 'vocos' else 80}")  # as published
    return millions(instantiate(_door.compose("train", ["data=tones", f"generator={name}", *spec]).generator))


HEAD = """\
# Networks

Written by `python benchmarks/models.py`; a test compares. Parameters in millions; in brackets, where there is one, the
published figure: the paper's, or what public code counts, which is PyTorch's example for DCGAN, rosinality's for
StyleGAN2 at 256x256, StudioGAN's for SNGAN, SAGAN, and BigGAN and StyleGAN2 of CIFAR-10. Operations in GFLOP for one
picture forward. Every generator trains with every discriminator of pictures: `tests/image/test_pairs_of_nets.py` takes
two steps of each pair, and of each discriminator under each conditioning. Generators take classes, vectors
(`vector_dim`) or nothing, and learn an answer to none (`null_class`): [conditions](conditions.md).

| `generator=` `discriminator=` | paper | pictures | G | D | G, GFLOP | D, GFLOP | `discriminator.conditioning=` |
|---|---|---|---|---|---|---|---|
"""
REST = """
Discriminators without a generator of their own: `projected` (Sauer et al. 2021; its scores by ImageNet features are
flattered, keep them apart) and `patch` (Isola et al. 2017). `unet` and `resnet_translator` turn pictures into pictures
([translate](translate.md)).

## Sound
| `generator=` | parameters (published) |
|---|---|
"""
LAST = """
`wavegan` (Donahue et al. 2019) takes clips of 16 times a power of two; image networks make sound by way of spectrograms
([sound](audio.md)).

## What trainings of published size cost
Operations of a whole training step for each real sample, penalties with their laziness included, as
`gan_kit.estimate` counts them; times the budget; and the hours of one GPU that does 30 TFLOP/s, which is a guess
([scaling](scaling.md#what-to-expect-of-n-devices)). None of these has been trained here. R3GAN's paper tells 8 L40
for 4 days for CIFAR-10, 8 A6000 for some 3 weeks for FFHQ and some 5,000 hours of H100 for ImageNet, not of which
size (appendix D; partly in bfloat16). By these counts a GPU did 24 TFLOP/s for CIFAR-10, 15 for FFHQ if that was
256², and 59 or 240 for ImageNet at 32² or 64².

| `+experiment=` | GFLOP a sample | million samples | EFLOP | GPU-hours |
|---|---|---|---|---|
{presets}
## Experiments
All of them take two steps in the tests. Those that were trained have their figures in [results](results.md).

| `+experiment=` | | status |
|---|---|---|
"""


def page() -> str:
    sounds = [f"| `{name}` | {sound(name)} ({told}) |" for name, told in SOUND]
    last = LAST.format(presets="".join(f"{preset(name, classes)}\n" for name, classes in PRESETS.items()))
    parts = (HEAD, *(f"{row(net)}\n" for net in NETS), REST, *(f"{line}\n" for line in sounds), last)
    return "".join([*parts, *(f"{line}\n" for line in experiments())])


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text() == text else f"{PAGE} is out of date: python benchmarks/models.py")
    PAGE.write_text(text)
    print(text)
