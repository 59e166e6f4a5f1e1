"""A trained generator as a folder: generator.safetensors, config.yaml, card.md, samples.png. No pickle.

gan = gan_kit.load("runs/image/digits")
images = gan.sample(64, label=3, seed=0)          # (64, C, H, W) in [-1, 1]
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import gan_kit
from gan_kit.files import sha256_of
from gan_kit.latent import Prior
from gan_kit.noise import SampleNoise, mix
from gan_kit.pictures import grid, save_png
from gan_kit.runs import newest_run
from gan_kit.types import DataSpec, UserError

__all__ = ["TrainedGAN", "label_rows", "load", "save"]

WEIGHTS, CONFIG, CARD, PICTURE = "generator.safetensors", "config.yaml", "card.md", "samples.png"
FORMAT = 1


class TrainedGAN:
    """A generator ready to sample.

    generator: G(z, y) -> x; prior: where z comes from; spec: shape and classes of what it makes
    facts: what the bundle says of its training
    """

    def __init__(self, generator: nn.Module, prior: Prior, spec: DataSpec, facts: dict[str, Any] | None = None):
        self.generator, self.prior, self.spec = generator.eval().requires_grad_(False), prior, spec
        self.facts = facts or {}
        self.device = torch.device("cpu")

    def to(self, device: torch.device | str) -> TrainedGAN:
        self.device = torch.device(device)
        self.generator.to(self.device)
        return self

    @property
    def num_classes(self) -> int:
        return int(getattr(self.generator, "num_classes", 0))

    def sample(
        self,
        n: int,
        label: int | str | Sequence[int] | None = None,
        seed: int = 0,
        psi: float = 1.0,
        batch_size: int = 64,
        start: int = 0,
    ) -> Tensor:
        """n samples in [-1, 1], (n, *shape), on the CPU.

        label: a class index or name, one index a sample, or None for classes drawn evenly
        seed: sample number i of a seed is the same whatever n, batch_size or device (to rounding)
        psi: truncation; below 1 less varied, more typical
        start: number of the first sample

        Raises UserError for a label that the generator does not have, n < 1 or psi < 0.
        """
        return torch.cat(list(self.batches(n, label, seed, psi, batch_size, start)))

    def batches(
        self,
        n: int,
        label: int | str | Sequence[int] | None = None,
        seed: int = 0,
        psi: float = 1.0,
        batch_size: int = 64,
        start: int = 0,
    ) -> Iterator[Tensor]:
        """What `sample` returns, batch by batch: memory stays bounded."""
        for name, value, least in (
            ("n", n, 1),
            ("batch_size", batch_size, 1),
            ("start", start, 0),
            ("psi", psi, 0),
        ):
            if value < least:
                raise UserError(f"{name}={value} must be at least {least}")
        labels = self._labels(n, label, seed, start)
        for first in range(0, n, batch_size):
            last = min(first + batch_size, n)
            noise = SampleNoise(seed, range(start + first, start + last), self.device)
            y = None if labels is None else labels[first:last].to(self.device)
            with torch.inference_mode():
                x = self.generator(self.prior(noise, self.generator.z_dim, psi), y)  # type: ignore[arg-type]
            yield x.float().clamp(-1, 1).cpu()

    def _labels(self, n: int, label: int | str | Sequence[int] | None, seed: int, start: int) -> Tensor | None:
        classes = self.num_classes
        if not classes:
            if label is not None:
                raise UserError(f"label={label!r}: this generator was trained without classes; leave label out")
            return None
        if label is None:
            return torch.tensor([mix(seed, i, 1) % classes for i in range(start, start + n)])
        if isinstance(label, str):
            if label not in self.spec.class_names:
                raise UserError(f"no class {label!r}; have {list(self.spec.class_names)}")
            label = self.spec.class_names.index(label)
        wanted = [label] * n if isinstance(label, int) else list(label)
        if len(wanted) != n:
            raise UserError(f"{len(wanted)} labels for n={n} samples; give one, or one a sample")
        if bad := sorted({i for i in wanted if not 0 <= i < classes}):
            raise UserError(f"label {bad[0]} is out of range: this generator has classes 0 to {classes - 1}")
        return torch.tensor(wanted)


def label_rows(num_classes: int, columns: int, rows: int = 8) -> list[int] | None:
    """Labels of a grid with one row per class (at most 20 rows), or None without classes."""
    return [i for i in range(min(num_classes, 20)) for _ in range(columns)] if num_classes else None


def picture_of(gan: TrainedGAN, columns: int = 10, seed: int = 0) -> Any:
    """A grid (H, W, 3) uint8: a row per class, or 8 rows; vectors get a scatter plot of 2,000."""
    if len(gan.spec.shape) == 1:
        return grid(gan.sample(2000, seed=seed, batch_size=500), columns)
    labels = label_rows(gan.num_classes, columns)
    n = len(labels) if labels else 8 * columns
    return grid(gan.sample(n, labels, seed), columns)


def save(
    folder: Path | str,
    generator: nn.Module,
    prior: Prior,
    spec: DataSpec,
    facts: dict[str, Any] | None = None,
) -> Path:
    """Write a bundle, whole or not at all; one that stands there is replaced.

    generator: built by a class that records its arguments (`gan_kit.nn.Recorded`)
    facts: plain values for config.yaml and the card (experiment, samples_seen, ...)
    """
    folder, facts = Path(folder), facts or {}
    if not hasattr(generator, "init_args"):
        raise UserError(
            f"{type(generator).__name__} does not record its constructor's arguments, so no bundle can rebuild it; "
            f"derive it from gan_kit.nn.Recorded"
        )
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write(part, generator, prior, spec, facts)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)  # half a bundle only takes room
        raise
    old = _before(folder)
    if folder.exists():  # else `old` is all there is, of a save that was killed: it stays until the new one stands
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    os.replace(part, folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def _write(part: Path, generator: Any, prior: Prior, spec: DataSpec, facts: dict[str, Any]) -> None:
    part.mkdir(parents=True)
    weights = {k: v.detach().cpu().contiguous() for k, v in generator.state_dict().items()}
    save_file(weights, part / WEIGHTS)
    config: dict[str, Any] = {
        "format": FORMAT,
        "gan_kit": gan_kit.__version__,
        "generator": {"target": _path_of(generator), "args": generator.init_args},
        "prior": {"target": _path_of(prior), "args": {}},
        "data": {
            "shape": list(spec.shape),
            "num_classes": spec.num_classes,
            "class_names": list(spec.class_names),
        },
        "facts": facts,
        "weights_sha256": sha256_of(part / WEIGHTS),
    }
    (part / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    (part / CARD).write_text(_card(config, sum(v.numel() for v in weights.values())))
    ours = (config["generator"]["target"], config["prior"]["target"])  # the caller's own nets are no stranger's
    save_png(picture_of(_build(config, part, ours)), part / PICTURE)


def load(path: Path | str, allow: Sequence[str] = ()) -> TrainedGAN:
    """A generator from a bundle, a run (`runs/<experiment>/<time>`), or the newest run below a folder.

    allow: import-path prefixes beside `gan_kit.` from which a bundle may build classes, e.g. ["my_nets."]

    Raises UserError where there is no bundle, it is damaged, or it names a class from anywhere else.
    """
    path = Path(path)
    is_bundle = (path / WEIGHTS).is_file() or ((_before(path) / CONFIG).is_file() and not path.exists())
    folder = path if is_bundle else newest_run(path) / "bundle"
    if not (folder / CONFIG).is_file():
        before = _before(folder)
        if not (before / CONFIG).is_file():
            raise UserError(
                f"no bundle in {folder}: the run stopped before its first checkpoint; resume={folder.parent}"
            )
        folder = before
    try:
        config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / CONFIG} is not readable YAML or holds more than plain values: {error}") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else None
        raise UserError(f"{folder / CONFIG} has format {found!r}; this gan_kit ({gan_kit.__version__}) reads {FORMAT}")
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder / WEIGHTS} is missing; copy the whole bundle folder")
    if sha256_of(folder / WEIGHTS) != config.get("weights_sha256"):
        raise UserError(f"{folder / WEIGHTS} is damaged: its SHA-256 is not the one in {CONFIG}; copy it again")
    try:
        return _build(config, folder, allow)
    except (KeyError, TypeError, AttributeError) as error:  # a key that is missing, an argument that is not taken
        raise UserError(f"{folder / CONFIG} does not describe a generator: {error!r}") from error


def _before(folder: Path) -> Path:
    """Where the bundle lies that `save` was replacing when it was killed between its two renames."""
    return folder.with_name(f".{folder.name}.old")


def _build(config: dict[str, Any], folder: Path, allow: Sequence[str] = ()) -> TrainedGAN:
    generator_class = _class_of(config["generator"]["target"], ("gan_kit.", *allow))
    if not issubclass(generator_class, nn.Module):
        raise UserError(f"the bundle wants {config['generator']['target']!r} as generator, which is not a network")
    prior_class = _class_of(config["prior"]["target"], ("gan_kit.latent.", *allow))
    generator, prior = generator_class(**config["generator"]["args"]), prior_class(**config["prior"]["args"])
    try:
        generator.load_state_dict(load_file(folder / WEIGHTS))
    except (RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder / WEIGHTS} does not fit {config['generator']['target']}: {reason}") from None
    data = config["data"]
    spec = DataSpec(tuple(data["shape"]), data["num_classes"], tuple(data["class_names"]))
    return TrainedGAN(generator, prior, spec, config["facts"])


def _path_of(thing: Any) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _class_of(target: str, trusted: tuple[str, ...]) -> type:
    """The class at an import path below a trusted one: a bundle is somebody's file, not code to run."""
    refusal = UserError(
        f"the bundle wants to build {target!r}, which is not part of {trusted[0].removesuffix('.')}; if you trust it, "
        f"load it with allow=[{target.split('.')[0] + '.'!r}]"
    )
    if not target.startswith(trusted):
        raise refusal
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise UserError(
            f"the bundle wants {target!r}, which this gan_kit ({gan_kit.__version__}) does not have"
        ) from None
    if not isinstance(found, type):
        raise UserError(f"the bundle wants to build {target!r}, which is not a class")
    if not f"{found.__module__}.{found.__qualname__}".startswith(trusted):
        raise refusal  # one of ours imports it, and no more
    return found


def _card(config: dict[str, Any], parameters: int) -> str:
    data, facts = config["data"], config["facts"]
    names = ", ".join(data["class_names"]) or f"{data['num_classes']} classes" if data["num_classes"] else "none"
    lines = [
        f"| {k.replace('_', ' ')} | {v:,} |" if isinstance(v, int) else f"| {k.replace('_', ' ')} | {v} |"
        for k, v in facts.items()
    ]
    return "\n".join(
        [
            f"# {facts.get('experiment', 'A generator')}",
            "",
            "![samples](samples.png)",
            "",
            "Made with gan_kit. The pictures above are the first samples of seed 0, not chosen.",
            "",
            "| | |",
            "|-|-|",
            f"| network | `{config['generator']['target']}` |",
            f"| parameters | {parameters:,} |",
            f"| shape | {' x '.join(map(str, data['shape']))} |",
            f"| classes | {names} |",
            *lines,
            "",
            "```python",
            "import gan_kit",
            'x = gan_kit.load("this folder").sample(64, seed=0)  # in [-1, 1]',
            "```",
            "",
            "It can repeat what is in its training data, biases and single examples too: check before you publish.",
            "",
        ]
    )
