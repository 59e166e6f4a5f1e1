"""Directions of a latent space that change what is generated: SeFa, principal components, the Jacobian's.

All are rows of unit length with the strongest first; their signs, which no method knows, are fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.latent.view import Codes, Latent
from gan_kit.noise import mix
from gan_kit.types import UserError

__all__ = ["METHODS", "Directions", "directions", "jacobian", "pca", "sefa"]

Progress = Callable[[int, int], None]  # done, total


@dataclass(frozen=True)
class Directions:
    """vectors: (k, D), unit length, strongest first
    values: (k,) how much each does: the method's eigenvalues
    scales: (k,) a strength of 1: the codes' standard deviation along each
    """

    vectors: Tensor
    values: Tensor
    scales: Tensor
    method: str

    def __len__(self) -> int:
        return len(self.vectors)

    def step(self, which: int, strength: float) -> Tensor:
        """(D,): what `Latent.move` adds"""
        return self.vectors[which] * self.scales[which] * strength


def _principal(latent: Latent, gram: Tensor, count: int, method: str) -> Directions:
    """The leading eigenvectors of a (D, D) matrix; the largest entry of each is positive."""
    if not 1 <= count <= latent.dims:
        raise UserError(f"{count} directions in a space of {latent.dims} dimensions; ask for 1 to {latent.dims}")
    values, vectors = torch.linalg.eigh(gram.double())
    rows = vectors.T.flip(0)[:count]
    rows = (rows * rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()).float()
    return Directions(rows, values.flip(0)[:count].clamp_min(0).float(), latent.std(rows), method)


# ---- SeFa ----


def sefa(latent: Latent, count: int = 5, layers: str | slice = "all") -> Directions:
    """The directions that the layers which read the code amplify most (Shen & Zhou 2021, section 3.2).

    Closed form: eigenvectors of AᵀA, where A stacks the weights of all linear layers that read the code itself: the
    first layer in z, each layer's style in w.

    Raises UserError for a generator in which no linear layer reads the code itself.
    """
    chosen = latent.layers(layers)
    grams = _reading_layers(latent)
    of_layers = [gram for layer, gram in grams if chosen.start <= layer < chosen.stop]
    if not of_layers:
        raise UserError(
            f"no linear layer of {type(latent.generator).__name__} reads {latent.space} itself"
            + (f" in layers {layers}" if grams else "")
            + ", so SeFa has no weights to factorise; use method=jacobian or method=pca"
        )
    return _principal(latent, torch.stack(of_layers).sum(0), count, "sefa")


def _reading_layers(latent: Latent) -> list[tuple[int, Tensor]]:
    """(layer of w or 0, AᵀA (D, D) in double) of each module that reads entries of the code as they are.

    Found by looking: a code of random numbers goes in, and every affine module in whose input they stand again
    reads it. What the module does with each entry is measured, whatever the module calls its weights.
    """
    codes = latent.codes(1, seed=mix(0, 5))
    g = torch.Generator().manual_seed(0)
    probe = torch.randn(codes.values.shape, generator=g)  # all entries differ, the layers of w too
    found: list[tuple[int, Tensor]] = []

    def look(module: Any, given: tuple[Any, ...]) -> None:
        if len(given) != 1 or not isinstance(given[0], Tensor) or len(given[0]) != 1 or busy:
            return
        entries, places = torch.sort(probe.flatten())
        read = given[0].detach().cpu().float().flatten()
        at = torch.searchsorted(entries, read).clamp_max(len(entries) - 1)
        hits = (entries[at] == read).nonzero()[:, 0]
        if not len(hits):
            return
        source = places[at[hits]]
        busy.append(module)
        try:
            for layer in (source // latent.dims).unique().tolist():
                ours = source // latent.dims == layer
                gram = _gram(module, given[0], hits[ours], source[ours] % latent.dims, latent.dims)
                if gram is not None:
                    found.append((layer, gram))
        finally:
            busy.clear()

    busy: list[Any] = []
    hooks = [m.register_forward_pre_hook(look) for m in latent.generator.modules() if _is_linear(m)]
    try:
        with torch.no_grad():
            latent.raw(probe.to(latent.device), None if codes.y is None else codes.y.to(latent.device))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _is_linear(module: nn.Module) -> bool:
    """Whether it may be a linear layer: a leaf, but for parametrisations, with a matrix or a kernel."""
    leaf = all(name == "parametrizations" for name, _ in module.named_children())
    weight = getattr(module, "weight", None)
    return leaf and isinstance(weight, Tensor) and weight.dim() >= 2 and not isinstance(module, nn.Embedding)


def _gram(module: Any, like: Tensor, positions: Tensor, entries: Tensor, dims: int) -> Tensor | None:
    """AᵀA of what an affine module does to code entries that stand at positions of its input; None if it is not."""
    inputs = like.new_zeros(len(positions) + 1, like.numel())
    inputs[torch.arange(len(positions)), positions.to(like.device)] = 1
    answers = torch.cat([module(part.view(-1, *like.shape[1:])) for part in inputs.split(64)]).double().flatten(1).cpu()
    columns = answers[:-1] - answers[-1]
    double = module(2 * inputs[:-1].sum(0).view(like.shape)).double().flatten().cpu() - answers[-1]
    if not torch.allclose(double, 2 * columns.sum(0), rtol=1e-3, atol=1e-3 * float(double.abs().max() + 1e-12)):
        return None  # an activation within the module
    weight = columns.new_zeros(dims, columns.shape[1]).index_add_(0, entries, columns)
    return weight @ weight.T


# ---- the Jacobian ----


def jacobian(
    latent: Latent,
    count: int = 5,
    layers: str | slice = "all",
    n: int = 16,
    label: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Directions:
    """The directions along which samples change most: eigenvectors of E[JᵀJ] over n codes, J = dG/dcode.

    For any generator; of a linear one it is SeFa. J by central differences of a tenth of a standard deviation, of
    pictures averaged down to 64 a side at most. What Ramesh et al. 2018 ("A spectral regularizer", section 3) do at
    one code.
    """
    chosen = latent.layers(layers)
    codes = latent.codes(n, label, seed)
    h = 0.1 * float(latent.std(torch.eye(latent.dims)).mean())
    moves = h * torch.eye(latent.dims, device=latent.device)
    gram = torch.zeros(latent.dims, latent.dims, dtype=torch.float64)
    per_batch = max(1, batch_size // 2)
    for i in range(n):
        value = codes.values[i : i + 1].to(latent.device)
        y = None if codes.y is None else codes.y[i : i + 1].to(latent.device)
        rows = []
        for part in moves.split(per_batch):
            both = value.repeat(2 * len(part), *[1] * (value.dim() - 1))
            change = torch.cat([part, -part])
            if latent.space == "w":
                both[:, chosen] += change[:, None]
            else:
                both += change
            with torch.no_grad():
                x = _small(latent.raw(both, None if y is None else y.repeat(2 * len(part)))).flatten(1)
            rows.append((x[: len(part)] - x[len(part) :]).cpu().double() / (2 * h))
        j = torch.cat(rows)
        gram += j @ j.T / n
        if progress:
            progress(i + 1, n)
    return _principal(latent, gram, count, "jacobian")


def _small(x: Tensor, side: int = 64) -> Tensor:
    return F.avg_pool2d(x, x.shape[-1] // side) if x.dim() == 4 and x.shape[-1] >= 2 * side else x


# ---- principal components ----


def pca(
    latent: Latent,
    count: int = 5,
    n: int | None = None,
    label: int | None = None,
    seed: int = 0,
    layer: str | None = None,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Directions:
    """Principal components of w, or of a layer's features in z (Härkönen et al. 2020, GANSpace, sections 2.1 and 2.2).

    In z, where the prior has no direction of its own, the n codes are regressed on their features' coordinates.

    n: codes; None takes 10,000 in w, 1,000 or 4 z_dim in z
    layer: in z: of this module the input; None takes what the first layer reads that does not read z itself

    Raises UserError for a layer that the generator does not have, or too few codes.
    """
    n = n or (10_000 if latent.space == "w" else max(1_000, 4 * latent.dims))
    if n <= latent.dims:
        raise UserError(f"n={n} codes are too few for principal components of {latent.dims} dimensions; n=2000, say")
    codes = latent.codes(n, label, seed)
    if latent.space == "w":
        return _principal(latent, torch.cov(codes.values[:, 0].double().T), count, "pca")
    if not 1 <= count <= latent.dims:
        raise UserError(f"{count} directions in a space of {latent.dims} dimensions; ask for 1 to {latent.dims}")
    features = _centred(_features(latent, codes, layer, batch_size, progress).double(), codes.y)
    z = _centred(codes.values.double(), codes.y)
    values, coordinates = _components(features, count)
    rows = torch.linalg.lstsq(coordinates, z).solution
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    rows = (rows * rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()).float()
    return Directions(rows, (values / (n - 1)).float(), latent.std(rows), "pca")


def _centred(rows: Tensor, y: Tensor | None) -> Tensor:
    """Less their mean, of each class or vector its own: what tells classes apart is no direction of z"""
    if y is None:
        return rows - rows.mean(0)
    _, of = y.unique(dim=0, return_inverse=True)
    sums = rows.new_zeros(int(of.max()) + 1, rows.shape[1]).index_add_(0, of, rows)
    return rows - (sums / of.bincount()[:, None])[of]


def _components(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Of centred rows (n, F), by the smaller of their two squares: -> sums of squares (k,), coordinates (n, k)"""
    wide = rows.shape[1] > len(rows)
    values, vectors = torch.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    values, vectors = values.flip(0)[:count].clamp_min(1e-12), vectors.flip(1)[:, :count]
    return values, vectors * values.sqrt() if wide else rows @ vectors


