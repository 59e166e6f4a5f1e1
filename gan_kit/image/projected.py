"""A discriminator on features of a frozen, pretrained network (Projected GAN, Sauer et al. 2021).

Four scales of the backbone are mixed by fixed random convolutions, across channels and across scales (section 3.2), and
each mixture is judged by a small head of its own under spectral normalisation. What is frozen is in no optimiser and no
checkpoint. Heads are without batch norm, which the paper's have.

A backbone trained on ImageNet flatters every score whose extractor was, too (Kynkäänniemi et al. 2023): figures of such
trainings stand in a league of their own, and are to be read with an extractor trained otherwise (dinov2, clip).
"""

from __future__ import annotations

import contextlib
import importlib
import math
import warnings
from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.nn import ClassHead, Recorded
from gan_kit.nn.spectral import raw_weight, restart_spectral, spectral_norm
from gan_kit.types import Aux, Critique, UserError

__all__ = ["ProjectedDiscriminator"]

STRIDES = (4, 8, 16, 32)
PROBE = 64  # side of the picture by which a backbone's stages are found
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as torchvision's weights have it


class _Head(nn.Module):
    """h: (B, width, side, side) -> a logit at each of about 4x4 places, and what classes are judged by"""

    def __init__(self, width: int, side: int, num_classes: int, conditioning: str, null_class: bool, vector_dim: int):
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(max(0, math.ceil(math.log2(side / 4)))):
            wider = min(2 * width, 512)
            layers += [spectral_norm(nn.Conv2d(width, wider, 4, 2, 1)), nn.LeakyReLU(0.2)]
            width = wider
        layers += [spectral_norm(nn.Conv2d(width, width, 3, padding=1)), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers)
        self.to_logits = spectral_norm(nn.Conv2d(width, 1, 1))
        self.of_class: ClassHead | None = None
        if num_classes or vector_dim:
            self.of_class = ClassHead(width, num_classes, conditioning, 0, True, null_class, vector_dim)

    def forward(self, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Aux | None]:
        h = self.body(h)
        logits, aux = self.to_logits(h).flatten(1), None
        if self.of_class is not None:
            of_class, aux = self.of_class(h.mean((2, 3)), y)
            logits = logits + of_class[:, None]
        return logits, h, aux


