"""What exploring writes: labelled sheets, animations, sounds, and one page with all of them."""

from __future__ import annotations

import html
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gan_kit.files import write_whole, written_whole
from gan_kit.pictures import grid, save_png
from gan_kit.types import DataSpec, UserError

__all__ = ["Folder", "labelled", "write_animation"]

ABOUT, PAGE = "about.json", "index.html"
INK = (60, 60, 60)


class Folder:
    """Where one tool writes. What an earlier call with the same settings left is cleared first.

    name: says which call this is; caption: says what is to be seen
    """

    def __init__(self, home: Path, name: str, caption: str, spec: DataSpec):
        self.home, self.path, self.caption, self.spec = home, home / name, caption, spec
        self.files: list[dict[str, str]] = []
        if self.path.exists() and not (self.path / ABOUT).is_file() and any(self.path.iterdir()):
            raise UserError(f"{self.path} holds other files; name another folder with out=")
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        write_whole(self.path / ABOUT, "{}")

    def sheet(
        self, name: str, x: Tensor, columns: int, caption: str, rows: Sequence[str] = (), heads: Sequence[str] = ()
    ) -> None:
        """Samples (N, *shape) as one picture, row by row, with names of rows and columns; sounds as files, too."""
        if x.dim() == 3:
            self._sounds(name, x, columns)
        picture = self.pictured(x, columns)
        if x.dim() > 2:
            picture = labelled(picture, columns, -(-len(x) // columns), rows, heads)
        save_png(picture, self.path / f"{name}.png")
        self.add(f"{name}.png", caption)

    def pictured(self, x: Tensor, columns: int, min_side: int = 480) -> np.ndarray:
        if x.dim() != 3:
            return grid(x, columns, min_side)
        if self.spec.audio is None:
            raise UserError("this bundle does not say what its sounds are (sample rate); train it again, or resume it")
        from gan_kit.sounds import spectrogram_grid

        return spectrogram_grid(x, self.spec.audio, columns)

    def _sounds(self, name: str, x: Tensor, columns: int) -> None:
        if self.spec.audio is None:
            return
        from gan_kit.sounds import write_wav

        for i, sound in enumerate(x):
            file = f"{name}/{i // columns + 1:02d}-{i % columns + 1:02d}.wav"
            (self.path / name).mkdir(exist_ok=True)
            write_wav(sound, self.spec.audio.sample_rate, self.path / file)
            self.add(file, f"row {i // columns + 1}, column {i % columns + 1}")

    def animation(self, name: str, frames: Iterable[Tensor], total: int, columns: int, kind: str, fps: float) -> None:
        """frames: (tiles, C, H, W) each"""
        from tqdm import tqdm

        def drawn() -> Iterator[np.ndarray]:
            with tqdm(total=total, unit=" frames", disable=None) as bar:
                for frame in frames:
                    yield self.pictured(frame, columns, 256)
                    bar.update()

        file = f"{name}.{'png' if kind == 'apng' else kind}"
        write_animation(drawn(), self.path / file, kind, fps)
        self.add(file, f"{total} frames, {total / fps:.1f} s")

    def add(self, file: str, caption: str) -> None:
        self.files.append({"file": file, "caption": caption})

    def close(self, settings: dict[str, Any]) -> Path:
        """The folder's own record, and the page over all folders beside it."""
        about = {"caption": self.caption, "settings": settings, "files": self.files}
        write_whole(self.path / ABOUT, json.dumps(about, indent=1, ensure_ascii=False))
        write_whole(self.home / PAGE, _page(self.home))
        print(f"{self.path}  and {self.home / PAGE}")
        return self.path


def labelled(
    picture: np.ndarray, columns: int, rows: int, row_names: Sequence[str] = (), heads: Sequence[str] = ()
) -> np.ndarray:
    """A grid with names left of its rows and above its columns."""
    if not row_names and not heads:
        return picture
    from PIL import Image, ImageDraw, ImageFont

    h, w = picture.shape[:2]
    font = ImageFont.load_default(size=max(11, min(18, w // columns // 5)))
    sizes = [font.getbbox(name) for name in (*row_names, *heads)]
    left = max([math.ceil(font.getlength(name)) for name in row_names], default=0) + (10 if row_names else 0)
    high = math.ceil(max(box[3] for box in sizes))
    top = high + 8 if heads else 0
    image = Image.new("RGB", (left + w, top + h), "white")
    image.paste(Image.fromarray(picture), (left, top))
    draw = ImageDraw.Draw(image)
    for i, name in enumerate(heads):
        draw.text((left + (i + 0.5) * w / columns, top / 2), name, INK, font, anchor="mm")
    for i, name in enumerate(row_names):
        draw.text((left - 6, top + (i + 0.5) * h / rows), name, INK, font, anchor="rm")
    return np.asarray(image)


def write_animation(frames: Iterable[np.ndarray], path: Path, kind: str, fps: float) -> None:
    """(H, W, 3) uint8 frames, one at a time -> an endless GIF, WebP or APNG, or an MP4 (H.264).

    Raises UserError for no frames, another kind, or an MP4 without imageio-ffmpeg.
    """
    frames = iter(frames)
    if (first := next(frames, None)) is None:
        raise UserError(f"no frames for {path.name}")
    if kind == "mp4":
        _write_mp4(first, frames, path, fps)
        return
    from PIL import Image

    kinds: dict[str, dict[str, Any]] = {
        "gif": {"format": "GIF", "optimize": False},
        "webp": {"format": "WEBP", "lossless": True, "method": 3},
        "apng": {"format": "PNG"},
    }
    if kind not in kinds:
        raise UserError(f"video={kind}: have {', '.join(kinds)}, mp4")
    rest = (Image.fromarray(frame) for frame in frames)
    with written_whole(path) as part:
        Image.fromarray(first).save(
            part,
            save_all=True,
            append_images=list(rest) if kind == "apng" else rest,  # Pillow goes over the frames of a PNG twice
            duration=1000 / fps if kind == "apng" else max(1, round(1000 / fps)),
            loop=0,
            **kinds[kind],
        )


def _write_mp4(first: np.ndarray, rest: Iterator[np.ndarray], path: Path, fps: float) -> None:
    try:
        import imageio_ffmpeg
    except ImportError:
        raise UserError("video=mp4 needs imageio-ffmpeg: pip install 'gan-kit[video]', or video=webp") from None
    h, w = (side + side % 2 for side in first.shape[:2])  # yuv420p halves both sides

    def even(frame: np.ndarray) -> np.ndarray:
        more = [(0, h - frame.shape[0]), (0, w - frame.shape[1]), (0, 0)]
        return np.ascontiguousarray(np.pad(frame, more, constant_values=255))

    with written_whole(path) as part:
        writer = imageio_ffmpeg.write_frames(
            str(part), (w, h), fps=fps, codec="libx264", pix_fmt_out="yuv420p", macro_block_size=1, quality=None,
            output_params=["-crf", "16", "-f", "mp4"], ffmpeg_log_level="error",
        )  # fmt: skip
        writer.send(None)
        try:
            writer.send(even(first))
            for frame in rest:
                writer.send(even(frame))
        finally:
            writer.close()


def _page(home: Path) -> str:
    """index.html of all folders that have a record; what they hold may have been written by others and is escaped."""
    parts = [
        '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        "<title>explored</title><style>body{font:15px/1.5 sans-serif;margin:2em auto;max-width:72em;padding:0 1em}"
        "img,video{max-width:100%;display:block;margin:.4em 0}figure{margin:1em 0}"
        "figcaption,code{color:#555;font-size:13px}audio{height:2em;vertical-align:middle}</style><h1>explored</h1>",
    ]
    for record in sorted(home.glob(f"*/{ABOUT}")):
        try:
            about = json.loads(record.read_text(encoding="utf-8"))
            files = [(str(f["file"]), str(f["caption"])) for f in about["files"]]
            settings = " ".join(f"{k}={v}" for k, v in about["settings"].items())
            parts.append(f"<h2>{html.escape(record.parent.name)}</h2><p>{html.escape(str(about['caption']))}</p>")
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # of a call that was killed
        parts.append(f"<p><code>{html.escape(settings)}</code></p>")
        parts += [_figure(f"{record.parent.name}/{file}", caption) for file, caption in files]
    return "\n".join(parts) + "\n"


def _figure(path: str, caption: str) -> str:
    shown, caption = html.escape(path), html.escape(caption)
    if path.endswith(".wav"):
        return f'<audio controls preload="none" src="{shown}" title="{caption}"></audio>'
    if path.endswith(".mp4"):
        return f'<figure><video controls loop src="{shown}"></video><figcaption>{caption}</figcaption></figure>'
    if path.endswith((".png", ".gif", ".webp")):
        return f'<figure><img src="{shown}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    return f'<p><a href="{shown}">{shown}</a> {caption}</p>'
