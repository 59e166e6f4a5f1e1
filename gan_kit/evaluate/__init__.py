"""How good the samples are."""

from __future__ import annotations

import importlib
from typing import Any

# Where each public name lives. Imported at first use: `python -m gan_kit.evaluate --help` must not wait for torch.
_HOMES = {
    "functional": "frechet_distance mean_and_cov",
    "features": "Extracted Extractor Pixels RandomFeatures",
    "inception": "Inception",
    "lite0": "Lite0",
    "classifier": "Classifier ClassifierFeatures ConvClassifier auto_extractor classifier_for load_classifier",
    "metrics": "FeatureBank FrechetDistance InceptionScore KernelDistance PrecisionRecallDensityCoverage",
    "sets": "FeatureSet",
    "suite": "Evaluation Score Sets evaluate",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"gan_kit.evaluate.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'gan_kit.evaluate' has no attribute {name!r}")
