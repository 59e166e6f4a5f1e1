"""The scores as torchmetrics classes, for use outside gan_kit or in one's own LightningModule.

bank = FeatureBank(Lite0())
fd, pr = FrechetDistance(bank), PrecisionRecallDensityCoverage(bank)     # one forward pass feeds both
bank.update(real, real=True); bank.update(fake, real=False)
fd.compute(), pr.compute()
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from gan_kit.evaluate import functional
from gan_kit.evaluate.features import Extractor, in_fp32
from gan_kit.types import UserError

__all__ = [
    "Bank",
    "FeatureBank",
    "FrechetDistance",
    "InceptionScore",
    "KernelDistance",
    "PrecisionRecallDensityCoverage",
]


class Bank(NamedTuple):
    """What a FeatureBank holds, all ranks together: features (N, F) on the CPU in the order of their ids, and the
    fakes' probabilities (N, K) or None."""

    real: Tensor
    fake: Tensor
    probabilities: Tensor | None


class FeatureBank(Metric):
    """Features of real and generated samples, over all batches and ranks.

    Each sample counts once: those with an id that is there already (a sampler's padding) are left out, and the order
    is that of the ids, so that neither the batch size nor the number of ranks changes a score by one bit.

    extractor: any gan_kit Extractor; not part of this metric's state_dict
    """

    full_state_update = False
    is_differentiable = False

    def __init__(self, extractor: Extractor, **kwargs: Any):
        super().__init__(**kwargs)
        self.__dict__["extractor"] = extractor  # no submodule: a checkpoint of the model holds no Inception
        for side in ("real", "fake"):
            for name in ("features", "ids", "probabilities"):
                self.add_state(f"{side}_{name}", default=[], dist_reduce_fx="cat")

    def update(self, x: Tensor, real: bool, ids: Tensor | None = None) -> None:
        """x: (B, ...) as the extractor takes it; ids: (B,) whole numbers that name the samples of this side.

        Without ids the samples are numbered as they come: under several ranks give them.
        """
        extractor: Extractor = self.__dict__["extractor"]
        with torch.inference_mode():
            with in_fp32():
                found = extractor.extract(x)
        if not found.features.isfinite().all():
            raise UserError("the features are not finite; look for NaN in the samples")
        side = "real" if real else "fake"
        if ids is None:
            if self._ranks() > 1:
                raise UserError("under several ranks update() needs ids=, the samples' numbers, to count each once")
            first = sum(len(part) for part in getattr(self, f"{side}_ids"))
            ids = torch.arange(first, first + len(x))
        if len(ids) != len(x):
            raise UserError(f"{len(ids)} ids for {len(x)} samples")
        getattr(self, f"{side}_features").append(found.features.float().clone())
        getattr(self, f"{side}_ids").append(ids.to(found.features.device, torch.int64))
        if found.probabilities is not None:
            getattr(self, f"{side}_probabilities").append(found.probabilities.float().clone())

    def compute(self) -> Bank:
        """A side without samples is an empty (0, F) tensor."""
        (real, _), (fake, probabilities) = self._side("real"), self._side("fake")
        return Bank(real, fake, probabilities)

    def _side(self, side: str) -> tuple[Tensor, Tensor | None]:
        if not len(getattr(self, f"{side}_features")):
            return torch.zeros(0, self.__dict__["extractor"].dims), None
        ids = dim_zero_cat(getattr(self, f"{side}_ids")).cpu()
        order = ids.argsort(stable=True)
        once = torch.ones(len(ids), dtype=torch.bool)
        once[1:] = ids[order][1:] != ids[order][:-1]
        rows = order[once]
        kept = getattr(self, f"{side}_probabilities")
        probabilities = dim_zero_cat(kept).cpu()[rows] if len(kept) else None
        return dim_zero_cat(getattr(self, f"{side}_features")).cpu()[rows], probabilities

    @staticmethod
    def _ranks() -> int:
        there = torch.distributed.is_available() and torch.distributed.is_initialized()
        return torch.distributed.get_world_size() if there else 1


class _OfBank(Metric):
    """A score of a FeatureBank: its own, or one that is shared with others.

    source: an Extractor, for a bank of its own, or a FeatureBank, which is then to be updated itself
    """

    full_state_update = False
    is_differentiable = False

    def __init__(self, source: Extractor | FeatureBank, **kwargs: Any):
        # what others update in the bank is not seen here: nothing may be kept from one compute() to the next
        super().__init__(compute_with_cache=False, sync_on_compute=False, **kwargs)
        self.bank = source if isinstance(source, FeatureBank) else FeatureBank(source)

    @property
    def update_called(self) -> bool:
        return True  # an empty bank says so itself

    def update(self, x: Tensor, real: bool, ids: Tensor | None = None) -> None:
        self.bank.update(x, real, ids)

    def reset(self) -> None:
        super().reset()
        if "bank" in self._modules:
            self.bank.reset()


class FrechetDistance(_OfBank):
    """Fréchet distance of the features; with the Inception extractor, FID (Heusel et al. 2017). -> scalar fp64"""

    higher_is_better = False

    def compute(self) -> Tensor:
        real, fake, _ = self.bank.compute()
        return functional.frechet_distance_of(real, fake)


class KernelDistance(_OfBank):
    """Unbiased squared MMD with a cubic kernel, KID (Bińkowski et al. 2018). -> (value, standard error)"""

    higher_is_better = False

    def __init__(self, source: Extractor | FeatureBank, subsets: int = 100, subset_size: int = 1000, seed: int = 0):
        super().__init__(source)
        self.subsets, self.subset_size, self.seed = subsets, subset_size, seed

    def compute(self) -> tuple[Tensor, Tensor]:
        real, fake, _ = self.bank.compute()
        found = functional.kernel_distance(
            real, fake, subsets=self.subsets, subset_size=self.subset_size, seed=self.seed
        )
        return torch.tensor(found.value, dtype=torch.float64), torch.tensor(found.stderr, dtype=torch.float64)


class InceptionScore(_OfBank):
    """Inception score of the fakes (Salimans et al. 2016), shuffled before it is split. -> (mean, std over splits)

    Real samples are not needed.
    """

    higher_is_better = True

    def __init__(self, source: Extractor | FeatureBank, splits: int = 10, seed: int = 0):
        super().__init__(source)
        self.splits, self.seed = splits, seed

    def compute(self) -> tuple[Tensor, Tensor]:
        probabilities = self.bank.compute().probabilities
        if probabilities is None:
            raise UserError("no class probabilities: update() with fakes, and an extractor that classifies")
        found = functional.inception_score(probabilities, splits=self.splits, seed=self.seed)
        return torch.tensor(found.mean, dtype=torch.float64), torch.tensor(found.std, dtype=torch.float64)


class PrecisionRecallDensityCoverage(_OfBank):
    """Precision, recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020). -> dict of scalars"""

    def __init__(self, source: Extractor | FeatureBank, k: int = 5):
        super().__init__(source)
        self.k = k

    def compute(self) -> dict[str, Tensor]:
        real, fake, _ = self.bank.compute()
        found = functional.prdc(real, fake, k=self.k)
        names = ("precision", "recall", "density", "coverage")
        return {name: torch.tensor(getattr(found, name), dtype=torch.float64) for name in names}
