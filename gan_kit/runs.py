"""Where a run keeps its things, and which of its checkpoints is whole.

runs/<experiment>/<time>/  config.yaml  checkpoints/  samples/  bundle/  metrics.jsonl  tensorboard/
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from gan_kit.types import UserError

__all__ = [
    "abandoned",
    "checkpoint_path",
    "checkpoints",
    "claimed",
    "is_run",
    "is_whole",
    "locked",
    "newest_run",
    "newest_whole",
]

CLAIM = ".hydra"


def claimed(folder: Path) -> Path:
    """A run's folder that no other run has, nor gets: `folder`, else folder-2, -3, ... (started in the same second)."""
    for number in itertools.count(2):
        try:
            (folder / CLAIM).mkdir(parents=True)  # fails for all but one
            return folder
        except FileExistsError:
            folder = folder.with_name(f"{folder.name.removesuffix(f'-{number - 1}')}-{number}")
    raise AssertionError


def abandoned(folder: Path) -> None:
    """Take back the claim of a run that never began, with what it wrote on the way."""
    shutil.rmtree(folder / CLAIM, ignore_errors=True)
    for place in (folder, *list(folder.parents)[:1]):
        with contextlib.suppress(OSError):  # not empty
            place.rmdir()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within, no other process has this run; a lock goes with its process, also when that is killed.

    Raises UserError where another process has it.
    """
    import fcntl

    with (folder / CLAIM / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"{folder} is being trained by {file.read().strip() or 'another process'}: wait for it or stop it, "
                f"or start a run of its own without resume="
            ) from None
        except OSError as error:
            warnings.warn(f"{folder} can't be locked ({error}): see that nobody else trains it", stacklevel=3)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def checkpoint_path(run: Path, samples_seen: int) -> Path:
    return run / "checkpoints" / f"samples={samples_seen:012d}.ckpt"


def checkpoints(run: Path) -> list[Path]:
    """Oldest first."""
    return sorted((run / "checkpoints").glob("samples=*.ckpt"))


def is_whole(checkpoint: Path) -> bool:
    """Whether every record of the file passes its checksum; a truncated or damaged file does not."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, struct.error, zlib.error):
        return False


def newest_whole(run: Path) -> Path:
    """The newest checkpoint of `run` that is whole; warns of each damaged one that it passes over.

    Raises UserError where there is none.
    """
    found = checkpoints(run)
    for path in reversed(found):
        if is_whole(path):
            return path
        warnings.warn(f"{path} is damaged (truncated?): trying the checkpoint before it", stacklevel=2)
    state = f"all {len(found)} checkpoints are damaged" if found else "no checkpoint was saved yet"
    raise UserError(f"nothing to resume in {run}: {state}; start the experiment anew")


def is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file() and (path / "checkpoints").is_dir()


def newest_run(root: Path) -> Path:
    """`root` itself where it is a run, else the run last written to below it.

    Raises UserError where there is none.
    """
    if is_run(root):
        return root
    if not root.exists():
        raise UserError(
            f"there is no folder {root}; train first (make demo), or name a run: run=runs/<experiment>/<time>"
        )
    runs = [config.parent for config in root.rglob("config.yaml") if is_run(config.parent)]
    if not runs:
        raise UserError(f"no run below {root}; train first (make demo), or name a run: run=runs/<experiment>/<time>")
    begun = [run for run in runs if checkpoints(run)]  # one that failed at its start hides none before it
    return max(begun or runs, key=lambda run: (run / "checkpoints").stat().st_mtime_ns)
