"""Copies of real pictures are found, different pictures are not, and what nobody can tell is left to a person."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_kit.data.fashion_mnist import FashionMNIST
from gan_kit.data.prepare import image_crops
from gan_kit.data.prepare.hamming import clusters
from gan_kit.data.prepare.image_alignment import BLUR
from gan_kit.data.prepare.image_duplicates import near
from gan_kit.data.prepare.image_signature import LENGTH, LUMA, signature, thumbnail
from gan_kit.types import UserError


@pytest.fixture(scope="module")
def clothes() -> list[Image.Image]:
    """3,781 photographs of clothes, 128 x 128, many on one background."""
    path = Path(os.environ.get("GAN_KIT_DATA", "nowhere")) / "clothing10_128" / "clothing10_128_jpg.zip"
    if not path.exists():
        pytest.skip("clothing10_128 is not in GAN_KIT_DATA")
    with zipfile.ZipFile(path) as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".jpg"))
        return [Image.open(io.BytesIO(archive.read(n))).convert("RGB") for n in names]


def signatures(images: list[Image.Image]) -> np.ndarray:
    return np.stack([signature(image) for image in images])


def jpeg(image: Image.Image, quality: int = 50) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "jpeg", quality=quality)
    return Image.open(out).convert("RGB")


def brighter(image: Image.Image, gain: float, offset: float = 0) -> Image.Image:
    return Image.fromarray((np.asarray(image) * gain + offset).clip(0, 255).astype(np.uint8))


def scaled(image: Image.Image, factor: float) -> Image.Image:
    return image.resize([round(side * factor) for side in image.size], Image.Resampling.LANCZOS)


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """0.8 to 0.95 of each side, anywhere"""
    w = round(image.width * rng.uniform(0.8, 0.95))
    x, y = rng.integers(0, image.width - w + 1, 2)
    return image.crop((x, y, x + w, y + w))


def faint(image: Image.Image) -> Image.Image:
    """A flat picture: 6 % of the contrast, so that 8 bits leave a few levels"""
    return brighter(image, 0.06, 200)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg 50": jpeg,
    "half": lambda i: scaled(i, 0.5),
    "0.8": lambda i: scaled(i, 0.8),
    "double": lambda i: scaled(i, 2),
    "darker": lambda i: brighter(i, 0.7),
    "brighter": lambda i: brighter(i, 1.2),
    "much brighter": lambda i: brighter(i, 1.3),
    "mirrored": mirrored,
    "grey": lambda i: i.convert("L").convert("RGB"),
    "mirrored, half, jpeg": lambda i: jpeg(scaled(mirrored(i), 0.5), 70),
}


def pairs_of(found: np.ndarray) -> set[tuple[int, int]]:
    return {(i, j) for i, j in found.tolist()}


def test_the_blur_is_the_mean_of_a_neighbourhood_and_has_no_subnormal_weight() -> None:
    np.testing.assert_allclose(BLUR.sum(1), 1, rtol=1e-6)
    assert BLUR[BLUR > 0].min() > np.finfo(np.float32).tiny  # smaller ones take a CPU many times as long


@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_photographs_are_found_and_nothing_else(clothes: list[Image.Image], copy: str) -> None:
    images = clothes[1::8]
    n = len(images)
    found = near(signatures([*images, *map(COPIES[copy], images)]))
    same = pairs_of(found.same)
    wanted = {(i, i + n) for i in range(n)}
    assert len(same & wanted) >= 0.98 * n
    assert same <= wanted


@pytest.mark.slow
@pytest.mark.parametrize("copy", COPIES)
def test_copies_among_all_photographs(clothes: list[Image.Image], copy: str) -> None:
    n = len(clothes)
    found = near(signatures([*clothes, *map(COPIES[copy], clothes)]))
    same = pairs_of(found.same)
    wanted = {(i, i + n) for i in range(n)}
    assert len(same & wanted) >= 0.98 * n
    assert all(j - i == n or {i % n, j % n} == {2419, 2574} for i, j in same)  # one photograph, cut twice


def test_different_photographs_are_not_merged(clothes: list[Image.Image]) -> None:
    """3,781 pictures, 7 million pairs, one true pair in them; few to look at."""
    found = near(signatures(clothes))
    assert found.same.tolist() == [[2419, 2574]]
    assert len(found.doubtful) < len(clothes) / 100


@pytest.mark.slow
@pytest.mark.parametrize("side", [64, 32])
def test_pieces_of_photographs_are_not_merged(clothes: list[Image.Image], side: int) -> None:
    """15,124 or 60,496 pictures, each of which shows another piece of the world: of the one photograph that is there
    twice, the pieces at one place are one. No false merge among 30,000 or more is, at 95 %, fewer than 1 in 10,000."""
    places = [(x, y) for y in range(0, 128, side) for x in range(0, 128, side)]
    rows = signatures([i.crop((x, y, x + side, y + side)) for i in clothes for x, y in places])
    same = near(rows, crops=False).same
    photograph, place = np.divmod(same, len(places))
    assert len(same) >= 0.6 * len(places)
    assert (photograph == [2419, 2574]).all()
    assert (place[:, 0] == place[:, 1]).all()


@pytest.mark.slow
def test_different_garments_of_fashion_mnist_are_not_merged(fashion_root: Path) -> None:
    """Of 70,000 pictures 54 are merged into others. By eye 49 of them are one photograph, 5 may be another garment of
    the same cut, which is fewer than 1 in 10,000."""
    x = garments(fashion_root)
    found = near(signatures([Image.fromarray(picture) for picture in x]), crops=False)
    assert (clusters(len(x), found.same) != np.arange(len(x))).sum() <= 54


def test_garments_of_one_cut_with_other_prints_are_not_merged(fashion_root: Path) -> None:
    x = garments(fashion_root)
    pairs = [
        (8338, 9664), (5081, 9664), (9664, 35999), (10654, 29868), (32140, 39882), (27857, 55613), (56004, 58762),
    ]  # fmt: skip
    for pair in pairs:
        assert len(near(signatures([Image.fromarray(x[i]) for i in pair])).same) == 0


def garments(root: Path) -> np.ndarray:
    """(70000, 28, 28) uint8, train before test"""
    return np.concatenate([FashionMNIST(root).load(split).x[:, 0] for split in ("train", "test")])


def test_crops_are_for_a_person_to_look_at(clothes: list[Image.Image]) -> None:
    rng = np.random.default_rng(0)
    images = clothes[1::8]
    n = len(images)
    found = near(signatures([*images, *(jpeg(cropped(i, rng), 80) for i in images)]))
    assert len(found.same) == 0
    crops = {pair for pair, word in zip(pairs_of_list(found.doubtful), found.reasons, strict=True) if word == "crop"}
    assert len(crops & {(i, i + n) for i in range(n)}) >= 0.85 * n
    assert len(crops) <= 1.05 * n


def pairs_of_list(found: np.ndarray) -> list[tuple[int, int]]:
    return [(i, j) for i, j in found.tolist()]


def test_crops_are_searched_only_if_wanted(clothes: list[Image.Image]) -> None:
    images = clothes[:50]
    both = signatures([*images, *(cropped(i, np.random.default_rng(0)) for i in images)])
    assert len(near(both, crops=False).doubtful) < 5 < 40 < len(near(both).doubtful)


@pytest.mark.parametrize("copy", [jpeg, mirrored, lambda i: scaled(i, 0.5), lambda i: brighter(i, 0.8)])
def test_copies_of_flat_pictures_are_doubtful_and_never_the_same(
    clothes: list[Image.Image], copy: Callable[[Image.Image], Image.Image]
) -> None:
    images = [faint(i) for i in clothes[1::8]]
    n = len(images)
    found = near(signatures([*images, *map(copy, images)]))
    assert len(found.same) == 0
    assert len(pairs_of(found.doubtful) & {(i, i + n) for i in range(n)}) >= 0.85 * n
    assert set(found.reasons) == {"flat"}


def test_pictures_of_one_colour_are_one_chain() -> None:
    rows = signatures([Image.new("RGB", (40, 30), (s, s, s)) for s in (200, 10, 90, 200)])
    found = near(rows)
    assert len(found.same) == 0
    assert found.doubtful.tolist() == [[0, 2], [0, 3], [1, 2]]
    assert found.reasons == ("flat",) * 3


@pytest.mark.slow
def test_many_equal_pictures_are_a_chain_not_all_pairs(clothes: list[Image.Image]) -> None:
    white = signature(Image.new("RGB", (50, 50), "white"))
    n = 30_000
    found = near(np.tile(white, (n, 1)))
    assert len(found.doubtful) == n - 1
    assert (clusters(n, found.doubtful) == 0).all()
    n = 10_000
    symmetric = clothes[5].copy()
    symmetric.paste(mirrored(symmetric).crop((64, 0, 128, 128)), (64, 0))  # equal to its mirror image
    found = near(np.tile(signature(symmetric), (n, 1)))
    assert (clusters(n, found.same) == 0).all()
    assert len(found.same) < 2 * n
    assert len(found.doubtful) == 0


def test_another_colour_is_told(clothes: list[Image.Image]) -> None:
    image = np.asarray(clothes[2680]).astype(int)  # a shirt on red
    other = Image.fromarray(image[..., [2, 0, 1]].astype(np.uint8))
    grey = Image.fromarray(image.astype(np.uint8)).convert("L")
    found = near(signatures([grey.convert("RGB"), clothes[2680]]))
    assert found.same.tolist() == [[0, 1]]
    luma = signature(clothes[2680])
    recoloured = luma.copy()
    recoloured[LUMA:] = signature(other)[LUMA:]
    found = near(np.stack([luma, recoloured]))
    assert len(found.same) == 0
    assert found.reasons == ("colour",)


@pytest.mark.parametrize("gain", [1.0, 1.3])
def test_a_slightly_other_colour_is_told_and_clipped_lights_are_no_other_colour(
    clothes: list[Image.Image], gain: float
) -> None:
    images = [clothes[i] for i in range(0, 3000, 30)]
    hsv = [np.asarray(i.convert("HSV")).astype(int) for i in images]
    strong = [k for k, x in enumerate(hsv) if (x[..., 1] * x[..., 2]).mean() > 255 * 60]
    assert len(strong) > 5
    turned = [(hsv[k] + [30, 0, 0]) % 256 for k in strong]  # 42 degrees of hue
    other = [Image.fromarray(x.astype(np.uint8), "HSV").convert("RGB") for x in turned]
    copies = [brighter(images[k], gain) for k in strong]
    n = len(strong)
    rows = signatures([images[k] for k in strong])
    assert len(near(np.concatenate([rows, signatures(copies)])).same) >= n - 1
    luma = signatures(other)
    luma[:, :LUMA] = rows[:, :LUMA]
    assert len(near(np.concatenate([rows, luma])).same) == 0


def test_a_pair_is_told_once_in_order_whatever_the_order_of_rows(clothes: list[Image.Image]) -> None:
    rng = np.random.default_rng(0)
    images = clothes[:60]
    rows = signatures([*images, *map(jpeg, images), *(cropped(i, rng) for i in images), *map(faint, images[:20])])
    found = near(rows)
    for pairs in (found.same, found.doubtful):
        assert pairs.dtype == np.int64
        assert (pairs[:, 0] < pairs[:, 1]).all()
        assert pairs_of_list(pairs) == sorted(pairs_of(pairs))
    assert len(found.reasons) == len(found.doubtful)
    assert not pairs_of(found.same) & pairs_of(found.doubtful)
    order = rng.permutation(len(rows))
    again = near(rows[order])
    assert {tuple(sorted(order[list(p)].tolist())) for p in again.same.tolist()} == pairs_of(found.same)


def test_a_memmap_is_read_in_parts(clothes: list[Image.Image], tmp_path: Path) -> None:
    rows = signatures(clothes[:100])
    np.save(tmp_path / "rows.npy", np.concatenate([rows, rows]))
    mapped = near(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    assert mapped.same.tolist() == [[i, i + 100] for i in range(100)]


def test_processes_find_what_one_does_also_in_a_part_of_a_file(
    clothes: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_crops, "WORTH_HELP", 2)
    rng = np.random.default_rng(0)
    images = clothes[:600]
    rows = signatures([*images, *(cropped(i, rng) for i in images)])
    np.save(tmp_path / "rows.npy", np.concatenate([rows[::-1], rows]))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    for some, part in ((mapped, np.concatenate([rows[::-1], rows])), (mapped[len(rows) :], rows)):
        alone, helped = near(part), near(some, workers=3)
        assert alone.reasons.count("crop") > 400
        np.testing.assert_array_equal(helped.same, alone.same)
        np.testing.assert_array_equal(helped.doubtful, alone.doubtful)
        assert helped.reasons == alone.reasons


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_pictures(n: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, LENGTH), dtype=np.uint8)
    found = near(noise[:n])
    assert found.same.shape == found.doubtful.shape == (0, 2)


def test_other_arrays_are_refused() -> None:
    with pytest.raises(UserError, match=r"\(5, 9\)"):
        near(np.zeros((5, 9), np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (28, 28), (64, 64), (100, 130), (300, 299), (1000, 40)])
def test_a_signature_has_one_shape_and_a_thumbnail_is_final(size: tuple[int, int]) -> None:
    for mode in ("L", "RGB"):
        image = Image.effect_noise(size, 60).convert(mode)
        small = thumbnail(image)
        assert small.size == (min(size[0], 64), min(size[1], 64))
        assert thumbnail(small).tobytes() == small.tobytes()
        assert (signature(image) == signature(small)).all()
        assert signature(image).shape == (LENGTH,)
