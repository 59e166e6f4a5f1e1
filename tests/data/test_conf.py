"""conf/data and conf/transform build what they say, with the flat overrides that docs/data.md promises."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from gan_kit.data import DigitsData, FashionMNISTData, FolderData, PadTo, Resize, RingData

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.fixture
def data(tmp_path: Path):
    """Build the `data` group under a top level that has only what the group asks for."""

    def build(*overrides: str):
        top = tmp_path / "top"
        top.mkdir(exist_ok=True)
        (top / "top.yaml").write_text(
            f"defaults: [{{data: digits}}, _self_]\nimage_size: 16\nseed: 5\nhydra: {{searchpath: ['file://{CONF}']}}\n"
        )
        with initialize_config_dir(str(top), version_base="1.3"):
            return instantiate(compose("top", list(overrides)).data, _convert_="all")

    return build


@pytest.mark.parametrize(
    "name, kind",
    [("digits", DigitsData), ("fashion_mnist", FashionMNISTData), ("ring", RingData)],
)
def test_each_group_builds_its_class_with_the_runs_seed(data, name: str, kind: type) -> None:
    module = data(f"data={name}", "data.batch_size=8", "data.labels=false")
    assert type(module) is kind
    assert (module.batch_size, module.labels, module.seed) == (8, False, 5)


@pytest.mark.parametrize("name", sorted(p.stem for p in (CONF / "transform").glob("*.yaml")))
def test_each_transform_takes_the_image_size(data, name: str) -> None:
    transform = data(f"transform@data.transform={name}").source.transform
    assert isinstance(transform, Resize | PadTo)
    assert transform.size == 16
    assert isinstance(transform, PadTo) or transform.filter == name


def test_the_folder_takes_its_flat_overrides(data, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(8):
        Image.new("RGB", (20, 30), (20 * i, 0, 0)).save(photos / f"{i}.png")
    module = data(
        "data=folder", f"data.root={photos}", "data.on_error=skip", "data.channels=1",
        "data.transform.size=10", "data.hflip=true", "data.test_fraction=0.0",
    )  # fmt: skip
    assert type(module) is FolderData
    assert module.source.on_error == "skip"
    assert module.spec.shape == (1, 10, 10)
    assert len(module.arrays("train").x) == 8


def test_fashion_mnist_takes_data_root(data) -> None:
    assert data("data=fashion_mnist", "data.root=/somewhere").source.root == Path("/somewhere")
