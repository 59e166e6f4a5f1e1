"""A trained generator as a folder: generator.safetensors, config.yaml, card.md, samples.png. No pickle.

gan = gan_kit.load("runs/image/digits")
images = gan.sample(64, label=3, seed=0)          # (64, C, H, W) in [-1, 1]
vocoder = gan_kit.load("runs/audio/speech_vocos")
wave = vocoder(mel)                               # (B, n_mels, L) -> (B, 1, T)
"""

from __future__ import annotations

import importlib
import inspect
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import gan_kit
from gan_kit.files import sha256_of
from gan_kit.latent import Prior
from gan_kit.pictures import grid, save_png
from gan_kit.runs import newest_run
from gan_kit.sounds import spectrogram_grid
from gan_kit.trained import TrainedGAN, TrainedReconstruction, label_rows
from gan_kit.types import AudioSpec, DataSpec, UserError

__all__ = ["TrainedGAN", "TrainedReconstruction", "label_rows", "load", "picture_of", "save", "save_reconstruction"]

WEIGHTS, CONFIG, CARD, PICTURE = "generator.safetensors", "config.yaml", "card.md", "samples.png"
VECTORS = "conditions.safetensors"  # of a generator that is conditioned on vectors: some to draw by
FORMAT = 1


def picture_of(x: Tensor, spec: DataSpec, columns: int) -> np.ndarray:
    """Samples as one picture (H, W, 3) uint8: pictures side by side, sounds as spectrograms, vectors as points."""
    return spectrogram_grid(x, spec.audio, columns) if spec.audio is not None else grid(x, columns)


def _first_samples(gan: TrainedGAN, columns: int = 10, seed: int = 0) -> np.ndarray | None:
    """A row per class or vector, or 8 rows; of points 2,000. None where there is no condition to draw by."""
    if len(gan.spec.shape) == 1 and (gan.vectors is not None or not gan.vector_dim):
        return picture_of(gan.sample(2000, seed=seed, batch_size=500), gan.spec, columns)
    if gan.vector_dim and gan.vectors is None:
        return None
    if gan.vectors is not None:
        some = gan.vectors[:8].repeat_interleave(columns, 0)
        return picture_of(gan.sample(len(some), seed=seed, condition=some), gan.spec, columns)
    labels = label_rows(gan.num_classes, columns)
    n = len(labels) if labels else 8 * columns
    return picture_of(gan.sample(n, labels, seed), gan.spec, columns)


def save(
    folder: Path | str,
    generator: nn.Module,
    prior: Prior,
    spec: DataSpec,
    facts: dict[str, Any] | None = None,
    vectors: Tensor | None = None,
) -> Path:
    """Write a bundle, whole or not at all; one that stands there is replaced.

    generator: built by a class that records its arguments (`gan_kit.nn.Recorded`)
    facts: plain values for config.yaml and the card (experiment, samples_seen, ...)
    vectors: (N, E) to draw by, of a generator that is conditioned on vectors; they are in the bundle for all to read
    """
    parts = {"generator": generator, "prior": prior}
    return _saved(Path(folder), parts, spec, facts or {}, "first samples of seed 0", _first_samples, vectors)


def save_reconstruction(
    folder: Path | str,
    generator: nn.Module,
    condition: nn.Module | None,
    spec: DataSpec,
    facts: dict[str, Any] | None = None,
    examples: Tensor | None = None,
) -> Path:
    """`save` of a generator that restores what it is shown (`gan_kit.adversarial.Reconstruction`).

    condition: x -> c, recorded like the generator; examples: (N, ...) samples to picture with what becomes of them
    """

    def pairs(trained: TrainedReconstruction) -> np.ndarray | None:
        if examples is None:
            return None
        return picture_of(torch.cat([examples, trained.reconstruct(examples)]), spec, len(examples))

    parts = {"generator": generator, "condition": condition}
    return _saved(Path(folder), parts, spec, facts or {}, "samples, and below each what is made of it", pairs)


def _saved(
    folder: Path,
    parts: dict[str, Any],
    spec: DataSpec,
    facts: dict[str, Any],
    caption: str,
    picture: Callable[[Any], np.ndarray | None],
    vectors: Tensor | None = None,
) -> Path:
    for thing in (*(v for k, v in parts.items() if k != "prior"), spec.representation):
        if thing is not None and not hasattr(thing, "init_args"):
            raise UserError(
                f"{type(thing).__name__} does not record its constructor's arguments, so no bundle can rebuild it; "
                f"derive it from gan_kit.nn.Recorded"
            )
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write(part, parts, spec, facts, caption, picture, vectors)
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


