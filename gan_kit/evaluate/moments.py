"""Mean and covariance of features in an .npz, as pytorch-fid and others keep their reference statistics: mu, sigma."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gan_kit.evaluate.frechet import cov_root, frechet_distance, mean_and_cov
from gan_kit.evaluate.sets import FeatureSet
from gan_kit.evaluate.suite import Score, frechet_name, jackknife
from gan_kit.files import written_whole
from gan_kit.types import UserError

__all__ = ["Moments", "holds_moments", "load_moments", "save_moments", "score"]


class Moments(NamedTuple):
    """mean: (F,), cov: (F, F), float64"""

    mean: Tensor
    cov: Tensor


def holds_moments(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return {"mu.npy", "sigma.npy"} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def load_moments(path: Path) -> Moments:
    """Raises UserError for a file that is damaged or holds no mean and covariance."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            mean, cov = (torch.from_numpy(np.asarray(archive[key], np.float64)) for key in ("mu", "sigma"))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} holds no statistics that can be read ({error}); is it whole?") from error
    if mean.dim() != 1 or cov.shape != (len(mean), len(mean)):
        raise UserError(f"{path}: mu {tuple(mean.shape)} and sigma {tuple(cov.shape)} are no mean and covariance")
    if not (mean.isfinite().all() and cov.isfinite().all()):
        raise UserError(f"{path} holds NaN or inf")
    if not torch.allclose(cov, cov.T, atol=1e-6 * float(cov.abs().max())):
        raise UserError(f"{path}: sigma is not symmetric, so it is no covariance")
    return Moments(mean, (cov + cov.T) / 2)


def save_moments(path: Path, features: Tensor) -> None:
    """features: (N, F)"""
    mean, cov = mean_and_cov(features)
    with written_whole(path) as part, part.open("wb") as file:
        np.savez(file, mu=mean.numpy(), sigma=cov.numpy())


def score(real: Moments, fake: FeatureSet, extractor: str) -> Score:
    """The Fréchet distance to statistics whose pictures are not at hand.

    Raises UserError for features of another length.
    """
    if len(real.mean) != fake.features.shape[1]:
        raise UserError(
            f"the statistics are of {len(real.mean)} features, {extractor} gives {fake.features.shape[1]}: they were "
            "made with another extractor"
        )
    root = cov_root(real.cov)

    def distance(some: FeatureSet) -> float:
        return float(frechet_distance(*real, *mean_and_cov(some.features), root1=root))

    note = "the file does not say by which extractor and of how many samples its statistics are"
    return Score(frechet_name(extractor), distance(fake), jackknife(distance, fake), "lower", group="fd", note=note)
