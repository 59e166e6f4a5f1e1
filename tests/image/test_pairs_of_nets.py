"""Every image generator trains against every image discriminator: two steps of each pair, small, through conf/."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate

from gan_kit import _door
from gan_kit.data import ArrayDataModule
from gan_kit.data.arrays import Arrays

# small enough for a test; nets that have no line here are not for pairs: vectors, sounds, pictures into pictures
GENERATORS: dict[str, list[str]] = {
    "dcgan": ["width=4"],
    "r3gan": ["width=8", "blocks=1", "group_size=null", "expansion=1"],
    "sngan": ["width=8"],
    "wgan_gp_resnet": ["width=8"],
    "sagan": ["width=8"],
    "biggan": ["width=4"],
    "stylegan2": ["channel_max=8", "z_dim=8", "w_dim=8", "mapping_layers=2"],
    "stylegan2_cifar": ["channel_max=8", "z_dim=8", "w_dim=8"],
    "fastgan": ["width=4"],
    "vit": ["width=24", "depth=1", "heads=2", "w_dim=8", "patch=4"],
}
DISCRIMINATORS: dict[str, list[str]] = {
    "dcgan": ["width=4", "norm=none"],
    "r3gan": ["width=8", "blocks=1", "group_size=null", "expansion=1"],
    "sngan": ["width=8"],
    "wgan_gp_resnet": ["width=8"],
    "sagan": ["width=8"],
    "biggan": ["width=4"],
    "stylegan2": ["channel_max=8"],
    "stylegan2_cifar": ["channel_max=8", "mbstd_group=4"],
    "fastgan": ["width=4"],
    "vit": ["width=24", "depth=1", "heads=2", "patch=4"],
    "patch": ["width=4", "layers=1"],
    "projected": ["width=4", "backbone=resnet18", "weights=random"],
}
ELSEWHERE = {"mlp", "wavegan", "hifigan_v1", "hifigan_v2", "hifigan_v3", "vocos", "vocos_tiny"}
TRANSLATORS = {"unet", "resnet_translator"}
E = 5  # of the vectors that stand in the place of classes


class Noise:
    def __init__(self, vectors: bool = False) -> None:
        self.vectors = vectors

    def load(self, split: str) -> Arrays:
        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (16, 3, 32, 32), dtype=np.uint8)
        if self.vectors:
            return Arrays(x, rng.standard_normal((16, E)).astype(np.float32))
        return Arrays(x, np.arange(16, dtype=np.int64) % 3, ("a", "b", "c"))


def built(generator: str, discriminator: str, objective: str, labels: bool, *more: str, vector_dim: int = 0) -> Any:
    settings = [f"generator={generator}", f"discriminator={discriminator}", f"objective={objective}"]
    settings += [f"generator.{s}" for s in GENERATORS[generator]]
    settings += [f"discriminator.{s}" for s in DISCRIMINATORS[discriminator]]
    cfg = _door.compose("train", [*settings, *more])
    cfg.spec = {"shape": [3, 32, 32], "num_classes": 3 if labels and not vector_dim else 0, "vector_dim": vector_dim}
    return instantiate(cfg.model, _convert_="all")


def two_steps(gan: Any, labels: bool, vectors: bool = False) -> None:
    trainer = L.Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(gan, datamodule=ArrayDataModule(Noise(vectors), batch_size=8, labels=labels))
    assert gan.samples_seen == 16
    assert all(torch.isfinite(v).all() for v in gan.scalars.values())
    assert {"loss_d", "loss_g"} <= gan.scalars.keys()


def test_every_net_of_conf_has_its_place_here() -> None:
    assert set(_door.options("generator")) == GENERATORS.keys() | ELSEWHERE | TRANSLATORS
    assert set(_door.options("discriminator")) == DISCRIMINATORS.keys() | {"mlp", "wavegan", "hifigan", "vocos"}


PAIRS = [(g, d, True) for g in GENERATORS for d in DISCRIMINATORS]
PAIRS += [(g, d, False) for g, d in zip(GENERATORS, DISCRIMINATORS, strict=False)]
PAIRS += [("dcgan", d, False) for d in DISCRIMINATORS]


@pytest.mark.slow
@pytest.mark.parametrize("generator, discriminator, labels", dict.fromkeys(PAIRS))
def test_two_steps_of_every_pair(generator: str, discriminator: str, labels: bool) -> None:
    # halves of the table take the two kinds of objective: with second derivatives, and without
    objective = "nonsaturating_r1" if (len(generator) + len(discriminator)) % 2 else "hinge"
    two_steps(built(generator, discriminator, objective, labels), labels)


WITH_VECTORS = dict.fromkeys([*zip(GENERATORS, DISCRIMINATORS, strict=False), *(("dcgan", d) for d in DISCRIMINATORS)])


@pytest.mark.parametrize("generator, discriminator", WITH_VECTORS)
def test_two_steps_with_vectors_of_which_some_are_hidden(generator: str, discriminator: str) -> None:
    null = ["model.label_dropout=0.5", "generator.null_class=true", "discriminator.null_class=true"]
    gan = built(generator, discriminator, "hinge", True, *null, vector_dim=E)
    two_steps(gan, labels=True, vectors=True)
    assert gan.generator.vector_dim == gan.discriminator.vector_dim == E


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_generator_follows_its_vector_and_answers_to_none(generator: str) -> None:
    gan = built(generator, "dcgan", "hinge", True, "generator.null_class=true", vector_dim=E)
    G = gan.generator.eval()
    y = torch.randn(3, E)
    y[2] = torch.nan
    with torch.no_grad():
        for m in G.modules():  # what begins at 0 would hide the condition
            for p in m.parameters(recurse=False):
                p.add_(0.05 * torch.randn(p.shape))
        z = torch.randn(1, G.z_dim).expand(3, -1)
        x = G(z, y)
        assert x.isfinite().all()
        assert not x[0].allclose(x[1], atol=1e-4)
        assert x[2:].allclose(G(z[2:], None), atol=1e-5)


KINDS = {
    "none": "hinge",
    "projection": "hinge",
    "concat": "hinge",
    "auxiliary": "acgan",
    "d2d-ce": "reacgan",
    "k+1": "semi_supervised",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("discriminator", DISCRIMINATORS)
def test_two_steps_of_every_discriminator_under_every_conditioning(discriminator: str, kind: str) -> None:
    if discriminator == "r3gan":  # is told classes by a projection, and has no other way
        with pytest.raises(ConfigCompositionException, match="conditioning"):
            built("dcgan", discriminator, KINDS[kind], True, f"discriminator.conditioning={kind}")
        return
    two_steps(built("dcgan", discriminator, KINDS[kind], True, f"discriminator.conditioning={kind}"), labels=True)