def _write(
    part: Path,
    parts: dict[str, Any],
    spec: DataSpec,
    facts: dict[str, Any],
    caption: str,
    picture: Callable[[Any], np.ndarray | None],
    vectors: Tensor | None,
) -> None:
    part.mkdir(parents=True)
    if vectors is not None:
        save_file({"vectors": vectors.detach().float().cpu().contiguous()}, part / VECTORS)
    weights = {k: v.detach().cpu().contiguous() for k, v in parts["generator"].state_dict().items()}
    save_file(weights, part / WEIGHTS)
    data: dict[str, Any] = {
        "shape": list(spec.shape),
        "num_classes": spec.num_classes,
        "class_names": list(spec.class_names),
    }
    if spec.vector_dim:
        data["vector_dim"] = spec.vector_dim
    if spec.audio is not None:
        data["audio"] = asdict(spec.audio)
    if spec.representation is not None:
        data["representation"] = _described(spec.representation)
    config: dict[str, Any] = {
        "format": FORMAT,
        "gan_kit": gan_kit.__version__,
        **{name: _described(thing) for name, thing in parts.items()},
        "data": data,
        "facts": facts,
        "weights_sha256": sha256_of(part / WEIGHTS),
    }
    (part / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    # the caller's own nets are no stranger's
    ours = [v["target"] for v in (*config.values(), *data.values()) if isinstance(v, dict) and "target" in v]
    pixels = picture(_build(config, part, ours))
    if pixels is not None:
        save_png(pixels, part / PICTURE)
    (part / CARD).write_text(_card(config, sum(v.numel() for v in weights.values()), pixels is not None, caption))


def _described(thing: Any) -> dict[str, Any] | None:
    """What `_made` makes the thing from; an AudioSpec among its arguments is the data's own."""
    if thing is None:
        return None
    args = {k: v for k, v in getattr(thing, "init_args", {}).items() if not isinstance(v, AudioSpec)}
    return {"target": _path_of(thing), "args": args}


def load(path: Path | str, allow: Sequence[str] = ()) -> Any:
    """A generator from a bundle, a run (`runs/<experiment>/<time>`), or the newest run below a folder.

    -> `TrainedGAN`, or `TrainedReconstruction` of what restores what it is shown (vocoders)

    allow: import-path prefixes beside `gan_kit.` from which a bundle may build classes, e.g. ["my_nets."]

    Raises UserError where there is no bundle, it is damaged, or it names a class from anywhere else.
    """
    path = Path(path)
    is_bundle = _is_bundle(path) or ((_before(path) / CONFIG).is_file() and not path.exists())
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


def _is_bundle(folder: Path) -> bool:
    """Whether it was one: of a copy that lost its weights this is to be said, not that there is no run."""
    config = folder / CONFIG
    return (folder / WEIGHTS).is_file() or (config.is_file() and b"weights_sha256" in config.read_bytes())


def _before(folder: Path) -> Path:
    """Where the bundle lies that `save` was replacing when it was killed between its two renames."""
    return folder.with_name(f".{folder.name}.old")


def _build(config: dict[str, Any], folder: Path, allow: Sequence[str] = ()) -> TrainedGAN | TrainedReconstruction:
    data = config["data"]
    audio = AudioSpec(**data["audio"]) if data.get("audio") else None
    generator = _made(config["generator"], ("gan_kit.", *allow), "generator", audio)
    representation, condition = (
        _made(d, ("gan_kit.audio.", "gan_kit.image.", *allow), role, audio) if d else None
        for role, d in (("representation", data.get("representation")), ("condition", config.get("condition")))
    )
    try:
        generator.load_state_dict(load_file(folder / WEIGHTS))
    except (RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder / WEIGHTS} does not fit {config['generator']['target']}: {reason}") from None
    spec = DataSpec(
        tuple(data["shape"]),
        data["num_classes"],
        tuple(data["class_names"]),
        audio,
        representation,
        data.get("vector_dim", 0),
    )
    if "condition" in config:
        return TrainedReconstruction(generator, condition, spec, config["facts"])
    prior = _class_of(config["prior"]["target"], ("gan_kit.latent.", *allow))(**config["prior"]["args"])
    return TrainedGAN(generator, prior, spec, config["facts"], _read_vectors(folder / VECTORS, spec.vector_dim))


def _read_vectors(path: Path, vector_dim: int) -> Tensor | None:
    if not path.is_file():
        return None
    try:
        vectors = load_file(path)["vectors"]
    except (SafetensorError, KeyError) as error:
        raise UserError(f"{path} can't be read ({error}); copy the whole bundle folder") from None
    if vectors.dim() != 2 or vectors.shape[1] != vector_dim or not len(vectors) or not vectors.isfinite().all():
        raise UserError(f"{path} holds {tuple(vectors.shape)}, not vectors of {vector_dim}; copy the bundle again")
    return vectors


def _made(description: dict[str, Any], trusted: tuple[str, ...], role: str, audio: AudioSpec | None) -> Any:
    """The network or transform that a bundle describes."""
    cls, args = _class_of(description["target"], trusted), description["args"]
    if not issubclass(cls, nn.Module):
        raise UserError(f"the bundle wants {description['target']!r} as {role}, which is not a network")
    if audio is not None and "spec" in inspect.signature(cls).parameters:
        args = {"spec": audio, **args}
    return cls(**args)


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


def _card(config: dict[str, Any], parameters: int, pictured: bool, caption: str) -> str:
    data, facts = config["data"], config["facts"]
    of_vectors = f"none; vectors of {data['vector_dim']}" if data.get("vector_dim") else "none"
    names = ", ".join(data["class_names"]) or f"{data['num_classes']} classes" if data["num_classes"] else of_vectors
    lines = [
        f"| {k.replace('_', ' ')} | {v:,} |" if isinstance(v, int) else f"| {k.replace('_', ' ')} | {v} |"
        for k, v in facts.items()
    ]
    if audio := data.get("audio"):
        lines.insert(0, f"| sound | {audio['sample_rate']:,} Hz, STFT {audio['n_fft']} / {audio['hop_length']} |")
    use = (
        'x = gan_kit.load("this folder").sample(64, seed=0)  # in [-1, 1]'
        if "condition" not in config
        else 'x = gan_kit.load("this folder").reconstruct(x)  # in [-1, 1]'
    )
    seen = ["![samples](samples.png)", "", f"Made with gan_kit. Above: {caption}, not chosen.", ""] if pictured else []
    return "\n".join(
        [
            f"# {facts.get('experiment', 'A generator')}",
            "",
            *seen,
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
            use,
            "```",
            "",
            "It can repeat what is in its training data, biases and single examples too: check before you publish.",
            "",
        ]
    )
