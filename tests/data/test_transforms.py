"""Sizes, antialiasing, exactness, and fingerprints that tell all that matters."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gan_kit.data import PadTo, Resize
from gan_kit.data.transforms import FILTERS, FITS
from gan_kit.types import UserError


def checkerboard(side: int) -> np.ndarray:
    return ((np.indices((side, side)).sum(0) % 2) * 255).astype(np.uint8)


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_every_resize_keeps_the_mode_and_gives_the_size(mode: str, fit: str, filter: str) -> None:
    for size in [(40, 17), (5, 9), (12, 12), (1, 300)]:
        out = Resize(12, fit, filter)(Image.new(mode, size))
        assert (out.mode, out.size) == (mode, (12, 12))


@pytest.mark.parametrize("filter", FILTERS)
def test_a_shrunk_checkerboard_is_grey(filter: str) -> None:
    out = np.asarray(Resize(8, filter=filter)(Image.fromarray(checkerboard(64)))).astype(int)
    assert np.abs(out - 127.5).max() <= 6  # one taken pixel in eight would be 0 or 255


def test_box_is_the_mean_of_the_pixels_covered() -> None:
    x = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    # Pillow rounds after each axis: half a level twice
    mean = x.reshape(8, 4, 8, 4).mean((1, 3))
    assert np.abs(np.asarray(Resize(8, filter="box")(Image.fromarray(x))) - mean).max() <= 1


def test_crop_keeps_the_middle_pad_the_whole_squash_the_edges() -> None:
    x = np.zeros((16, 32), np.uint8)
    x[:, :8] = 255  # the left quarter is white
    image = Image.fromarray(x)
    assert np.asarray(Resize(16, "crop")(image)).max() == 0
    pad = np.asarray(Resize(16, "pad", "box", value=9)(image))
    assert (pad[:4] == 9).all()
    assert (pad[12:] == 9).all()
    assert (pad[4:12, :4] == 255).all()
    squash = np.asarray(Resize(16, "squash", "box")(image))
    assert (squash[:, :4] == 255).all()
    assert (squash[:, 4:] == 0).all()


@pytest.mark.parametrize("filter", FILTERS)
def test_a_picture_of_the_right_size_is_left_alone(filter: str) -> None:
    x = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    assert (np.asarray(Resize(8, filter=filter)(Image.fromarray(x))) == x).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("transform", [Resize(12), PadTo(12), PadTo(13, value=255)], ids=repr)
def test_arrays_and_pictures_give_the_same_pixels(transform, channels: int) -> None:
    x = np.random.default_rng(0).integers(0, 256, (3, channels, 8, 8), dtype=np.uint8)
    out = transform.arrays(x)
    assert out.shape == (3, channels, transform.size, transform.size)
    for picture, got in zip(x, out, strict=True):
        image = Image.fromarray(picture[0] if channels == 1 else picture.transpose(1, 2, 0).copy())
        want = np.asarray(transform(image))
        assert (got == (want[None] if channels == 1 else want.transpose(2, 0, 1))).all()


def test_padding_is_exact() -> None:
    x = np.random.default_rng(0).integers(0, 256, (2, 1, 28, 28), dtype=np.uint8)
    out = PadTo(32).arrays(x)
    assert (out[:, :, 2:30, 2:30] == x).all()
    assert out.sum() == x.sum()


def test_padding_a_larger_picture_names_both_sizes_and_the_cures() -> None:
    with pytest.raises(UserError, match=r"40x40 .* 32x32 .*image_size=40.*transform@data\.transform=lanczos"):
        PadTo(32)(Image.new("L", (40, 40)))
    with pytest.raises(UserError, match="40x40"):
        PadTo(32).arrays(np.zeros((1, 1, 40, 40), np.uint8))


def test_fingerprints_differ_where_pixels_may() -> None:
    transforms = [
        Resize(8), Resize(9), Resize(8, "pad"), Resize(8, "pad", value=1), Resize(8, filter="box"),
        PadTo(8), PadTo(9), PadTo(8, 1),
    ]  # fmt: skip
    assert len({t.fingerprint for t in transforms}) == len(transforms)
    assert Resize(8).fingerprint == Resize(8).fingerprint


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Resize(8, fit="cover"), "no fit 'cover'; have crop, pad, squash"),
        (lambda: Resize(8, filter="nearest"), "no filter 'nearest'; have lanczos, box, bicubic, bilinear"),
        (lambda: Resize(0), "size=0"),
        (lambda: Resize(8.5), r"size=8\.5"),
        (lambda: PadTo(-1), "size=-1"),
        (lambda: PadTo(8, value=256), "value=256"),
    ],
)
def test_bad_values_name_what_there_is(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
