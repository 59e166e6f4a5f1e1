"""What lies in a folder: every file by its content, archives opened, traps and junk left alone. Nothing is unpacked."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gan_kit.data.prepare import archives
from gan_kit.data.prepare.found import FoundFiles
from gan_kit.data.prepare.kinds import (
    ARCHIVES,
    IMAGES,
    SOUNDS,
    group_of,
    group_of_name,
    junk_of_name,
    kind_of,
    says,
    suffix_of,
)
from gan_kit.data.prepare.reading import head_of
from gan_kit.data.prepare.types import Unusable
from gan_kit.types import UserError

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Listing", "scan", "shown"]


@dataclass
class Listing:
    """What a scan found.

    source: the folder or archive
    files: of the wanted kinds, sorted by name
    refused: (name, reason) of what claims or could have been expected to be a sample and gives none, sorted
    aside: what nobody expects to be a sample, counted by what it is: "system file", ".txt file", "mp4 video" ...
    empty: folders of the first two levels in which no file was found, sorted
    """

    source: Path
    files: FoundFiles
    refused: list[tuple[str, str]]
    aside: Counter[str]
    empty: tuple[str, ...]


def scan(
    source: str | Path,
    kinds: Collection[str] = IMAGES | SOUNDS,
    *,
    leave_out: Collection[str | Path] = (),
    scratch: str | Path | None = None,
    max_members: int = 1_000_000,
    max_unpacked_bytes: int = 1 << 40,
    max_ratio: float = 200.0,
    progress: bool = False,
) -> Listing:
    """All samples under a folder, or in one archive; the same list on every file system.

    Links are followed, each folder is read once. No device or pipe is opened. Bytes read of a file: HEAD_BYTES.

    kinds: a domain's; other pictures and sounds are set aside
    leave_out: folders not to look into, such as the one that is written to
    scratch: where a .tar.gz, .tar.bz2 or .tar.xz is kept unpacked as a .tar, to be read in any order. Without one,
        each read out of order unpacks from the start
    max_members, max_unpacked_bytes: of one archive, beyond which it is refused
    max_ratio: how many times its size a member, or an archive, may unpack to (small ones may always)

    Raises UserError for a source that is not there, cannot be listed, or is no folder and no archive.
    """
    source = Path(source).expanduser()
    for name, value in (("max_members", max_members), ("max_unpacked_bytes", max_unpacked_bytes)):
        if value < 1:
            raise UserError(f"{name}={value}; set {name}=1 or more")
    if not max_ratio > 1:
        raise UserError(f"max_ratio={max_ratio}; set max_ratio above 1, such as 200")
    limits = archives.Limits(max_members, max_unpacked_bytes, max_ratio)
    with _bar(progress) as bar:
        scanner = _Scanner(source, frozenset(kinds), limits, Path(scratch) if scratch else None, bar)
        try:
            mode = source.stat().st_mode
        except OSError as e:
            raise UserError(f"no folder {shown(str(source))} ({e.strerror}); set source to a folder or archive") from e
        if stat.S_ISDIR(mode):
            scanner.walk(leave_out)
        else:
            scanner.file(str(source), source.name)
            if not scanner.opened:
                reason = next((reason for _, reason in scanner.refused), "no archive")
                raise UserError(f"{shown(str(source))} is a file ({reason}); set source to a folder or archive")
    return scanner.listing()


def shown(name: str) -> str:
    """A name as it can be printed anywhere: bytes that are no UTF-8 as \\udc..., no line ends"""
    name = name.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


class _Scanner:
    def __init__(
        self, source: Path, kinds: frozenset[str], limits: archives.Limits, scratch: Path | None, bar: tqdm
    ) -> None:
        self.source, self.kinds, self.limits, self.scratch, self.bar = source, kinds, limits, scratch, bar
        self.groups = {group_of(kind) for kind in kinds}
        self.files = FoundFiles(source)
        self.refused: list[tuple[str, str]] = []
        self.aside: Counter[str] = Counter()
        self.folders: set[str] = set()  # of the first two levels
        self.opened = 0  # archives

    def listing(self) -> Listing:
        filled = {"/".join(name.split("/")[:depth]) for name, _ in self.refused for depth in (1, 2)}
        for name in self.files.names():
            first, *more = name.split("/", 2)
            if more:
                filled.add(first)
            if len(more) == 2:
                filled.add(f"{first}/{more[0]}")
        self.files.sort()
        empty = tuple(sorted(self.folders - filled))
        return Listing(self.source, self.files, sorted(self.refused), self.aside, empty)

    # Folders

    def walk(self, leave_out: Collection[str | Path]) -> None:
        """Real folders first, so that what is reached by a link as well keeps its own name."""
        root = os.stat(self.source)
        seen = {(root.st_dev, root.st_ino)}
        barred = {os.path.realpath(folder) for folder in leave_out}
        folders, links = [""], list[str]()
        while folders or links:
            if not folders:
                links.sort(reverse=True)
                name = links.pop()
                if self._circles(name):
                    self.aside["link back to a folder above it"] += 1
                    continue
            else:
                name = folders.pop()
            path = os.path.join(self.source, name)
            if barred and os.path.realpath(path) in barred:
                self.aside["folder left out"] += 1
                continue
            if name:
                try:
                    status = os.stat(path)
                except OSError as e:
                    self.refused.append((name, _cannot("be opened", e)))
                    continue
                identity = status.st_dev, status.st_ino
                if identity in seen:
                    self.aside["folder read under another name"] += 1
                    continue
                seen.add(identity)
                if name.count("/") < 2:
                    self.folders.add(name)
            inner, linked = self._folder(path, name)
            folders += sorted(inner, reverse=True)
            links += linked

    def _folder(self, path: str, name: str) -> tuple[list[str], list[str]]:
        """Take a folder's files; -> its folders, and its links to folders"""
        inner: list[str] = []
        linked: list[str] = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    within = f"{name}/{entry.name}" if name else entry.name
                    if _is_folder(entry):
                        if junk := junk_of_name(entry.name, folder=True):
                            self.aside[junk] += 1
                        else:
                            (linked if entry.is_symlink() else inner).append(within)
                    else:
                        self.file(entry.path, within)
        except OSError as e:
            reason = _cannot("be listed", e)
            if not name:
                raise UserError(f"{shown(path)} {reason}; let this user read it") from e
            self.refused.append((name, reason))
        return inner, linked

    def _circles(self, name: str) -> bool:
        path = os.path.join(self.source, name)
        target, above = os.path.realpath(path), os.path.realpath(os.path.dirname(path))
        return above == target or above.startswith(target.rstrip("/") + "/")

    # Files

    def file(self, path: str, name: str) -> None:
        self.bar.update()
        base = name.rpartition("/")[2]
        if junk := junk_of_name(base):
            self.aside[junk] += 1
            return
        try:
            head, status = head_of(path)
        except Unusable as e:
            self.refused.append((name, str(e)))
            return
        except OSError as e:
            if suffix_of(name) and not self._wanted_name(name) and e.errno == errno.EACCES:
                self.aside[f"{suffix_of(name)} file"] += 1
            else:
                self.refused.append((name, _cannot("be read", e)))
            return
        kind = kind_of(head, name)
        if kind in ARCHIVES and not group_of_name(name):
            self.opened += 1
            self._archive(Path(path), name, kind)
        elif self._sorted_out(name, kind):
            self.files.add(name, kind, status.st_size, status.st_mtime_ns)

    def _archive(self, path: Path, name: str, kind: str) -> None:
        def report(member: str, reason: str) -> None:
            self.refused.append((f"{name}!{archives.inner_name(member)}" if member else name, reason))

        place = path
        if kind != "zip" and kind != "tar" and self.scratch:
            unpacked = archives.unpacked_tar(path, kind, self.scratch, self.limits, report)
            if unpacked is None:
                return
            place, kind = unpacked, "tar"
        for member in archives.members(place, kind, self.limits, report, self.aside):
            self.bar.update()
            within = f"{name}!{archives.inner_name(member.name)}"
            if member.kind in ARCHIVES and not group_of_name(within):
                self.refused.append((within, "an archive inside an archive; unpack the outer one"))
            elif self._sorted_out(within, member.kind):
                self.files.add_member(within, member.kind, member.size, member.mtime_ns, place, member.name)

    def _sorted_out(self, name: str, kind: str) -> bool:
        """Whether it is a sample; else it is refused or set aside"""
        if kind in self.kinds:
            return True
        group, suffix = group_of(kind), suffix_of(name)
        if group in self.groups:
            self.refused.append((name, f"{says(kind)}, which is not decoded here"))
        elif self._wanted_name(name):
            what = "its first bytes are of no known kind" if kind == "" else f"{says(kind)} named {suffix}"
            self.refused.append((name, says(kind) if kind == "empty" else what))
        elif group == "archive":
            self.refused.append((name, f"{says(kind)}, which is not opened here; unpack it"))
        elif group:
            self.aside[f"{kind} {({'image': 'picture', 'audio': 'sound'}).get(group, group)}"] += 1
        else:
            self.aside[f"{suffix} file" if suffix else "file without an extension"] += 1
        return False

    def _wanted_name(self, name: str) -> bool:
        return group_of_name(name) in self.groups


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _cannot(what: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "a link to nothing, or gone since the folder was listed"
    if error.errno == errno.ELOOP:
        return "a link that leads in a circle"
    return f"cannot {what} ({error.strerror or error})"


def _bar(progress: bool) -> tqdm:
    from tqdm import tqdm

    return tqdm(desc="scanning", unit="file", disable=None if progress else True)
