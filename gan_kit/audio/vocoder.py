"""HiFi-GAN's generator (Kong et al. 2020, section 2.2, appendix A.1), with BigVGAN's activations as an option.

Transposed convolutions raise the rate from frames to samples; behind each, residual blocks of several kernel sizes see
the signal side by side and are averaged ("multi-receptive field fusion").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.audio.layers import Conv1d, ConvTranspose1d, normed, reset_convolutions, rows, unrows
from gan_kit.audio.snake import AntiAliased, Snake
from gan_kit.nn import Recorded
from gan_kit.types import UserError

__all__ = ["HiFiGAN", "hifigan", "mono_mel"]

LEAK = 0.1
ACTIVATIONS = ("leaky_relu", "snake", "snake_beta")

V1: dict[str, Any] = {
    "width": 512,
    "upsample_rates": (8, 8, 2, 2),
    "upsample_kernels": (16, 16, 4, 4),
    "block_kernels": (3, 7, 11),
    "dilations": ((1, 3, 5), (1, 3, 5), (1, 3, 5)),
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "v1": V1,
    "v2": {**V1, "width": 128},
    "v3": {
        "width": 256,
        "upsample_rates": (8, 8, 4),
        "upsample_kernels": (16, 16, 8),
        "block_kernels": (3, 5, 7),
        "dilations": ((1, 2), (2, 6), (3, 12)),
        "paired": False,
    },
}


def mono_mel(mel: Tensor, n_mels: int) -> Tensor:
    """(B, n_mels, L) of that or of (B, 1, n_mels, L), as `LogMel` makes it; raises UserError for any other shape."""
    if mel.dim() == 4 and mel.shape[1] == 1:
        mel = mel.squeeze(1)
    if mel.dim() != 3 or mel.shape[1] != n_mels or not mel.shape[2]:
        raise UserError(
            f"a mel spectrogram of shape {tuple(mel.shape)} for a vocoder of (B, {n_mels}, L); make it with the "
            f"AudioSpec that the vocoder was trained with"
        )
    return mel


class Leaky(nn.Module):
    """Leaky ReLU; `here` overwrites its input, where nobody else reads that."""

    def forward(self, x: Tensor, here: bool = False) -> Tensor:
        return F.leaky_relu_(x, LEAK) if here else F.leaky_relu(x, LEAK)


class Smooth(nn.Module):
    """Snake, between anti-aliasing filters if told so."""

    def __init__(self, channels: int, beta: bool, anti_aliased: bool):
        super().__init__()
        snake = Snake(channels, beta)
        self.act: nn.Module = AntiAliased(snake) if anti_aliased else snake

    def forward(self, x: Tensor, here: bool = False) -> Tensor:
        return self.act(x)


class Block(nn.Module):
    """x + W₂φ(W₁φ(x)) for each dilation of W₁, (B, C, 1, T) -> the same; not `paired`: x + W₁φ(x)."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int], paired: bool, act: Any, norm: Any):
        super().__init__()
        self.radius = sum((kernel - 1) * d // 2 + (kernel // 2 if paired else 0) for d in dilations)
        self.convs1 = nn.ModuleList(norm(Conv1d(channels, channels, kernel, dilation=d)) for d in dilations)
        self.convs2 = nn.ModuleList(norm(Conv1d(channels, channels, kernel)) for _ in dilations if paired)
        self.acts1 = nn.ModuleList(act(channels) for _ in dilations)
        self.acts2 = nn.ModuleList(act(channels) for _ in self.convs2)

    def forward(self, x: Tensor) -> Tensor:
        for i, conv in enumerate(self.convs1):
            h = conv(self.acts1[i](x))
            if self.convs2:
                h = self.convs2[i](self.acts2[i](h, here=True))
            x = h.add_(x)
        return x


class HiFiGAN(Recorded, nn.Module):
    """mel: (B, n_mels, L) -> wave (B, 1, T) in [-1, 1], T = L · hop_length; hop_length is the product of the rates.

    width: channels before the first upsampling, halved by each; block_kernels and dilations: one a branch
    paired: each dilated convolution is followed by a plain one (V1 and V2)
    activation: "leaky_relu", or "snake", "snake_beta" (BigVGAN), these with `anti_aliased` filters
    weight_norm: False for a net without it, as `without_weight_norm` makes
    center: frames are centred, so that L of them are T = (L - 1) · hop_length samples

    `context_frames`: how many frames before and after its own bear on a sample.
    Raises UserError for arguments that do not fit each other.
    """

    def __init__(
        self,
        n_mels: int = 80,
        width: int = 512,
        upsample_rates: Sequence[int] = (8, 8, 2, 2),
        upsample_kernels: Sequence[int] = (16, 16, 4, 4),
        block_kernels: Sequence[int] = (3, 7, 11),
        dilations: Sequence[Sequence[int]] = ((1, 3, 5), (1, 3, 5), (1, 3, 5)),
        paired: bool = True,
        activation: str = "leaky_relu",
        anti_aliased: bool = False,
        weight_norm: bool = True,
        center: bool = False,
    ):
        super().__init__()
        _check(width, upsample_rates, upsample_kernels, block_kernels, dilations, activation, anti_aliased)
        self.n_mels, self.hop_length, self.center = n_mels, math.prod(upsample_rates), center
        norm = normed("weight" if weight_norm else "none")

        def act(channels: int) -> nn.Module:
            return Leaky() if activation == "leaky_relu" else Smooth(channels, activation == "snake_beta", anti_aliased)

        self.pre = norm(Conv1d(n_mels, width, 7))
        self.ups, self.up_acts, self.stages = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(upsample_rates, upsample_kernels, strict=True):
            self.up_acts.append(act(width))
            self.ups.append(norm(ConvTranspose1d(width, width // 2, kernel, rate)))
            width //= 2
            branches = zip(block_kernels, dilations, strict=True)
            self.stages.append(nn.ModuleList(Block(width, k, d, paired, act, norm) for k, d in branches))
        self.last_act = act(width) if activation != "leaky_relu" else None
        self.post = norm(Conv1d(width, 1, 7))
        smooth = AntiAliased.radius if anti_aliased else 0
        self.context_frames = self._context(list(upsample_rates), list(upsample_kernels), smooth)
        self.reset_parameters()

    def _context(self, rates: list[int], kernels: list[int], smooth: int) -> int:
        """From the last layer back: how many places to each side an output sees, in that layer's input."""
        seen = 3 + smooth
        stages: list[Any] = list(self.stages)
        for rate, kernel, stage in zip(rates[::-1], kernels[::-1], stages[::-1], strict=True):
            seen += max(block.radius + smooth * (len(block.convs1) + len(block.convs2)) for block in stage)
            seen = math.ceil((seen + (kernel + rate) / 2) / rate) + smooth
        return seen + 3

    def reset_parameters(self) -> None:
        """torch's own initial weights: behind weight norm those of the published code are these."""
        reset_convolutions(self)
        for m in self.modules():
            if isinstance(m, Snake):
                m.reset_parameters()

    def forward(self, mel: Tensor, y: Tensor | None = None) -> Tensor:
        return self.decode(mel)[..., : self.samples(mel.shape[-1])]

    def samples(self, frames: int) -> int:
        """T of a whole sound of so many frames."""
        return (frames - self.center) * self.hop_length

    def decode(self, mel: Tensor) -> Tensor:
        """(B, n_mels, L) -> (B, 1, L · hop_length), whether frames are centred or not."""
        x = self.pre(rows(mono_mel(mel, self.n_mels)))
        act: Any
        stage: Any
        for act, up, stage in zip(self.up_acts, self.ups, self.stages, strict=True):
            x = up(act(x, here=True))
            first, *others = (block(x) for block in stage)
            for other in others:
                first += other
            x = first.div_(len(stage))
        x = F.leaky_relu_(x) if self.last_act is None else self.last_act(x)  # the published slope here is .01
        return unrows(self.post(x)).tanh()

    @torch.no_grad()
    def without_weight_norm(self) -> HiFiGAN:
        """A copy that computes the same, for inference; this net stays as it is."""
        plain = HiFiGAN(**{**self.init_args, "weight_norm": False})
        theirs = dict(self.named_modules())
        for name, m in plain.named_modules():
            for key, p in m.named_parameters(recurse=False):
                p.copy_(getattr(theirs[name], key))
        return plain.to(next(self.parameters()).device).train(self.training)


def hifigan(version: str, **arguments: Any) -> HiFiGAN:
    """The published nets: "v1" (13.93M parameters), "v2" (.93M), "v3" (1.46M)."""
    if version not in PUBLISHED:
        raise UserError(f"no HiFi-GAN {version!r}; have {sorted(PUBLISHED)}")
    return HiFiGAN(**{**PUBLISHED[version], **arguments})


def _check(
    width: int,
    rates: Sequence[int],
    kernels: Sequence[int],
    block_kernels: Sequence[int],
    dilations: Sequence[Sequence[int]],
    activation: str,
    anti_aliased: bool,
) -> None:
    if len(rates) != len(kernels) or not rates:
        raise UserError(f"{len(rates)} upsample_rates and {len(kernels)} upsample_kernels; give one kernel a rate")
    if bad := [(k, u) for k, u in zip(kernels, rates, strict=True) if k < u or (k - u) % 2]:
        raise UserError(f"upsample kernel {bad[0][0]} does not fit rate {bad[0][1]}: take twice the rate")
    if width % 2 ** len(rates):
        raise UserError(f"width={width} can't be halved {len(rates)} times; take a multiple of {2 ** len(rates)}")
    if len(block_kernels) != len(dilations) or not block_kernels:
        raise UserError(f"{len(block_kernels)} block_kernels and {len(dilations)} lists of dilations; one a branch")
    if even := [k for k in block_kernels if k % 2 == 0]:
        raise UserError(f"block_kernels {even} must be odd, so that samples stay in place")
    if activation not in ACTIVATIONS:
        raise UserError(f"no activation {activation!r}; have {list(ACTIVATIONS)}")
    if anti_aliased and activation == "leaky_relu":
        raise UserError("anti_aliased=true goes with activation=snake or snake_beta")
