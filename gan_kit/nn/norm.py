"""Normalisation whose gain and bias come from a condition."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan_kit.nn.spectral import raw_weight, restart_spectral, spectral_norm
from gan_kit.types import UserError

__all__ = ["ConditionalBatchNorm2d"]


class ConditionalBatchNorm2d(nn.Module):
    """Batch normalisation with a gain and a bias of each sample's own (Dumoulin et al. 2017; de Vries et al. 2017).

    x: (B, channels, H, W), c: (B,) class indices, or (B, vector_dim) -> (B, channels, H, W)

    num_classes: a table of gains and biases, 1 and 0 to begin with (Miyato & Koyama 2018, section 4)
    vector_dim: instead, 1 + W c and W' c (BigGAN, Brock et al. 2019, appendix B)
    spectral: spectral normalisation of these maps (BigGAN)

    Running statistics are kept for evaluation, as in `nn.BatchNorm2d`. Raises UserError unless one of the two is given.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int = 0,
        vector_dim: int = 0,
        spectral: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ):
        super().__init__()
        if bool(num_classes) == bool(vector_dim):
            raise UserError(f"num_classes={num_classes}, vector_dim={vector_dim}: a conditional norm takes one of them")
        self.channels, self.num_classes = channels, num_classes
        self.norm = nn.BatchNorm2d(channels, eps, momentum, affine=False)

        def table() -> nn.Module:
            layer = nn.Embedding(num_classes, channels) if num_classes else nn.Linear(vector_dim, channels, bias=False)
            return spectral_norm(layer, spectral)

        self.gain, self.bias = table(), table()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Gain 1, bias 0 of classes; maps of vectors are orthogonal (BigGAN)."""
        self.norm.reset_running_stats()
        for layer, start in ((self.gain, 1.0), (self.bias, 0.0)):
            if self.num_classes:
                nn.init.constant_(raw_weight(layer), start)
            else:
                nn.init.orthogonal_(raw_weight(layer))
        restart_spectral(self)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        gain, bias = self.gain(c), self.bias(c)
        if not self.num_classes:
            gain = 1 + gain
        x = self.norm(x)
        return torch.addcmul(bias.to(x.dtype)[:, :, None, None], x, gain.to(x.dtype)[:, :, None, None])
