"""What the leaderboard trains: families by one recipe each, and data sets.

**Size.** The presets of `fashion_mnist_dcgan` and `fashion_mnist_r3gan` were searched for a CPU (docs/results.md); the
first learns at twice its rate here, for a short training (chosen on held-out training pictures). All other families
keep their paper's building blocks, in the same pyramid of channels as DCGAN's width 32: 128 at 4x4 and 8x8, halved with
each further doubling. Published widths, made for GPUs, would see some ten thousand pictures in ten minutes.

**Learning rate.** From the paper, times four: their nets are about four times as wide, and Adam's rate goes with one
over the width (Yang et al. 2021). StyleGAN2's stays: its weights are scaled at run time. All fall by a cosine to a
tenth at the end of the budget, as those of the two searched presets do; papers that decay theirs go straight to 0.

**Critic steps.** WGAN-GP's 5 stay, which its objective needs; SNGAN's 5 (of StudioGAN's BigGAN, too) are 2, as in
BigGAN's paper: the budget is too small to give G a fifth of it.

**Penalties** of the transformer come every 4th step, as in the searched presets, and not at each one.

**Alike for all**: batch 64, generator averaged with a half-life of 10,000 samples (R3GAN: 20,000),
and on the two small data sets DiffAugment at p = 0.3, as in `image/folder`. No family has been tuned beyond this.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gan_kit import _door
from gan_kit.types import UserError

# ---- families -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """base: settings of gan_kit.train; at: more of them for a side of pictures; league: figures of two don't compare"""

    name: str
    about: str
    base: Sequence[str]
    at: Mapping[int, Sequence[str]] = field(default_factory=dict)
    league: str = "main"
    available: Callable[[], bool] = lambda: True

    def overrides(self, data: Data) -> list[str]:
        return [*self.base, *self.at.get(data.size, ())]

    def digest(self, data: Data) -> str:
        """Of all that the recipe says, with the text of its experiment."""
        texts = [*self.overrides(data), *data.settings, data.split, data.extractor]
        for setting in self.base:
            key, _, name = setting.partition("=")
            if key == "+experiment":
                texts.append((_door.conf_dir() / "experiment" / f"{name}.yaml").read_text())
        return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def nets(name: str, objective: str, discriminator: str | None = None) -> list[str]:
    return [f"generator={name}", f"discriminator={discriminator or name}", f"objective={objective}"]


def adam(lr_g: float, lr_d: float, beta1: float, beta2: float) -> list[str]:
    """Both rates fall by a cosine to a tenth."""
    found = []
    for net, lr in (("g", lr_g), ("d", lr_d)):
        fall = f"start:{lr},end:{lr / 10:.6g},duration_samples:${{schedule_samples}}"
        found += [f"optimizer.{net}.betas=[{beta1},{beta2}]", f"optimizer.{net}.lr={lr}"]
        found.append(f"+model.schedules.lr_{net}={{_target_:gan_kit.adversarial.Cosine,{fall}}}")
    return found


def widths(generator: str, discriminator: str) -> list[str]:
    return [f"generator.widths=[{generator}]", f"discriminator.widths=[{discriminator}]"]


PYRAMID = {32: widths("128,96,64,32", "32,64,128,128"), 64: widths("128,128,96,64,32", "32,64,96,128,128")}
STYLES = ["z_dim=128", "w_dim=128", "mapping_layers=2"]
TOKENS = ["width=64", "depth=4", "heads=4"]
WEIGHTS = "efficientnet_b0*.pth"  # of the projected critic


