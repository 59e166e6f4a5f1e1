"""Spectral normalisation (Miyato et al. 2018, section 2.1): a layer's weight divided by its largest singular value.

As `torch.nn.utils.parametrizations.spectral_norm`, but with one power iteration an *update* of the weight, which is the
paper's algorithm 1, in place of one a forward pass. A step calls D several times between two updates (real, fake,
penalties, micro-batches), and all of these passes have to see one and the same function: else a batch in two halves
gives other gradients than the whole, and a finite difference of two passes takes the iteration's progress, divided by
the small distance, for a slope.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["SpectralNorm", "raw_weight", "restart_spectral", "spectral_norm"]

Layer = TypeVar("Layer", bound=nn.Module)
FIRST_ITERATIONS = 15


class SpectralNorm(nn.Module):
    """weight (out, ...) -> weight / σ, as a parametrization; u: (out,) and v: (all the rest,) of the power iteration.

    An iteration is due when a backward pass has reached the weight. It is taken in the next training pass that builds a
    graph for the weight and finds its gradient gone or zero: not by the second of two micro-batches, not where the net
    is frozen or only draws samples. (The tensor's version would not do: a fused optimiser does not count it up.)
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor):
        super().__init__()
        matrix = _matrix(weight.detach())
        self.register_buffer("u", torch.empty_like(matrix[:, 0]))
        self.register_buffer("v", torch.empty_like(matrix[0]))
        self.due = False
        self.restart(weight)

    def restart(self, weight: Tensor) -> None:
        """Begin the iteration anew from random vectors, for a weight that has nothing to do with the one before."""
        if self.u.is_meta:  # a net without numbers, to count its parameters
            return
        self.u = F.normalize(torch.randn_like(self.u), dim=0)
        for _ in range(FIRST_ITERATIONS):
            self._iterate(weight)

    def forward(self, weight: Tensor) -> Tensor:
        taught = self.training and torch.is_grad_enabled() and weight.requires_grad
        if taught and self.due and (weight.grad is None or not weight.grad.any()):
            self._iterate(weight)
        with _full_precision(weight):
            normalised = weight / (self.u @ (_matrix(weight) @ self.v))
        if taught:
            normalised.register_hook(self._reached)
        return normalised

    def _reached(self, _: Tensor) -> None:
        self.due = True

    @torch.no_grad()
    def _iterate(self, weight: Tensor) -> None:
        matrix = _matrix(weight.detach())
        with _full_precision(weight):
            # new tensors, not in place: a backward pass that is still to come wants the old ones
            self.v = F.normalize(self.u @ matrix, dim=0)
            self.u = F.normalize(matrix @ self.v, dim=0)
        self.due = False

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.due)  # a run that is resumed takes the iteration that the one before would have taken

    def set_extra_state(self, state: Any) -> None:
        self.due = bool(state)


def _full_precision(weight: Tensor) -> AbstractContextManager[Any]:
    kind = weight.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _matrix(weight: Tensor) -> Tensor:
    """(out, the rest), a view of what convolutions in channels_last hold; the singular values know of no order."""
    return weight.permute(0, 2, 3, 1).flatten(1) if weight.dim() == 4 else weight.flatten(1)


def spectral_norm(layer: Layer, on: bool = True) -> Layer:
    """The layer, its weight under spectral normalisation where `on`."""
    if on:
        parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))  # type: ignore[arg-type]
    return layer


def raw_weight(layer: nn.Module) -> Tensor:
    """The parameter that is trained: `layer.weight`, or what stands behind it under spectral normalisation."""
    if parametrize.is_parametrized(layer, "weight"):
        return layer.parametrizations["weight"].original  # type: ignore[index,union-attr]
    return layer.weight  # type: ignore[return-value]


def restart_spectral(net: nn.Module) -> None:
    """Begin all power iterations in `net` anew, after its weights were drawn anew."""
    for layer in net.modules():
        if parametrize.is_parametrized(layer, "weight"):
            for norm in layer.parametrizations["weight"]:  # type: ignore[index]
                if isinstance(norm, SpectralNorm):
                    norm.restart(raw_weight(layer))
