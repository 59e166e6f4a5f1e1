"""How a picture gets its size. Applied once, on the CPU, when a source makes its arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from gan_kit.types import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["PadTo", "Resize", "Transform"]

FITS = ("crop", "pad", "squash")
FILTERS = ("lanczos", "box", "bicubic", "bilinear")


class Transform(ABC):
    """A picture of any size -> a square one. Its repr is its fingerprint: it names all that matters."""

    size: int

    @abstractmethod
    def __call__(self, image: Image) -> Image:
        """image: a Pillow picture of mode L or RGB -> the same mode, size x size."""

    @property
    def fingerprint(self) -> str:
        return repr(self)

    def arrays(self, x: np.ndarray) -> np.ndarray:
        """x: (N, C, H, W) uint8 with C = 1 or 3 -> (N, C, size, size) uint8."""
        from PIL import Image

        n, channels = x.shape[:2]
        out = np.empty((n, channels, self.size, self.size), np.uint8)
        for i, picture in enumerate(x):
            pixels = picture[0] if channels == 1 else np.ascontiguousarray(picture.transpose(1, 2, 0))
            out[i] = to_chw(self(Image.fromarray(pixels)))
        return out


class Resize(Transform):
    """Resample to size x size, antialiased: when shrinking, the filter is widened by the scale.

    fit: "crop" keeps the middle square, "pad" keeps all of it on `value`, "squash" changes the proportions
    filter: "lanczos", "bicubic", "bilinear" or "box" (the mean of the pixels covered)
    """

    def __init__(self, size: int, fit: str = "crop", filter: str = "lanczos", value: int = 0) -> None:
        self.size = _checked_size(size)
        self.fit = _one_of("fit", fit, FITS)
        self.filter = _one_of("filter", filter, FILTERS)
        self.value = _checked_value(value)

    def __call__(self, image: Image) -> Image:
        from PIL import Image as pil

        resample = pil.Resampling[self.filter.upper()]
        w, h = image.size
        target = (self.size, self.size)
        if self.fit == "crop":
            side = min(w, h)
            left, top = (w - side) / 2, (h - side) / 2
            return image.resize(target, resample, box=(left, top, left + side, top + side))
        if self.fit == "squash":
            return image.resize(target, resample)
        scale = self.size / max(w, h)
        inner = (max(1, round(w * scale)), max(1, round(h * scale)))
        return _centred(image.resize(inner, resample), self.size, self.value)

    def __repr__(self) -> str:
        value = f", value={self.value}" if self.fit == "pad" else ""
        return f"Resize(size={self.size}, fit={self.fit!r}, filter={self.filter!r}{value})"


class PadTo(Transform):
    """Put the picture, pixel for pixel, in the middle of a size x size field (28 -> 32 adds 2 a side).

    An odd margin has its extra row below and its extra column on the right.
    """

    def __init__(self, size: int, value: int = 0) -> None:
        self.size = _checked_size(size)
        self.value = _checked_value(value)

    def __call__(self, image: Image) -> Image:
        self._check_fits(*image.size)
        return _centred(image, self.size, self.value)

    def arrays(self, x: np.ndarray) -> np.ndarray:
        n, channels, h, w = x.shape
        self._check_fits(w, h)
        out = np.full((n, channels, self.size, self.size), self.value, np.uint8)
        top, left = (self.size - h) // 2, (self.size - w) // 2
        out[:, :, top : top + h, left : left + w] = x
        return out

    def _check_fits(self, w: int, h: int) -> None:
        if max(w, h) > self.size:
            raise UserError(
                f"a {w}x{h} picture does not fit in {self.size}x{self.size} by padding; "
                f"set image_size={max(w, h)} or more, or resample with transform@data.transform=lanczos"
            )

    def __repr__(self) -> str:
        return f"PadTo(size={self.size}, value={self.value})"


def to_chw(image: Image) -> np.ndarray:
    """A Pillow picture of mode L or RGB -> (C, H, W) uint8."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _centred(image: Image, size: int, value: int) -> Image:
    from PIL import Image as pil

    field = pil.new(image.mode, (size, size), value if image.mode == "L" else (value,) * 3)
    field.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return field


def _checked_size(size: int) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise UserError(f"size={size!r} is no picture's side; give a whole number of pixels, such as 32")
    return size


def _checked_value(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
        raise UserError(f"value={value!r} is no grey level; give a number from 0 (black) to 255")
    return value


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise UserError(f"no {name} {value!r}; have {', '.join(choices)}")
    return value
