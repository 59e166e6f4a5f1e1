"""A classifier of each channel: what counts the modes of stacked digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_kit.evaluate.classifier import ClassifierFeatures, classifier_for
from gan_kit.evaluate.features import Extracted, Extractor
from gan_kit.types import UserError

__all__ = ["StackedClassifier", "stacked_classifier"]


class StackedClassifier(Extractor):
    """x: (B, 3, H, W) uint8 -> the features of the three channels side by side, and the probabilities of all triples of
    classes, (B, K³), of which number K² i + K j + k is (i, j, k): the product of the channels' own.
    """

    name = "classifier"

    def __init__(self, one: ClassifierFeatures):
        super().__init__()
        self.one = one
        self.dims, self.num_classes = 3 * one.dims, one.num_classes**3
        self.weights_sha256 = one.weights_sha256
        self.train(False)

    def settings(self) -> dict[str, Any]:
        return {"of": "each channel"}

    def extract(self, x: Tensor) -> Extracted:
        if x.dim() != 4 or x.shape[1] != 3:
            raise UserError(f"this classifier looks at each of three channels, and was given {tuple(x.shape)}")
        found = self.one.extract(x.flatten(0, 1)[:, None])
        assert found.probabilities is not None
        red, green, blue = found.probabilities.unflatten(0, (len(x), 3)).unbind(1)
        triples = torch.einsum("bi,bj,bk->bijk", red, green, blue)
        return Extracted(found.features.unflatten(0, (len(x), 3)).flatten(1), triples.flatten(1))


def stacked_classifier(
    data: Any, path: Path | str | None = None, seed: int = 0, progress: bool = True
) -> StackedClassifier:
    """Of data whose channels are samples of `data.one_channel`: its classifier, as `classifier_for` finds or trains it.

    Raises UserError for other data.
    """
    one = getattr(data, "one_channel", None)
    if one is None and path is None:
        raise UserError("extractor=stacked_digits is for data=stacked_digits, whose channels are digits")
    return StackedClassifier(classifier_for(one, path, seed, progress))