class ProjectedDiscriminator(Recorded, nn.Module):
    """x: (B, channels, size, size) in [-1, 1], y: (B,) or None -> Critique with four maps of logits, (B, places) each.

    Made for the hinge loss with DiffAugment (colour, translation, cutout) and no gradient penalty.

    channels: 3, or 1, which all three of the backbone's get
    backbone: a convolutional classifier's name in `library`, "torchvision" or "timm" (extra projected)
    weights: "imagenet": the library's default ones, fetched where they are not on this machine; "random" is for tests
        of the machinery only: heads on random features are no projected GAN
    input_size: side to which pictures are resized for the backbone; None leaves them. Published: 224 where smaller
    width: channels of the finest mixture, doubled with each coarser one
    mixing_seed: of the fixed random convolutions, which checkpoints hold
    conditioning: how classes enter beside the maps, a kind of `gan_kit.nn.ClassHead`; those that predict classes do so
        at the coarsest scale alone

    Raises UserError for a backbone that is not there, has no four scales, or whose weights can't be had.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        size: int = 256,
        channels: int = 3,
        num_classes: int = 0,
        backbone: str = "efficientnet_b0",
        library: str = "torchvision",
        weights: str = "imagenet",
        input_size: int | None = None,
        width: int = 64,
        mixing_seed: int = 0,
        conditioning: str = "projection",
        null_class: bool = False,
        vector_dim: int = 0,
    ):
        super().__init__()
        if channels not in (1, 3):
            raise UserError(f"channels={channels}: a pretrained backbone sees pictures of 3 channels, or 1")
        if weights not in ("imagenet", "random"):
            raise UserError(f"no weights={weights!r}; have imagenet, random")
        side = size if input_size is None else input_size
        if side < 32:
            raise UserError(f"{side}x{side} is too small for a backbone; set discriminator.input_size=64 or more")
        if library not in LIBRARIES:
            raise UserError(f"no library={library!r}; have {', '.join(LIBRARIES)}")
        if weights == "random":
            warnings.warn(
                f"the discriminator's {backbone} has RANDOM weights: that is for tests of the machinery, and what it "
                f"trains is no projected GAN; set discriminator.weights=imagenet",
                stacklevel=2,
            )
        self.channels, self.num_classes, self.input_size = channels, num_classes, input_size
        self.null_class, self.vector_dim = null_class, vector_dim
        # not registered: neither in parameters() nor in state_dict(), and never in training mode
        self.__dict__["backbone"] = LIBRARIES[library](backbone, weights).requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)
        with torch.no_grad():
            shapes = [f.shape for f in self.features(torch.zeros(1, channels, size, size))]
        widths = [width * 2**i for i in range(len(shapes))]
        draws = torch.Generator().manual_seed(mixing_seed)
        for i, (shape, w) in enumerate(zip(shapes, widths, strict=True)):
            self.register_buffer(f"across_{i}", _random_kernel(w, shape[1], 1, draws))
            if i:
                self.register_buffer(f"down_{i}", _random_kernel(widths[i - 1], w, 3, draws))
        everywhere = conditioning in ("none", "projection", "concat")
        kinds = [conditioning if everywhere or i == len(shapes) - 1 else "none" for i in range(len(shapes))]
        self.heads = nn.ModuleList(
            _Head(w, shape[2], num_classes, kind, null_class, vector_dim)
            for w, shape, kind in zip(widths, shapes, kinds, strict=True)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The heads', orthogonal; what is frozen stays as it is."""
        for m in self.heads.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.orthogonal_(raw_weight(m))
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
            elif isinstance(m, ClassHead):
                m.reset_parameters()
        restart_spectral(self.heads)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.__dict__["backbone"]._apply(fn)
        return super()._apply(fn, recurse)

    def features(self, x: Tensor) -> list[Tensor]:
        """Four maps of the backbone, the finest first."""
        x = ((x + 1) / 2 - self.mean) / self.std  # one channel is broadcast to three
        if self.input_size is not None:
            x = F.interpolate(x, size=(self.input_size,) * 2, mode="bilinear", antialias=True, align_corners=False)
        backbone = self.__dict__["backbone"].eval()  # copies of a traced network forget that they were
        return backbone(x.contiguous(memory_format=torch.channels_last))

    def mixed(self, features: list[Tensor]) -> list[Tensor]:
        """Each scale's channels mixed, and from the coarsest on laid over the next finer one (section 3.2)."""
        out = [F.conv2d(f, getattr(self, f"across_{i}").to(f.dtype)) for i, f in enumerate(features)]
        for i in range(len(out) - 1, 0, -1):
            coarse = F.conv2d(out[i], getattr(self, f"down_{i}").to(out[i].dtype), padding=1)
            up = F.interpolate(coarse, size=out[i - 1].shape[2:], mode="bilinear", align_corners=False)
            out[i - 1] = (out[i - 1] + up) * math.sqrt(0.5)
        return out

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        if x.shape[1] != self.channels:
            raise UserError(f"pictures of {x.shape[1]} channels, for a discriminator of {self.channels}")
        judged = [head(h, y) for head, h in zip(self.heads, self.mixed(self.features(x)), strict=True)]
        return Critique([logits for logits, _, _ in judged], [[h] for _, h, _ in judged], judged[-1][2])


def _random_kernel(channels_out: int, channels_in: int, side: int, draws: torch.Generator) -> Tensor:
    """Normal weights that keep the variance (He et al. 2015)."""
    shape = (channels_out, channels_in, side, side)
    return torch.randn(shape, generator=draws) / math.sqrt(channels_in * side**2)


