"""From samples to pictures: the data's scaling undone exactly, each image where it belongs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan_kit.data.datamodule import scaled
from gan_kit.pictures import grid, save_png, to_uint8

ALL = torch.arange(256, dtype=torch.uint8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_grey_levels_come_back_from_the_datas_scaling(dtype: torch.dtype) -> None:
    assert torch.equal(to_uint8(scaled(ALL).to(dtype)), ALL)


def test_a_level_reaches_half_way_to_its_neighbours_and_what_lies_outside_is_clamped() -> None:
    x = scaled(ALL)
    step = 1 / 127.5
    inner = slice(1, 255)
    assert torch.equal(to_uint8(x + 0.49 * step)[inner], ALL[inner])
    assert torch.equal(to_uint8(x - 0.49 * step)[inner], ALL[inner])
    assert torch.equal(to_uint8(x + 0.51 * step)[:-1], ALL[1:])
    assert to_uint8(torch.tensor([-1.0, -7.0, 1.0, 7.0])).tolist() == [0, 0, 255, 255]


def test_the_samples_are_not_written_to() -> None:
    x = torch.rand(2, 1, 4, 4)
    before = x.clone()
    to_uint8(x), grid(x, 2)
    assert torch.equal(x, before)


@pytest.mark.parametrize("channels", [1, 3, 4, 2])
def test_images_lie_row_by_row_magnified_with_a_white_frame(channels: int) -> None:
    n, columns, side, factor, pad = 5, 3, 4, 2, 4
    levels = (torch.arange(n * channels * side * side) * 7 % 251).to(torch.uint8).view(n, channels, side, side)
    picture = grid(scaled(levels), columns, min_side=30)  # 3 x (4 + 2) = 18: twice
    assert picture.dtype == np.uint8
    assert picture.shape == (2 * (side * factor + pad) + pad, columns * (side * factor + pad) + pad, 3)
    shown = levels[:, :3] if channels >= 3 else levels[:, :1].expand(-1, 3, -1, -1)
    for i in range(n):
        top, left = (pad + k * (side * factor + pad) for k in divmod(i, columns))
        tile = picture[top : top + side * factor, left : left + side * factor]
        big = shown[i].permute(1, 2, 0).numpy().repeat(factor, 0).repeat(factor, 1)
        assert (tile == big).all()
    assert (picture[:pad] == 255).all()
    assert (picture[:, :pad] == 255).all()


def test_the_grid_is_at_least_as_wide_as_asked_and_large_images_are_left_alone() -> None:
    assert grid(torch.zeros(8, 1, 16, 16), 4).shape[1] >= 480
    assert grid(torch.zeros(4, 3, 256, 256), 4).shape == (2 + 258, 2 + 4 * 258, 3)


def test_vectors_become_a_scatter_plot_with_the_first_axis_right_and_the_second_up() -> None:
    points = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    picture = grid(points, columns=1, min_side=100)
    assert picture.shape == (100, 100, 3)
    rows, cols = np.nonzero((picture != 255).any(axis=2))
    assert len(rows) == 18  # two dots of 3 x 3
    right, low = cols > 70, rows > 70
    assert (abs(cols[right] - 90) <= 2).all()
    assert (abs(rows[right] - 49) <= 2).all()
    assert (abs(rows[low] - 89) <= 2).all()
    assert (abs(cols[low] - 50) <= 2).all()
    assert (right ^ low).all()


def test_points_far_outside_are_left_out() -> None:
    assert (grid(torch.tensor([[50.0, 0.0], [0.0, -50.0], [1.25, 1.25]]), 1, 50) == 255).all()


def test_other_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no picture of samples of shape \(1, 50\)"):
        grid(torch.zeros(3, 1, 50), 2)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3)])
def test_png_files_hold_every_pixel(shape: tuple[int, ...], tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / "new" / "folder" / "x.png"
    save_png(picture, path)
    save_png(picture, path)  # replaces
    assert (np.asarray(Image.open(path)) == picture.squeeze()).all()
    assert [p.name for p in path.parent.iterdir()] == ["x.png"]
