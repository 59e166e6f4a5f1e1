"""The code of a given sample, by optimisation (after Karras et al. 2020, StyleGAN2, appendix D; noise stays fixed)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_kit.latent.prior import Uniform
from gan_kit.latent.view import Codes, Latent
from gan_kit.noise import mix
from gan_kit.types import UserError

__all__ = ["Inverted", "invert", "pyramid", "spectra"]

Features = Callable[[Tensor], Tensor]  # (B, ...) in [-1, 1] -> (B, F); distance is the squared one of these
SPACES = ("z", "w", "w+")


@dataclass(frozen=True)
class Inverted:
    """codes: of the N targets, to decode, move or mix; x: (N, *shape) what the generator makes of them, clamped
    distance: (N,) of x to the targets; curve: (steps + 1, N) the best distance so far, from the nearest draw on
    """

    codes: Codes
    x: Tensor
    distance: Tensor
    curve: Tensor


def pyramid(x: Tensor) -> Tensor:
    """Values at full, half, quarter, ... size, so that squared distances are sums of mean squares; (B, ...) -> (B, F)

    Coarse scales lead from far away, where the finest has no slope.
    """
    levels = []
    while True:
        levels.append(x.flatten(1) / math.sqrt(x[0].numel()))
        if x.dim() < 4 or min(x.shape[-2:]) < 8:
            return torch.cat(levels, 1)
        x = F.avg_pool2d(x, 2)


def spectra(x: Tensor) -> Tensor:
    """Log magnitudes at three window lengths (B, C, T) -> (B, F): two sounds may be alike and their waves not"""
    parts = []
    for size in (2048, 512, 128):
        if size <= x.shape[-1]:
            window = torch.hann_window(size, device=x.device)
            bins = torch.stft(x.flatten(0, 1), size, size // 4, window=window, return_complex=True)
            log = (bins.abs() / math.sqrt(size) + 1e-3).log()
            parts.append(log.reshape(len(x), -1) / math.sqrt(log[0].numel() * x.shape[1]))
    return torch.cat([*parts, x.flatten(1) / math.sqrt(x[0].numel())], 1)


def invert(
    latent: Latent,
    target: Tensor,
    space: str | None = None,
    label: int | None = None,
    steps: int = 300,
    lr: float = 0.1,
    candidates: int = 512,
    restarts: int = 4,
    pull: float = 1e-3,
    features: Features | None = None,
    seed: int = 0,
    batch_size: int = 64,
    progress: Callable[[int, float], None] | None = None,
) -> Inverted:
    """Codes of which the generator makes `target`, as nearly as it can; one run for all N targets.

    The nearest of `candidates` draws are where Adam begins, `restarts` of them a target; the best is kept.

    target: (N, *shape) in [-1, 1], as the generator makes them
    space: z, w (one style for all layers) or w+ (one a layer: nearer, and farther from what was trained); None takes
        the view's own
    label: the targets' class; None lets the candidates say, which are of all classes
    lr: in standard deviations of the codes; it falls to 0 as a cosine
    pull: weight of the codes' squared distance from their mean, in standard deviations: keeps them plausible
    features: (B, ...) -> (B, F), whose squared distance is descended; `pyramid`, or `spectra` of sounds
    progress: called with each step and the mean best distance

    Raises UserError for targets of another shape, or a space that the generator does not have.
    """
    for name, value in (("steps", steps), ("candidates", candidates), ("restarts", restarts)):
        if value < 1:
            raise UserError(f"{name}={value} must be at least 1")
    space = space or latent.space
    if space not in SPACES:
        raise UserError(f"no space {space!r}; have {', '.join(SPACES)}")
    if space[0] != latent.space:
        latent = Latent(latent.generator, latent.prior, space[0], latent.finish, latent.noise_seed, latent.vectors)
    features = features or (spectra if target.dim() == 3 else pyramid)
    target = target.float().to(latent.device)
    draws = latent.codes(max(candidates, restarts), label, seed=mix(seed, 7))
    if (shape := latent_shape(latent, draws)) != tuple(target.shape[1:]):
        raise UserError(f"targets have shape {tuple(target.shape[1:])}, this generator makes {shape}")
    with torch.no_grad():
        wanted = features(target)
        rows = []
        for first in range(0, len(draws), batch_size):
            found = features(latent.raw(*_on(latent, draws[first : first + batch_size])).clamp(-1, 1))
            # the differences themselves: cdist's products lose the small ones
            rows.append(torch.stack([(found - one).square().sum(1) for one in wanted], 1))
    nearest = torch.cat(rows).topk(restarts, 0, largest=False).indices.T.flatten().cpu()  # target by target
    start = draws[nearest.tolist()]
    values, y = _on(latent, start)
    std, middle = _spread(latent)
    std, middle = std.to(values), middle.to(values)
    whole = space == "w"  # one row for all layers
    u = ((values[:, :1] if whole else values) - middle) / std
    u = u.detach().clone().requires_grad_(True)
    wanted = wanted.repeat_interleave(restarts, 0)
    optimizer = torch.optim.Adam([u], lr=lr, betas=(0.9, 0.99))
    best, kept = torch.full((len(u),), math.inf, device=u.device), u.detach().clone()
    curve = []
    for step in range(steps + 1):
        done = step / steps
        optimizer.param_groups[0]["lr"] = lr * min(1.0, 20 * done + 0.01) * (0.5 + 0.5 * math.cos(math.pi * done))
        code = (u * std + middle).expand_as(values)
        x = latent.raw(code, y)
        x = x + (x.clamp(-1, 1) - x).detach()  # clamped as samples are, but what is clipped keeps its slope
        distance = (features(x) - wanted).square().sum(1)
        with torch.no_grad():
            better = distance < best
            best = torch.where(better, distance, best)
            kept[better] = u[better]
            curve.append(best.view(-1, restarts).min(1).values.cpu())
        if progress:
            progress(step, float(curve[-1].mean()))
        if step == steps:
            break
        loss = (distance + pull * u.square().flatten(1).mean(1)).sum()
        (u.grad,) = torch.autograd.grad(loss, u)
        optimizer.step()
        if isinstance(latent.prior, Uniform) and space == "z":
            u.data.clamp_(-math.sqrt(3), math.sqrt(3))  # the prior's box
    winner = best.view(-1, restarts).argmin(1) + torch.arange(len(target), device=u.device) * restarts
    best_values = (kept * std + middle).expand_as(values)[winner].cpu()
    codes = Codes(best_values.contiguous(), None if start.y is None else start.y[winner.cpu().tolist()])
    return Inverted(codes, latent.decode(codes, batch_size), best[winner].cpu(), torch.stack(curve))


def latent_shape(latent: Latent, codes: Codes) -> tuple[int, ...]:
    """Of one sample, as the generator makes it"""
    with torch.no_grad():
        return tuple(latent.raw(*_on(latent, codes[:1])).shape[1:])


def _on(latent: Latent, codes: Codes) -> tuple[Tensor, Tensor | None]:
    return codes.values.to(latent.device), None if codes.y is None else codes.y.to(latent.device)


def _spread(latent: Latent) -> tuple[Tensor, Tensor]:
    """Standard deviation (a number) and mean of the space's codes."""
    std = latent.std(torch.eye(latent.dims)).square().mean().sqrt()
    if latent.space == "z":
        return std, torch.zeros(latent.dims)
    return std, latent.truncate(latent.codes(1, seed=mix(0, 8)), 0.0).values[0, 0]
