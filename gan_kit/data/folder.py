"""A folder of pictures: a prepared one as it is, any other prepared on the way and kept for the next start."""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gan_kit.data.arrays import Arrays
from gan_kit.data.conditions import Conditions, packed_names, with_vectors
from gan_kit.data.packed import INDEX, Damaged, Packed
from gan_kit.data.prepare.images import Images
from gan_kit.data.prepare.pipeline import Prepared, Settings, prepare
from gan_kit.data.prepare.scan import shown
from gan_kit.data.samples import agreed_channels
from gan_kit.data.transforms import Transform
from gan_kit.files import cache_home
from gan_kit.types import UserError

__all__ = ["Folder"]

LISTED = 10  # files named in a message; the count is always told


class Folder:
    """Pictures under `root`: what `python -m gan_kit.prepare` has made, or files of any kind in any layout.

    Files are prepared with the defaults, but for the search for crops: near-duplicates are left out, splits cut by
    clusters of alike pictures. The report lies beside the packed pictures in the cache.

    transform: gives every picture one size; a prepared set has its own
    channels: 3 (RGB), 1 (grey), or "auto": what the files are, which must agree
    labels: False reads no classes from the folders
    on_error: "fail" stops at files that cannot be read and lists them, "skip" leaves them out and lists them; so with a
        shard that is damaged while it is trained on
    test_fraction: share of files held out
    cache_dir: else $GAN_KIT_CACHE, else ~/.cache/gan_kit
    workers: decoding processes, else one a core
    max_pixels: larger pictures are refused before they are decoded
    conditions: a file of vectors, one a picture (`Conditions`), which take the place of classes; else None
    """

    def __init__(
        self,
        root: str | Path | None,
        transform: Transform | None,
        *,
        channels: int | str = 3,
        labels: bool = True,
        on_error: str = "fail",
        test_fraction: float = 0.05,
        cache_dir: str | Path | None = None,
        workers: int | None = None,
        max_pixels: int = 89_478_485,
        conditions: str | Path | None = None,
    ) -> None:
        if root is None:
            raise UserError("no folder of pictures given; set data.root=/path/to/pictures")
        if transform is None:
            raise UserError("a folder's pictures need one size; give a transform, such as Resize(size=32)")
        if channels not in (1, 3, "auto"):
            raise UserError(f"channels={channels!r}; set data.channels to 1 (grey), 3 (RGB) or auto")
        if on_error not in ("fail", "skip"):
            raise UserError(f"no on_error={on_error!r}; have fail, skip")
        if not 0 <= test_fraction < 1:
            raise UserError(f"test_fraction={test_fraction}; set data.test_fraction from 0 to below 1")
        if workers is not None and workers < 1:
            raise UserError(f"workers={workers}; set data.workers=1 or more")
        if max_pixels < 1:
            raise UserError(f"max_pixels={max_pixels}; set data.max_pixels=1 or more")
        self.root = Path(root).expanduser()
        self.transform, self.channels, self.labels, self.on_error = transform, channels, labels, on_error
        self.test_fraction, self.max_pixels = float(test_fraction), max_pixels
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir else cache_home()
        self.workers = workers
        self.conditions = None if conditions is None else Conditions(conditions)
        self._packed: Packed | None = None
        self._vectors: dict[str, np.ndarray] | None = None

    def load(self, split: str) -> Arrays:
        """-> x (N, C, size, size) uint8, mapped; y (N,) int64, (N, E) float32 with conditions, None without classes

        Raises UserError for no pictures, mixed layouts or channels, unreadable files, an unusable cache.
        """
        if split not in self.packed.splits and split == "test":
            raise UserError(
                f"{self.root}: none of its pictures fell in the test split; set data.test_fraction higher than "
                f"{self.test_fraction}"
            )
        arrays = self.packed.load(split)
        if self.conditions is None:
            return arrays
        if self._vectors is None:  # of all splits at once: what is missing is told before any training
            names = [packed_names(self.packed.root, s, len(self.packed.load(s).x)) for s in self.splits]
            whole = self.conditions.of([name for of_split in names for name in of_split])
            parts = np.split(whole, np.cumsum([len(of_split) for of_split in names])[:-1])
            self._vectors = dict(zip(self.splits, parts, strict=True))
        return with_vectors(arrays, self._vectors[split])

    @property
    def splits(self) -> tuple[str, ...]:
        return self.packed.splits

    @property
    def packed(self) -> Packed:
        if self._packed is None:
            as_it_is = (self.root / INDEX).is_file()
            self._packed = self._as_it_is() if as_it_is else self._opened(self._prepared())
        return self._packed

    def _opened(self, root: Path) -> Packed:
        return Packed(root, skip=self.on_error == "skip")

    def _as_it_is(self) -> Packed:
        packed = self._opened(self.root)
        shape, size = tuple(packed.index["shape"]), self.transform.size
        if packed.index["domain"] != "image":
            raise UserError(f"{self.root} holds {packed.index['domain']}, not pictures")
        if shape[1:] != (size, size):
            raise UserError(
                f"{self.root} was prepared with pictures of {shape[2]}x{shape[1]}, not {size}; set "
                f"image_size={shape[1]}, or prepare it again with image_size={size}"
            )
        if self.channels not in ("auto", shape[0]):
            raise UserError(f"{self.root} was prepared with {shape[0]} channels; set data.channels={shape[0]}")
        return packed

    def _prepared(self) -> Path:
        if not self.root.exists():
            raise UserError(f"no folder {self.root}; set data.root to the folder of pictures")
        channels = agreed_channels(self.root) if self.channels == "auto" else int(self.channels)
        # a training should begin soon: pictures that show a part of another are looked for by the command only
        domain = Images(self.transform, channels=channels, max_pixels=self.max_pixels, crops=False)
        settings = Settings(
            labels="auto" if self.labels and self.conditions is None else "none",
            val_fraction=0.0,
            test_fraction=self.test_fraction,
        )
        told = f"{self.root.resolve()}\n{domain!r}\n{settings}".encode("utf-8", "surrogateescape")
        out = self.cache_dir / "prepared" / hashlib.sha256(told).hexdigest()[:24]

        def made() -> Prepared:
            done = prepare(
                self.root, out, domain, settings, workers=self.workers, overwrite=True,
                elsewhere="set data.cache_dir or GAN_KIT_CACHE to another folder",
            )  # fmt: skip
            for split in Packed(out).splits:
                Packed(out).load(split)
            return done

        try:
            try:
                done = made()
            except Damaged:
                shutil.rmtree(out)
                done = made()
        except UserError as error:
            raise UserError(_in_these_words(str(error))) from error
        if not done.already:
            self._tell(done)
        if done.broken:
            self._report(done.broken, sum(done.counts.values()), out)
        return out

    def _tell(self, done: Prepared) -> None:
        left = {what: n for what, n in done.outcomes.items() if n and what in ("duplicate", "doubtful pairs")}
        more = f"; {', '.join(f'{n:,} {what}' for what, n in left.items())}" if left else ""
        print(f"prepared {self.root}: {done.outcomes['kept']:,} pictures{more} ({done.out / 'report.html'})")

    def _report(self, broken: Sequence[tuple[str, str]], good: int, out: Path) -> None:
        lines = [f"  {shown(name)}: {reason}" for name, reason in broken[:LISTED]]
        if len(broken) > LISTED:
            lines.append(f"  and {len(broken) - LISTED} more")
        message = f"{len(broken)} files in {self.root} cannot be used, {good:,} can"
        if self.on_error == "fail":
            cure = "mend or remove them, or leave them out with data.on_error=skip"
            raise UserError("\n".join([f"{message}; {cure}:", *lines]))
        warnings.warn("\n".join([f"{message} and are left out:", *lines]), UserWarning, stacklevel=4)


def _in_these_words(message: str) -> str:
    """What prepare says, with the settings' names as they are in training."""
    for theirs, ours in (
        ("labels=none", "data.labels=false"),
        ("set source=", "set data.root="),
        ("max_pixels=", "data.max_pixels="),
        ("transform=", "transform@data.transform="),
    ):
        message = message.replace(theirs, ours)
    return message