def _features(latent: Latent, codes: Codes, layer: str | None, batch_size: int, progress: Progress | None) -> Tensor:
    """(n, F): what `layer` reads when codes are decoded."""
    modules = dict(latent.generator.named_modules())
    if layer is not None and layer not in modules:
        have = ", ".join([name for name in modules if name][:30])
        raise UserError(f"{type(latent.generator).__name__} has no layer {layer!r}; have {have}")
    name = layer or _second_layer(latent, modules)
    kept: list[Tensor] = []
    hook = modules[name].register_forward_pre_hook(lambda _, given: kept.append(given[0].detach().float().flatten(1)))
    rows: list[Tensor] = []
    try:
        for first in range(0, len(codes), batch_size):
            part = codes[first : first + batch_size]
            with torch.no_grad():
                latent.raw(part.values.to(latent.device), None if part.y is None else part.y.to(latent.device))
            rows.append(kept[0].cpu())
            kept.clear()
            if progress:
                progress(min(first + batch_size, len(codes)), len(codes))
    finally:
        hook.remove()
    return torch.cat(rows)


def _second_layer(latent: Latent, modules: dict[str, nn.Module]) -> str:
    """The first linear layer whose input does not hold the code; where there is none, the first that has one."""
    probe = latent.codes(1, seed=mix(0, 6))
    order: list[tuple[str, bool]] = []

    def see(name: str) -> Callable[..., None]:
        def look(_: Any, given: tuple[Any, ...]) -> None:
            order.append((name, bool(torch.isin(given[0].detach().cpu().float(), probe.values).any())))

        return look

    hooks = [m.register_forward_pre_hook(see(name)) for name, m in modules.items() if _is_linear(m)]
    try:
        with torch.no_grad():
            latent.raw(probe.values.to(latent.device), None if probe.y is None else probe.y.to(latent.device))
    finally:
        for hook in hooks:
            hook.remove()
    if not order:
        raise UserError(f"{type(latent.generator).__name__} has no linear layer: name one with layer=")
    return next((name for name, reads in order if not reads), order[0][0])


METHODS = ("sefa", "pca", "jacobian")


def directions(
    latent: Latent,
    method: str = "auto",
    count: int = 5,
    layers: str | slice = "all",
    label: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Directions:
    """By name: sefa, pca, jacobian, or auto: sefa, and the Jacobian's where that finds no weights."""
    if method not in (*METHODS, "auto"):
        raise UserError(f"no method {method!r}; have auto, {', '.join(METHODS)}")
    if method == "pca":
        return pca(latent, count, label=label, seed=seed, batch_size=batch_size, progress=progress)
    if method == "sefa" or (method == "auto" and _reading_layers(latent)):
        return sefa(latent, count, layers)
    return jacobian(latent, count, layers, label=label, seed=seed, batch_size=batch_size, progress=progress)