def has_weights() -> bool:
    import torch

    return any((Path(torch.hub.get_dir()) / "checkpoints").glob(WEIGHTS))


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "dcgan", "DCGAN's nets under R1, the searched preset at twice its learning rate",
            ["+experiment=image/fashion_mnist_dcgan", *(f"model.schedules.lr_{net}.start=2e-3" for net in "gd")],
        ),
        Family(
            "r3gan", "R3GAN, the searched preset", ["+experiment=image/fashion_mnist_r3gan"],
            {
                side: [
                    f"{net}.{setting}"
                    for net in ("generator", "discriminator")
                    for setting in (f"widths=[{stages}]", f"blocks=[{blocks}]")
                ]
                for side, stages, blocks in ((16, "128,64", "1,1"), (64, "128,128,64,32", "1,1,0,0"))
            },
        ),
        Family(
            "sngan", "Miyato et al. 2018: hinge, spectral normalisation, Adam 2e-4 (0, .9)",
            [*nets("sngan", "hinge"), *adam(8e-4, 8e-4, 0.0, 0.9), "model.n_critic=2"], PYRAMID,
        ),
        Family(
            "wgan_gp", "Gulrajani et al. 2017: penalty 10, five critic steps, Adam 2e-4 (0, .9)",
            [*nets("wgan_gp_resnet", "wgan_gp"), *adam(8e-4, 8e-4, 0.0, 0.9), "model.n_critic=5"], PYRAMID,
        ),
        Family(
            "sagan", "Zhang et al. 2019: attention at 16x16, Adam 1e-4 for G, 4e-4 for D (0, .9)",
            [*nets("sagan", "hinge"), *adam(4e-4, 1.6e-3, 0.0, 0.9)], PYRAMID,
        ),
        Family(
            "biggan", "Brock et al. 2019, at StudioGAN's rates for CIFAR-10: Adam 2e-4 (.5, .999)",
            [*nets("biggan", "hinge"), *adam(8e-4, 8e-4, 0.5, 0.999), "model.n_critic=2"], PYRAMID,
        ),
        Family(
            "stylegan2", "Karras et al. 2020, as ADA's paper has it for CIFAR-10, Adam 2.5e-3 (0, .99)",
            [
                *nets("stylegan2_cifar", "nonsaturating_r1"), *adam(2.5e-3, 2.5e-3, 0.0, 0.99),
                *(f"generator.{s}" for s in STYLES),
                *(f"{net}.channel_{s}" for net in ("generator", "discriminator") for s in ("base=1024", "max=128")),
            ],
            {32: ["objective.gamma=0.01"], 64: ["objective.gamma=0.0128"]},  # 0.0002 size² / 64 at 64x64
        ),
        Family(
            "fastgan", "Liu et al. 2021: hinge, D decodes its features, Adam 2e-4 (.5, .999)",
            [
                *nets("fastgan", "fastgan"), *adam(8e-4, 8e-4, 0.5, 0.999),
                "generator.width=8", "discriminator.width=16",
            ],
        ),
        Family(
            "vit", "after GAT (2025): tokens of an eighth of the side, R3GAN's objective by finite differences, 2e-4",
            [
                *nets("vit", "r3gan"), *adam(8e-4, 8e-4, 0.0, 0.99),
                *(f"{net}.{s}" for net in ("generator", "discriminator") for s in TOKENS),
                "generator.w_dim=64", "generator.tanh=true", "discriminator.attention=fused",
                "objective.gamma.start=0.2", "objective.gamma.end=0.02",
                *(f"objective.penalties.{r}.finite_difference_sigma=0.01" for r in ("r1", "r2")),
                *(f"objective.penalties.{r}.every=4" for r in ("r1", "r2")),
            ],
            {side: [f"{net}.patch={side // 8}" for net in ("generator", "discriminator")] for side in (16, 32, 64)},
        ),
        Family(
            "projected", "Sauer et al. 2021: FastGAN's generator, frozen ImageNet features as critic, Adam 2e-4",
            [*nets("fastgan", "hinge", "projected"), *adam(2e-4, 2e-4, 0.0, 0.99), "generator.width=8"],
            league="ImageNet's features", available=has_weights,
        ),
    )
}  # fmt: skip


# ---- data -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """settings: of gan_kit.train

    archive: in $GAN_KIT_DATA, prepared once into OUT/data, with `held` of it held out; labels: whether its labels.csv
    names classes of what is to be seen
    split: what is scored against; samples of the other one are the floor, and as many are generated
    """

    name: str
    title: str
    size: int
    settings: Sequence[str]
    extractor: str
    split: str
    count: int | None = None  # of generated samples; None: as many as are held out
    archive: str = ""
    labels: bool = False
    held: float = 0.0

    def overrides(self, out: Path) -> list[str]:
        root = [f"data.root={(out / 'data' / self.name).resolve()}"] if self.archive else []
        return [*self.settings, f"image_size={self.size}", *root]

    def samples(self, out: Path) -> int:
        if self.count:
            return self.count
        return int(json.loads((out / "data" / self.name / "dataset.json").read_text())["counts"]["test"])


SMALL = ["data=folder", "augment=diffaugment", "augment.p=0.3"]
DATA = {
    data.name: data
    for data in (
        Data(
            "fashion_mnist", "Fashion-MNIST, 32x32, class-conditional", 32, ["data=fashion_mnist"], "classifier",
            "test", 10_000,
        ),
        # its folders sort files, not what is to be seen ("unused", "misc"): no labels
        Data(
            "crawl_tiles32", "Tiles of Dungeon Crawl, 32x32 on white, without classes", 32, SMALL, "lite0", "train",
            archive="crawl_tiles32/crawl_tiles32_png.zip", held=0.2,
        ),
        # too few photos to train a judge of them: lite0 for these too
        Data(
            "clothing10", "Photos of clothing, 64x64, ten classes", 64, [*SMALL, "data.hflip=true"], "lite0", "train",
            archive="clothing10_128/clothing10_128_jpg.zip", labels=True, held=0.25,
        ),
        Data("digits", "Digits, 16x16, to try things out", 16, ["data=digits"], "pixels", "test", 300),
    )
}  # fmt: skip
DEFAULT_DATA = ("fashion_mnist", "crawl_tiles32", "clothing10")


def prepared(data: Data, out: Path) -> None:
    """OUT/data/NAME by gan_kit.prepare, once: near-duplicates left out, split by clusters of alike pictures.

    Splits that the source has are not taken: they are small, and their near-duplicates were not looked for. Raises
    UserError where the archive is not there.
    """
    target = out / "data" / data.name
    if not data.archive or (target / "dataset.json").exists():
        return
    archive = Path(os.environ.get("GAN_KIT_DATA") or "data") / data.archive
    if not archive.is_file():
        raise UserError(f"there is no {archive} for --data {data.name}: set GAN_KIT_DATA, or leave it out")
    labels = "none"
    if data.labels:
        table = out / "data" / f"{data.name}.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        with (archive.parent / "labels.csv").open(newline="") as source, table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "label"])
            writer.writerows((row["file"], row["label"]) for row in csv.DictReader(source))
        labels = str(table)
    print(f"preparing {archive}", flush=True)
    settings = [f"source={archive}", f"out={target}", f"image_size={data.size}", f"labels={labels}", "val_fraction=0"]
    done = subprocess.run(
        [sys.executable, "-m", "gan_kit.prepare", *settings, f"test_fraction={data.held}", "workers=1"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise UserError(f"{archive} could not be prepared: {(done.stderr or done.stdout).strip()[-300:]}")
