"""Labels and given splits from folders or a table, and what is wrong with them."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gan_kit.data.prepare.archives import inner_name
from gan_kit.data.prepare.found import FoundFiles
from gan_kit.data.prepare.label_table import Row, plain_path, read_table
from gan_kit.data.prepare.scan import Listing, shown
from gan_kit.data.prepare.types import Found
from gan_kit.types import UserError

__all__ = ["Conflict", "Labels", "class_table", "conflicts", "read_labels"]

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
LISTED = 10  # names in a message; the count is always told


@dataclass
class Labels:
    """What was read for N files.

    class_names: sorted, by number if all are numbers; empty without labels
    labels: (N,) int64 places in class_names, -1 for none
    splits: "train", "val", "test" or None a file; None where nothing gave splits
    unlabelled: (N,) bool, files to leave out because a table does not name them
    notes: what a person should know, in sentences for the report
    """

    class_names: tuple[str, ...]
    labels: np.ndarray
    splits: list[str | None] | None
    unlabelled: np.ndarray
    notes: list[str] = field(default_factory=list)


def read_labels(
    listing: Listing,
    how: str | Path = "auto",
    *,
    split_folders: str = "given",
    unlabelled: str = "error",
    missing: str = "error",
    columns: dict[str, str] | None = None,
) -> Labels:
    """A label for each of listing.files.

    how: "folders", the first level of folders; "none"; "auto", folders if every file lies in one, none if no file does
        (a single folder around everything is looked through); else the path of a table, .csv .tsv .jsonl .json
    split_folders: what train/, val/ and test/ are when they are all there is: "given" splits, train/CLASS/x.jpg;
        "ignore" looks through them, to cut new splits; "class" takes them for classes
    unlabelled: files that a table does not name: "error", "drop", or "keep" without a label
    missing: files that a table names and that are not there: "error" or "skip"
    columns: the table's, where they are not found by name: {"file": ..., "label": ..., "split": ...}

    An archive counts as unpacked where it lies: into a folder of its own name if its files lie flat or it is named as a
    split. Raises UserError for mixed layouts, empty class folders, and tables that do not fit.
    """
    _one_of("split_folders", split_folders, ("given", "ignore", "class"))
    _one_of("unlabelled", unlabelled, ("error", "drop", "keep"))
    _one_of("missing", missing, ("error", "skip"))
    if how == "none":
        return _without(listing)
    if how in ("auto", "folders"):
        return _from_folders(listing, strict=how == "folders", split_folders=split_folders)
    table = Path(how).expanduser()
    if not table.is_file():
        raise UserError(
            f"labels={shown(str(how))} is no file; set labels to auto, folders, none, or a CSV or JSONL file"
        )
    return _from_table(listing, table, read_table(table, columns or {}), unlabelled, missing)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"no {name}={value!r}; have {', '.join(allowed)}")


def _without(listing: Listing, splits: list[str | None] | None = None, notes: Sequence[str] = ()) -> Labels:
    n = len(listing.files)
    return Labels((), np.full(n, -1, np.int64), splits, np.zeros(n, bool), list(notes))


def _labelled(names: Sequence[str | None], splits: list[str | None] | None, notes: list[str], drop: bool) -> Labels:
    present = {name for name in names if name is not None}
    numbers = all(name.isdecimal() and len(name) < 19 for name in present)
    class_names = tuple(sorted(present, key=lambda name: (int(name), name) if numbers else (0, name)))
    index: dict[str | None, int] = {None: -1} | {name: i for i, name in enumerate(class_names)}
    labels = np.array([index[name] for name in names], np.int64)
    return Labels(class_names, labels, splits, (labels < 0) & drop, notes)


# Folders


def _from_folders(listing: Listing, strict: bool, split_folders: str) -> Labels:
    parts, of = _folders(listing.files)
    if not parts:
        return _without(listing)
    empty = [name.split("/") for name in listing.empty]
    notes: list[str] = []
    splits: list[str | None] | None = None
    around: list[str] = []
    if not strict:
        parts = _looked_through(parts, around, empty)
    if around:
        notes.append(f"everything lies in {shown('/'.join(around))}/, which was taken for no class")
    firsts = _first(parts)
    if split_folders != "class" and len(firsts) > 1 and {str(name).lower() for name in firsts} <= SPLIT_NAMES.keys():
        if split_folders == "given":
            given = [SPLIT_NAMES[part[0].lower()] for part in parts]
            splits = [given[k] for k in of]
        told = {"given": "given splits", "ignore": "one set, to be split anew"}[split_folders]
        notes.append(f"{', '.join(sorted(map(str, firsts)))} were taken for {told}, not classes")
        around.append("*")
        parts = _looked_through([part[1:] for part in parts], around, empty)
        firsts = _first(parts)
    where = listing.source.joinpath(*around)
    if firsts == {None}:
        if strict:
            raise UserError(f"{shown(str(where))} holds no folders to be classes; set labels=none")
        return _without(listing, splits, notes)
    if None in firsts:
        flat = next(name for name, k in zip(listing.files.names(), of, strict=True) if len(parts[k]) == 1)
        folder = min(filter(None, firsts))
        raise UserError(
            f"{shown(str(where))} holds files ({shown(flat)}) beside class folders ({shown(folder)}); "
            "move them into a class, or set labels=none to take all without classes"
        )
    depth = len(around)
    hollow = sorted(
        "/".join(name) for name in empty if len(name) == depth + 1 and _within(around, name) and name[-1] not in firsts
    )
    if hollow:
        raise UserError(
            f"{shown(str(listing.source))}: class folder {_few(hollow)} holds no sample; fill or remove it, "
            "or set labels=none"
        )
    names = [part[0] for part in parts]
    return _labelled([names[k] for k in of], splits, notes + _lost(listing, parts, depth), drop=False)


def _folders(files: FoundFiles) -> tuple[list[list[str]], array[int]]:
    """The folders that files lie in, each as the path of a file "" in it, and which of them is each file's"""
    number: dict[str, int] = {}
    of = array("L", (number.setdefault(place.rpartition("/")[0], len(number)) for place in _places(files)))
    return [[*(folder.split("/") if folder else ()), ""] for folder in number], of


