"""Two kinds of pictures, a and b, in one sample: of pairs that belong together, or of two sets that don't.

A sample is (2 C, H, W): a's channels, then b's.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_kit.data.arrays import Arrays, check_split
from gan_kit.data.datamodule import ArrayDataModule
from gan_kit.data.digits import Digits
from gan_kit.data.loader import BatchLoader, RawBatch
from gan_kit.data.prepare.image_decode import loaded, opened, readable_kinds, upright
from gan_kit.data.prepare.reading import read
from gan_kit.data.prepare.scan import scan
from gan_kit.data.prepare.types import Found, Unusable
from gan_kit.data.samples import MOST_BYTES
from gan_kit.data.transforms import Transform, to_chw
from gan_kit.types import UserError

__all__ = ["DigitPairs", "DigitPairsData", "PairFolder", "PairsData", "Unpaired", "UnpairedLoader"]


class Unpaired:
    """Two sets of pictures as one array of samples, as far as reading goes: row r is a[r mod |a|] and b[r mod |b|]."""

    def __init__(self, a: np.ndarray, b: np.ndarray):
        self.a, self.b = a, b
        self.shape = (max(len(a), len(b)), a.shape[1] + b.shape[1], *a.shape[2:])
        self.dtype, self.ndim = a.dtype, a.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        chosen = np.arange(len(self))[rows]
        return np.concatenate([self.a[chosen % len(self.a)], self.b[chosen % len(self.b)]], axis=chosen.ndim)


class UnpairedLoader(BatchLoader):
    """Batches of `Unpaired`: each set in an order of its own, with epochs of its own length."""

    def __init__(self, x: Any, y: np.ndarray | None = None, *, seed: int = 0, **settings: Any) -> None:
        super().__init__(x, y, seed=seed, **settings)
        plain = {**settings, "hflip": False, "draws": 0}
        self.sides = (BatchLoader(x.a, seed=seed, **settings), BatchLoader(x.b, seed=seed + 2**32, **plain))

    def batch(self, epoch: int, position: int) -> RawBatch:
        number = epoch * len(self) + position
        a, b = (side.batch(*divmod(number, len(side))) for side in self.sides)
        return RawBatch(torch.cat([a.x, b.x], dim=1), None, a.flip, a.draws)


class PairFolder:
    """Pictures of two kinds under `root`, held in memory.

    Where a file stands says what it is: below a folder A or B it is of that kind, below train, test or val of that
    split; trainA, testB and the like say both. Paired files carry the same name in A and B. Without A and B a file
    holds a pair side by side, a on the left. Without splits a fixed `test_fraction` of the names is held out.

    paired: False for two sets in which nothing belongs together; they need A and B
    direction: "ab", or "ba" to learn the other way
    transform: gives every picture one size; channels: 3 (RGB) or 1 (grey), of both kinds
    """

    def __init__(
        self,
        root: str | Path | None,
        transform: Transform | None,
        *,
        paired: bool = True,
        direction: str = "ab",
        channels: int = 3,
        test_fraction: float = 0.05,
        max_pixels: int = 89_478_485,
    ) -> None:
        if root is None:
            raise UserError("no folder of pictures given; set data.root=/path/to/pictures, which holds A and B")
        if transform is None:
            raise UserError("a folder's pictures need one size; give a transform, such as Resize(size=256)")
        if direction not in ("ab", "ba"):
            raise UserError(f"no direction={direction!r}; have ab, ba")
        if channels not in (1, 3):
            raise UserError(f"channels={channels}; set data.channels to 1 (grey) or 3 (RGB)")
        if not 0 < test_fraction < 1:
            raise UserError(f"test_fraction={test_fraction}; set data.test_fraction between 0 and 1")
        self.root = Path(root).expanduser()
        self.transform, self.paired, self.direction, self.channels = transform, paired, direction, channels
        self.test_fraction, self.max_pixels = float(test_fraction), max_pixels
        self._found: dict[str, dict[str, dict[str, Found]]] | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.found)

    @property
    def found(self) -> dict[str, dict[str, dict[str, Found]]]:
        """{split: {kind: {name: file}}}; kind "a" and "b", or "ab" of files that hold both"""
        if self._found is None:
            self._found = self._looked_up()
        return self._found

    def load(self, split: str) -> Arrays:
        """-> x (N, 2 C, size, size) uint8, or `Unpaired`; y None

        Raises UserError for missing folders, names without a partner, and files that cannot be read.
        """
        kinds = self.found[check_split(split, self.splits)]
        if "ab" in kinds:
            both = self._decoded(kinds["ab"])
            a, b = both[:, 0], both[:, 1]
        else:
            a, b = (self._decoded(kinds[kind])[:, 0] for kind in "ab")
        if self.direction == "ba":
            a, b = b, a
        return Arrays(np.concatenate([a, b], axis=1) if self.paired else Unpaired(a, b))  # type: ignore[arg-type]

    def _looked_up(self) -> dict[str, dict[str, dict[str, Found]]]:
        if not self.root.is_dir():
            raise UserError(f"no folder {self.root}; set data.root to the folder that holds A and B")
        listing = scan(self.root, readable_kinds())
        if listing.refused:
            name, reason = listing.refused[0]
            raise UserError(f"{self.root / name} is {reason}; mend it or take it out")
        out: dict[str, dict[str, dict[str, Found]]] = {}
        for file in listing.files:
            split, kind, name = _placed(file.name)
            files = out.setdefault(split, {}).setdefault(kind, {})
            if name in files:
                raise UserError(f"{self.root}: {files[name].name} and {file.name} stand for the same picture; keep one")
            files[name] = file
        if not out:
            raise UserError(f"no picture in {self.root}; it is to hold A and B, or pictures side by side")
        if set(out) == {""}:
            self._check("", out[""])
            out = self._cut(out[""])
        if "test" not in out and "val" in out:
            out["test"] = out.pop("val")
        if missing := {"train", "test"} - set(out):
            have = ", ".join(sorted(filter(None, out)))
            raise UserError(f"{self.root} has {have}, but no {' and no '.join(sorted(missing))}; add these folders")
        for split, kinds in out.items():
            self._check(split, kinds)
        return {split: kinds for split, kinds in out.items() if split}

    def _cut(self, kinds: dict[str, dict[str, Found]]) -> dict[str, dict[str, dict[str, Found]]]:
        """By a hash of the name, so that both of a pair, and what joins later, keep to their split."""
        out: dict[str, dict[str, dict[str, Found]]] = {"train": {}, "test": {}}
        for kind, files in kinds.items():
            chance = {n: int(hashlib.sha256(n.encode()).hexdigest()[:12], 16) / 16**12 for n in files}
            bound = max(self.test_fraction, min(chance.values()) + 1e-12)  # one at least
            for name, file in files.items():
                out["test" if chance[name] < bound else "train"].setdefault(kind, {})[name] = file
        return out

    def _check(self, split: str, kinds: dict[str, dict[str, Found]]) -> None:
        where = f"{self.root} ({split})" if split else str(self.root)
        if "ab" in kinds and (len(kinds) > 1 or not self.paired):
            stray = next(iter(kinds["ab"].values())).name
            raise UserError(f"{where}: {stray} lies neither in A nor in B; move it")
        if "ab" not in kinds and (missing := {"a", "b"} - set(kinds)):
            raise UserError(f"{where} has no pictures in {' and '.join(sorted(missing)).upper()}; put them there")
        if self.paired and "ab" not in kinds and (alone := sorted(kinds["a"].keys() ^ kinds["b"].keys())):
            side = "A" if alone[0] in kinds["a"] else "B"
            raise UserError(
                f"{where}: {len(alone)} pictures have no partner, {alone[0]} of {side} first; give both the same "
                f"name, or learn without pairs (data=unpaired)"
            )

    def _decoded(self, files: dict[str, Found]) -> np.ndarray:
        """(N, 1 or 2, C, size, size) uint8, sorted by name"""
        first: list[np.ndarray] = []
        for name in sorted(files):
            pixels = _pixels(files[name], self.channels, self.transform, self.max_pixels)
            if isinstance(pixels, str):
                raise UserError(f"{self.root / files[name].name} cannot be read ({pixels}); mend it or take it out")
            first.append(pixels)
        return np.stack(first)


def _placed(name: str) -> tuple[str, str, str]:
    """-> split or "", kind "a", "b" or "ab", and the name that partners share: train/A/x.png -> train, a, x"""
    split, kind, rest = "", "ab", []
    *folders, file = PurePosixPath(name).parts
    for folder in folders:
        low = folder.lower()
        stem, last = low[:-1].rstrip("_-"), low[-1:]
        if low in ("a", "b"):
            kind = low
        elif low in ("train", "test", "val"):
            split = low
        elif last in ("a", "b") and stem in ("train", "test", "val"):
            split, kind = stem, last
        else:
            rest.append(folder)
    return split, kind, "/".join([*rest, PurePosixPath(file).stem])


def _pixels(found: Found, channels: int, transform: Transform, max_pixels: int) -> np.ndarray | str:
    """-> (1, C, size, size) uint8, (2, ...) of what lies side by side, or the reason why the file gives none"""
    try:
        image, _ = upright(loaded(opened(read(found, MOST_BYTES), found.kind, max_pixels)), channels)
    except Unusable as reason:
        return str(reason)
    if _placed(found.name)[1] != "ab":
        return to_chw(transform(image))[None].copy()
    if image.width < 2 or image.width % 2:
        return f"{image.width}x{image.height}: two pictures side by side have an even width"
    half = image.width // 2
    sides = (image.crop((left, 0, left + half, image.height)) for left in (0, half))
    return np.stack([to_chw(transform(side)) for side in sides])


class DigitPairs:
    """scikit-learn's digits and what can be made of them: pairs that need no download, RGB.

    task: "edges": a is a digit's outline, b the digit in its class's colour, which has to be recognised for that
        "ink": a is a digit in white on black, b one in blue ink on yellow paper
    paired: False gives a and b digits of their own: of train the even rows to a, the odd rows to b
    """

    def __init__(self, task: str = "edges", paired: bool = True, transform: Transform | None = None) -> None:
        if task not in ("edges", "ink"):
            raise UserError(f"no task={task!r}; have edges, ink")
        self.task, self.paired, self.digits = task, paired, Digits(transform)

    def load(self, split: str) -> Arrays:
        """-> x (N, 6, size, size) uint8, or `Unpaired`; y None"""
        digits = self.digits.load(split)
        assert digits.y is not None
        make = partial(outlined, y=digits.y) if self.task == "edges" else inked
        a, b = make(digits.x)
        if not self.paired:
            return Arrays(Unpaired(a[::2], b[1::2]))  # type: ignore[arg-type]
        return Arrays(np.concatenate([a, b], axis=1))


def outlined(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x: (N, 1, H, W) uint8, y: (N,) -> white outlines, and the digits in ten hues; (N, 3, H, W) uint8 each"""
    grey = x.astype(np.float32) / 255
    around = np.pad(grey, ((0, 0), (0, 0), (1, 1), (1, 1)))
    slope = np.hypot(around[:, :, 1:-1, 2:] - around[:, :, 1:-1, :-2], around[:, :, 2:, 1:-1] - around[:, :, :-2, 1:-1])
    a = np.repeat((255 * np.clip(slope, 0, 1)).astype(np.uint8), 3, axis=1)
    hue = 2 * np.pi * (y[:, None] / 10 + np.arange(3) / 3)
    colour = (0.6 + 0.4 * np.cos(hue)).astype(np.float32)[:, :, None, None]
    return a, np.round(255 * grey * colour).astype(np.uint8)


