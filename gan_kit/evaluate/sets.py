"""Sets of features: of a data split, kept on the disk between calls, or of samples."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from gan_kit.evaluate.features import Extracted, Extractor, in_fp32
from gan_kit.files import cache_home, written_whole
from gan_kit.types import UserError

__all__ = [
    "FeatureSet",
    "array_batches",
    "data_features",
    "extract_all",
    "features_file",
    "labels_like",
    "split_features",
    "vectors_like",
]


@dataclass(frozen=True)
class FeatureSet:
    """What an extractor says of a set of samples.

    features: (N, F); probabilities: (N, K) or None; labels: (N,) int64, as asked for or as given, or None
    """

    features: Tensor
    probabilities: Tensor | None = None
    labels: Tensor | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, rows: Tensor | slice) -> FeatureSet:
        p, y = self.probabilities, self.labels
        return FeatureSet(
            self.features[rows], None if p is None else p[rows], None if y is None else y[rows], self.facts
        )

    def some(self, count: int, seed: int = 0) -> FeatureSet:
        """`count` rows drawn without replacement, the same ones each time; all where there are fewer."""
        if count >= len(self):
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.rows(order[:count].sort().values)


def array_batches(x: np.ndarray, batch_size: int = 256) -> Iterator[Tensor]:
    """Rows of an array, perhaps a memmap, as tensors."""
    for start in range(0, len(x), batch_size):
        part = np.ascontiguousarray(x[start : start + batch_size])
        yield torch.from_numpy(part if part.flags.writeable else part.copy())


@torch.inference_mode()
def extract_all(
    extractor: Extractor, batches: Iterable[Tensor], total: int | None = None, label: str = "", progress: bool = False
) -> Extracted:
    """Features (and probabilities) of all batches, on the CPU.

    Raises UserError for samples or features that are not finite.
    """
    features, probabilities = [], []
    with tqdm(total=total, desc=label, unit=" samples", disable=None if progress else True, leave=False) as bar:
        for x in batches:
            if x.is_floating_point() and not x.isfinite().all():
                bad = int((~x.isfinite()).flatten(1).any(1).sum())
                raise UserError(f"{bad} of {len(x)} samples hold NaN or inf: there is nothing to score")
            with in_fp32():
                found = extractor.extract(x)
            features.append(found.features.float().cpu())
            if found.probabilities is not None:
                probabilities.append(found.probabilities.float().cpu())
            bar.update(len(x))
    if not features:
        raise UserError("there are no samples to take features of")
    whole = torch.cat(features)
    if not whole.isfinite().all():
        bad = int((~whole.isfinite()).any(1).sum())
        raise UserError(f"the features of {bad} of {len(whole)} samples are not finite; look for NaN in the samples")
    return Extracted(whole, torch.cat(probabilities) if probabilities else None)


def features_file(extractor: Extractor, fingerprint: str) -> Path:
    """Where the features of the data with this fingerprint are kept."""
    key = hashlib.sha256(json.dumps([extractor.protocol, fingerprint], sort_keys=True).encode()).hexdigest()
    return cache_home() / "features" / f"{key[:32]}.safetensors"


def data_features(
    extractor: Extractor,
    fingerprint: str,
    count: int,
    batches: Callable[[], Iterable[Tensor]],
    labels: np.ndarray | None = None,
    label: str = "",
    progress: bool = False,
    keep: bool = True,
) -> FeatureSet:
    """Features of real data: from the cache, or extracted now and put there.

    fingerprint: of the data, so that a changed data set is another entry; batches: called only when it is not there
    A damaged entry is made anew; processes that make the same one at once don't harm each other.
    """
    path = features_file(extractor, fingerprint)
    kept = _read(path) if keep else None
    if kept is None or len(kept.features) != count:
        kept = extract_all(extractor, batches(), count, label, progress)
        if keep:
            _write(path, kept)
    y = None if labels is None else torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64))
    return FeatureSet(kept.features, kept.probabilities, y, {"data": fingerprint, "count": len(kept.features)})


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name}{tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()


def _write(path: Path, found: Extracted) -> None:
    tensors = {"features": found.features.contiguous()}
    if found.probabilities is not None:
        tensors["probabilities"] = found.probabilities.contiguous()
    try:
        with written_whole(path) as part:
            save_file(tensors, part, metadata={"sha256": _digest(tensors)})
    except (OSError, SafetensorError) as error:  # a score is worth more than its cache
        warnings.warn(f"{path} could not be kept ({error}): it will be made again next time", stacklevel=2)


def _read(path: Path) -> Extracted | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            known = (file.metadata() or {}).get("sha256")
        if known == _digest(tensors):
            return Extracted(tensors["features"], tensors.get("probabilities"))
    except (OSError, SafetensorError, KeyError):
        pass
    warnings.warn(f"{path} is damaged: its features are extracted again", stacklevel=2)
    return None


def split_features(extractor: Extractor, data: Any, split: str, progress: bool = False) -> FeatureSet:
    """Features of one split of a datamodule, cached."""
    arrays = data.arrays(split)
    return data_features(
        extractor,
        arrays.fingerprint(),
        len(arrays.x),
        lambda: array_batches(arrays.x),
        arrays.labels,
        f"{split} split",
        progress,
    )


def vectors_like(vectors: np.ndarray, n: int, seed: int = 0) -> Tensor:
    """(n, E): vectors of a split each as often as the next, in an order of their own: a generator's conditions."""
    rows = np.arange(n) * len(vectors) // n
    y = torch.from_numpy(np.array(vectors[rows]))
    return y[torch.randperm(n, generator=torch.Generator().manual_seed(seed))]


def labels_like(labels: Tensor, n: int, seed: int = 0) -> list[int]:
    """n labels in the proportions of `labels`, in an order of their own: what a generator is asked for."""
    spread = labels.sort().values[torch.arange(n) * len(labels) // n]
    return spread[torch.randperm(n, generator=torch.Generator().manual_seed(seed))].tolist()
