"""Classes between classes: rows of weights over classes in the place of an index."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.types import UserError

__all__ = ["as_weights", "blended"]


def as_weights(y: Tensor, num_classes: int) -> Tensor:
    """(N,) class indices, or (N, K) weights already -> (N, K) float weights that sum to 1"""
    return y if y.is_floating_point() else F.one_hot(y, num_classes).float()


@contextmanager
def blended(generator: nn.Module, weights: Tensor) -> Iterator[Tensor]:
    """Within, every embedding that is given the yielded indices answers with the weighted mean of its rows.

    weights: (B, K), rows sum to 1; a row with one 1 gives what the class itself gives, bit for bit
    A network's embeddings of a class are vectors of a smooth space, the gains of a conditional norm too (Miyato &
    Koyama 2018, section 5.2, morph classes so).

    Raises UserError on leaving where no embedding was given them: such a network takes whole classes only.
    """
    y = weights.argmax(1)
    met = False

    def blend(module: Any, given: tuple[Any, ...], out: Tensor) -> Tensor | None:
        nonlocal met
        if not given or not isinstance(given[0], Tensor) or given[0].shape != y.shape or not given[0].equal(y):
            return None
        met = True
        rows = module.weight[: weights.shape[1]]  # a null class behind them has no weight
        return (weights.to(rows) @ rows).view_as(out)

    with ExitStack() as hooks:
        for module in generator.modules():
            if isinstance(module, nn.Embedding) and module.num_embeddings >= weights.shape[1]:
                hooks.callback(module.register_forward_hook(blend).remove)
        yield y
    if not met:
        raise UserError(
            f"{type(generator).__name__} does not read classes through an embedding, so there is nothing between two "
            "of them: interpolate within one class (label=3, say)"
        )
