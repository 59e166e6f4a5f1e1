"""The nets of sound, built from conf/ as the doors build them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hydra.utils import instantiate

from gan_kit import _door
from gan_kit.adversarial import R1, R2, Reconstruction, Relativistic


def config(*overrides: str) -> Any:
    cfg = _door.compose("train", list(overrides))
    cfg.spec = {"shape": [1, cfg.audio.clip_samples], "num_classes": 8, "vector_dim": 0}
    return cfg


def built(node: Any) -> Any:
    return instantiate(node, _convert_="all")


def count(net: torch.nn.Module) -> float:
    return sum(p.numel() for p in net.parameters()) / 1e6


def test_wavegan_takes_clip_and_classes_of_the_data() -> None:
    cfg = config(
        "data=drums", "generator=wavegan", "discriminator=wavegan", "generator.width=2", "discriminator.width=2"
    )
    G, D = built(cfg.generator), built(cfg.discriminator)
    y = torch.arange(2)
    x = G(torch.randn(2, 100), y)
    assert x.shape == (2, 1, cfg.audio.clip_samples)
    assert D(x, y).logits[0].shape == (2,)


def test_the_modern_objective() -> None:
    objective = built(config("data=drums", "objective=relativistic").objective)
    assert isinstance(objective["loss"], Relativistic)
    r1, r2 = objective["penalties"]["r1"], objective["penalties"]["r2"]
    assert (type(r1), type(r2), r1.every, r2.every) == (R1, R2, 16, 16)


@pytest.mark.parametrize(
    "name, millions",
    [("hifigan_v1", 13.936), ("hifigan_v2", 0.9285), ("hifigan_v3", 1.4643), ("vocos_tiny", 0.507)],
)
def test_vocoders_have_their_published_sizes(name: str, millions: float) -> None:
    cfg = config("data=tones", f"generator={name}", "discriminator=vocos")
    cfg.audio.update(n_mels=80, n_fft=1024, win_length=1024, hop_length=256)
    with torch.device("meta"):
        assert count(built(cfg.generator)) == pytest.approx(millions, rel=1e-3)


def test_a_reconstruction_takes_its_step() -> None:
    cfg = config(
        "data=tones", "generator=vocos_tiny", "discriminator=vocos", "model=reconstruction", "objective=least_squares"
    )
    cfg.discriminator.update(period_width=2, resolution_width=2, resolutions=[256])
    module = built(cfg.model)
    assert isinstance(module, Reconstruction)
    x = 0.1 * torch.randn(2, 1, cfg.audio.clip_samples)
    pair = module.pair(x, None)
    assert pair[0].shape == pair[1].shape
    assert module.terms["mel"](*pair) > 0
    assert module.reconstruct(x).shape[1] == 1
