"""Exact nearest neighbours, block by block: memory is bounded by the block, not by the sets."""

from __future__ import annotations

import torch
from torch import Tensor

from gan_kit.types import UserError

__all__ = ["nearest", "radii"]


def nearest(
    queries: Tensor, base: Tensor, k: int = 1, exclude_self: bool = False, block: int = 2048
) -> tuple[Tensor, Tensor]:
    """The k rows of `base` nearest to each query, by Euclidean distance, nearest first.

    queries: (N, F), base: (M, F) -> distances (N, k) fp64, indices (N, k)
    exclude_self: query i is row i of `base` and no neighbour of itself

    Candidates come from |a|² + |b|² - 2ab, which is a matrix product but tells a copy from its original by rounding;
    their distances are then taken again from the differences, so that a copy is at distance 0 exactly.
    Raises UserError where `base` has fewer than k rows to offer.
    """
    if queries.shape[1] != base.shape[1]:
        raise UserError(f"features of {queries.shape[1]} and {base.shape[1]} dimensions have no distance")
    if not 1 <= k <= len(base) - exclude_self:
        raise UserError(f"k={k} neighbours of {len(base)} samples{' but itself' if exclude_self else ''}; use fewer")
    # centred: the product form loses less where the cloud lies far from the origin
    centre = base[:65536].double().mean(0)
    shifted = (base - centre).float() if base.dtype != torch.float64 else base - centre
    squares = shifted.square().sum(1)
    spare = min(k + 8, len(base))  # rounding may change the order of those at the edge
    distances, indices = [], []
    for start in range(0, len(queries), block):
        part = (queries[start : start + block] - centre).to(shifted.dtype)
        best: Tensor | None = None
        rows: Tensor | None = None
        for first in range(0, len(base), 8 * block):
            chunk = shifted[first : first + 8 * block]
            rough = squares[first : first + 8 * block] - 2 * part @ chunk.T
            if exclude_self:
                own = torch.arange(start, start + len(part)) - first
                inside = (own >= 0) & (own < len(chunk))
                rough[inside.nonzero()[:, 0], own[inside]] = torch.inf
            found = rough.topk(min(spare, len(chunk)), largest=False)
            values, places = found.values, found.indices + first
            if best is not None and rows is not None:
                values, places = torch.cat([best, values], 1), torch.cat([rows, places], 1)
                kept = values.topk(min(spare, values.shape[1]), largest=False).indices
                values, places = values.gather(1, kept), places.gather(1, kept)
            best, rows = values, places
        assert best is not None
        assert rows is not None
        exact = torch.empty(rows.shape, dtype=torch.float64)
        step = max(1, 2**24 // (rows.shape[1] * base.shape[1]))
        for i in range(0, len(part), step):
            near = base[rows[i : i + step]].double()
            mine = queries[start + i : start + min(i + step, len(part)), None].double()
            exact[i : i + step] = (mine - near).square().sum(2).sqrt()
        exact.masked_fill_(best == torch.inf, torch.inf)
        order = exact.sort(dim=1, stable=True)
        distances.append(order.values[:, :k])
        indices.append(rows.gather(1, order.indices)[:, :k])
    return torch.cat(distances), torch.cat(indices)


def radii(x: Tensor, k: int) -> Tensor:
    """Distance of each sample to its k-th neighbour within the set. (N, F) -> (N,) fp64"""
    return nearest(x, x, k, exclude_self=True)[0][:, -1]
