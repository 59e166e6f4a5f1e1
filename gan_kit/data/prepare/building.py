"""The steps of preparing, each with what the next one needs: decode, decide, pack, report, publish."""

from __future__ import annotations

import bisect
import functools
import hashlib
import json
import os
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from gan_kit.data.packed import FORMAT, INDEX
from gan_kit.data.prepare import labels as labelling
from gan_kit.data.prepare import segments
from gan_kit.data.prepare.decoding import decode_all
from gan_kit.data.prepare.hamming import clusters, near_pairs
from gan_kit.data.prepare.pack import ShardWriter
from gan_kit.data.prepare.scan import Listing, shown
from gan_kit.data.prepare.segments import Limits, Segment
from gan_kit.data.prepare.splits import SPLITS, assign_splits, leaks
from gan_kit.data.prepare.types import Domain
from gan_kit.files import sha256_of, write_whole
from gan_kit.types import UserError

__all__ = ["Build", "Prepared", "Settings"]


@dataclass(frozen=True)
class Settings:
    """What is done with decoded samples.

    labels: "auto", "folders", "none", or a CSV or JSONL file
    val_fraction, test_fraction: shares of the clusters of alike samples held out
    duplicates: "drop" keeps the best of each cluster, "keep" keeps all of it, in one split
    drop: samples with any of these flags are left out, e.g. ("blank", "blurred")
    seed: which clusters are held out
    shard_bytes: the largest file written
    """

    labels: str = "auto"
    val_fraction: float = 0.05
    test_fraction: float = 0.05
    duplicates: str = "drop"
    drop: tuple[str, ...] = ()
    seed: int = 0
    shard_bytes: int = 2**28

    def __post_init__(self) -> None:
        for name in ("val_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}; set it from 0 to below 1")
        if self.val_fraction + self.test_fraction >= 1:
            raise UserError(
                f"val_fraction={self.val_fraction} and test_fraction={self.test_fraction} leave nothing to train on"
            )
        if self.duplicates not in ("drop", "keep"):
            raise UserError(f"no duplicates={self.duplicates!r}; have drop, keep")
        if self.shard_bytes < 1:
            raise UserError(f"shard_bytes={self.shard_bytes}; set it to 1 or more, such as 268435456")


