"""The Inception v3 of 2015-12-05 that FID and the inception score are defined by.

Heusel et al. 2017; Salimans et al. 2016. It differs from torchvision's: pads are left out of average pooling, the last
block pools by maximum, and it has 1008 logits.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.evaluate.features import Extracted, Extractor, as_pictures
from gan_kit.evaluate.lite0 import BN_KEYS, fold
from gan_kit.evaluate.resize import resize
from gan_kit.evaluate.weights import find_weights
from gan_kit.types import UserError

__all__ = ["Inception"]

FILE = "pt_inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}"
# the same bytes, 95,628,359 of them, under the name that torch-fidelity and torchmetrics keep them
ALSO = ("https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",)
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SIDE, BN_EPS = 299, 1e-3
RESIZES = {"tf1": "tf1", "clean": "bicubic-smooth"}

Spec = tuple[str, int, tuple[int, int], int]  # name, channels, kernel, stride


def conv(channels_in: int, channels: int, kernel: tuple[int, int], stride: int = 1, padded: bool = True) -> nn.Conv2d:
    padding = (kernel[0] // 2, kernel[1] // 2) if padded and stride == 1 else 0
    return nn.Conv2d(channels_in, channels, kernel, stride, padding)


class Block(nn.Module):
    """Branches side by side, their channels joined.

    branches: chains of convolutions; a chain whose last entry is a tuple of two ends in both, joined
    pool: "avg" (pads left out), "max", or "stride" (maximum, halving); pool_channels: of a 1x1 after it, 0 for none
    """

    def __init__(self, channels_in: int, branches: Iterable[Iterable[Any]], pool: str, pool_channels: int):
        super().__init__()
        self.chains: list[list[str | tuple[str, ...]]] = []
        self.pool, self.out = pool, 0
        for branch in branches:
            chain: list[str | tuple[str, ...]] = []
            width = channels_in
            for entry in branch:
                specs: tuple[Spec, ...] = entry if isinstance(entry[0], tuple) else (entry,)
                for name, channels, kernel, stride in specs:
                    self.add_module(name, conv(width, channels, kernel, stride))
                chain.append(tuple(s[0] for s in specs) if len(specs) > 1 else specs[0][0])
                width = sum(s[1] for s in specs)
            self.out += width
            self.chains.append(chain)
        if pool_channels:
            self.branch_pool = conv(channels_in, pool_channels, (1, 1))
        self.out += pool_channels or channels_in

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for chain in self.chains:
            h = x
            for entry in chain:
                names = (entry,) if isinstance(entry, str) else entry
                found = [F.relu(self.get_submodule(name)(h), inplace=True) for name in names]
                h = found[0] if len(found) == 1 else torch.cat(found, 1)
            parts.append(h)
        if self.pool == "stride":
            parts.append(F.max_pool2d(x, 3, 2))
        else:
            avg = self.pool == "avg"
            h = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) if avg else F.max_pool2d(x, 3, 1, 1)
            parts.append(F.relu(self.branch_pool(h), inplace=True))
        return torch.cat(parts, 1)


ONE, THREE, FIVE, ROW, COLUMN, ROW3, COLUMN3 = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1), (1, 3), (3, 1)


def block_a(channels: int, pool_channels: int) -> Block:
    """35x35"""
    five = [("branch5x5_1", 48, ONE, 1), ("branch5x5_2", 64, FIVE, 1)]
    three = [("branch3x3dbl_1", 64, ONE, 1), ("branch3x3dbl_2", 96, THREE, 1), ("branch3x3dbl_3", 96, THREE, 1)]
    return Block(channels, [[("branch1x1", 64, ONE, 1)], five, three], "avg", pool_channels)


def block_b(channels: int) -> Block:
    """35x35 -> 17x17"""
    double = [("branch3x3dbl_1", 64, ONE, 1), ("branch3x3dbl_2", 96, THREE, 1), ("branch3x3dbl_3", 96, THREE, 2)]
    return Block(channels, [[("branch3x3", 384, THREE, 2)], double], "stride", 0)


def block_c(channels: int, width: int) -> Block:
    """17x17"""
    seven = [("branch7x7_1", width, ONE, 1), ("branch7x7_2", width, ROW, 1), ("branch7x7_3", 192, COLUMN, 1)]
    double = [
        ("branch7x7dbl_1", width, ONE, 1),
        ("branch7x7dbl_2", width, COLUMN, 1),
        ("branch7x7dbl_3", width, ROW, 1),
        ("branch7x7dbl_4", width, COLUMN, 1),
        ("branch7x7dbl_5", 192, ROW, 1),
    ]
    return Block(channels, [[("branch1x1", 192, ONE, 1)], seven, double], "avg", 192)


def block_d(channels: int) -> Block:
    """17x17 -> 8x8"""
    three = [("branch3x3_1", 192, ONE, 1), ("branch3x3_2", 320, THREE, 2)]
    seven = [
        ("branch7x7x3_1", 192, ONE, 1),
        ("branch7x7x3_2", 192, ROW, 1),
        ("branch7x7x3_3", 192, COLUMN, 1),
        ("branch7x7x3_4", 192, THREE, 2),
    ]
    return Block(channels, [three, seven], "stride", 0)


def block_e(channels: int, pool: str) -> Block:
    """8x8"""
    three = [("branch3x3_1", 384, ONE, 1), (("branch3x3_2a", 384, ROW3, 1), ("branch3x3_2b", 384, COLUMN3, 1))]
    double = [
        ("branch3x3dbl_1", 448, ONE, 1),
        ("branch3x3dbl_2", 384, THREE, 1),
        (("branch3x3dbl_3a", 384, ROW3, 1), ("branch3x3dbl_3b", 384, COLUMN3, 1)),
    ]
    return Block(channels, [[("branch1x1", 320, ONE, 1)], three, double], pool, 192)


class Inception(Extractor):
    """The FID network: 2048 pooled features, 1008 probabilities (from logits without bias, as in the published score).

    x: (B, C, H, W) uint8 of any size, resized to 299x299
    resize: "tf1", as FID was defined (scores are called fid), or "clean": antialiased bicubic, as clean-fid does
    path: the weights' file; None looks in $GAN_KIT_WEIGHTS and the cache, then downloads it
    check: False takes any file of weights, for tests; its scores are no FID and the name says so
    """

    dims, num_classes, costly = 2048, 1008, True

    def __init__(self, resize: str = "tf1", path: str | Path | None = None, check: bool = True):
        super().__init__()
        if resize not in RESIZES:
            raise UserError(f"extractor.resize={resize!r}; have {', '.join(RESIZES)}")
        self.resize = resize
        self.name = ("inception" if resize == "tf1" else f"inception-{resize}") + ("" if check else "-unchecked")
        file = Path(path) if path and not check else _found(path)
        if not file.is_file():
            raise UserError(f"there is no file {file}; fetch {URL}")
        self.weights_sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        self.Conv2d_1a_3x3 = conv(3, 32, THREE, 2)
        self.Conv2d_2a_3x3 = conv(32, 32, THREE, padded=False)
        self.Conv2d_2b_3x3 = conv(32, 64, THREE)
        self.Conv2d_3b_1x1 = conv(64, 80, ONE)
        self.Conv2d_4a_3x3 = conv(80, 192, THREE, padded=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = block_a(192, 32), block_a(256, 64), block_a(288, 64)
        self.Mixed_6a = block_b(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (block_c(768, w) for w in (128, 160, 160, 192))
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = block_d(768), block_e(1280, "avg"), block_e(2048, "max")
        self.fc = nn.Linear(2048, 1008, bias=False)
        self._load(file)
        self.requires_grad_(False).to(memory_format=torch.channels_last)
        self.train(False)

    def settings(self) -> dict[str, Any]:
        return {"resize": f"{RESIZES[self.resize]} {SIDE}"}

    def extract(self, x: Tensor) -> Extracted:
        h = resize(as_pictures(x, 3).to(self.fc.weight.device), SIDE, RESIZES[self.resize])
        h = ((h - 128) / 128).contiguous(memory_format=torch.channels_last)
        for stem in (self.Conv2d_1a_3x3, self.Conv2d_2a_3x3, self.Conv2d_2b_3x3):
            h = F.relu(stem(h), inplace=True)
        h = F.max_pool2d(h, 3, 2)
        for stem in (self.Conv2d_3b_1x1, self.Conv2d_4a_3x3):
            h = F.relu(stem(h), inplace=True)
        h = F.max_pool2d(h, 3, 2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                h = block(h)
        features = h.mean((2, 3))
        return Extracted(features, self.fc(features).softmax(1))

    def _load(self, file: Path) -> None:
        try:
            saved = torch.load(file, map_location="cpu", weights_only=True)
            for name, module in self.named_modules():
                if isinstance(module, nn.Conv2d):
                    bn = {k: saved[f"{name}.bn.{k}"] for k in BN_KEYS}
                    fold(module, saved[f"{name}.conv.weight"], bn, BN_EPS)
            self.fc.load_state_dict({"weight": saved["fc.weight"]})
        except (
            pickle.UnpicklingError,
            KeyError,
            RuntimeError,
            AttributeError,
            TypeError,
            EOFError,
            OSError,
            ValueError,
        ) as error:
            raise UserError(f"{file} holds no weights of the FID Inception ({error}); fetch {URL}") from error


def _found(path: str | Path | None) -> Path:
    try:
        return find_weights(FILE, URL, SHA256, path, ALSO)
    except UserError as error:
        raise UserError(f"{error}; extractor=lite0 needs no download") from error
