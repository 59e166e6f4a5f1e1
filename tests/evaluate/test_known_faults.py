"""What the scores say of clothes whose faults are known: real pictures in place of a generator's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from gan_kit.data import ArrayDataModule, Arrays, FashionMNIST, PadTo
from gan_kit.evaluate import FeatureSet, auto_extractor
from gan_kit.evaluate.sets import array_batches, extract_all
from gan_kit.evaluate.suite import Sets, evaluate

pytestmark = pytest.mark.slow


class Few:
    """The first pictures of Fashion-MNIST."""

    def __init__(self, root: Path, count: int):
        self.source, self.count = FashionMNIST(root, PadTo(32)), count

    def load(self, split: str) -> Arrays:
        whole = self.source.load(split)
        assert whole.y is not None
        return Arrays(whole.x[: self.count], whole.y[: self.count], whole.class_names)


@pytest.fixture(scope="module")
def judged(fashion_root: Path, judges: Path):
    """score(pictures, labels) -> {metric: value}, against one half of the held-out pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAN_KIT_CACHE", str(judges))
        data = ArrayDataModule(Few(fashion_root, 6000), batch_size=128)
        extractor = auto_extractor(data)
    assert extractor.name == "classifier"

    def features(x: Tensor, y: Tensor) -> FeatureSet:
        found = extract_all(extractor, array_batches(x.numpy()))
        return FeatureSet(found.features, found.probabilities, y)

    train, test = (data.arrays(split) for split in ("train", "test"))
    xs, ys = torch.from_numpy(train.x.copy()), torch.from_numpy(train.y)
    xt, yt = torch.from_numpy(test.x.copy()), torch.from_numpy(test.y)
    real, seen, held = features(xt[:3000], yt[:3000]), features(xs, ys), features(xt, yt)

    def score(x: Tensor, y: Tensor) -> dict[str, float]:
        sets = Sets(real, features(x, y), seen, held, "classifier", data.spec.class_names, knows_classes=True)
        return {s.metric: s.value for s in evaluate(sets).scores}

    return score, (xs, ys), (xt[3000:], yt[3000:])


def test_dropped_classes_lower_recall_coverage_and_the_count_of_modes(judged):
    score, _, (x, y) = judged
    whole, fewer = score(x, y), score(x[y < 7], y[y < 7])
    assert whole["modes"] == 10
    assert fewer["modes"] == 7
    # standard error .005; the balls round the sandals kept reach many of the sneakers and boots left out
    assert fewer["recall"] < whole["recall"] - 0.03
    assert fewer["coverage"] < whole["coverage"] - 0.15
    assert fewer["precision"] > whole["precision"] - 0.05
    assert fewer["fd-classifier"] > 10 * whole["fd-classifier"]


def test_blur_lowers_precision(judged):
    score, _, (x, y) = judged
    sharp = score(x, y)
    soft = score(gaussian_blur(x, [9, 9], [2.0, 2.0]), y)
    assert soft["precision"] < sharp["precision"] - 0.1
    assert soft["fd-classifier"] > 3 * sharp["fd-classifier"]


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_generator_of_training_pictures_is_found_out(judged, share: float):
    score, (xs, ys), (x, y) = judged
    n = int(share * len(x))
    fresh = score(x, y)
    copycat = score(torch.cat([xs[:n], x[n:]]), torch.cat([ys[:n], y[n:]]))
    assert copycat["fd-classifier"] < 2 * fresh["fd-classifier"] + 0.5  # by this score it is excellent
    assert copycat["copies"] == pytest.approx(share, abs=0.05)
    assert copycat["c_t"] < -5
    assert copycat["authenticity"] < fresh["authenticity"] - 0.3 * share
    assert fresh["copies"] < 0.03
    assert abs(fresh["c_t"]) < 3