def _looked_through(parts: list[list[str]], around: list[str], empty: list[list[str]]) -> list[list[str]]:
    """Paths without the folders that all lie in, which are added to `around`; an empty folder beside one keeps it"""
    while len(firsts := _first(parts)) == 1 and None not in firsts:
        if any(len(name) == len(around) + 1 and _within(around, name) for name in empty):
            break
        around.append(parts[0][0])
        parts = [part[1:] for part in parts]
    return parts


def _within(around: list[str], name: list[str]) -> bool:
    return all(a in ("*", b) for a, b in zip(around, name, strict=False))


def _first(parts: list[list[str]]) -> set[str | None]:
    """The folders on the first level; None for files that lie there themselves"""
    return {part[0] if len(part) > 1 else None for part in parts}


def _lost(listing: Listing, parts: list[list[str]], depth: int) -> list[str]:
    """A note for classes all of whose files were refused: they are no class any more"""
    kept = {part[0] for part in parts}
    refused = Counter(name.split("/")[depth] for name, _ in listing.refused if name.count("/") > depth)
    return [
        f"all {count} files of {shown(name)}/ were refused, so that it is no class"
        for name, count in sorted(refused.items())
        if name not in kept and "!" not in name
    ]


def _places(files: FoundFiles) -> Iterator[str]:
    """Where each file would lie if all archives were unpacked where they are"""
    if not files.any_member():
        yield from files.names()
        return
    archives, flat = set(), set()
    for archive, path in map(_archive, files):
        archives.add(archive)
        if archive is not None and "/" not in path:
            flat.add(archive)
    for archive, path in map(_archive, files):
        if archive is None or len(archives) == 1:  # the source is one archive, or holds nothing else
            yield path
        else:
            yield _unpacked(archive, path, archive in flat)


def _archive(found: Found) -> tuple[str | None, str]:
    """-> the archive that it is in, and its path there"""
    if found.member is None:
        return None, found.name
    inner = inner_name(found.member)
    return found.name.removesuffix(f"!{inner}"), inner


def _unpacked(archive: str, path: str, flat: bool) -> str:
    folder, _, base = archive.rpartition("/")
    stem = base.split(".tar")[0] if ".tar" in base else base.rpartition(".")[0] or base
    own = [stem] if flat or stem.lower() in SPLIT_NAMES else []
    return "/".join([*filter(None, [folder]), *own, path])


# Tables


