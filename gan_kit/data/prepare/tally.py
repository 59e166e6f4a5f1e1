"""What a manifest says, in two passes over its rows: counts, histograms and examples, whatever the number of rows.

Memory is constant but for 12 bytes a sample, and some 70 for a moment, which tell the clusters apart.
"""

from __future__ import annotations

import json
import math
import random
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

__all__ = ["Clusters", "Grouped", "Histogram", "Reservoir", "Tally", "read_rows"]

T = TypeVar("T")
Row = dict[str, Any]

BINS = 64
MOST_KEYS = 1000  # distinct words counted one by one
SHOWN_CLASSES = 20  # classes with examples of their own
STATUSES = ("kept", "duplicate", "dropped", "broken", "refused")
NUMBER = re.compile(r"(\d+(?:\.\d+)?)")


def read_rows(path: Path) -> Iterator[Row]:
    """The objects of a JSONL file; none where there is no file."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


class Reservoir(Generic[T]):
    """`size` of the items added, each as likely as the others (Vitter 1985, algorithm R), in the order they came."""

    def __init__(self, size: int, seed: str):
        self.size, self.seen = size, 0
        self._rng = random.Random(seed.encode("utf-8", "backslashreplace"))  # names need not be UTF-8
        self._kept: list[tuple[int, T]] = []

    def add(self, item: T) -> None:
        self.seen += 1
        if len(self._kept) < self.size:
            self._kept.append((self.seen, item))
        elif (place := self._rng.randrange(self.seen)) < self.size:
            self._kept[place] = (self.seen, item)

    @property
    def items(self) -> list[T]:
        return [item for _, item in sorted(self._kept, key=lambda kept: kept[0])]


class Histogram:
    """Counts of numbers in at most BINS bins whose width, a power of two, doubles when the range outgrows them.

    All counts are exact, in constant memory, and no range has to be known before. `logs` bins log2 of the numbers.
    """

    def __init__(self, logs: bool = False):
        self.logs, self.count, self.total = logs, 0, 0.0
        self.least, self.most = math.inf, -math.inf
        self.width = 2.0**-30
        self.bins: Counter[int] = Counter()
        self._waiting: list[float] = []

    def add(self, value: float) -> None:
        self._waiting.append(value)
        if len(self._waiting) == 4096:
            self.flush()

    def flush(self) -> None:
        if not self._waiting:
            return
        values = np.array(self._waiting, np.float64)
        self._waiting = []
        self.count += len(values)
        self.total += math.fsum(values)
        self.least, self.most = min(self.least, float(values.min())), max(self.most, float(values.max()))
        if self.logs:
            values = np.log2(values)
        low, high = (math.log2(v) if self.logs else v for v in (self.least, self.most))
        while math.floor(high / self.width) - math.floor(low / self.width) >= BINS:
            self.width *= 2
            self.bins = _halved(self.bins)
        places, counts = np.unique(np.floor(values / self.width), return_counts=True)
        self.bins.update(dict(zip(map(int, places), map(int, counts), strict=True)))

    def bars(self, most: int = 32) -> tuple[list[float], list[int]]:
        """-> K + 1 edges, K counts, K <= most; most >= 2: no bin holds both -1 and 0, however wide"""
        self.flush()
        bins, width = self.bins, self.width
        while bins and max(bins) - min(bins) >= most:
            bins, width = _halved(bins), width * 2
        places = range(min(bins), max(bins) + 1) if bins else range(0)
        edges = [place * width for place in range(places.start, places.stop + 1)]
        return [2**e for e in edges] if self.logs else edges, [bins[place] for place in places]


def _halved(bins: Counter[int]) -> Counter[int]:
    out: Counter[int] = Counter()
    for place, count in bins.items():
        out[place // 2] += count  # rounds down, so bins below zero stay aligned too
    return out


class Fact:
    """One fact of all kept samples: numbers as two histograms, all else as words."""

    def __init__(self) -> None:
        self.plain, self.logs = Histogram(), Histogram(logs=True)
        self.words: Counter[str] = Counter()

    def add(self, value: Any) -> None:
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:  # not for NaN
            self.plain.add(float(value))
            if value > 0:
                self.logs.add(float(value))
        else:
            word = str(value)
            self.words[word if word in self.words or len(self.words) < MOST_KEYS else "others"] += 1

    def histogram(self) -> Histogram:
        """Of the logarithms where all numbers are positive and most would share one bin otherwise."""
        self.plain.flush()
        self.logs.flush()
        _, counts = self.plain.bars()
        crowded = bool(counts) and max(counts) > 0.8 * sum(counts) and self.plain.most > 8 * self.plain.least
        return self.logs if crowded and self.logs.count == self.plain.count else self.plain


class Grouped:
    """Reasons counted as one where they differ in numbers only; these are left out: "…x… is under min_size=64"."""

    def __init__(self, examples: int, seed: str):
        self.examples, self.seed = examples, seed
        self.counts: Counter[str] = Counter()
        self._words: dict[str, list[str]] = {}
        self._rows: dict[str, Reservoir[Row]] = {}

    def add(self, reason: str, row: Row | None = None, times: int = 1) -> None:
        words = NUMBER.split(reason)
        key = "…".join(words[::2])
        if key not in self._words and len(self._words) >= MOST_KEYS:
            key, words = "other reasons", ["other reasons"]
        told = self._words.setdefault(key, words)
        if len(told) == len(words):
            self._words[key] = [a if a == b else "…" for a, b in zip(told, words, strict=True)]
        self.counts[key] += times
        if row is not None:
            self._rows.setdefault(key, Reservoir(self.examples, f"{self.seed} {key}")).add(row)

    def most_common(self) -> list[tuple[str, int, list[Row]]]:
        """(reason, count, examples), the frequent first"""
        ordered = sorted(self.counts.items(), key=lambda kv: (-kv[1], kv[0]))
        return [("".join(self._words[k]), n, self._rows[k].items if k in self._rows else []) for k, n in ordered]


class Clusters:
    """Clusters of alike samples: their sizes, and which hold several labels."""

    def __init__(self, cluster: Iterable[int], label: Iterable[int]):
        ids, member, self.sizes = np.unique(np.asarray(cluster), return_inverse=True, return_counts=True)
        labels = np.asarray(label, np.int64)
        low = np.full(len(ids), np.iinfo(np.int64).max)
        high = np.full(len(ids), -1)
        np.minimum.at(low, member[labels >= 0], labels[labels >= 0])
        np.maximum.at(high, member[labels >= 0], labels[labels >= 0])
        self.ids = ids
        self.several = np.flatnonzero(self.sizes > 1)
        self.conflicts = np.flatnonzero(low < high)

    def examples(self, which: np.ndarray, largest: int, others: int, seed: int) -> list[int]:
        """Cluster numbers: the largest of these, then some of the others by chance."""
        ordered = which[np.lexsort((self.ids[which], -self.sizes[which]))]
        rest = np.sort(ordered[largest:])
        rest = np.random.default_rng(seed).choice(rest, min(others, len(rest)), replace=False)
        return [int(i) for i in self.ids[np.concatenate([ordered[:largest], np.sort(rest)])]]


class Tally:
    """Everything that the report tells of the manifest's rows; `add` takes them in order."""

    def __init__(self, num_classes: int, seed: int = 0):
        self.seed = seed
        self.files = self.samples = 0
        self.status: Counter[str] = Counter()
        self.kinds_of_duplicate: Counter[str] = Counter()
        self.reasons = {status: Grouped(5, f"{seed} {status}") for status in ("broken", "refused", "dropped")}
        self.actions = Grouped(0, "")
        self.flags: dict[str, Reservoir[Row]] = {}
        self.flagged_kept: Counter[str] = Counter()
        self.balance: Counter[tuple[str, int]] = Counter()  # (split, label)
        self.facts: dict[str, Fact] = {}
        self.dropped: Reservoir[Row] = Reservoir(24, f"{seed} dropped")
        shown = range(min(num_classes, SHOWN_CLASSES))
        self.kept: dict[int, Reservoir[Row]] = {i: Reservoir(8, f"{seed} class {i}") for i in shown}
        if not self.kept:
            self.kept[-1] = Reservoir(64, f"{seed} kept")
        self._cluster, self._label = array("q"), array("i")
        self._last: str | None = None

    def add(self, row: Row) -> None:
        status = row["status"]
        self.status[status] += 1
        if row["name"] != self._last:  # parts of one file follow one another
            self.files += 1
            self._last = row["name"]
        slim = {k: row.get(k) for k in ("name", "part", "reason", "label", "flags")}
        if status in ("broken", "refused"):
            self.reasons[status].add(row.get("reason") or "no reason told", slim)
            return
        self.samples += 1
        label = row.get("label")
        label = -1 if label is None else label
        if row.get("cluster") is not None:
            self._cluster.append(row["cluster"])
            self._label.append(label)
        for action in row.get("actions", ()):
            self.actions.add(action)
        for flag in row.get("flags", ()):
            self.flags.setdefault(flag, Reservoir(12, f"{self.seed} {flag}")).add(slim)
            self.flagged_kept[flag] += status == "kept"
        if status == "duplicate":
            self.kinds_of_duplicate[row.get("reason") or "near"] += 1
        elif status == "dropped":
            self.reasons["dropped"].add(row.get("reason") or "without a label", slim)
            self.dropped.add(slim)
        elif status == "kept":
            self.balance[row.get("split") or "train", label] += 1
            if (examples := self.kept.get(label if -1 not in self.kept else -1)) is not None:
                examples.add(slim)
            for name, value in row.get("facts", {}).items():
                if (fact := self.facts.get(name)) is None:  # not setdefault, which would make a new one each time
                    fact = self.facts[name] = Fact()
                fact.add(value)

    def examples(self) -> Iterator[Row]:
        """Samples that are shown, whole clusters aside."""
        for reservoir in (*self.kept.values(), *self.flags.values(), self.dropped):
            yield from reservoir.items

    def clusters(self) -> Clusters:
        return Clusters(self._cluster, self._label)
