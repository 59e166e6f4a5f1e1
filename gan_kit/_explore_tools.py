"""What each tool of `python -m gan_kit.explore` writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from gan_kit._explore_files import Folder
from gan_kit._explore_targets import curves, features_of, targets_from
from gan_kit.latent import Codes, Directions, Latent, directions, invert
from gan_kit.latent.view import THIRDS
from gan_kit.types import UserError

__all__ = ["TOOLS", "Session"]

PSIS = (0.0, 0.25, 0.5, 0.75, 1.0)


class Session:
    """A generator, what was asked, and where the answer goes."""

    def __init__(self, gan: Any, cfg: SimpleNamespace, home: Path):
        self.gan, self.cfg, self.home = gan, cfg, home
        space = cfg.space[:1] if cfg.tool == "invert" and cfg.space != "auto" else cfg.space
        self.latent = Latent(gan.generator, gan.prior, space, gan.spec.decode, cfg.seed, gan.vectors)
        self.labels = self._labels(cfg.label)

    def _labels(self, label: Any) -> list[int] | None:
        """Class indices, asked for by index or name."""
        if label is None:
            return None
        names = list(self.gan.spec.class_names)
        classes = self.latent.num_classes
        if not classes:
            raise UserError(f"label={label}: this generator was trained without classes; leave label out")
        found = []
        for one in [label] if isinstance(label, int | str) else list(label):
            if isinstance(one, str) and one in names:
                found.append(names.index(one))
            elif isinstance(one, int) and not isinstance(one, bool) and 0 <= one < classes:
                found.append(one)
            else:
                have = f", {', '.join(names)}" if names else ""
                raise UserError(f"label={one}: this generator has classes 0 to {classes - 1}{have}")
        if not found:
            raise UserError("label=[] names no class; leave label out")
        return found

    def codes(self, n: int, start: int = 0) -> Codes:
        """Samples start to start + n of the seed, truncated; asked-for labels come in turn."""
        labels = self.labels and [self.labels[i % len(self.labels)] for i in range(n)]
        codes = self.latent.codes(n, labels, self.cfg.seed, start)
        return self.latent.truncate(codes, self.cfg.psi, self.cfg.centre)

    def decode(self, codes: Codes) -> Tensor:
        with tqdm(total=len(codes), unit=" samples", disable=None, leave=False) as bar:
            parts = []
            for x in self.latent.batches(codes, self.cfg.batch_size):
                parts.append(x)
                bar.update(len(x))
        return torch.cat(parts)

    def folder(self, caption: str, **more: Any) -> Folder:
        """Named by the tool and what differs from one call to the next."""
        told = {"label": self.cfg.label, **more, "seed": self.cfg.seed}
        if self.cfg.psi != 1:
            told["psi"] = self.cfg.psi
        words = {k: "-".join(map(str, v)) if isinstance(v, list) else v for k, v in told.items()}
        parts = [f"{k}-{v}" for k, v in words.items() if v is not None]
        name = re.sub(r"[^\w.+-]+", "-", "_".join([self.cfg.tool, *parts]))[:120]
        return Folder(self.home, name, caption, self.gan.spec)

    def close(self, folder: Folder) -> Path:
        return folder.close({k: v for k, v in vars(self.cfg).items() if v is not None and k not in ("out", "device")})

    def names(self, codes: Codes) -> list[str]:
        """Of each code its class."""
        if codes.y is None or codes.y.is_floating_point():
            return [str(i) for i in range(len(codes))]
        classes = self.gan.spec.class_names
        return [str(classes[i]) if classes else str(i) for i in codes.y.tolist()]

    def video(self, folder: Folder, name: str, keys: list[Codes]) -> None:
        """Each of `keys` a tile that goes round its samples, all at once."""
        kind, fps = self.cfg.video, self.cfg.fps
        if kind is None:
            return
        if len(self.gan.spec.shape) == 1 or self.gan.spec.audio is not None:
            raise UserError(f"video={kind} is of pictures, and this generator makes none; leave video out")
        between = max(1, round(fps * self.cfg.seconds))
        paths = [self.latent.path(key, between, loop=True) for key in keys]
        total, columns = len(paths[0]), max(1, round(len(keys) ** 0.5))

        def frames() -> Iterator[Tensor]:
            per_batch = max(1, self.cfg.batch_size // len(keys))
            for first in range(0, total, per_batch):
                parts = [path[first : first + per_batch] for path in paths]
                x = torch.stack([self.latent.decode(part, self.cfg.batch_size) for part in parts], 1)
                yield from x

        folder.animation(name, frames(), total, -(-len(keys) // columns), kind, fps)


def interpolate(s: Session) -> Path:
    """Rows from each sample to the next."""
    n = s.cfg.n or 6
    if n < 2:
        raise UserError(f"n={n} samples have nothing between them; n=2 at least")
    keys = s.codes(n)
    columns = s.cfg.steps + 1
    rows = [s.latent.path(keys[[i, (i + 1) % n]], s.cfg.steps) for i in range(n if n > 2 else 1)]
    x = s.decode(Codes.joined(rows))
    folder = s.folder("From sample to sample.", n=n)
    heads = [f"{i / s.cfg.steps:.2f}" for i in range(columns)]
    names = [f"{i} to {(i + 1) % n}" for i in range(len(rows))]
    folder.sheet("sheet", x, columns, f"Each row leads from one sample to the next, in {s.latent.space}.", names, heads)
    tiles = range(s.cfg.tiles if s.cfg.video else 0)
    s.video(folder, "loop", [s.codes(n, start=tile * n) for tile in tiles])
    return s.close(folder)


def classes(s: Session) -> Path:
    """Rows of samples, whose class alone changes."""
    if not s.latent.num_classes:
        raise UserError("tool=classes: this generator was trained without classes; use tool=interpolate")
    wanted = s.labels or list(range(min(s.latent.num_classes, 4)))
    if len(wanted) < 2:
        raise UserError(f"tool=classes goes from class to class: name two or more, label=[{wanted[0]},…]")
    n = s.cfg.n or 6

    def row(i: int) -> Codes:
        """The classes of sample i, in turn"""
        keys = [s.latent.codes(1, label, s.cfg.seed, start=i) for label in wanted]
        return s.latent.truncate(Codes.joined(keys), s.cfg.psi, s.cfg.centre)

    columns = s.cfg.steps * (len(wanted) - 1) + 1
    x = s.decode(Codes.joined([s.latent.path(row(i), s.cfg.steps) for i in range(n)]))
    named = s.names(Codes(torch.zeros(len(wanted), 1), torch.tensor(wanted)))
    heads = [named[i // s.cfg.steps] if i % s.cfg.steps == 0 else "" for i in range(columns)]
    folder = s.folder(f"From class to class ({', '.join(named)}), the sample staying.", n=n)
    folder.sheet("sheet", x, columns, "Each row is one sample as it changes class.", [str(i) for i in range(n)], heads)
    s.video(folder, "loop", [row(i) for i in range(s.cfg.tiles)] if s.cfg.video else [])
    return s.close(folder)


def truncate(s: Session) -> Path:
    """Samples at several psi, about each centre."""
    codes = s.latent.codes(
        s.cfg.n or 8, s.labels and [s.labels[i % len(s.labels)] for i in range(s.cfg.n or 8)], s.cfg.seed
    )
    folder = s.folder("The same samples, drawn towards the centre of the latent space.", n=len(codes))
    centres = ["mean", "centroid"] if s.latent.space == "w" and s.latent.num_classes else ["mean"]
    for centre in centres:
        rows = [s.latent.truncate(codes, psi, centre) for psi in PSIS]
        order = [i * len(codes) + j for j in range(len(codes)) for i in range(len(PSIS))]
        x = s.decode(Codes.joined(rows)[order])
        about = "of each class" if centre == "centroid" else "of all codes"
        folder.sheet(
            centre, x, len(PSIS), f"Rows are samples; psi from 0, the centre {about}, to 1, the sample.",
            s.names(codes), [f"psi {psi:g}" for psi in PSIS],
        )  # fmt: skip
    return s.close(folder)


def mix(s: Session) -> Path:
    """Styles of one sample in another, layer group by layer group."""
    n = s.cfg.n or 5
    codes = s.codes(2 * n)
    kept, given = codes[:n], codes[n:]
    groups = (s.cfg.layers,) if s.cfg.layers is not None else THIRDS
    sheets = {str(g): s.latent.mix(kept.repeated(n), given[list(range(n)) * n], g) for g in groups}  # refuses z
    folder = s.folder("Styles of the samples above, in some layers of the samples at the left.", n=n)
    a, b = s.decode(kept), s.decode(given)
    for group, codes in sheets.items():
        cells = s.decode(codes).unflatten(0, (n, n))
        rows = [torch.cat([torch.ones_like(a[:1]), b]), *(torch.cat([a[i : i + 1], cells[i]]) for i in range(n))]
        chosen = s.latent.layers(group)
        folder.sheet(
            group, torch.cat(rows), n + 1,
            f"Styles of layers {chosen.start} to {chosen.stop - 1} ({group}) are the upper sample's, the rest the left "
            "one's.",
        )  # fmt: skip
    return s.close(folder)


def explore_directions(s: Session) -> Path:
    """Rows of directions, columns of strengths, a sheet a sample."""
    layers = s.cfg.layers or "all"
    count = min(s.cfg.count, s.latent.dims)
    codes = s.codes(s.cfg.n or 3)
    label = s.labels[0] if s.labels and len(s.labels) == 1 else None
    with tqdm(desc="directions", disable=None, leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = directions(s.latent, s.cfg.method, count, layers, label, s.cfg.seed, s.cfg.batch_size, progress)
    half = max(1, s.cfg.steps // 2)
    strengths = [s.cfg.strength * i / half for i in range(-half, half + 1)]
    what = {"sefa": "SeFa", "pca": "Principal components", "jacobian": "Principal directions of the Jacobian"}
    folder = s.folder(f"{what[found.method]}: the {count} strongest.", method=found.method, layers=s.cfg.layers)
    for i in range(len(codes)):
        moved = [s.latent.move(codes[[i]], found.step(j, t), layers) for j in range(count) for t in strengths]
        folder.sheet(
            f"sample_{i}", s.decode(Codes.joined(moved)), len(strengths),
            f"Sample {i}. Rows are directions, columns strengths in standard deviations of {s.latent.space}.",
            [f"{j + 1}" for j in range(count)], [f"{t:+.3g}" if t else "0" for t in strengths],
        )  # fmt: skip
    save_directions(found, folder)
    return s.close(folder)


def save_directions(found: Directions, folder: Folder) -> None:
    rows = {"vectors": found.vectors, "values": found.values, "scales": found.scales}
    save_file({k: v.contiguous() for k, v in rows.items()}, folder.path / "directions.safetensors")
    folder.add("directions.safetensors", "vectors (k, D), values (k,), scales (k,)")


def explore_inversion(s: Session) -> Path:
    """Targets beside what is found for them, the curve, and the codes."""
    space = s.latent.space if s.cfg.space == "auto" else s.cfg.space
    if s.labels is not None and len(s.labels) > 1:
        raise UserError("tool=invert takes one label for all targets, or none: then the class is found, too")
    if s.cfg.picture is None:
        codes = s.codes(s.cfg.n or 4)
        with torch.no_grad():
            targets = torch.cat([s.latent.raw(*_on(s, codes[[i]])).clamp(-1, 1).cpu() for i in range(len(codes))])
        names = [f"sample {i}" for i in range(len(codes))]
    else:
        targets, names = targets_from(Path(str(s.cfg.picture)), s.gan.spec, s.cfg.n or 16)
    features = features_of(s.cfg.perceptual, targets, s.latent.device)
    with tqdm(total=s.cfg.iterations, unit=" steps", disable=None) as bar:

        def progress(step: int, distance: float) -> None:
            bar.update(step - bar.n)
            bar.set_postfix_str(f"distance {distance:.4f}")

        found = invert(
            s.latent, targets, space, s.labels[0] if s.labels else None, s.cfg.iterations, s.cfg.lr,
            features=features, seed=s.cfg.seed, batch_size=s.cfg.batch_size, progress=progress,
        )  # fmt: skip
    shown = s.gan.spec.decode(targets)
    error = (found.x - shown).square().flatten(1).mean(1)
    source = Path(str(s.cfg.picture)).name if s.cfg.picture else "own"
    folder = s.folder("What the generator comes nearest to.", of=source, space=space)
    if shown.dim() == 4:
        difference = 1 - (found.x - shown).abs()  # white where they agree
        rows, heads = torch.stack([shown, found.x, difference], 1), ["target", "found", "difference"]
    else:
        rows, heads = torch.stack([shown, found.x], 1), ["target", "found"]
    told = [f"{name[:24]}  {e:.4f}" for name, e in zip(names, error.tolist(), strict=True)]
    folder.sheet(
        "sheet", rows.flatten(0, 1), len(heads), f"Mean squares beside, of values in [-1, 1]; {space}.", told, heads
    )
    curves(found.curve, names, folder.path / "curve.png")
    folder.add("curve.png", "The best distance so far.")
    rows_of = {"values": found.codes.values} | ({} if found.codes.y is None else {"y": found.codes.y})
    save_file(rows_of, folder.path / "codes.safetensors")
    folder.add("codes.safetensors", f"values and classes of the codes, in {space}")
    print(f"mean squared error {float(error.mean()):.5f}")
    return s.close(folder)


def _on(s: Session, codes: Codes) -> tuple[Tensor, Tensor | None]:
    return codes.values.to(s.latent.device), None if codes.y is None else codes.y.to(s.latent.device)


TOOLS: dict[str, Callable[[Session], Path]] = {
    "interpolate": interpolate,
    "classes": classes,
    "truncate": truncate,
    "mix": mix,
    "directions": explore_directions,
    "invert": explore_inversion,
}