PAPER, INK = np.array([250, 230, 160]), np.array([20, 40, 120])


def inked(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x: (N, 1, H, W) uint8 -> as it is, and as ink on paper; (N, 3, H, W) uint8 each"""
    share = x.astype(np.float32) / 255
    b = PAPER[:, None, None] + share * (INK - PAPER)[:, None, None]
    return np.repeat(x, 3, axis=1), np.round(b).astype(np.uint8)


class _PairModule(ArrayDataModule):
    """jitter: shift each sample by up to so many pixels, a and b alike, mirrored at the edges"""

    def __init__(self, source: Any, batch_size: int, hflip: bool, jitter: int, seed: int) -> None:
        if jitter < 0:
            raise UserError(f"jitter={jitter} must not be negative; set data.jitter=0 for none")
        super().__init__(source, batch_size, labels=False, hflip=hflip, seed=seed)
        self.jitter, self.draws = jitter, 2 if jitter else 0
        if not source.paired:
            self.loader_class = UnpairedLoader

    def augmented(self, x: Tensor, draws: Tensor) -> Tensor:
        b, _, h, w = x.shape
        shift = (draws * (2 * self.jitter + 1)).long() - self.jitter
        rows = _mirrored(torch.arange(h, device=x.device) + shift[:, :1], h)
        columns = _mirrored(torch.arange(w, device=x.device) + shift[:, 1:], w)
        moved = x[torch.arange(b, device=x.device)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        return moved.permute(0, 3, 1, 2).contiguous()


def _mirrored(i: Tensor, n: int) -> Tensor:
    i = i.abs()
    return ((n - 1) - ((n - 1) - i).abs()).clamp(0, n - 1)


class DigitPairsData(_PairModule):
    """`DigitPairs` in batches."""

    def __init__(
        self,
        task: str = "edges",
        paired: bool = True,
        transform: Transform | None = None,
        batch_size: int = 16,
        hflip: bool = False,
        jitter: int = 0,
        seed: int = 0,
        channels: int = 3,
    ) -> None:
        if channels != 3:
            raise UserError(f"channels={channels}: digit pairs are in colour, data.channels=3")
        super().__init__(DigitPairs(task, paired, transform), batch_size, hflip, jitter, seed)


class PairsData(_PairModule):
    """`PairFolder` in batches."""

    def __init__(
        self,
        root: str | Path | None = None,
        transform: Transform | None = None,
        paired: bool = True,
        direction: str = "ab",
        channels: int = 3,
        test_fraction: float = 0.05,
        max_pixels: int = 89_478_485,
        batch_size: int = 1,
        hflip: bool = True,
        jitter: int = 0,
        seed: int = 0,
    ) -> None:
        source = PairFolder(
            root,
            transform,
            paired=paired,
            direction=direction,
            channels=channels,
            test_fraction=test_fraction,
            max_pixels=max_pixels,
        )
        super().__init__(source, batch_size, hflip, jitter, seed)
