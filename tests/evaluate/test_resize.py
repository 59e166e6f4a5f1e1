"""Each resizer is the one it is named after, whatever the sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gan_kit.evaluate.resize import RESIZERS, resize, resize_matrix
from gan_kit.types import UserError

SHAPES = [(28, 28), (64, 48), (224, 500), (512, 512)]


@pytest.mark.parametrize("source", [1, 2, 28, 299, 300, 700])
@pytest.mark.parametrize("resizer", RESIZERS)
def test_a_constant_stays_itself(source: int, resizer: str):
    rows = resize_matrix(source, 299, resizer)
    assert rows.shape == (299, source)
    torch.testing.assert_close(rows.sum(1), torch.ones(299))
    if source == 299:
        torch.testing.assert_close(rows, torch.eye(299))


@pytest.mark.parametrize("resizer", ["bilinear", "bilinear-smooth", "bicubic-smooth"])
def test_half_pixel_centres_treat_both_ends_alike(resizer: str):
    for source in (28, 512):
        rows = resize_matrix(source, 299, resizer)
        torch.testing.assert_close(rows.flip(0, 1), rows, rtol=1e-5, atol=1e-6)


def test_tf1_has_no_half_pixel_centres():
    torch.testing.assert_close(resize_matrix(2, 4, "tf1"), torch.tensor([[1, 0], [0.5, 0.5], [0, 1], [0, 1]]))


@pytest.mark.parametrize("shape", SHAPES)
def test_bilinear_is_torchs_as_pytorch_fid_has_it(shape: tuple[int, int]):
    x = torch.randint(0, 256, (2, 3, *shape)).float()
    theirs = F.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize(x, 299, "bilinear"), theirs, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("shape", SHAPES)
def test_bilinear_smooth_is_torchs_as_torchmetrics_has_it(shape: tuple[int, int]):
    x = torch.randint(0, 256, (2, 3, *shape)).float()
    theirs = F.interpolate(x, (299, 299), mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(resize(x, 299, "bilinear-smooth"), theirs, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("shape", SHAPES)
def test_bicubic_smooth_is_clean_fids(shape: tuple[int, int]):
    cleanfid = pytest.importorskip("cleanfid.resize")
    x = torch.randint(0, 2, (3, *shape), dtype=torch.uint8) * 255
    theirs = torch.from_numpy(cleanfid.build_resizer("clean")(x.permute(1, 2, 0).numpy())).permute(2, 0, 1)
    ours = resize(x[None], 299, "bicubic-smooth")[0]
    assert (ours == 0).any()
    assert (ours == 255).any()  # it overshoots: the cut is at work
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-3)


def test_a_picture_of_the_right_size_is_not_written_to():
    x = torch.rand(1, 1, 8, 8)
    before = x.clone()
    for resizer in RESIZERS:
        resize(x, 8, resizer).add_(0)
        resize(x, 16, resizer)
    assert torch.equal(x, before)


def test_a_misspelt_resizer_is_told_the_others():
    with pytest.raises(UserError, match="no such resizer cubic; have tf1, bilinear"):
        resize(torch.rand(1, 1, 8, 8), 4, "cubic")
