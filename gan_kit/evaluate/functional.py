"""Scores of generated samples as pure functions: features in, numbers out."""

from __future__ import annotations

import torch
from torch import Tensor

from gan_kit.types import UserError

__all__ = ["frechet_distance", "mean_and_cov"]


def mean_and_cov(features: Tensor) -> tuple[Tensor, Tensor]:
    """(N, F) -> mean (F,) and unbiased covariance (F, F), in fp64. Raises UserError where N < 2."""
    if features.dim() != 2 or len(features) < 2:
        raise UserError(f"a covariance takes (N, F) features with N >= 2, these are {tuple(features.shape)}")
    features = features.double()
    mean = features.mean(0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> Tensor:
    """Squared Wasserstein-2 distance of two Gaussians (Dowson & Landau 1982), in fp64.

    mean: (F,), cov: (F, F) -> scalar; |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½) (FID: Heusel et al. 2017)
    """
    if mean1.shape != mean2.shape or cov1.shape != cov2.shape or cov1.shape != (*mean1.shape, *mean1.shape):
        shapes = ", ".join(str(tuple(t.shape)) for t in (mean1, cov1, mean2, cov2))
        raise UserError(f"means and covariances of one feature space must be (F,) and (F, F); have {shapes}")
    mean1, cov1, mean2, cov2 = (t.double() for t in (mean1, cov1, mean2, cov2))
    if not all(t.isfinite().all() for t in (mean1, cov1, mean2, cov2)):
        raise UserError("the features' mean or covariance is not finite; look for NaN or inf in the samples")
    root = _root(cov1)
    # C1 C2 and Rᵀ C2 R have the same eigenvalues where C1 = R Rᵀ, but the second is symmetric
    product = root.T @ cov2 @ root
    overlap = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * overlap
    return distance.clamp(min=0)  # rounding may leave -1e-12


def _root(cov: Tensor) -> Tensor:
    """R with cov = R Rᵀ: Cholesky's, or eigh's where cov is singular (fewer samples than features)."""
    root, failed = torch.linalg.cholesky_ex(cov)
    if not failed:
        return root
    values, vectors = torch.linalg.eigh(cov)
    return vectors * values.clamp(min=0).sqrt()
