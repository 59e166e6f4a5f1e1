"""The suite: sets of features in, a table of scores out, each with its uncertainty, its floor and its protocol.

A metric is a function of `Sets` that returns scores, and a line of METRICS.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

import gan_kit
from gan_kit.evaluate import functional
from gan_kit.evaluate.sets import FeatureSet
from gan_kit.files import write_whole
from gan_kit.types import UserError

__all__ = ["METRICS", "Evaluation", "Score", "Sets", "evaluate", "frechet_name", "jackknife"]

LOWER, HIGHER = "lower", "higher"


@dataclass(frozen=True)
class Score:
    """One figure.

    stderr: its standard error, of what kind docs/evaluate.md says, or None
    floor: the same figure of real samples in the place of the generated ones, or None
    better: "lower", "higher", or "" where neither is; group: its line of METRICS
    detail: more of it (per class, ...); note: what a reader has to know
    """

    metric: str
    value: float
    stderr: float | None = None
    better: str = ""
    floor: float | None = None
    group: str = ""
    note: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sets:
    """What metrics look at.

    real: the reference; fake: what is judged; train: what the generator was trained on, held: what it has not seen
    (both for memorisation, or None); name: the extractor's; classes: names of the data's classes, or empty
    """

    real: FeatureSet
    fake: FeatureSet
    train: FeatureSet | None = None
    held: FeatureSet | None = None
    name: str = "pixels"
    classes: tuple[str, ...] = ()
    knows_classes: bool = False  # the extractor's probabilities are of the data's own classes


class NotApplicable(UserError):
    """The metric needs what these sets have not got."""


def frechet_name(extractor: str) -> str:
    """Only the 2015 Inception's Fréchet distance is called FID, only VGGish's FAD."""
    names = {"inception": "fid", "inception-clean": "clean-fid", "vggish": "fad"}
    return names.get(extractor, f"fd-{extractor}")


# ---- the metrics --------------------------------------------------------------------------------------------------


def fd(s: Sets) -> list[Score]:
    value, stderr = functional.frechet_with_error(s.real.features, s.fake.features)
    least, dims = min(len(s.real), len(s.fake)), s.real.features.shape[1]
    note = f"biased upwards: {least:,} samples for {dims} features" if least < 10 * dims else ""
    return [Score(frechet_name(s.name), value, stderr, LOWER, note=note)]


def fd_infinity(s: Sets) -> list[Score]:
    if len(s.fake) < 500:
        raise NotApplicable(f"fd_inf extrapolates over subsets of at least 500 samples, there are {len(s.fake)}")
    found = functional.frechet_infinity(s.real.features, s.fake.features)
    bias = found.slope / len(s.fake)
    name = f"{frechet_name(s.name)}-inf"
    note = f"what the generated samples' number adds to {frechet_name(s.name)} is about {bias:.3g}"
    return [Score(name, found.value, found.stderr, LOWER, note=note)]


def kid(s: Sets) -> list[Score]:
    size = max(2, min(1000, len(s.real) // 2, len(s.fake) // 2))  # subsets of a whole set would show no spread
    found = functional.kernel_distance(s.real.features, s.fake.features, subset_size=size)
    name = "kid" if s.name == "inception" else f"kd-{s.name}"
    return [Score(name, found.value, found.stderr, LOWER)]


def kad(s: Sets) -> list[Score]:
    found = functional.gaussian_distance(s.real.features, s.fake.features)
    return [Score(f"kad-{s.name}", found.value, found.stderr, LOWER, detail={"bandwidth": found.bandwidth})]


def inception_score(s: Sets) -> list[Score]:
    if s.fake.probabilities is None:
        raise NotApplicable(f"the inception score needs class probabilities, extractor {s.name} gives none")
    splits = min(10, len(s.fake) // 100) or 1
    found = functional.inception_score(s.fake.probabilities, splits=splits)
    name = "is" if s.name.startswith("inception") else f"is-{s.name}"
    stderr = found.std / splits**0.5 if splits > 1 else None
    return [Score(name, found.mean, stderr, HIGHER, detail={"splits": splits, "std": found.std})]


def prdc(s: Sets) -> list[Score]:
    k = 5
    if min(len(s.real), len(s.fake)) <= k:
        raise NotApplicable(f"precision and recall look at {k} neighbours, there are {len(s.real)} and {len(s.fake)}")
    found = functional.prdc(s.real.features, s.fake.features, k=k)
    note = ""
    if len(s.real) != len(s.fake):
        note = f"of {len(s.real):,} real and {len(s.fake):,} generated samples: compare at equal numbers only"
    return [
        Score(name, getattr(found, name), getattr(found, f"{name}_stderr"), HIGHER, note=note)
        for name in ("precision", "recall", "density", "coverage")
    ]


def memorisation(s: Sets) -> list[Score]:
    if s.train is None or s.held is None:
        raise NotApplicable("memorisation needs the training data and held-out data of a run")
    f = s.fake.features
    authentic = functional.authenticity(s.train.features, f)
    ct = functional.data_copying_ct(s.train.features, s.held.features, f)
    copies = functional.copy_share(s.train.features, f, s.held.features)
    expected = 0.01  # by construction, of held-out samples
    flagged = ct.value < -5 or copies.value > expected + max(5 * (copies.stderr or 0), 0.02)
    note = "COPIES: nearer to training samples than held-out real ones are; see nearest.png" if flagged else ""
    return [
        Score("authenticity", authentic.value, authentic.stderr, HIGHER),
        Score("c_t", ct.value, 1.0, "", note="below -5: copying; above 5: too far from the data" if flagged else ""),
        Score("copies", copies.value, copies.stderr, LOWER, note=note, detail={"flagged": flagged}),
    ]


def accuracy(s: Sets) -> list[Score]:
    if s.fake.labels is None or s.fake.probabilities is None or not s.knows_classes:
        raise NotApplicable("class accuracy needs a class-conditional generator and a classifier of its data")
    right = (s.fake.probabilities.argmax(1) == s.fake.labels).double()
    per_class = {_class(s, k): float(right[s.fake.labels == k].mean()) for k in s.fake.labels.unique().tolist()}
    value = float(right.mean())
    stderr = (value * (1 - value) / len(right)) ** 0.5
    return [Score("class_accuracy", value, stderr, HIGHER, note=_worst(per_class, min), detail=per_class)]


def modes(s: Sets) -> list[Score]:
    if s.fake.probabilities is None or s.real.probabilities is None or not s.knows_classes:
        raise NotApplicable("the number of modes is counted by a classifier of the data; extractor=classifier")
    num = s.fake.probabilities.shape[1]
    reference = torch.bincount(s.real.probabilities.argmax(1), minlength=num).double()
    found = functional.modes_covered(s.fake.probabilities, num, reference=reference / reference.sum())
    missing = [_class(s, k) for k in range(num) if k not in found.covered]
    note = f"missing: {', '.join(missing)}" if missing else ""
    return [
        Score("modes", float(found.number), None, HIGHER, note=note, detail={"of": num}),
        Score("modes_kl", found.kl, None, LOWER),
    ]


def classes(s: Sets) -> list[Score]:
    if s.fake.labels is None or s.real.labels is None:
        raise NotApplicable("scores per class need a class-conditional generator and labelled data")
    x, y = s.real.features, s.real.labels

    def distances(fake: FeatureSet) -> dict[int, float]:
        assert fake.labels is not None
        return functional.class_frechet_distances(x, y, fake.features, fake.labels)

    def diversity(fake: FeatureSet) -> functional.Diversity:
        assert fake.labels is not None
        return functional.intra_class_diversity(fake.features, fake.labels, x, y)

    def mean_distance(fake: FeatureSet) -> float:
        return statistics.fmean(distances(fake).values())

    by_class = {_class(s, k): v for k, v in distances(s.fake).items()}
    spread = {_class(s, k): v for k, v in diversity(s.fake).per_class.items()}
    apart = functional.neighbour_distances(s.fake.features, s.fake.labels, x, y)
    nearest = {_class(s, k): v for k, v in apart.per_class.items()}
    error, error_of_spread = jackknife(mean_distance, s.fake), jackknife(lambda fake: diversity(fake).mean, s.fake)
    name = f"{frechet_name(s.name)}-per-class"
    mean = statistics.fmean(by_class.values())
    return [
        Score(name, mean, error, LOWER, note=_worst(by_class, max), detail=by_class),
        Score(
            "diversity",
            statistics.fmean(spread.values()),
            error_of_spread,
            HIGHER,
            note=_worst(spread, min),
            detail=spread,
        ),
        Score("nn_distance", apart.mean, apart.stderr, HIGHER, note=_worst(nearest, min), detail=nearest),
    ]


def vendi(s: Sets) -> list[Score]:
    def score(fake: FeatureSet) -> float:
        return functional.vendi_score(fake.features)

    some = s.fake.some(2000)
    return [Score("vendi", score(some), jackknife(score, some), HIGHER)]


def jackknife(statistic: Callable[[FeatureSet], float], fake: FeatureSet, groups: int = 10) -> float | None:
    """Standard error by leaving out one group of samples at a time (Efron & Stein 1981); None for too few of them."""
    if len(fake) < 20 * groups:
        return None
    keep = torch.ones(groups, len(fake), dtype=torch.bool)
    order = torch.randperm(len(fake), generator=torch.Generator().manual_seed(0))
    for i, part in enumerate(order.tensor_split(groups)):
        keep[i, part] = False
    left = [statistic(fake.rows(rows)) for rows in keep]
    return ((groups - 1) * statistics.pvariance(left)) ** 0.5


METRICS: dict[str, Callable[[Sets], list[Score]]] = {
    "fd": fd,
    "fd_inf": fd_infinity,
    "kid": kid,
    "kad": kad,
    "is": inception_score,
    "prdc": prdc,
    "modes": modes,
    "accuracy": accuracy,
    "classes": classes,
    "vendi": vendi,
    "memorisation": memorisation,
}


def _class(s: Sets, k: int) -> str:
    return s.classes[k] if k < len(s.classes) else str(k)


def _worst(per_class: dict[str, float], worst: Callable[..., str]) -> str:
    name = worst(per_class, key=lambda k: per_class[k])
    return f"worst: {name} {per_class[name]:.3g}"


# ---- all of them --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    """Scores with the protocol they were made by.

    protocol: all that the figures depend on beside the generator; two of one protocol compare
    subject: what was judged, and by which seed
    skipped: metrics that these sets can't have, and why
    """

    scores: list[Score]
    protocol: dict[str, Any]
    subject: dict[str, Any]
    skipped: dict[str, str] = field(default_factory=dict)
    version: str = gan_kit.__version__

    def __getitem__(self, metric: str) -> Score:
        for score in self.scores:
            if score.metric == metric:
                return score
        raise UserError(f"no score {metric!r}; have {', '.join(s.metric for s in self.scores)}")

    @property
    def protocol_sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.protocol, sort_keys=True).encode()).hexdigest()

    def save(self, path: Path) -> None:
        record = asdict(self) | {"protocol_sha256": self.protocol_sha256}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(record, indent=2, ensure_ascii=False, default=float) + "\n")

    @staticmethod
    def load(path: Path) -> Evaluation:
        """Raises UserError where the file holds no evaluation."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            del record["protocol_sha256"]
            return Evaluation(**record | {"scores": [Score(**s) for s in record["scores"]]})
        except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise UserError(f"{path} holds no scores of gan_kit.evaluate ({error!r})") from error


