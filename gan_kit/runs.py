"""Where a run keeps its things, and which of its checkpoints is whole.

runs/<experiment>/<time>/  config.yaml  checkpoints/  samples/  bundle/  metrics.jsonl  tensorboard/
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

from gan_kit.types import UserError

__all__ = ["checkpoint_path", "checkpoints", "is_run", "is_whole", "newest_run", "newest_whole"]


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
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError):
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
    return max(runs, key=lambda run: (run / "checkpoints").stat().st_mtime_ns)
