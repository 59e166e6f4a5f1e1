"""Features are kept by what they are of, and never poisoned."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_kit.evaluate.features import Extracted, Pixels, RandomFeatures, as_pictures
from gan_kit.evaluate.sets import FeatureSet, array_batches, data_features, extract_all, features_file, labels_like
from gan_kit.types import UserError


def pictures(n: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)


def features(x: np.ndarray, name: str = "data", **more: object) -> FeatureSet:
    return data_features(RandomFeatures(8, 1), name, len(x), lambda: array_batches(x, 7), **more)  # type: ignore[arg-type]


def never() -> list[Tensor]:
    raise AssertionError("extracted again")


def test_the_batch_size_changes_nothing():
    x = pictures()
    whole = RandomFeatures(8, 1).features(torch.from_numpy(x))
    torch.testing.assert_close(features(x).features, whole)


def test_the_second_call_reads_the_first_ones_file():
    first = features(pictures())
    again = data_features(RandomFeatures(8, 1), "data", 20, never)
    assert again.features.equal(first.features)


@pytest.mark.parametrize("other", [RandomFeatures(8, 1, seed=1), RandomFeatures(9, 1)])
def test_another_extractor_is_another_entry(other: RandomFeatures):
    features(pictures())
    assert features_file(other, "data") != features_file(RandomFeatures(8, 1), "data")
    with pytest.raises(AssertionError, match="extracted again"):
        data_features(other, "data", 20, never)


def test_changed_data_are_another_entry():
    features(pictures())
    with pytest.raises(AssertionError, match="extracted again"):
        data_features(RandomFeatures(8, 1), "data, one pixel changed", 20, never)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text"])
def test_a_damaged_entry_is_told_and_made_again(damage: str):
    first = features(pictures())
    path = features_file(RandomFeatures(8, 1), "data")
    whole = path.read_bytes()
    spoilt = {
        "truncate": whole[:-9],
        "flip": whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:],
        "empty": b"",
        "text": b"not safetensors",
    }
    path.write_bytes(spoilt[damage])
    with pytest.warns(UserWarning, match="damaged"):
        again = features(pictures())
    assert again.features.equal(first.features)
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_no_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("GAN_KIT_CACHE", str(tmp_path / "cache"))
    with pytest.warns(UserWarning, match="could not be kept"):
        assert len(features(pictures())) == 20


def _race(_: int) -> str:
    torch.set_num_threads(1)
    return str(features(pictures(200)).features.sum().item())


def test_two_processes_at_once_agree():
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert len(set(pool.map(_race, range(4)))) == 1
    assert data_features(RandomFeatures(8, 1), "data", 200, never).features.shape == (200, 8)
    assert not list(features_file(RandomFeatures(8, 1), "data").parent.glob("*.part"))


def test_labels_come_in_the_references_proportions():
    real = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    for n in (10, 100, 1000):
        assert np.bincount(labels_like(real, n)).tolist() == [6 * n // 10, 3 * n // 10, n // 10]
    assert labels_like(real, 50) == labels_like(real, 50)
    assert labels_like(real, 50) != sorted(labels_like(real, 50))


def test_some_rows_are_the_same_ones_each_time():
    found = FeatureSet(torch.arange(50.0)[:, None], None, torch.arange(50))
    some = found.some(10)
    assert len(some) == 10
    assert some.features.unique().numel() == 10
    assert some.labels is not None
    assert some.features[:, 0].equal(some.labels.float())
    assert found.some(10).features.equal(some.features)
    assert found.some(99) is found


class Broken(Pixels):
    def extract(self, x: Tensor) -> Extracted:
        return Extracted(super().extract(x).features.log(), None)


@pytest.mark.parametrize(
    "extractor, batches, words",
    [
        (Pixels((2,)), [torch.tensor([[0.0, float("nan")]])], "NaN"),
        (Broken((2,)), [torch.tensor([[-0.5, 0.5]])], "not finite"),
        (Pixels((2,)), [], "no samples"),
        (Pixels((2,)), [torch.zeros(1, 3)], r"shape \(2,\)"),
        (RandomFeatures(4, 3), [torch.zeros(1, 1, 8, 8)], "uint8"),
        (RandomFeatures(4, 1), [torch.zeros(1, 3, 8, 8, dtype=torch.uint8)], "1 channels"),
    ],
)
def test_what_can_not_be_scored(extractor, batches, words):
    with pytest.raises(UserError, match=words):
        extract_all(extractor, batches)


def test_grey_becomes_colour_where_it_is_wanted():
    grey = torch.from_numpy(pictures(2))
    assert as_pictures(grey, 3).shape == (2, 3, 8, 8)
    torch.testing.assert_close(
        RandomFeatures(4, 3).features(grey), RandomFeatures(4, 3).features(grey.repeat(1, 3, 1, 1))
    )


def test_an_extractor_says_all_that_its_figures_depend_on():
    assert RandomFeatures(8, 1).fingerprint == RandomFeatures(8, 1).fingerprint
    assert len({RandomFeatures(8, 1, s).fingerprint for s in range(3)} | {Pixels((2,)).fingerprint}) == 4
    assert not RandomFeatures(8, 1).train().training
    with pytest.raises(UserError, match="no class probabilities"):
        RandomFeatures(8, 1).probabilities(torch.from_numpy(pictures(2)))


def test_what_surrounds_extraction_moves_no_feature():
    x = torch.randint(0, 256, (8, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    extractor = RandomFeatures(16, 1)
    plain = extract_all(extractor, [x]).features
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not extractor.extract(x).features.equal(plain)  # else this test shows nothing
            assert extract_all(extractor, [x]).features.equal(plain)
            assert torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
