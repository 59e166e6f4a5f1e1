"""How good the samples are."""

from gan_kit.evaluate.functional import frechet_distance, mean_and_cov

__all__ = ["frechet_distance", "mean_and_cov"]