class _Stages(nn.Module):
    """x -> the outputs of four named modules of a torchvision classifier; what lies behind them is cut off."""

    def __init__(self, net: nn.Module, names: list[str]):
        super().__init__()
        from torchvision.models.feature_extraction import create_feature_extractor

        self.names = names
        self.net = create_feature_extractor(net, names)

    def forward(self, x: Tensor) -> list[Tensor]:
        out = self.net(x)
        return [out[name] for name in self.names]


def _of_torchvision(name: str, weights: str) -> nn.Module:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise UserError(f"torchvision has no classifier {name!r}; see torchvision.models.list_models()")
    chosen: Any = models.get_model_weights(name).DEFAULT if weights == "imagenet" else None
    try:
        net = _untouched(lambda: models.get_model(name, weights=chosen)).eval()
    except (OSError, RuntimeError) as e:
        raise UserError(
            f"the weights of torchvision's {name} are not on this machine and could not be fetched "
            f"({' '.join(str(e).split())[:200]}); fetch {chosen.url} and put it into {torch.hub.get_dir()}/checkpoints"
        ) from e
    return _Stages(net, _stage_names(net, name))


def _stage_names(net: nn.Module, name: str) -> list[str]:
    """The last of the outer modules to give a map at each of STRIDES."""
    last: dict[int, str] = {}

    def watch(module_name: str) -> Any:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            if isinstance(out, Tensor) and out.dim() == 4 and out.shape[2] == out.shape[3]:
                last[PROBE // out.shape[2]] = module_name

        return hook

    outer = [(n, m) for n, m in net.named_modules() if n and n.count(".") <= 1]
    hooks = [m.register_forward_hook(watch(n)) for n, m in outer]
    with torch.no_grad(), contextlib.suppress(Exception):  # some take no picture of this size: they have no such maps
        net(torch.zeros(1, 3, PROBE, PROBE))
    for hook in hooks:
        hook.remove()
    if missing := [s for s in STRIDES if s not in last]:
        raise UserError(
            f"{name} has no maps at 1/{missing[0]} of the size; use a convolutional one, efficientnet_b0 say"
        )
    return [last[s] for s in STRIDES]


def _of_timm(name: str, weights: str) -> nn.Module:
    try:
        timm: Any = importlib.import_module("timm")
    except ModuleNotFoundError:
        raise UserError("library=timm needs timm: pip install 'gan-kit[projected]'") from None
    if not timm.is_model(name):
        raise UserError(f"timm {timm.__version__} has no network {name!r}; see timm.list_models()")
    try:
        net = _untouched(lambda: timm.create_model(name, pretrained=weights == "imagenet", features_only=True))
    except Exception as e:  # the hub's client has dozens of kinds, and so has a network without stages
        raise UserError(
            f"{name} could not be had from timm ({type(e).__name__}: {' '.join(str(e).split())[:200]}); fetch its "
            f"weights once where the network can be reached (HF_HOME is the cache), or use library=torchvision"
        ) from e
    if missing := set(STRIDES) - set(net.feature_info.reduction()):
        raise UserError(f"{name} has no maps at 1/{min(missing)} of the size; use tf_efficientnet_lite0, say")
    return _Chosen(net, [net.feature_info.reduction().index(s) for s in STRIDES])


class _Chosen(nn.Module):
    """x -> some of the maps that a network gives"""

    def __init__(self, net: nn.Module, which: list[int]):
        super().__init__()
        self.net, self.which = net, which

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.net(x)
        return [maps[i] for i in self.which]


def _untouched(make: Callable[[], Any]) -> Any:
    """Whatever initial weights are drawn, they are the same ones each time and leave the global generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


LIBRARIES: dict[str, Callable[[str, str], nn.Module]] = {"torchvision": _of_torchvision, "timm": _of_timm}
