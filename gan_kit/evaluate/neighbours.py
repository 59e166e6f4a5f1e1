"""Exact nearest neighbours, block by block: memory is bounded by the block, not by the sets."""

from __future__ import annotations

import torch
from torch import Tensor

from gan_kit.types import UserError

__all__ = ["nearest", "radii"]

SPARE = 16  # candidates beyond k


def nearest(
    queries: Tensor, base: Tensor, k: int = 1, exclude_self: bool = False, block: int = 2048
) -> tuple[Tensor, Tensor]:
    """The k rows of `base` nearest to each query, by Euclidean distance, nearest first.

    queries: (N, F), base: (M, F) -> distances (N, k) fp64, indices (N, k)
    exclude_self: query i is row i of `base` and no neighbour of itself
    block: queries at a time, and a quarter of the rows of `base` at a time

    Candidates come from |a|² + |b|² - 2ab, a matrix product, but one that tells a copy from its original by rounding:
    their distances are taken again from the differences, so that a copy is at 0 exactly. Where rounding could have
    kept a neighbour out of the candidates, the query is done again in fp64, and then by differences alone.
    Raises UserError where `base` has fewer than k rows to offer, and for sets that have no distance.
    """
    if queries.dim() != 2 or base.dim() != 2 or queries.shape[1] != base.shape[1]:
        raise UserError(f"features {tuple(queries.shape)} and {tuple(base.shape)} have no distance; use one extractor")
    if not 1 <= k <= len(base) - exclude_self:
        raise UserError(f"k={k} neighbours of {len(base)} samples{' but itself' if exclude_self else ''}; use fewer")
    if exclude_self and len(queries) > len(base):
        raise UserError(f"{len(queries)} queries are not the rows of {len(base)} samples; drop exclude_self")
    distances = torch.empty(len(queries), k, dtype=torch.float64)
    indices = torch.empty(len(queries), k, dtype=torch.int64)
    centre = base[:4096].double().mean(0)  # the product form loses less around the origin
    for rows in torch.arange(len(queries)).split(block):
        for dtype in (torch.float32, torch.float64):
            own = rows if exclude_self else None
            distances[rows], indices[rows], sure = _by_products(queries[rows], base, k, own, block, centre, dtype)
            rows = rows[~sure]
            if not len(rows):
                break
        else:
            own = rows if exclude_self else None
            distances[rows], indices[rows] = _by_differences(queries[rows], base, k, own, block)
    return distances, indices


def radii(x: Tensor, k: int) -> Tensor:
    """Distance of each sample to its k-th neighbour within the set. (N, F) -> (N,) fp64"""
    return nearest(x, x, k, exclude_self=True)[0][:, -1]


def _by_products(
    queries: Tensor, base: Tensor, k: int, own: Tensor | None, block: int, centre: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """-> distances, indices, and for which queries no other row can be nearer"""
    part = (queries.double() - centre).to(dtype)
    # what rounding can do to |a|² + |b|² - 2ab at worst, as a share of |a|² + |b|²
    rounding = (part.shape[1] + 8) * torch.finfo(dtype).eps
    squares = part.square().sum(1, keepdim=True)
    spare = min(k + SPARE, len(base))
    lower, rows = torch.empty(len(part), 0, dtype=dtype), torch.empty(len(part), 0, dtype=torch.int64)
    for first in range(0, len(base), 4 * block):
        chunk = (base[first : first + 4 * block].double() - centre).to(dtype)
        bound = (squares + chunk.square().sum(1)).mul_(1 - rounding).addmm_(part, chunk.T, alpha=-2)
        if own is not None:
            _leave_out(bound, own - first)
        found = bound.topk(min(spare, len(chunk)), largest=False)
        lower, rows = torch.cat([lower, found.values], 1), torch.cat([rows, found.indices + first], 1)
        lower, kept = lower.topk(min(spare, lower.shape[1]), largest=False)
        rows = rows.gather(1, kept)
    exact = torch.empty(rows.shape, dtype=torch.float64)
    step = max(1, 2**23 // (rows.shape[1] * base.shape[1]))
    for i in range(0, len(part), step):
        near = base[rows[i : i + step]].double()
        exact[i : i + step] = (queries[i : i + step, None].double() - near).square_().sum(2).sqrt_()
    exact.masked_fill_(lower == torch.inf, torch.inf)
    exact, order = exact.sort(dim=1, stable=True)
    last = exact[:, k - 1]
    # rows that are no candidates lie no nearer than the bound of the last candidate; in fp64, ties may pass for sure
    slack = 1 - 1e-9 if dtype == torch.float64 else 1.0
    sure = (last.square() * slack <= lower[:, -1]) | (last == 0)
    if spare == len(base):
        sure = torch.ones_like(sure)
    return exact[:, :k], rows.gather(1, order[:, :k]), sure


def _by_differences(queries: Tensor, base: Tensor, k: int, own: Tensor | None, block: int) -> tuple[Tensor, Tensor]:
    part = queries.double()
    best, rows = torch.empty(len(part), 0, dtype=torch.float64), torch.empty(len(part), 0, dtype=torch.int64)
    for first in range(0, len(base), 4 * block):
        chunk = base[first : first + 4 * block].double()
        distance = torch.cdist(part, chunk, compute_mode="donot_use_mm_for_euclid_dist")
        if own is not None:
            _leave_out(distance, own - first)
        found = distance.topk(min(k, len(chunk)), largest=False)
        best, rows = torch.cat([best, found.values], 1), torch.cat([rows, found.indices + first], 1)
        best, kept = best.topk(min(k, best.shape[1]), largest=False)
        rows = rows.gather(1, kept)
    return best, rows


def _leave_out(values: Tensor, columns: Tensor) -> None:
    there = (columns >= 0) & (columns < values.shape[1])
    values[there.nonzero()[:, 0], columns[there]] = torch.inf
