"""WaveGAN's networks (Donahue et al. 2019, "Adversarial Audio Synthesis", appendix D), with optional classes.

A DCGAN over time: convolutions of 25 taps and stride 4, no normalisation, phase shuffle in the critic. Classes enter
the generator as an embedding beside z, the critic by projection (Miyato & Koyama 2018) or as channels beside the sound.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.audio.layers import Conv1d, ConvTranspose1d, rows, unrows
from gan_kit.nn import Recorded
from gan_kit.noise import Noise
from gan_kit.types import Critique, UserError

__all__ = ["WaveGANDiscriminator", "WaveGANGenerator", "phase_shuffle"]

START, KERNEL = 16, 25  # samples of the first signal; taps of every convolution
LEAK = 0.2


def strides(clip_samples: int) -> list[int]:
    """Of each layer from 16 samples up: 4, and a last one of 2 where `clip_samples` is 2 · 4^k · 16.

    Raises UserError for any other length.
    """
    doublings = round(math.log2(clip_samples / START)) if clip_samples > START else 0
    if not 1 <= doublings <= 16 or START * 2**doublings != clip_samples:
        raise UserError(
            f"clip_samples={clip_samples} is not 16 times a power of two; use 4096, 8192, 16384 (as published), 32768"
        )
    return [4] * (doublings // 2) + [2] * (doublings % 2)


def widths(clip_samples: int, width: int) -> list[int]:
    """Channels from 16 samples up: `width` before the last layer, doubled with each layer below it."""
    depth = len(strides(clip_samples))
    return [width * 2 ** (depth - 1 - i) for i in range(depth)]


def phase_shuffle(x: Tensor, shift: Tensor) -> Tensor:
    """Each sample moved in time: y[t] = x[t - shift], mirrored at the ends; (B, C, ..., T) -> the same (section 3.3).

    shift: (B,) whole numbers below T, positive is later
    """
    last = x.shape[-1] - 1
    t = (torch.arange(last + 1, device=x.device) - shift.view(-1, 1)).abs()
    t = last - (last - t).abs()
    return x.gather(-1, t.view(len(x), *[1] * (x.dim() - 2), -1).expand_as(x))


def _reset(net: nn.Module) -> None:
    """Glorot-uniform weights, biases 0, as the published code's layers have them."""
    for m in net.modules():
        if isinstance(m, nn.Conv1d | nn.ConvTranspose1d | nn.Linear):
            nn.init.xavier_uniform_(m.weight)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.Embedding):
            nn.init.normal_(m.weight)


class WaveGANGenerator(Recorded, nn.Module):
    """z: (B, z_dim), y: (B,) or None -> (B, channels, clip_samples) in [-1, 1].

    clip_samples: 16 · 4^k, or twice that; width: channels before the last layer, 64 as published
    """

    def __init__(
        self,
        clip_samples: int = 16384,
        channels: int = 1,
        num_classes: int = 0,
        z_dim: int = 100,
        embed_dim: int = 64,
        width: int = 64,
    ):
        super().__init__()
        self.z_dim, self.num_classes = z_dim, num_classes
        steps, wide = strides(clip_samples), widths(clip_samples, width)
        if num_classes:
            self.embed = nn.Embedding(num_classes, embed_dim)
        self.first = nn.Linear(z_dim + (embed_dim if num_classes else 0), wide[0] * START)
        layers: list[nn.Module] = []
        for (a, b), stride in zip(itertools.pairwise([*wide, channels]), steps, strict=True):
            layers += [nn.ReLU(), ConvTranspose1d(a, b, KERNEL, stride)]
        self.net = nn.Sequential(*layers, nn.Tanh())
        self.reset_parameters()

    def reset_parameters(self) -> None:
        _reset(self)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.num_classes:
            z = torch.cat([z, self.embed(y)], dim=1)
        return unrows(self.net(rows(self.first(z).view(len(z), -1, START))))


class WaveGANDiscriminator(Recorded, nn.Module):
    """x: (B, channels, clip_samples), y: (B,) or None -> Critique with one (B,) logit.

    shuffle: the largest shift of phase shuffle, after each layer but the last; 2 as published, 0 for none
    conditioning: of classes, "projection" or "concatenation" (one channel a class beside the sound)
    noise: where the shifts come from; without it nothing is shifted. The training step gives it (`takes_noise`), so
        that micro-batches, ranks and a resumed run all see the same shifts
    """

    takes_noise = True

    def __init__(
        self,
        clip_samples: int = 16384,
        channels: int = 1,
        num_classes: int = 0,
        width: int = 64,
        shuffle: int = 2,
        conditioning: str = "projection",
    ):
        super().__init__()
        if conditioning not in ("projection", "concatenation"):
            raise UserError(f"conditioning={conditioning!r}: choose 'projection' or 'concatenation'")
        if not 0 <= shuffle < START:
            raise UserError(f"shuffle={shuffle} must lie between 0 (none) and {START - 1} samples; 2 as published")
        self.clip_samples, self.num_classes, self.shuffle = clip_samples, num_classes, shuffle
        self.projects = num_classes > 0 and conditioning == "projection"
        self.joins = num_classes > 0 and conditioning == "concatenation"
        steps, wide = strides(clip_samples)[::-1], widths(clip_samples, width)[::-1]
        first = channels + (num_classes if self.joins else 0)
        self.layers = nn.ModuleList(
            Conv1d(a, b, KERNEL, stride, padding=11 if stride == 4 else 12)
            for (a, b), stride in zip(itertools.pairwise([first, *wide]), steps, strict=True)
        )
        self.head = nn.Linear(wide[-1] * START, 1)
        if self.projects:
            self.embed = nn.Embedding(num_classes, wide[-1] * START)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        _reset(self)
        if self.projects:
            nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, x: Tensor, y: Tensor | None = None, noise: Noise | None = None) -> Critique:
        if x.shape[-1] != self.clip_samples:
            raise UserError(f"clips of {x.shape[-1]} samples for a critic with clip_samples={self.clip_samples}")
        if self.joins:
            assert y is not None
            of_class = F.one_hot(y, self.num_classes).to(x)[:, :, None].expand(-1, -1, x.shape[-1])
            x = torch.cat([x, of_class], dim=1)
        h, features = rows(x), []
        shifts = self.shifts(noise)
        for i, layer in enumerate(self.layers):
            h = F.leaky_relu(layer(h), LEAK)
            features.append(unrows(h))
            if shifts is not None and i < len(self.layers) - 1:
                h = phase_shuffle(h, shifts[:, i].to(h.device))
        flat = unrows(h).flatten(1)
        logit = self.head(flat).squeeze(1)
        if self.projects:
            logit = logit + (flat * self.embed(y)).sum(1)
        return Critique([logit], [features])

    def shifts(self, noise: Noise | None) -> Tensor | None:
        """(B, layers - 1) whole numbers from -shuffle to shuffle, all as likely."""
        if noise is None or not self.shuffle or len(self.layers) < 2:
            return None
        u = noise.rand(len(self.layers) - 1)
        return (u * (2 * self.shuffle + 1)).floor().long() - self.shuffle
