"""How good the samples are."""

from __future__ import annotations

from gan_kit.lazy import lazy_names

# Where each public name lives. Imported at first use: `python -m gan_kit.evaluate --help` must not wait for torch.
__getattr__, __all__ = lazy_names(
    __name__,
    {
        "functional": "frechet_distance mean_and_cov",
        "features": "Extracted Extractor Pixels RandomFeatures",
        "inception": "Inception",
        "lite0": "Lite0",
        "classifier": "Classifier ClassifierFeatures ConvClassifier auto_extractor classifier_for load_classifier",
        "metrics": "FeatureBank FrechetDistance InceptionScore KernelDistance PrecisionRecallDensityCoverage",
        "sets": "FeatureSet",
        "stacked": "StackedClassifier stacked_classifier",
        "suite": "Evaluation Score Sets evaluate",
    },
)
