"""How far a sound is from another, as a listener's ear might say: loss terms for `Reconstruction`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_kit.types import UserError

__all__ = ["Distance", "STFTDistance"]


class Distance(nn.Module):
    """The mean absolute difference of two sounds under each transform, averaged: x̂, x (B, 1, T) -> scalar.

    transforms: x -> features, such as `LogMel` of one spec (HiFi-GAN, Kong et al. 2020, equation 6; with fmax=None, the
        full band), or of several (DAC, BigVGAN)
    """

    def __init__(self, transforms: nn.Module | Sequence[nn.Module]):
        super().__init__()
        several = [transforms] if isinstance(transforms, nn.Module) else list(transforms)
        if not several:
            raise UserError("a distance needs a transform, such as gan_kit.audio.LogMel(spec)")
        self.transforms = nn.ModuleList(several)

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        distances = [(transform(x_hat) - transform(x)).abs().mean() for transform in self.transforms]
        return torch.stack(distances).mean()


class STFTDistance(nn.Module):
    """Spectral convergence and the difference of log magnitudes, averaged over resolutions (Yamamoto et al. 2020,
    "Parallel WaveGAN", equations 4 to 6): x̂, x (B, 1, T) -> scalar.

    resolutions: n_fft, hop and window of each, as published; eps: added to the power
    """

    def __init__(
        self,
        resolutions: Sequence[Sequence[int]] = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)),
        eps: float = 1e-7,
    ):
        super().__init__()
        if not resolutions or any(len(r) != 3 for r in resolutions):
            raise UserError(f"resolutions={resolutions}: give one or more of [n_fft, hop, window]")
        self.resolutions, self.eps = [tuple(r) for r in resolutions], eps
        for i, (_, _, size) in enumerate(self.resolutions):
            self.register_buffer(f"window{i}", torch.hann_window(size), persistent=False)

    def magnitude(self, x: Tensor, i: int) -> Tensor:
        n_fft, hop, size = self.resolutions[i]
        window = self.get_buffer(f"window{i}")
        s = torch.stft(x.flatten(0, -2).float(), n_fft, hop, size, window=window, return_complex=True)
        return (torch.view_as_real(s).square().sum(-1) + self.eps).sqrt()

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        total = x.new_zeros(())
        for i in range(len(self.resolutions)):
            theirs, mine = self.magnitude(x, i), self.magnitude(x_hat, i)
            convergence = (theirs - mine).norm() / theirs.norm()
            total = total + convergence + (theirs.log() - mine.log()).abs().mean()
        return total / len(self.resolutions)
