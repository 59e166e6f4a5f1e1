"""Experiments as tests run them: with data that are there, and nets that a laptop takes two steps of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_kit import _door
from gan_kit.data.speech_commands import DIGITS
from gan_kit.sounds import write_wav

__all__ = ["PAIRED", "SMALLER", "small", "spoken"]

PAIRED = ("pix2pix", "cyclegan")
PICTURES = ("folder", "imagenet", "ffhq", "afhq", "fewshot")  # experiments on a folder of them

# what is too large for a test: the same experiment with narrower nets, a shorter baseline
SMALLER: dict[str, list[str]] = {
    "image/digits_semi": ["callbacks.semi_supervised.baseline_steps=2"],
    "image/cifar10_biggan": ["generator.width=16", "discriminator.width=16"],
    "image/afhq_stylegan2_ada": ["image_size=32", "generator.channel_max=16", "discriminator.channel_max=16"],
    "image/cifar10_stylegan2": ["generator.channel_max=16", "discriminator.channel_max=16"],
    "image/ffhq256_stylegan2": ["image_size=32", "generator.channel_max=16", "discriminator.channel_max=16"],
    "image/cifar10_r3gan": ["generator.width=16", "discriminator.width=16"],
    "image/ffhq64_r3gan": ["generator.widths=[16,16,16,16,8]", "discriminator.widths=[16,16,16,16,8]"],
    "image/ffhq256_r3gan": ["image_size=32", "generator.width=16", "discriminator.width=16"],
    "image/imagenet32_r3gan": ["generator.width=16", "discriminator.width=16"],
    "image/imagenet64_r3gan": ["generator.widths=[16,16,16,16,16]", "discriminator.widths=[16,16,16,16,16]"],
    "image/fewshot_fastgan": ["image_size=64", "generator.width=4", "discriminator.width=4"],
    "image/imagenet128_biggan": ["generator.width=8", "discriminator.width=8"],
    "image/cifar10_vit": ["generator.width=24", "discriminator.width=24"],
    "image/folder_projected": [
        "image_size=64",
        "generator.width=8",
        "discriminator.weights=random",
        "discriminator.backbone=resnet18",
    ],
    "image/folder_pix2pix": ["image_size=64", "generator.width=8", "discriminator.width=8", "discriminator.layers=1"],
    "image/folder_cyclegan": ["image_size=64", "generator.width=8", "discriminator.width=8", "generator.blocks=1"],
    "audio/sc09_wavegan": ["generator.width=4", "discriminator.width=4"],
    "audio/nsynth_gansynth": [
        "audio.n_fft=128", "audio.win_length=128", "audio.hop_length=64", "audio.clip_samples=4096",
        "generator.widths=[16,16,16,16,16]", "discriminator.widths=[16,16,16,16,16]",
    ],
    **{
        f"audio/speech_hifigan_v{v}": [
            f"generator.width={16 if v < 3 else 8}", "discriminator.period_width=2", "discriminator.scale_width=16",
        ]
        for v in (1, 2, 3)
    },
    "audio/speech_vocos": [
        "generator.width=16", "generator.hidden=16", "generator.blocks=1",
        "discriminator.period_width=2", "discriminator.resolution_width=2",
    ],
}  # fmt: skip


def small(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> list[str]:
    """The settings of two steps of an experiment; data are made below tmp_path, or those of this machine."""
    settings = [f"+experiment={name}", "debug=two_steps", "trainer=cpu", *SMALLER.get(name, [])]
    if "fashion" in name:
        return [*settings, f"data.root={request.getfixturevalue('fashion_root')}"]
    if "cifar" in name:
        return [*settings, f"data.root={request.getfixturevalue('cifar_root')}", "data.check=false"]
    if "fsdd" in name:
        return [*settings, f"data.root={request.getfixturevalue('fsdd_root')}"]
    if "sc09" in name:
        return [*settings, f"data.root={spoken(tmp_path / 'spoken')}"]
    cfg = _door.compose("train", [f"+experiment={name}", *SMALLER.get(name, [])])
    if str(cfg.data._target_).endswith("SoundFolderData"):
        return [*settings, f"data.root={_pack(tmp_path, cfg.audio.sample_rate, cfg.audio.clip_samples)}"]
    if any(word in name for word in PICTURES):
        return [*settings, f"data.root={_pictures(tmp_path / 'pictures', name.endswith(PAIRED))}"]
    return settings


def _pictures(folder: Path, paired: bool) -> Path:
    for i in range(12):
        for kind in ("A", "B") if paired else ("cats" if i % 2 else "dogs",):
            place = folder / kind
            place.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(i).integers(0, 255, (70, 80, 3), np.uint8)
            Image.fromarray(pixels).save(place / f"{i}.png")
    return folder


def spoken(folder: Path, words: Sequence[str] = DIGITS, takes: int = 4, rate: int = 16_000) -> Path:
    """Speech Commands' layout: take t of word n is a tone of 100 (n + 1) Hz that lasts t + 1 tenths of a second.

    Of each word, take 0 is val and take 1 test; the others, train.
    """
    soundfile = pytest.importorskip("soundfile")
    lists: dict[int, list[str]] = {take: [] for take in range(takes)}
    for n, word in enumerate(words):
        (folder / word).mkdir(parents=True)
        for take in range(takes):
            t = np.arange(rate * (take + 1) // 10) / rate
            name = f"{word}/{take:08x}_nohash_{n}.wav"
            soundfile.write(folder / name, 0.5 * np.sin(2 * np.pi * 100 * (n + 1) * t), rate, subtype="PCM_16")
            lists[take].append(name)
    (folder / "validation_list.txt").write_text("\n".join(lists[0]) + "\n")
    (folder / "testing_list.txt").write_text("\n".join(lists[1]) + "\n")
    return folder


def _pack(folder: Path, sample_rate: int, clip_samples: int) -> Path:
    """A prepared data set of 24 noises, two classes."""
    pytest.importorskip("soundfile")
    import torch

    from gan_kit.data.prepare import Settings, Sounds, prepare

    g = torch.Generator().manual_seed(0)
    for i in range(24):
        fall = torch.linspace(0, -6 - i, clip_samples).exp()
        wave = 0.5 * torch.randn(1, clip_samples, generator=g).clamp(-1.9, 1.9) * fall
        write_wav(wave, sample_rate, folder / "sounds" / ("high" if i % 2 else "low") / f"{i}.wav")
    domain = Sounds(sample_rate, clip_samples, fit="pad")
    shares = Settings(val_fraction=0.2, test_fraction=0.2)
    prepare(folder / "sounds", folder / "pack", domain, shares, progress=False, workers=1)
    return folder / "pack"
