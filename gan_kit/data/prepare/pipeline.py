"""From a folder to a prepared data set: scan, decode in parallel, find duplicates, label, split, pack, report."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from gan_kit.data.packed import INDEX, read_index
from gan_kit.data.prepare.building import Build, Prepared, Settings
from gan_kit.data.prepare.decoding import load_decoders
from gan_kit.data.prepare.scan import Listing, scan, shown
from gan_kit.data.prepare.segments import Limits
from gan_kit.data.prepare.types import Domain
from gan_kit.types import UserError

__all__ = ["Prepared", "Settings", "prepare"]

WORK = ".preparing"  # inside the data set's folder, until it is finished
OURS = {WORK, ".DS_Store"}


def prepare(
    source: Path | str,
    out: Path | str,
    domain: Domain,
    settings: Settings | None = None,
    limits: Limits | None = None,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    report: bool = True,
    progress: bool = True,
    elsewhere: str = "set out= to another folder",
) -> Prepared:
    """Make the data set `out` of everything under `source`. Run again after a stop, it goes on where it was.

    workers: processes that decode, else one a core
    overwrite: an `out` made of other files or with other settings is replaced, once the new one is whole
    dry_run: decode and decide, write nothing into `out`
    elsewhere: what a message says where `out` can't be written

    Raises UserError for a source without samples, settings that do not fit, an `out` that holds something else, and a
    disk that is full (what was done is kept).
    """
    settings, limits = settings or Settings(), limits or Limits()
    source, out = Path(source).expanduser(), Path(out).expanduser()
    workers = workers or os.cpu_count() or 1
    _check_places(source, out)
    if unknown := sorted(set(settings.drop) - domain.flags):
        raise UserError(f"no flag {unknown[0]!r} to drop; {domain.name} has {', '.join(sorted(domain.flags))}")
    with _disk_errors(out, elsewhere), _work_folder(out / WORK, dry_run) as work:
        if not (out / INDEX).exists():
            load_decoders(domain)
        scratch = work / "unpacked"
        listing = scan(source, domain.kinds, leave_out=[out], scratch=scratch, progress=progress)
        if not listing.files:
            raise UserError(_nothing(listing, domain))
        plan = _plan(listing, domain, settings, limits)
        if not dry_run and (done := _finished(out, plan, overwrite)):
            return done
        build = Build(work, listing, domain, settings, limits, workers, progress, keep_x=not dry_run)
        build.decode()
        build.decide()
        done = build.outcome(out)
        if not dry_run:
            build.pack(plan)
            if report:
                done.files = [out / path.name for path in build.report()]
            build.publish(out)
        return done


def _check_places(source: Path, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; set out= to a folder")
    if out.resolve() == source.resolve():
        raise UserError(f"source and out are both {out}: what is there stays as it is; set out= to another folder")
    begun = any((out / name).exists() for name in (INDEX, WORK))
    strangers = sorted(p.name for p in out.iterdir() if p.name not in OURS) if out.is_dir() and not begun else []
    if strangers:
        raise UserError(f"{out} holds other things ({strangers[0]}); set out= to a folder that is new or empty")


def _plan(listing: Listing, domain: Domain, settings: Settings, limits: Limits) -> dict[str, Any]:
    """What decides the data set's bytes, and its hash"""
    from gan_kit import __version__

    told = {"domain": repr(domain), "domain_version": domain.version, **asdict(settings), **asdict(limits)}
    told["drop"] = list(settings.drop)
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for f in listing.files:
        digest.update(f"{f.name}\0{f.size}\0{f.mtime_ns}\0{f.kind}\n".encode("utf-8", "surrogateescape"))
    for name, reason in listing.refused:
        digest.update(f"{name}\0{reason}\n".encode("utf-8", "surrogateescape"))
    return {
        "settings": told,
        "source": os.fspath(listing.source),
        "plan_sha256": digest.hexdigest(),
        "created_by": f"gan_kit {__version__}",
    }


def _finished(out: Path, plan: dict[str, Any], overwrite: bool) -> Prepared | None:
    """The data set that is there already, if it is this one."""
    if not (out / INDEX).exists():
        return None
    index = read_index(out)
    if index["plan_sha256"] == plan["plan_sha256"]:
        outcomes = Counter(index["outcomes"])
        broken = _broken(out) if outcomes["broken"] or outcomes["refused"] else []
        return Prepared(out, index["counts"], outcomes, broken, notes=index["notes"], already=True)
    if overwrite:
        return None
    old, new = index["settings"], plan["settings"]
    changed = [
        f"{k} was {old.get(k)!r}, is {new.get(k)!r}"
        for k in sorted(old.keys() | new.keys())
        if old.get(k) != new.get(k)
    ]
    why = "; ".join(changed) or "the files have changed"
    raise UserError(f"{out} holds a data set made otherwise ({why}); set overwrite=true to replace it, or another out=")


def _nothing(listing: Listing, domain: Domain) -> str:
    aside = ", ".join(f"{n} {what}" for what, n in listing.aside.most_common(5))
    refused = "; ".join(f"{shown(name)}: {reason}" for name, reason in listing.refused[:5])
    found = "; ".join(filter(None, [aside and f"it holds {aside}", refused]))
    what = {"image": "picture", "audio": "sound"}.get(domain.name, domain.name)
    return f"no {what} in {listing.source}{f' ({found})' if found else ''}; set source= to a folder or archive of them"


def _broken(out: Path) -> list[tuple[str, str]]:
    rows = map(json.loads, (out / "manifest.jsonl").open(encoding="utf-8"))
    return [(row["name"], row["reason"]) for row in rows if row["status"] in ("broken", "refused")]


@contextlib.contextmanager
def _work_folder(work: Path, dry_run: bool) -> Iterator[Path]:
    """A folder that one process at a time has; gone when the data set is finished, kept for the next run when not."""
    if dry_run:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    with _locked(work):
        try:
            yield work
        except BaseException:
            if not (work / "segments").is_dir():  # nothing that a next run could go on with
                shutil.rmtree(work, ignore_errors=True)
                with contextlib.suppress(OSError):
                    work.parent.rmdir()
            raise
        shutil.rmtree(work, ignore_errors=True)


def _locked(work: Path) -> IO[str]:
    """The lock's file in the folder that is made for it: closed, it is free."""
    while True:
        work.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process has finished, and removed the folder
            lock = (work / "lock").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{work.parent} is being prepared by another process: waiting for it", file=sys.stderr)
                fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(lock.fileno()).st_ino == (work / "lock").stat().st_ino:
                    return lock
            lock.close()  # a lock that is gone holds nobody back


@contextlib.contextmanager
def _disk_errors(out: Path, elsewhere: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise UserError(
                f"the disk of {out} is full ({error.strerror}); make room and run the same command again, it goes on "
                f"where it stopped; or {elsewhere}"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
            raise UserError(f"{out} cannot be written ({error.strerror}: {error.filename}); {elsewhere}") from error
        raise
