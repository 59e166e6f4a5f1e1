"""Published backbones as extractors: torchvision's classifiers; DINOv2's and CLIP's vision transformers through timm.

Each has one recipe, written in its settings: how pictures are resized and scaled, and which layer's output is taken.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_kit.evaluate.features import Extracted, Extractor, as_pictures
from gan_kit.evaluate.resize import resize
from gan_kit.evaluate.weights import checked, digest_of
from gan_kit.files import sha256_of
from gan_kit.types import UserError

__all__ = ["CLIP", "DINOv2", "TorchvisionBackbone"]


class TorchvisionBackbone(Extractor):
    """A classifier of torchvision's: the features that its last linear layer reads, and its probabilities.

    x: (B, C, H, W) uint8, resized, cropped and scaled as the weights' own transforms do
    model: a name that torchvision.models.list_models knows, e.g. resnet50, convnext_tiny, vit_b_16
    weights: DEFAULT, or one by name, e.g. IMAGENET1K_V1; fetched by torchvision into torch.hub's folder
    layer: of this module the output instead, averaged over space, e.g. layer3 of resnet50
    untrained: random weights, the same every time; for tests, and the scores say so
    """

    costly = True

    def __init__(
        self, model: str = "resnet50", weights: str = "DEFAULT", layer: str | None = None, untrained: bool = False
    ):
        super().__init__()
        from torchvision import models

        names = models.list_models(module=models)
        if model not in names:
            near = difflib.get_close_matches(model, names, 3)
            raise UserError(
                f"torchvision has no classifier {model!r}; "
                + (f"is it {' or '.join(near)}?" if near else "see its docs")
            )
        kinds = models.get_model_weights(model)
        if weights != "DEFAULT" and weights not in kinds.__members__:
            raise UserError(f"{model} has no weights {weights!r}; have DEFAULT, {', '.join(kinds.__members__)}")
        chosen = kinds[weights]
        self.layer = layer
        self.weights_name = "untrained" if untrained else chosen.name
        self.transform = chosen.transforms()
        if untrained:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.net = models.get_model(model, weights=None)
            self.weights_sha256 = digest_of(self.net.state_dict())
        else:
            self.net, self.weights_sha256 = _fetched(model, chosen)
        self.name = f"{'untrained-' if untrained else ''}torchvision-{model}" + (f"-{layer}" if layer else "")
        self.num_classes = len(chosen.meta["categories"])
        self._watch(model, layer)
        self.requires_grad_(False).train(False)
        side = self.transform.crop_size[0]
        self.dims = self.extract(torch.zeros(1, 3, side, side, dtype=torch.uint8)).features.shape[1]

    def settings(self) -> dict[str, Any]:
        t = self.transform
        return {
            "weights": self.weights_name,
            "layer": self.layer or "input of the last linear layer",
            "resize": f"{t.interpolation.value} {t.resize_size[0]}, antialiased, centre crop {t.crop_size[0]}",
            "mean": list(t.mean),
            "std": list(t.std),
        }

    @torch.no_grad()
    def extract(self, x: Tensor) -> Extracted:
        x = as_pictures(x, 3).to(next(self.net.parameters()).device)
        logits = self.net(self.transform(x))
        (features,) = self._seen
        self._seen.clear()
        return Extracted(features.float(), logits.float().softmax(1))

    def _watch(self, model: str, layer: str | None) -> None:
        """Keep, of each pass, what the last linear layer reads, or what `layer` gives."""
        self._seen: list[Tensor] = []
        modules = dict(self.net.named_modules())
        if layer is None:
            linear = [m for m in modules.values() if isinstance(m, nn.Linear)]
            if not linear:
                raise UserError(f"{model} has no linear layer to take the input of; name a layer, as layer=features")
            linear[-1].register_forward_pre_hook(lambda _, given: self._see(given[0]))
        elif layer in modules and layer:
            modules[layer].register_forward_hook(lambda _, given, out: self._see(out))
        else:
            have = [name for name, _ in self.net.named_children()]
            raise UserError(f"{model} has no layer {layer!r}; have {', '.join(have)} and what lies in them")

    def _see(self, seen: Tensor) -> None:
        self._seen[:] = [seen.mean((2, 3)) if seen.dim() == 4 else seen.flatten(1)]


def _fetched(model: str, weights: Any) -> tuple[nn.Module, str]:
    """The network with its weights, and their file's checksum."""
    from torchvision import models

    name = weights.url.rpartition("/")[2]
    file = Path(torch.hub.get_dir()) / "checkpoints" / name
    prefix = re.search(r"-([0-9a-f]{8,})\.pth$", name)
    try:
        if prefix and file.is_file():
            checked(file, prefix[1])  # torch.hub checks what it fetches, but not what lies there
        return models.get_model(model, weights=weights), sha256_of(file)
    except (OSError, RuntimeError) as e:
        raise UserError(
            f"the weights of torchvision's {model} are not on this machine and could not be fetched "
            f"({' '.join(str(e).split())[:200]}); fetch {weights.url} and put it at {file}"
        ) from e


