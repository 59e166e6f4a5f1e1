"""What inversion aims at: files as a generator would make them, and how a network of ours sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_kit.files import written_whole
from gan_kit.latent.inversion import pyramid
from gan_kit.types import DataSpec, UserError

__all__ = ["curves", "features_of", "targets_from"]


def targets_from(path: Path, spec: DataSpec, most: int) -> tuple[Tensor, list[str]]:
    """-> (N, *shape) as the generator makes them, and the files' names; of a folder the first `most` that can be read.

    Raises UserError where there is no such file, or none of it is a picture (a sound, for a generator of sounds).
    """
    from gan_kit.data.prepare.types import Unusable

    read = _sound if spec.audio is not None else _picture
    if len(spec.shape) < 2:
        raise UserError("picture= has no meaning for a generator of vectors: leave it out to invert its own samples")
    if not path.exists():
        raise UserError(f"picture={path}: there is no such file")
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    found, reasons = {}, {}
    for file in files:
        try:
            found[file.name] = read(file, spec)
        except (Unusable, UserError) as error:
            reasons[file.name] = str(error)
        if len(found) == most:
            break
    if not found:
        name, reason = next(iter(reasons.items()), (path.name, "an empty folder"))
        raise UserError(f"picture={path}: {name}: {reason}")
    x = torch.stack(list(found.values()))
    return (x if spec.representation is None else spec.representation(x)), list(found)


def _picture(file: Path, spec: DataSpec) -> Tensor:
    """(C, H, W) in [-1, 1]: the middle square, turned and coloured as prepare does it"""
    from gan_kit.data.prepare.image_decode import loaded, opened, upright
    from gan_kit.data.transforms import Resize, to_chw

    image, _ = upright(loaded(opened(file.read_bytes())), spec.shape[0])
    return torch.from_numpy(to_chw(Resize(spec.shape[-1])(image)).copy()).float() / 127.5 - 1


def _sound(file: Path, spec: DataSpec) -> Tensor:
    """(C, T) in [-1, 1]: the beginning, resampled, padded with silence"""
    from gan_kit.data.sound_file import read_sound

    assert spec.audio is not None
    length = spec.audio.clip_samples
    x = torch.from_numpy(read_sound(file, spec.audio.sample_rate))[:, :length]
    x = x.expand(spec.shape[0] if spec.representation is None else 1, -1)
    return F.pad(x, (0, length - x.shape[1])).clamp(-1, 1)


# ---- what a network sees ----


def features_of(perceptual: str | None, targets: Tensor, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """None: inversion's own choice. Else pixels at all scales, and what a network of ours makes of them.

    perceptual: "lite0" (ImageNet; activations after each stage, of unit length in each place, as Zhang et al. 2018
        compare them, without their learnt weights), or the folder of a classifier: its features
    """
    if perceptual is None:
        return None
    if targets.dim() != 4:
        raise UserError(f"perceptual={perceptual} sees pictures, and this generator makes none; leave it out")
    seen = _lite0(device) if perceptual == "lite0" else _classifier(str(perceptual), targets, device)

    def features(x: Tensor) -> Tensor:
        return torch.cat([pyramid(x), seen(x)], 1)

    return features


def _lite0(device: torch.device) -> Callable[[Tensor], Tensor]:
    from gan_kit.evaluate import Lite0

    net = Lite0().to(device)

    def seen(x: Tensor) -> Tensor:
        side = min(224, max(64, x.shape[-1]))
        x = F.interpolate(x.expand(-1, 3, -1, -1), (side, side), mode="bilinear", align_corners=False)
        h = F.relu6(net.stem(x * (127.5 / 128)))
        parts = []
        for i, block in enumerate(net.blocks):
            h = block(h)
            if i in (0, 2, 4, 10):  # where the next block halves the size
                unit = h / (h.norm(dim=1, keepdim=True) + 1e-6)
                parts.append(unit.flatten(1) / (unit.shape[-1] * unit.shape[-2]) ** 0.5)
        return torch.cat(parts, 1)

    return seen


def _classifier(folder: str, targets: Tensor, device: torch.device) -> Callable[[Tensor], Tensor]:
    from gan_kit.evaluate.classifier import load_classifier

    net = load_classifier(folder).to(device).net
    if tuple(net.shape) != tuple(targets.shape[1:]):
        raise UserError(f"perceptual={folder} takes pictures of {net.shape}, this generator makes {targets.shape[1:]}")
    size = net(targets[:1].to(device))[0].square().sum().sqrt()  # so that they weigh as much as the pixels

    def seen(x: Tensor) -> Tensor:
        return net(x)[0] / size

    return seen


def curves(curve: Tensor, names: Sequence[str], path: Path) -> None:
    """(steps, N) as lines in a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, line in zip(names, curve.T.tolist(), strict=True):
        axes.plot(line, label=name[:24], linewidth=1)
    axes.set(yscale="log", xlabel="step", ylabel="distance")
    axes.grid(alpha=0.3)
    if len(names) <= 8:
        axes.legend(fontsize="small")
    with written_whole(path) as part:
        figure.savefig(part, format="png", dpi=100)
