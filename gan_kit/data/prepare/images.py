"""Pictures of all kinds -> samples of one shape, with what there is to know about each."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from gan_kit.data.prepare import image_duplicates, image_signature
from gan_kit.data.prepare.image_decode import MAX_PIXELS, MODES, frame_count, loaded, opened, readable_kinds, upright
from gan_kit.data.prepare.jpeg import DAMAGED
from gan_kit.data.prepare.types import Domain, Found, Item, Near, Unusable
from gan_kit.data.transforms import Resize, Transform, to_chw
from gan_kit.types import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Images"]

ALPHAS = ("white", "black", "grey", "refuse")
LOSSLESS = frozenset({"bmp", "gif", "png", "ppm", "psd", "qoi", "sgi", "sun", "tga", "tiff"})

# Grey levels of 255, of a thumbnail
FLAT = 5.0  # deviation
DARK = 60  # 99 of 100 pixels are darker
BRIGHT = 215  # 99 of 100 pixels are brighter
LOW_CONTRAST = 50  # from the 1st to the 99th percentile
BLURRED = 0.2  # of sharpness, which is 0 for slopes and 2/3 for edges between flat parts
LEVELS = np.arange(256)
STRIP = 2**15  # pixels hashed at once
UNKNOWN = np.zeros(image_signature.LENGTH, np.uint8)


class Images(Domain):
    """Pictures as (channels, size, size) uint8.

    transform: gives every picture one size
    channels: 3 (RGB), 1 (grey), 4 (RGB and alpha kept)
    alpha: what transparent parts are laid on, "white", "black" or "grey"; "refuse" leaves out pictures with such parts
    frames: of animations and TIFF pages the "first" or "all"
    max_pixels: larger pictures are refused before they are decoded
    min_size: pictures whose shorter side has fewer pixels are refused
    max_aspect: pictures are refused whose longer side is more times the shorter; None takes all
    crops: whether `near` searches for pictures that show a part of another, its longest part for large sets
    """

    name = "image"
    flags = frozenset({"blank", "flat", "dark", "bright", "low_contrast", "blurred", "small", "damaged"})
    version = 3

    def __init__(
        self,
        transform: Transform,
        channels: int = 3,
        alpha: str = "white",
        frames: str = "first",
        max_pixels: int = MAX_PIXELS,
        min_size: int = 1,
        max_aspect: float | None = None,
        crops: bool = True,
    ) -> None:
        if not isinstance(transform, Transform):
            raise UserError(f"transform={transform!r}; give pictures one size, by Resize(size=64)")
        if channels not in MODES:
            raise UserError(f"channels={channels!r}; set it to 1 (grey), 3 (RGB) or 4 (with alpha)")
        if alpha not in ALPHAS:
            raise UserError(f"no alpha={alpha!r}; have {', '.join(ALPHAS)}")
        if frames not in ("first", "all"):
            raise UserError(f"no frames={frames!r}; have first, all")
        if max_pixels < 1:
            raise UserError(f"max_pixels={max_pixels}; set it to 1 or more")
        if min_size < 1:
            raise UserError(f"min_size={min_size}; set it to 1 pixel or more")
        if max_aspect is not None and not max_aspect >= 1:
            raise UserError(f"max_aspect={max_aspect}; set it to 1 or more, or null to take all")
        self.transform, self.channels, self.alpha, self.frames = transform, channels, alpha, frames
        self.max_pixels, self.min_size, self.max_aspect = max_pixels, min_size, max_aspect
        self.crops = crops
        self.kinds = readable_kinds()

    def __repr__(self) -> str:
        import PIL

        return (
            f"Images({self.transform.fingerprint}, channels={self.channels}, alpha={self.alpha!r}, "
            f"frames={self.frames!r}, max_pixels={self.max_pixels}, min_size={self.min_size}, "
            f"max_aspect={self.max_aspect}, crops={self.crops}, "
            f"pillow={PIL.__version__!r})"
        )

    def items(self, data: bytes, found: Found) -> Iterator[Item]:
        with opened(data, found.kind, self.max_pixels) as image:
            self._check_shape(*image.size)
            count = frame_count(image)
            for frame in range(count if self.frames == "all" else 1):
                if frame and _is_stamp(image, frame):
                    continue
                yield self._item(loaded(image, frame, self.max_pixels), frame, count, found, len(data))

    def _check_shape(self, width: int, height: int) -> None:
        short, long = sorted((width, height))
        if short < self.min_size:
            raise Unusable(f"{width}x{height} is under min_size={self.min_size}")
        if self.max_aspect is not None and long > self.max_aspect * short:
            raise Unusable(f"{width}x{height} is longer than max_aspect={self.max_aspect}")

    def _item(self, image: Image, frame: int, count: int, found: Found, num_bytes: int) -> Item:
        mode, damaged = image.mode, image.info.get(DAMAGED)
        image, actions = upright(image, self.channels, self.alpha)
        if count > 1 and self.frames == "first":
            actions.append("first frame only")
        try:
            sample = self.transform(image)
        except UserError as e:  # the transform's settings are wrong for it, not the file
            raise UserError(f"{found.name}: {e}") from e
        facts: dict[str, Any] = {
            "width": image.width, "height": image.height, "mode": mode, "format": found.kind, "frames": count,
        }  # fmt: skip
        return Item(
            x=np.ascontiguousarray(to_chw(sample)),
            digest=_digest(image),
            signature=UNKNOWN,
            quality=0.0 if damaged else _bytes_kept(image, found.kind, num_bytes / count),
            part=f"frame {frame + 1}" if count > 1 and self.frames == "all" else "",
            facts=facts,
            actions=tuple(actions),
            flags=(*(("damaged",) if damaged else ()), *(("small",) if self._enlarged(image) else ())),
            sketch=_thumbnail(image),
        )

    def finished(self, items: list[Item]) -> list[Item]:
        """Signatures, the numbers behind flags, and quality, of all thumbnails of one shape together"""
        shapes: dict[tuple[int, ...], list[int]] = {}
        for i, item in enumerate(items):
            if item.sketch is not None:
                shapes.setdefault(item.sketch.shape, []).append(i)
        out = list(items)
        for rows in shapes.values():
            small = np.stack([items[i].sketch for i in rows])
            grey = image_signature.luminance(small)
            signatures = image_signature.signatures(small, grey)
            seen, constant = _seen(grey, signatures), _are_constant(np.stack([items[i].x for i in rows]))
            colour = np.abs(signatures[:, image_signature.LUMA :].astype(np.int16) - 128).mean(1) > 2
            for k, i in enumerate(rows):
                told = {name: values[k] for name, values in seen.items()}
                out[i] = replace(
                    items[i],
                    signature=signatures[k],
                    quality=items[i].quality + float(colour[k]) / 2 + told["sharpness"] / 1024,
                    facts=items[i].facts | told,
                    flags=(*(["blank"] if constant[k] else _flags(told)), *items[i].flags),
                    sketch=None,
                )
        return out

    def _enlarged(self, image: Image) -> bool:
        side = max(image.size) if getattr(self.transform, "fit", "") == "pad" else min(image.size)
        return isinstance(self.transform, Resize) and side < self.transform.size

    def near(self, signatures: np.ndarray, progress: bool = False, workers: int = 1) -> Near:
        return image_duplicates.near(signatures, progress, workers, self.crops)

    def sheet(self, rows: list[np.ndarray], columns: int) -> bytes:
        """Pictures side by side as they are; small ones are enlarged by whole pixels to 64 or more."""
        from PIL import Image as pil

        if not rows:
            raise ValueError("no pictures to show")
        _, h, w = rows[0].shape
        factor = max(1, -(-64 // max(h, w)))
        columns = min(columns, len(rows))
        lines = -(-len(rows) // columns)
        sheet = pil.new("RGB", (columns * (w * factor + 2) + 2, lines * (h * factor + 2) + 2), "white")
        for i, x in enumerate(rows):
            picture = pil.fromarray(np.ascontiguousarray(x[0] if len(x) == 1 else x.transpose(1, 2, 0)))
            picture = picture.resize((w * factor, h * factor), pil.Resampling.NEAREST)
            at = (2 + i % columns * (w * factor + 2), 2 + i // columns * (h * factor + 2))
            sheet.paste(picture, at, picture if picture.mode == "RGBA" else None)
        out = io.BytesIO()
        sheet.save(out, "PNG")
        return out.getvalue()


def _digest(image: Image) -> bytes:
    """In strips that stay in a core's cache, as all of a photograph's bytes would not"""
    digest = xxhash.xxh3_128(f"{image.mode} {image.width}x{image.height}".encode())
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        whole = rows >= image.height
        strip = image if whole else image.crop((0, top, image.width, min(top + rows, image.height)))
        digest.update(strip.tobytes())
    return digest.digest()


def _thumbnail(image: Image) -> np.ndarray:
    """As duplicates are searched by it; alpha on white. (H, W) or (H, W, 3)"""
    from PIL import Image as pil

    small = image_signature.thumbnail(image)
    if small.mode == "RGBA":
        small = pil.alpha_composite(pil.new("RGBA", small.size, "white"), small).convert("RGB")
    return np.asarray(small)


def _are_constant(x: np.ndarray) -> np.ndarray:
    """(N, C, H, W) uint8 -> (N,) bool"""
    return ((x.max((2, 3)) - x.min((2, 3))) <= 2).all(1)


def _seen(grey: np.ndarray, signatures: np.ndarray) -> dict[str, list[float]]:
    """The numbers behind the flags, of N luma thumbnails: N of each. Sums of whole numbers, so whatever N is."""
    count, n = len(signatures), image_signature.LUMA
    levels = signatures[:, :n] + 256 * np.arange(count)[:, None]
    counts = np.bincount(levels.ravel(), minlength=256 * count).reshape(count, 256)
    total, squares = counts @ LEVELS, counts @ LEVELS**2
    mean, variance = total / n, (n * squares - total**2) / n**2
    tail, ranks = n // 100, counts.cumsum(1)
    return {
        "luma_mean": [round(v, 1) for v in mean.tolist()],
        "luma_std": [round(v**0.5, 1) for v in variance.tolist()],
        "luma_low": (ranks <= tail).sum(1).tolist(),
        "luma_high": (ranks <= n - 1 - tail).sum(1).tolist(),
        "sharpness": [round(v, 3) for v in _sharpness(grey)],
    }


def _sharpness(grey: np.ndarray) -> list[float]:
    """(N, H, W) -> N: 0 for slopes, 2/3 for edges between flat parts, 1 for white noise, whatever the contrast.

    From the ratio of squared differences over two pixels and over one: 4 on a slope, 2 on a clean edge, 1 in noise.
    """
    if min(grey.shape[1:]) < 4:
        return [1.0] * len(grey)
    one, two = np.zeros((2, len(grey)))
    whole = grey.astype(np.int32)  # 255^2 times the 4,096 pixels of a thumbnail fit
    for g in (whole, whole.transpose(0, 2, 1)):
        near, far = g[:, 1:] - g[:, :-1], g[:, 2:] - g[:, :-2]
        one += np.einsum("nij,nij->n", near, near) * (far[0].size / near[0].size)
        two += np.einsum("nij,nij->n", far, far)
    return [min(1.0, max(0.0, (4 - b / a) / 3)) if a else 1.0 for a, b in zip(one.tolist(), two.tolist(), strict=True)]


def _flags(seen: dict[str, float]) -> list[str]:
    flags = []
    if seen["luma_std"] < FLAT:
        flags.append("flat")
    elif seen["sharpness"] < BLURRED:
        flags.append("blurred")
    if seen["luma_high"] < DARK:
        flags.append("dark")
    elif seen["luma_low"] > BRIGHT:
        flags.append("bright")
    elif not flags and seen["luma_high"] - seen["luma_low"] < LOW_CONTRAST:
        flags.append("low_contrast")
    return flags


def _bytes_kept(image: Image, kind: str, num_bytes: float) -> float:
    """Quality as far as the file tells: more pixels first, then (behind colour, 1/2) a lossless file or more bytes a
    pixel; behind both comes sharpness, 1/1024."""
    pixels = image.width * image.height
    kept = 1.0 if kind in LOSSLESS else min(0.99, num_bytes / pixels / 3)
    return pixels + round(kept * 128) / 512


def _is_stamp(image: Image, frame: int) -> bool:
    """Whether a TIFF's page is a smaller version of another (tag 254, bit 0)."""
    if image.format != "TIFF":
        return False
    try:
        image.seek(frame)
        return bool(int(image.tag_v2.get(254, 0)) & 1)  # type: ignore[attr-defined]
    except Exception:  # decoding will tell
        return False
