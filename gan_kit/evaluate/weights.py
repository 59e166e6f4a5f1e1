"""Weights files: found, fetched where they are nowhere, and never used unchecked."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_kit.files import cache_home, sha256_of, written_whole
from gan_kit.types import UserError

__all__ = ["checked", "digest_of", "find_weights", "load_state"]

_ARRAYS: list[Any] = [  # what NumPy's arrays are pickled by, today and before NumPy 2
    np.ndarray,
    np.dtype,
    *((np.empty(0).__reduce__()[0], f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(type(np.dtype(kind)) for kind in (np.bool_, np.int32, np.int64, np.float32, np.float64)),
]
TIMEOUT = 30  # seconds without a byte


def find_weights(
    file_name: str, url: str, sha256: str, path: str | Path | None = None, also: Sequence[str] = ()
) -> Path:
    """The weights file: `path`, else in $GAN_KIT_WEIGHTS, the cache or torch.hub's, else downloaded into the cache.

    sha256: of the file, or how it begins (8 hexadecimal digits or more)
    path: the file, or a folder that holds it
    also: other addresses of the same file; it is looked for under their names, too
    Raises UserError for a file of another checksum, and where there is none saying where to put it.
    """
    if not re.fullmatch(r"[0-9a-f]{8,64}", sha256):
        raise ValueError(f"sha256={sha256!r} is not 8 to 64 hexadecimal digits")
    names = list(dict.fromkeys([file_name, *(address.rpartition("/")[2] for address in also)]))
    if path is not None:
        path = Path(path).expanduser()
        for file in [path / name for name in names] if path.is_dir() else [path]:
            if file.is_file():
                return checked(file, sha256)
        raise UserError(f"weights {path} do not exist; {_cure(names[0], url, sha256)}")
    for place in _places():
        for name in names:
            if (place / name).is_file():
                return checked(place / name, sha256)
    home = _home() / file_name
    reasons = []
    for address in (url, *also):
        try:
            with written_whole(home) as part:
                _download(address, part)
                checked(part, sha256, shown=address)
            return home
        except (OSError, ValueError, http.client.HTTPException) as e:  # no network, a proxy's page, a full disk
            reasons.append(" ".join(str(e).split())[:200])
    raise UserError(
        f"weights {file_name} are not on this machine and could not be downloaded ({'; '.join(reasons)}); "
        + _cure(file_name, url, sha256)
    )


def checked(file: Path, sha256: str, shown: str = "") -> Path:
    """The file, if its SHA-256 begins so; else UserError."""
    found = sha256_of(file)
    if not found.startswith(sha256):
        raise UserError(
            f"{shown or file} is damaged, cut short or another file: {file.stat().st_size:,} bytes of SHA-256 "
            f"{found[:16]}…, not {sha256[:16]}…; " + ("try again" if shown else "remove it and fetch it again")
        )
    return file


def load_state(
    file: Path, shapes: Mapping[str, Sequence[int]] | None = None, part: str | None = None
) -> dict[str, Tensor]:
    """The tensors of a weights file, on the CPU; no code in it is run.

    shapes: those that it has to hold; the rest is left out
    part: where the file is a checkpoint (of tensors, arrays and plain values), the entry that holds them
    """
    try:
        with torch.serialization.safe_globals(_ARRAYS if part else []):
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as e:  # as many kinds as there are ways to damage a file
        cure = "fetch it again"
        if part:
            cure += (
                f"; if it is whole and you trust it, keep its weights alone: "
                f"torch.save(torch.load(file, weights_only=False)[{part!r}], other), and name that with extractor.path"
            )
        raise UserError(f"{file} cannot be read as weights ({type(e).__name__}); {cure}") from e
    if part and isinstance(state, Mapping) and part in state:
        state = state[part]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{file} does not hold a network's weights (a state dict)")
    if shapes is None:
        return dict(state)
    wrong = [name for name, shape in shapes.items() if name not in state or list(state[name].shape) != list(shape)]
    if wrong:
        raise UserError(
            f"{file} holds another network's weights: {len(wrong)} of {len(shapes)} tensors are missing or of another "
            f"shape, first {wrong[0]}"
        )
    return {name: state[name] for name in shapes}


def digest_of(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values: for weights that came from no single file."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _home() -> Path:
    """Where a download goes: the user's own place, if there is one."""
    own = os.environ.get("GAN_KIT_WEIGHTS")
    return Path(own).expanduser() if own else cache_home() / "weights"


def _places() -> Iterator[Path]:
    yield _home()
    yield cache_home() / "weights"
    yield Path(torch.hub.get_dir()) / "checkpoints"  # where pytorch-fid, torch-fidelity and torchvision put theirs


def _download(address: str, to: Path) -> None:
    with urllib.request.urlopen(address, timeout=TIMEOUT) as answer, to.open("wb") as file:
        shutil.copyfileobj(answer, file, 1 << 20)


def _cure(name: str, url: str, sha256: str) -> str:
    return f"fetch {url} (SHA-256 {sha256}{'…' if len(sha256) < 64 else ''}) and put it at {_home() / name}"
