"""Samples of a trained generator as files, for the doors that write them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_kit.types import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from gan_kit.trained import TrainedGAN, TrainedReconstruction

__all__ = ["folder_name", "read_condition", "write_restored", "write_samples"]


def folder_name(label: Any, seed: int, psi: float, condition: str | None = None) -> str:
    """seed=0_psi=1.0: which samples these are"""
    named = {"label": label, "condition": condition, "seed": seed, "psi": psi}
    return "_".join(f"{k}={v}" for k, v in named.items() if v is not None)


def write_samples(
    gan: TrainedGAN,
    out: Path,
    n: int,
    label: int | str | None,
    seed: int,
    psi: float,
    batch_size: int,
    vocoder: TrainedReconstruction | None = None,
    condition: Tensor | None = None,
) -> None:
    """n numbered PNG or WAV files into the folder `out`, and grid.png of the first 256 pictures, or 64 sounds, which
    index.html plays; of vectors a scatter plot only. vocoder: of the sounds' rate; it makes their waves anew"""
    import torch
    from tqdm import tqdm

    from gan_kit.bundle import picture_of
    from gan_kit.pictures import save_png, to_uint8
    from gan_kit.sounds import write_wav

    out.mkdir(parents=True, exist_ok=True)
    rate = gan.sample_rate
    pictures = rate is None and len(gan.spec.shape) == 3
    most = 64 if rate else 256 if pictures else 10_000  # of the grid
    shown: list[torch.Tensor] = []
    written = 0
    with tqdm(total=n, unit=" samples", disable=None) as bar:
        for x in gan.batches(n, label, seed, psi, batch_size, condition=condition):
            if vocoder is not None:
                x = vocoder.reconstruct(x, sample_rate=rate)
            if rate is not None:
                for sound in x:
                    write_wav(sound, rate, out / f"{written:06d}.wav")
                    written += 1
            elif pictures:
                for image in to_uint8(x).permute(0, 2, 3, 1).numpy():
                    save_png(image, out / f"{written:06d}.png")
                    written += 1
            if len(shown) * batch_size < most:
                shown.append(x)
            bar.update(len(x))
    head = torch.cat(shown)[:most]
    save_png(picture_of(head, gan.spec, columns=max(1, round(math.sqrt(len(head))))), out / "grid.png")
    if rate is not None:
        names = [f"{i:06d}.wav" for i in range(len(head))]
        _write_page(out, names, [_class_name(gan, label, seed, i) for i in range(len(head))])
        print(f"{out / 'index.html'}  plays {len(head)} of the {written} sounds beside it; their picture is grid.png")
    else:
        print(f"{out / 'grid.png'}" + (f"  and {written} pictures beside it" if written else ""))


def read_condition(path: Path, n: int) -> Tensor:
    """The vector(s) of condition=file.npy: (E,), or (n, E). Raises UserError for what holds none."""
    import numpy as np
    import torch

    if not path.is_file() or path.suffix != ".npy":
        raise UserError(f"condition={path} is no .npy file; np.save a vector (E,), or one for each sample, ({n}, E)")
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"condition={path} can't be read ({error}); np.save a vector (E,) or ({n}, E)") from error
    if found.dtype.kind not in "fiub" or found.ndim not in (1, 2):
        raise UserError(f"condition={path} holds {found.shape} of {found.dtype}; give numbers, (E,) or ({n}, E)")
    return torch.from_numpy(found.astype(np.float32))


def _class_name(gan: TrainedGAN, label: int | str | None, seed: int, i: int) -> str:
    if not gan.num_classes:
        return f"{i}"
    k = int(gan.labels(1, label, seed, i)[0])  # type: ignore[index]
    return gan.spec.class_names[k] if gan.spec.class_names else f"class {k}"


def _write_page(out: Path, files: list[str], captions: list[str]) -> None:
    from gan_kit.sounds import write_page

    write_page(out / "index.html", out.name, [("", "grid.png", list(zip(captions, files, strict=True)))])


def write_restored(trained: TrainedReconstruction, source: Path, out: Path) -> None:
    """Each sound below `source`, or that file, restored as a WAV file of the same name into the folder `out`, with the
    original beside it, grid.png and index.html. Any rate and any number of channels: they are made to fit.

    Raises UserError where there is no sound, or a file can't be read.
    """
    import torch
    from tqdm import tqdm

    from gan_kit.bundle import picture_of
    from gan_kit.data.sound_file import SUFFIXES, read_sound
    from gan_kit.pictures import save_png
    from gan_kit.sounds import write_page, write_wav

    audio = trained.spec.audio
    if audio is None:
        raise UserError("source= is for what restores sounds; this generator does not")
    if not source.exists():
        raise UserError(f"source={source} is not there; give a sound file or a folder of them")
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"no sounds ({', '.join(SUFFIXES)}) below source={source}")
    out.mkdir(parents=True, exist_ok=True)
    sections: list[tuple[str, str | None, list[tuple[str, str]]]] = []
    shown: list[torch.Tensor] = []
    for path in tqdm(files, unit=" sounds", disable=None):
        x = torch.from_numpy(read_sound(path, audio.sample_rate))[None]  # (1, 1, T)
        try:
            restored = trained.reconstruct(x)
        except UserError as error:
            raise UserError(f"{path}, {x.shape[-1]} samples at {audio.sample_rate} Hz: {error}") from error
        name = path.stem if source.is_file() else "_".join(path.relative_to(source).with_suffix("").parts)
        write_wav(x[0], audio.sample_rate, out / f"{name}.original.wav")
        write_wav(restored[0], audio.sample_rate, out / f"{name}.wav")
        sections.append((name, None, [("original", f"{name}.original.wav"), ("restored", f"{name}.wav")]))
        if len(shown) < 16:
            head = [y[0, :, : 2 * audio.sample_rate] for y in (x, restored)]
            shown += [torch.nn.functional.pad(y, (0, 2 * audio.sample_rate - y.shape[-1])) for y in head]
    save_png(picture_of(torch.stack(shown), trained.spec, 2), out / "grid.png")
    write_page(
        out / "index.html", out.name, [("original and restored, the first 2 s", "grid.png", []), *sections[:100]]
    )
    print(f"{out / 'index.html'}  plays {min(len(files), 100)} of the {len(files)} sounds beside it")