class _TimmTower(Extractor):
    """A vision transformer of timm's. The whole picture is resized to a square, bicubic with antialiasing, in floats,
    then scaled as the network was trained; nothing is cropped.
    """

    costly = True
    layer: str

    def __init__(self, name: str, extra: str, model: str, size: int, path: str | Path | None, untrained: bool):
        super().__init__()
        self.name, self.model, self.size = f"{'untrained-' if untrained else ''}{name}", model, size
        timm = _needs("timm", name, extra)
        if not timm.is_model(model):
            raise UserError(f"timm {timm.__version__} has no network {model!r}; see timm.list_models()")
        if path is not None and not Path(path).expanduser().is_file():
            raise UserError(f"there is no file {path}; leave extractor.path out to have the weights fetched")
        overlay = None if path is None else {"file": str(Path(path).expanduser())}
        with torch.random.fork_rng(devices=[]), _no_such_weights(model, timm):
            torch.manual_seed(0)
            self.net = timm.create_model(model, pretrained=not untrained, img_size=size, pretrained_cfg_overlay=overlay)
        self.weights_sha256 = digest_of(self.net.state_dict())
        self.mean, self.std = self.net.pretrained_cfg["mean"], self.net.pretrained_cfg["std"]
        self.requires_grad_(False).train(False)
        self.dims = self.extract(torch.zeros(1, 3, size, size, dtype=torch.uint8)).features.shape[1]

    def settings(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "layer": self.layer,
            "resize": f"bicubic-smooth {self.size}",
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @torch.no_grad()
    def extract(self, x: Tensor) -> Extracted:
        h = resize(as_pictures(x, 3).to(next(self.net.parameters()).device), self.size, "bicubic-smooth") / 255
        mean, std = (torch.tensor(v, device=h.device)[:, None, None] for v in (self.mean, self.std))
        return Extracted(self.net((h - mean) / std).float(), None)


class DINOv2(_TimmTower):
    """DINOv2 (Oquab et al. 2023): the class token after the last norm. Scores are called fd-dinov2.

    As Stein et al. 2023 use it: ViT-L/14, 224x224. Positions are interpolated by timm, not by the authors' own code,
    which moves the features a little.

    x: (B, C, H, W) uint8 of any size
    path: the weights' file; None lets timm fetch it
    untrained: random weights, the same every time; for tests, and the scores say so
    """

    layer = "class token"

    def __init__(
        self,
        model: str = "vit_large_patch14_dinov2.lvd142m",
        size: int = 224,
        path: str | Path | None = None,
        untrained: bool = False,
    ):
        super().__init__("dinov2", "dinov2", model, size, path, untrained)


class CLIP(_TimmTower):
    """CLIP (Radford et al. 2021): the picture's embedding, not normalised. Scores are called fd-clip.

    As Kynkäänniemi et al. 2023 use it: ViT-B/32, 224x224, 512-d.

    x: (B, C, H, W) uint8 of any size
    path: the weights' file; None lets timm fetch it
    untrained: random weights, the same every time; for tests, and the scores say so
    """

    layer = "embedding"

    def __init__(
        self,
        model: str = "vit_base_patch32_clip_quickgelu_224.openai",
        size: int = 224,
        path: str | Path | None = None,
        untrained: bool = False,
    ):
        super().__init__("clip", "clip", model, size, path, untrained)


def _needs(package: str, name: str, extra: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        raise UserError(f"extractor={name} needs {package}: pip install 'gan-kit[{extra}]'") from None


@contextmanager
def _no_such_weights(model: str, timm: Any) -> Iterator[None]:
    try:
        yield
    except TypeError as e:
        raise UserError(f"{model} is no vision transformer that takes an img_size ({e})") from e
    except Exception as e:  # the hub's client has dozens of kinds
        raise UserError(
            f"the weights of {model} could not be had ({type(e).__name__}: {' '.join(str(e).split())[:200]}); fetch "
            f"https://huggingface.co/{timm.get_pretrained_cfg(model).hf_hub_id} once where the network can be reached "
            "(HF_HOME is the cache), or name the file with extractor.path"
        ) from e