def evaluate(
    sets: Sets,
    metrics: Sequence[str] | None = None,
    real_again: FeatureSet | None = None,
    protocol: dict[str, Any] | None = None,
    subject: dict[str, Any] | None = None,
) -> Evaluation:
    """All metrics, or those named, of `sets`.

    metrics: names from METRICS; None takes each that applies and tells why the others don't
    real_again: real samples that are not in the reference, as many as there are generated ones: scored in their place

    Raises UserError for an unknown metric, one that is named and does not apply, too few samples, or sets of
    different features.
    """
    if unknown := set(metrics or ()) - METRICS.keys():
        raise UserError(f"no metric {sorted(unknown)[0]!r}; have {', '.join(METRICS)}")
    if sets.real.features.shape[1] != sets.fake.features.shape[1]:
        raise UserError("real and generated samples have features of different lengths: use one extractor for both")
    for name, side in (("real", sets.real), ("generated", sets.fake)):
        if len(side) < 2:
            raise UserError(f"{len(side)} {name} samples can't be scored; at least 2, better 10,000")
    scores: list[Score] = []
    skipped: dict[str, str] = {}
    for name in metrics or METRICS:
        try:
            found = METRICS[name](sets)
        except NotApplicable as error:
            if metrics:
                raise
            skipped[name] = str(error)
            continue
        floors = {} if real_again is None else _floors(name, sets, real_again)
        scores += [replace(score, floor=floors.get(score.metric), group=name) for score in found]
    full = {**(protocol or {}), "n_real": len(sets.real), "n_fake": len(sets.fake)}
    return Evaluation(scores, full, subject or {}, skipped)


def _floors(name: str, sets: Sets, floor: FeatureSet) -> dict[str, float]:
    if name == "memorisation" and sets.held is not None:
        # held-out samples in the place of generated ones, beside other held-out samples
        order = torch.randperm(len(sets.held), generator=torch.Generator().manual_seed(0))
        half = len(order) // 2
        swapped = replace(sets, fake=sets.held.rows(order[:half]), held=sets.held.rows(order[half:]))
    else:
        swapped = replace(sets, fake=floor)
    try:
        return {score.metric: score.value for score in METRICS[name](swapped)}
    except UserError:
        return {}