def _from_table(listing: Listing, table: Path, rows: list[Row], unlabelled: str, missing: str) -> Labels:
    lookup = _Lookup(listing, table)
    of: dict[int, Row] = {}
    absent: list[str] = []
    clashes: list[str] = []
    for row in rows:
        at = lookup.find(row.file)
        if at is None:
            if not lookup.refused(row.file):
                absent.append(row.file)
        elif at in of and (of[at].label, of[at].split) != (row.label, row.split):
            clashes.append(f"{row.file} ({of[at].label}, line {of[at].line}, and {row.label}, line {row.line})")
        else:
            of.setdefault(at, row)
    name = shown(str(table))
    if clashes:
        raise UserError(f"{name} gives {len(clashes)} files two labels: {_few(clashes)}; keep one row a file")
    if not of:
        raise UserError(
            f"none of the {len(rows)} files that {name} names is in {shown(str(listing.source))} "
            f"(it names {_few(absent, 3)}; there are {_few(list(listing.files.names()), 3)}); "
            "names count from the source"
        )
    notes = []
    if absent:
        told = f"{name} names {len(absent)} files that are not there: {_few(absent)}"
        if missing == "error":
            raise UserError(f"{told}; remove the rows, or set missing=skip")
        notes.append(told)
    bare = [name for i, name in enumerate(listing.files.names()) if i not in of or of[i].label is None]
    if bare:
        told = f"{len(bare)} files have no label in {name}: {_few(bare)}"
        if unlabelled == "error":
            raise UserError(f"{told}; add them, or set unlabelled=drop or unlabelled=keep")
        notes.append(f"{told} ({'left out' if unlabelled == 'drop' else 'kept without one'})")
    each = [of.get(i) for i in range(len(listing.files))]
    splits = [SPLIT_NAMES.get(row.split.lower()) if row and row.split else None for row in each]
    if unknown := sorted({row.split for row in of.values() if row.split and row.split.lower() not in SPLIT_NAMES}):
        notes.append(f"the splits {_few(unknown)} of {name} are not known here and were not taken")
    given = splits if any(splits) else None
    return _labelled([row.label if row else None for row in each], given, notes, drop=unlabelled == "drop")


class _Lookup:
    """Finds a listed file by what a table calls it: its path from the source or from the table, or, where only one
    file has it, its bare name, with or without an extension."""

    def __init__(self, listing: Listing, table: Path) -> None:
        self.source, self.beside = os.path.realpath(listing.source), os.path.realpath(table.parent)
        self.paths: dict[str, int] = {}
        self.bare: dict[str, int] = {}  # -1 for a name that several have
        places = _places(listing.files)
        for i, (listed, place) in enumerate(zip(listing.files.names(), places, strict=True)):
            for name in (place, listed):
                self.paths.setdefault(plain_path(name), i)
            base = plain_path(place).rpartition("/")[2]
            for name in {base, os.path.splitext(base)[0]}:
                self.bare[name] = -1 if name in self.bare else i
        self.gone = {plain_path(name) for name, _ in listing.refused}
        self.gone |= {name.rpartition("!")[2] for name in self.gone}
        self.gone |= {name.rpartition("/")[2] for name in self.gone}

    def find(self, name: str) -> int | None:
        for path in self._ways(name):
            if path in self.paths:
                return self.paths[path]
        name = plain_path(name)
        at = -1 if "/" in name else self.bare.get(name, -1)
        return None if at < 0 else at

    def refused(self, name: str) -> bool:
        """Whether it is there, but no sample"""
        return any(path in self.gone for path in self._ways(name))

    def _ways(self, name: str) -> list[str]:
        path = plain_path(name)
        from_table = os.path.relpath(os.path.join(self.beside, path), self.source)
        return [path, plain_path(from_table)]


def _few(names: Sequence[str], listed: int = LISTED) -> str:
    more = f" and {len(names) - listed} more" if len(names) > listed else ""
    return ", ".join(shown(name) for name in names[:listed]) + more


# What is wrong with them


def class_table(
    labels: Labels, rows: np.ndarray | None = None, splits: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Samples a class, in the order of class_names, then those without: {"class", "count", "share", one a split}.

    rows: (M,) the class of each sample, where they are not the files; splits: M names
    """
    y = labels.labels if rows is None else np.asarray(rows)
    split = None if splits is None else np.asarray(splits)
    table = []
    for i, name in [*enumerate(labels.class_names), *([(-1, "")] if (y < 0).any() else [])]:
        count = int((y == i).sum())
        row = {"class": name, "count": count, "share": count / max(len(y), 1)}
        if split is not None:
            row |= {s: int(((y == i) & (split == s)).sum()) for s in ("train", "val", "test")}
        table.append(row)
    return table


@dataclass(frozen=True)
class Conflict:
    """A cluster of alike samples with several labels. rows: its labelled members; labels: theirs, in that order"""

    cluster: int
    rows: tuple[int, ...]
    labels: tuple[int, ...]


def conflicts(clusters: np.ndarray, labels: np.ndarray) -> list[Conflict]:
    """Clusters whose members disagree, by number. clusters, labels: (N,) int64; -1 has no say"""
    clusters, labels = np.asarray(clusters, np.int64), np.asarray(labels, np.int64)
    rows = np.flatnonzero(labels >= 0)
    if not len(rows):
        return []
    rows = rows[np.argsort(clusters[rows], kind="stable")]
    first = np.flatnonzero(np.diff(clusters[rows], prepend=clusters[rows[0]] - 1))
    differ = np.minimum.reduceat(labels[rows], first) < np.maximum.reduceat(labels[rows], first)
    ends = np.append(first[1:], len(rows))
    parts = [rows[start:end] for start, end in zip(first[differ], ends[differ], strict=True)]
    return [Conflict(int(clusters[part[0]]), tuple(part.tolist()), tuple(labels[part].tolist())) for part in parts]
