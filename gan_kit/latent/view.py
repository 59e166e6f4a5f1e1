"""One view of every generator's latent space: codes in, samples out, and the moves between codes.

Every generator has z. Style generators, which have `mapping(z, y) -> w` and `synthesis(w)`, have w too: one vector a
layer, which the mapping makes equal.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gan_kit.latent.classes import as_weights, blended
from gan_kit.latent.paths import lerp, slerp
from gan_kit.latent.prior import Normal, Prior, Uniform
from gan_kit.noise import SampleNoise, mix
from gan_kit.types import UserError

__all__ = ["Codes", "Latent", "OneNoise", "has_styles"]

THIRDS = ("coarse", "middle", "fine")


@dataclass(frozen=True)
class Codes:
    """N points of a latent space, on the CPU.

    values: (N, z_dim) in z, (N, num_ws, w_dim) in w
    y: (N,) class indices, (N, K) weights over classes, (N, E) vectors of a condition, or None; in w the values have it
        in them already
    """

    values: Tensor
    y: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | Sequence[int]) -> Codes:
        return Codes(self.values[rows], None if self.y is None else self.y[rows])

    @staticmethod
    def joined(parts: Sequence[Codes]) -> Codes:
        """The codes of all parts, one after the other."""
        ys = [part.y for part in parts if part.y is not None]
        if any(y.is_floating_point() for y in ys):
            width = max(y.shape[1] for y in ys if y.dim() == 2)
            ys = [as_weights(y, width) for y in ys]
        return Codes(torch.cat([part.values for part in parts]), torch.cat(ys) if ys else None)

    def repeated(self, times: int) -> Codes:
        """Each code `times` times in a row."""
        return Codes(
            self.values.repeat_interleave(times, 0), None if self.y is None else self.y.repeat_interleave(times, 0)
        )


class OneNoise:
    """The same draws for every sample, so that nothing but the code differs between two pictures."""

    def __init__(self, seed: int, batch: int, device: torch.device | str = "cpu"):
        self.batch, self.one = batch, SampleNoise(mix(seed, 2), [0], device)

    def randn(self, *shape: int) -> Tensor:
        return self.one.randn(*shape).expand(self.batch, *shape)

    def rand(self, *shape: int) -> Tensor:
        return self.one.rand(*shape).expand(self.batch, *shape)


def has_styles(generator: nn.Module) -> bool:
    """Whether a generator has w: `mapping` and `synthesis`."""
    return callable(getattr(generator, "mapping", None)) and callable(getattr(generator, "synthesis", None))


class Latent:
    """The latent space of a generator in evaluation mode.

    space: "z", "w", or "auto": w where there is one
    finish: of what the generator makes, samples: `DataSpec.decode`
    noise_seed: of the noise within layers, the same for all samples, where the generator draws any
    vectors: (N, E) conditions to draw by, of a generator that is conditioned on vectors

    Raises UserError for a space that the generator does not have.
    """

    def __init__(
        self,
        generator: nn.Module,
        prior: Prior,
        space: str = "auto",
        finish: Callable[[Tensor], Tensor] | None = None,
        noise_seed: int = 0,
        vectors: Tensor | None = None,
    ):
        if space not in ("auto", "z", "w"):
            raise UserError(f"no space {space!r}; have auto, z, w")
        if space == "w" and not has_styles(generator):
            raise UserError(f"{type(generator).__name__} has no w, only z: styles are what StyleGAN2 has; use space=z")
        self.generator: Any = generator
        self.prior, self.finish, self.noise_seed, self.vectors = prior, finish, noise_seed, vectors
        if self.vector_dim and vectors is None:
            raise UserError(f"this generator takes a vector of {self.vector_dim} with each code; give some as vectors")
        self.space = ("w" if has_styles(generator) else "z") if space == "auto" else space
        self._centres: dict[tuple[str, int | None], Tensor] = {}
        self._std: Tensor | None = None

    @property
    def num_classes(self) -> int:
        return int(getattr(self.generator, "num_classes", 0))

    @property
    def vector_dim(self) -> int:
        return int(getattr(self.generator, "vector_dim", 0))

    @property
    def dims(self) -> int:
        """D of a direction: z_dim or w_dim"""
        return int(self.generator.w_dim if self.space == "w" else self.generator.z_dim)

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.generator.parameters()), torch.device("cpu"))

    # ---- codes and samples ----

    @torch.no_grad()
    def codes(
        self,
        n: int,
        label: int | Sequence[int] | None = None,
        seed: int = 0,
        start: int = 0,
        batch_size: int = 256,
    ) -> Codes:
        """The codes of samples start to start + n of a seed: those that `TrainedGAN.sample` draws.

        label: a class index, one a sample, or None for classes drawn evenly; vectors are always drawn evenly
        """
        if self.vectors is not None and self.vector_dim:
            if label is not None:
                raise UserError(f"label={label}: this generator has no classes, it is conditioned on vectors")
            y = self.vectors[[mix(seed, i, 1) % len(self.vectors) for i in range(start, start + n)]]
        elif not self.num_classes:
            y = None
        elif label is None:
            y = torch.tensor([mix(seed, i, 1) % self.num_classes for i in range(start, start + n)])
        else:
            y = torch.tensor([label] * n if isinstance(label, int) else list(label))
        noise = SampleNoise(seed, range(start, start + n))
        z = self.prior(noise, self.generator.z_dim)
        if self.space == "z":
            return Codes(z, y)
        ys = [None] * n if y is None else y.split(batch_size)
        w = [
            self.generator.mapping(part.to(self.device), None if of is None else of.to(self.device))
            for part, of in zip(z.split(batch_size), ys, strict=False)
        ]
        return Codes(torch.cat(w).float().cpu(), y)

    def raw(self, values: Tensor, y: Tensor | None = None) -> Tensor:
        """What the generator makes of codes on its device, unclamped; gradients pass. y as in `Codes`."""
        more = {"noise": OneNoise(self.noise_seed, len(values), values.device)} if self._takes_noise else {}
        if self.space == "w":
            return self.generator.synthesis(values, **more).float()
        if y is None or self.vector_dim or not y.is_floating_point():
            return self.generator(values, y, **more).float()
        with blended(self.generator, y) as indices:
            return self.generator(values, indices, **more).float()

    def batches(self, codes: Codes, batch_size: int = 64) -> Iterator[Tensor]:
        """What `decode` returns, batch by batch."""
        for first in range(0, len(codes), batch_size):
            part = codes[first : first + batch_size]
            with torch.no_grad():
                x = self.raw(part.values.to(self.device), None if part.y is None else part.y.to(self.device))
                x = x if self.finish is None else self.finish(x)
            yield x.float().clamp(-1, 1).cpu()

    def decode(self, codes: Codes, batch_size: int = 64) -> Tensor:
        """Samples of codes, in [-1, 1], (N, *shape), on the CPU: the same whatever the batch size (to rounding)."""
        return torch.cat(list(self.batches(codes, batch_size)))

    @property
    def _takes_noise(self) -> bool:
        return bool(getattr(self.generator, "takes_noise", False))

    # ---- moves ----

    def between(self, a: Codes, b: Codes, t: float) -> Codes:
        """The codes at t from a (0) to b (1): spherical in z of a normal prior, else straight; classes by weight."""
        values = (slerp if self.space == "z" and isinstance(self.prior, Normal) else lerp)(a.values, b.values, t)
        y = a.y if t < 0.5 else b.y
        if a.y is not None and b.y is not None and not (a.y.shape == b.y.shape and a.y.equal(b.y)):
            y = lerp(self._blendable(a.y), self._blendable(b.y), t)
        return Codes(values, y)

    def _blendable(self, y: Tensor) -> Tensor:
        """Between which a straight line may go: weights over classes, or the vectors themselves"""
        return y if self.vector_dim else as_weights(y, self.num_classes)

    def path(self, keys: Codes, steps: int, loop: bool = False) -> Codes:
        """From key to key, `steps` codes from each to before the next; the last key ends it, or leads to the first."""
        if steps < 1 or len(keys) < 2:
            raise UserError(f"a path needs two codes and steps=1 at least, not {len(keys)} and steps={steps}")
        ends = [*range(len(keys)), 0] if loop else list(range(len(keys)))
        parts = [
            self.between(keys[[a]], keys[[b]], i / steps) for a, b in itertools.pairwise(ends) for i in range(steps)
        ]
        return Codes.joined(parts if loop else [*parts, keys[[-1]]])

    def truncate(self, codes: Codes, psi: float, centre: str = "mean") -> Codes:
        """Codes drawn towards a centre: 1 leaves them, 0 is the centre, between is more typical and less varied.

        centre: "mean" of all codes, or "centroid" of each code's class
        In z the prior is centred on 0 and the class is not part of the code: both are 0, and the class stays. In w
        (Karras et al. 2019, section 4) the mean of all classes belongs to none, so that a small psi blurs classes;
        their centroids keep them.
        """
        if centre not in ("mean", "centroid"):
            raise UserError(f"no centre {centre!r}; have mean, centroid")
        if centre == "centroid" and not self.num_classes:
            raise UserError("centre=centroid is of a class, and this generator has none; use centre=mean")
        if self.space == "z":
            if psi != 1 and has_styles(self.generator):
                raise UserError(f"psi={psi}: {type(self.generator).__name__} truncates in w, not in z; use space=w")
            return Codes(codes.values * psi, codes.y)
        if centre == "mean" or codes.y is None:
            middle = self._centre(None)
        else:
            weights = as_weights(codes.y, self.num_classes)
            needed = [i for i in range(self.num_classes) if weights[:, i].any()]
            middle = weights[:, needed] @ torch.stack([self._centre(i) for i in needed])
            middle = middle[:, None]
        # lerp, so that psi = 1 leaves the codes as they are, bit for bit
        return Codes(lerp(middle.expand_as(codes.values), codes.values, psi), codes.y)

    def _centre(self, label: int | None, n: int = 4096) -> Tensor:
        """(w_dim,): the mean that training kept, or of codes of our own; always on the CPU"""
        known = getattr(self.generator, "w_mean", None)
        if label is None and isinstance(known, Tensor) and known.any():
            return known.detach().float().cpu().reshape(-1, self.dims)[0]
        key = (self.space, label)
        if key not in self._centres:
            self._centres[key] = self.codes(n, label, seed=mix(0, 3)).values[:, 0].double().mean(0).float()
        return self._centres[key]

    def mix(self, a: Codes, b: Codes, layers: str | slice) -> Codes:
        """The codes a with b's styles in some layers (Karras et al. 2019, section 3.1).

        layers: as `layers` takes them. Raises UserError in z, which has no layers.
        """
        if self.space != "w":
            raise UserError(
                f"{type(self.generator).__name__} mixes no styles: it has z alone, one code for all layers; style "
                "mixing needs a generator with w, such as StyleGAN2 (generator=stylegan2)"
            )
        values = a.values.clone()
        chosen = self.layers(layers)
        values[:, chosen] = b.values[:, chosen]
        return Codes(values, a.y)

    def layers(self, layers: str | slice) -> slice:
        """ "all", "coarse", "middle" or "fine" (thirds), "3", or "2-5" (both counted), as a slice of w's layers.

        Raises UserError for what is none of these, and for anything but "all" in z.
        """
        if isinstance(layers, slice):
            return layers
        count = int(self.generator.num_ws) if self.space == "w" else 1
        if layers == "all":
            return slice(0, count)
        if self.space != "w":
            raise UserError(f"layers={layers}: z has no layers; leave layers out")
        if layers in THIRDS:
            third = THIRDS.index(layers)
            return slice(round(count * third / 3), round(count * (third + 1) / 3))
        first, dash, last = str(layers).partition("-")
        try:
            found = slice(int(first), int(last if dash else first) + 1)
        except ValueError:
            raise UserError(f"layers={layers}: have all, coarse, middle, fine, 3 or 2-5") from None
        if not 0 <= found.start < found.stop <= count:
            raise UserError(f"layers={layers} is not within this generator's layers, 0 to {count - 1}")
        return found

    def move(self, codes: Codes, direction: Tensor, layers: str | slice = "all") -> Codes:
        """Codes moved by a vector (D,), in w in some layers."""
        if self.space == "z":
            self.layers(layers)
            return Codes(codes.values + direction, codes.y)
        values = codes.values.clone()
        values[:, self.layers(layers)] += direction
        return Codes(values, codes.y)

    def std(self, directions: Tensor) -> Tensor:
        """(k,): the standard deviation of this space's codes along unit vectors (k, D): what a strength of 1 means"""
        if self.space == "z" and isinstance(self.prior, Normal | Uniform):
            return torch.full((len(directions),), 1.0 if isinstance(self.prior, Normal) else 3**-0.5)
        if self._std is None:
            values = self.codes(2048, seed=mix(0, 4)).values
            self._std = torch.cov((values[:, 0] if self.space == "w" else values).double().T)
        v = directions.double()
        return torch.einsum("kd,de,ke->k", v, self._std, v).clamp_min(0).sqrt().float()