@dataclass
class Prepared:
    """What came of it.

    counts: rows a split; outcomes: files and samples by what became of them; broken: (name, reason)
    files: the report's; notes: what a person should know; already: it was there, and nothing was done
    """

    out: Path
    counts: dict[str, int]
    outcomes: Counter[str]
    broken: list[tuple[str, str]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    already: bool = False


class Build:
    """One data set on its way, in a work folder of its own."""

    def __init__(
        self,
        work: Path,
        listing: Listing,
        domain: Domain,
        settings: Settings,
        limits: Limits,
        workers: int,
        progress: bool,
        keep_x: bool,
    ):
        self.work, self.listing, self.domain, self.settings, self.limits = work, listing, domain, settings, limits
        self.workers, self.progress, self.keep_x = workers, progress, keep_x
        self.labels = labelling.read_labels(listing, settings.labels)

    def decode(self) -> None:
        folder = self.work / "segments"
        self.decoded = decode_all(
            self.listing.files, self.domain, self.limits, folder, self.workers, self.keep_x, self.progress
        )

    def segments(self, with_samples: bool) -> Iterator[tuple[int, Segment]]:
        """(number of its first file, segment) in the listing's order."""
        for start, path in self.decoded:
            segment = segments.load(path, with_samples)
            if segment is None:
                path.unlink(missing_ok=True)
                raise UserError(f"{path} is damaged; run the same command again: it is made anew")
            yield start, segment

    # ---- decide -----------------------------------------------------------------------------------------------

    def decide(self) -> None:
        """For each sample, in order: its cluster, whether it stays, its split and its label."""
        signatures, digest, quality, flagged = self.gather()
        n = len(self.file_of)
        self.near = self.domain.near(signatures, self.progress, self.workers)
        equal = near_pairs(np.ascontiguousarray(digest).view(np.uint64), radius=0)
        elsewhere = np.diff(self.file_of[self.near.same], axis=1)[:, 0] != 0
        # clips of one recording and frames of one animation may be as alike as they are
        same = np.concatenate([equal, self.near.same[elsewhere]])
        self.exact = clusters(n, equal)
        self.cluster = clusters(n, same)
        self.dropped = flagged | self.labels.unlabelled[self.file_of]
        self.representative = _best(self.cluster, quality, self.dropped)
        given = None if self.labels.splits is None else [self.labels.splits[i] for i in self.file_of]
        rows = np.flatnonzero(np.diff(self.file_of) == 0)
        joined = [same, np.stack([rows, rows + 1], 1)]  # what is of one file stays in one split
        if given is None:  # a doubt is no reason to move what somebody has put into a split
            # what has no content is alike to all others: only that may be parted
            alike = np.array([r != "flat" for r in self.near.reasons], bool)
            joined.append(self.near.doubtful[alike])
        together = clusters(n, np.concatenate(joined))
        duplicate = self.representative != np.arange(n)
        self.kept = ~self.dropped & ~(duplicate if self.settings.duplicates == "drop" else np.zeros(n, bool))
        self.duplicate = duplicate & ~self.dropped
        self.label = self.labels.labels[self.file_of]
        names = assign_splits(
            together,
            digest.view("V16")[:, 0],
            self.label,
            {"val": self.settings.val_fraction, "test": self.settings.test_fraction},
            self.settings.seed,
            given,
        )
        self.split = np.array([SPLITS.index(name) for name in names.tolist()], np.int8)

    def gather(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What segments say of all samples: signatures (mapped), digests, quality, and whether a flag drops it."""
        files, flagged = array("q"), bytearray()
        self.parts: dict[int, str] = {}  # of those that are not a whole file
        self.broken: list[tuple[str, str]] = []
        digests, quality = [], []
        signatures = _SignatureFile(self.work)
        for at, segment in self.segments(with_samples=False):
            digests.append(segment.digests)
            quality.append(segment.quality)
            if segment.signatures is not None:
                signatures.extend(segment.signatures)
            for row in segment.rows:
                while self.listing.files.name(at) != row["name"]:
                    at += 1
                if "at" not in row:
                    self.broken.append((row["name"], row["reason"]))
                    continue
                if row["part"]:
                    self.parts[len(files)] = row["part"]
                files.append(at)
                flagged.append(bool(set(row["flags"]) & set(self.settings.drop)))
        if not files:
            listed = "; ".join(f"{shown(name)}: {reason}" for name, reason in self.broken[:5])
            raise UserError(f"none of {len(self.listing.files)} files in {self.listing.source} can be used: {listed}")
        self.file_of = np.frombuffer(files, np.int64)
        self.row = np.full(len(files), -1, np.int64)
        return signatures.mapped(), np.concatenate(digests), np.concatenate(quality), np.frombuffer(flagged, bool)

    # ---- pack -------------------------------------------------------------------------------------------------

    def pack(self, plan: dict[str, Any]) -> None:
        """Write shards, labels, manifest and index beside the data set, then move them into it, the index last."""
        staging = self.work / "out"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        shape, dtype = next((g.x.shape[1:], g.x.dtype) for _, g in self.segments(True) if g.x is not None)
        writers = {s: ShardWriter(staging, s, shape, dtype, self.settings.shard_bytes) for s in SPLITS}
        with (staging / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
            n = 0
            for _, segment in self.segments(with_samples=True):
                count = len(segment.quality)
                if segment.x is not None:
                    if (segment.x.shape[1:], segment.x.dtype) != (shape, dtype):
                        raise UserError(
                            f"samples of shape {segment.x.shape[1:]} and {shape}: the domain must give all one shape"
                        )
                    for i, split in enumerate(SPLITS):
                        here = self.kept[n : n + count] & (self.split[n : n + count] == i)
                        first = writers[split].count
                        writers[split].write(segment.x[here])
                        self.row[n : n + count][here] = np.arange(first, writers[split].count)
                for row in segment.rows:
                    _line(manifest, self._told(row, n))
                n += count
            for name, reason in self.listing.refused:
                _line(manifest, {"name": name, "part": "", "status": "refused", "reason": reason})
        shards = {split: writer.close() for split, writer in writers.items()}
        with (staging / "review.jsonl").open("w", encoding="utf-8") as review:
            for (a, b), reason in zip(self.near.doubtful, self.near.reasons, strict=True):
                (x, part), (y, other) = self.name(a), self.name(b)
                _line(review, {"a": x, "a_part": part, "b": y, "b_part": other, "reason": reason})
        for i, split in enumerate(SPLITS):
            if self.labels.class_names:
                np.save(staging / f"{split}-labels.npy", self.label[self.kept & (self.split == i)])
        self.counts = {split: writer.count for split, writer in writers.items()}
        others = sorted(p.name for p in staging.iterdir() if p.suffix == ".jsonl" or p.name.endswith("-labels.npy"))
        index = {
            "format": FORMAT,
            "domain": self.domain.name,
            "shape": list(shape),
            "dtype": str(np.dtype(dtype)),
            "spec": self.domain.spec,
            "class_names": list(self.labels.class_names),
            "counts": self.counts,
            "shards": shards,
            "files": [{"file": name, "sha256": sha256_of(staging / name)} for name in others],
            "outcomes": dict(self.outcomes()),
            "notes": self.notes(),
            "set_aside": dict(sorted(self.listing.aside.items())),
            **plan,
        }
        told = json.dumps([shards, index["class_names"], shape, [f for f in index["files"] if "labels" in f["file"]]])
        index["sha256"] = hashlib.sha256(told.encode()).hexdigest()
        write_whole(staging / INDEX, json.dumps(index, indent=1) + "\n")

    def _told(self, row: dict[str, Any], n: int) -> dict[str, Any]:
        """A manifest's row: what decoding said, and what was decided; n: the number of the segment's first sample"""
        if "at" not in row:
            return row
        i = n + row.pop("at")
        best = self.representative[i]
        status, reason, of = "kept", "", ""
        if self.dropped[i]:
            status, reason = "dropped", ", ".join(f for f in row["flags"] if f in self.settings.drop)
        elif self.duplicate[i]:
            reason = "exact" if self.exact[i] == self.exact[best] else "near"
            of = " ".join(filter(None, self.name(best)))
            status = "kept" if self.kept[i] else "duplicate"
        label = int(self.label[i])
        return {
            **row,
            "status": status,
            "reason": reason,
            "duplicate_of": of,
            "cluster": int(self.cluster[i]),
            "label": label if label >= 0 else None,
            "split": SPLITS[self.split[i]] if self.kept[i] else None,
            "row": int(self.row[i]) if self.kept[i] else None,
        }

    def name(self, i: int) -> tuple[str, str]:
        """(name, part) of sample i"""
        return self.listing.files.name(self.file_of[i]), self.parts.get(i, "")

    # ---- report -----------------------------------------------------------------------------------------------

    def report(self) -> list[Path]:
        """Data card, report and their pictures, beside the shards."""
        from gan_kit.data.prepare.report import write_report

        return write_report(self.work / "out", self.thumbnail, seed=self.settings.seed)

    def thumbnail(self, name: str, part: str) -> bytes | None:
        """A picture of one sample, kept or not, as PNG; None for what could not be decoded."""
        at = self.listing.files.find(name)
        if at is None:
            return None
        which = bisect.bisect_right(self.decoded, at, key=lambda d: d[0]) - 1
        segment = self.loaded(self.decoded[which][1])
        for row in segment.rows if segment and segment.x is not None else ():
            if row["name"] == name and row["part"] == part and "at" in row:
                assert segment is not None
                assert segment.x is not None
                return self.domain.sheet([segment.x[row["at"]]], 1)
        return None

    @functools.cached_property
    def loaded(self) -> Callable[[Path], Segment | None]:
        return functools.lru_cache(maxsize=8)(segments.load)

    def publish(self, out: Path) -> None:
        """Move what is finished into the data set's folder; the index goes last: without it there is no data set."""
        staging = self.work / "out"
        (out / INDEX).unlink(missing_ok=True)
        new = sorted(p.name for p in staging.iterdir())
        for old in out.glob("*.npy"):
            if old.name not in new:
                old.unlink()
        for name in sorted(new, key=lambda n: (n == INDEX, n)):
            os.replace(staging / name, out / name)

    def notes(self) -> list[str]:
        """What a person should know, in sentences."""
        told = list(self.labels.notes)
        if found := labelling.conflicts(self.cluster, self.label):
            told.append(f"{len(found):,} clusters of alike samples have several labels: see report.html")
        if self.labels.splits is not None and (
            crossing := leaks(self.cluster, [self.labels.splits[i] for i in self.file_of])
        ):
            told.append(
                f"{len(crossing):,} clusters of alike samples lay in several of the given splits; each went to one, "
                "test before val before train"
            )
        return told

    def outcomes(self) -> Counter[str]:
        return Counter(
            {
                "kept": int(self.kept.sum()),
                "duplicate": int((self.duplicate & ~self.kept).sum()),
                "dropped": int(self.dropped.sum()),
                "doubtful pairs": len(self.near.doubtful),
                "broken": len(self.broken),
                "refused": len(self.listing.refused),
                "set aside": sum(self.listing.aside.values()),
            }
        )

    def outcome(self, out: Path) -> Prepared:
        counts = {split: int((self.kept & (self.split == i)).sum()) for i, split in enumerate(SPLITS)}
        return Prepared(out, counts, self.outcomes(), [*self.broken, *self.listing.refused], notes=self.notes())


class _SignatureFile:
    """Signatures of all samples in one .npy, streamed to the disk and mapped from there."""

    def __init__(self, path: Path):
        self.path = path
        self.writer: ShardWriter | None = None

    def extend(self, rows: np.ndarray) -> None:
        if self.writer is None:
            self.writer = ShardWriter(self.path, "signatures", rows.shape[1:], rows.dtype, 2**62)
        self.writer.write(rows)

    def mapped(self) -> np.ndarray:
        if self.writer is None:
            return np.zeros((0, 1), np.uint8)
        (shard,) = self.writer.close()
        return np.load(self.path / shard["file"], mmap_mode="r")


def _best(cluster: np.ndarray, quality: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """(N,) the sample that stands for each one's cluster: the best that is not dropped, the first of equals"""
    order = np.lexsort((np.arange(len(cluster)), -quality, dropped, cluster))
    first = np.ones(len(order), bool)
    first[1:] = cluster[order[1:]] != cluster[order[:-1]]
    best = np.empty(len(cluster), np.int64)
    best[cluster[order[first]]] = order[first]
    return best[cluster]


def _line(file: IO[str], row: dict[str, Any]) -> None:
    file.write(json.dumps(row, sort_keys=True) + "\n")  # ASCII: names that are no UTF-8 go through as \\udc..
