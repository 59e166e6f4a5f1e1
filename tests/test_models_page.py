"""docs/models.md tells what conf/ builds: its rows and sizes are compared, its operations are not counted again."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from gan_kit import _door

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def models() -> ModuleType:
    spec = importlib.util.spec_from_file_location("models_page", ROOT / "benchmarks" / "models.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows() -> list[list[str]]:
    lines = (ROOT / "docs" / "models.md").read_text().splitlines()
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    return [row for row in found if "=`" not in row[0]]  # but for the heads of tables


@pytest.mark.slow
def test_the_sizes_are_those_of_the_nets(models: ModuleType) -> None:
    table = [row for row in rows() if len(row) == 8]
    assert len(table) == len(models.NETS)
    for row, net in zip(table, models.NETS, strict=True):
        told = [re.split(r" \(", cell)[0] for cell in row[3:5]]
        assert row[0] == f"`{net.generator}`"
        with torch.device("meta"):  # shapes alone
            assert told == [models.millions(part) for part in models.built(net)]


def test_every_net_and_experiment_has_its_line(models: ModuleType) -> None:
    page = (ROOT / "docs" / "models.md").read_text()
    for group in ("generator", "discriminator"):
        for name in set(_door.options(group)) - {"mlp", "vocos", "hifigan", "wavegan"}:
            assert f"`{name}`" in page, name
    for line in models.experiments():
        assert line in page, f"{line} is not there: python benchmarks/models.py"


def test_nets_have_the_published_sizes(models: ModuleType) -> None:
    told = [net for net in models.NETS if all(net.published)]
    assert len(told) == 11
    for net in told:
        with torch.device("meta"):  # shapes alone
            assert tuple(models.millions(part) for part in models.built(net)) == net.published, net.paper


@pytest.mark.parametrize(
    "name, g, d",
    [
        ("cifar10_biggan", 9_416_196, 2_415_170), ("cifar10_sngan", 4_304_387, 1_055_105),
        ("ffhq256_stylegan2", 24_767_458, 24_001_089),
    ],
)  # fmt: skip
def test_presets_have_the_counts_of_public_code(models: ModuleType, name: str, g: int, d: int) -> None:
    """StudioGAN's of the CIFAR-10 presets, rosinality's of StyleGAN2, to the last parameter."""
    size, classes = (256, 0) if name.startswith("ffhq") else (32, 10)
    net = name.rpartition("_")[2]
    with torch.device("meta"):
        pair = models.built(models.Net(net, net, "", size, classes=classes, settings=(f"+experiment=image/{name}",)))
    assert [sum(p.numel() for p in part.parameters()) for part in pair] == [g, d]


@pytest.mark.parametrize("name", ["cifar10_r3gan", "cifar10_sngan"])
def test_costs_of_trainings_are_told(models: ModuleType, name: str) -> None:
    assert models.preset(name, 10) in (ROOT / "docs" / "models.md").read_text()


def test_a_step_of_r3gan_by_hand(models: ModuleType) -> None:
    gan, batch, cfg = models.of_shapes("cifar10_r3gan", 10)
    cost = models.training(gan, batch)
    once = cost.generator  # D, the generator mirrored, costs as much
    assert cost.d_step == pytest.approx(7 * once, rel=0.01)  # G, then D on reals and fakes and back by weights and x
    assert cost.g_step == pytest.approx(6 * once, rel=0.01)  # D on reals, G and D, back through D by x and G by both
    for penalty in cost.penalties.values():  # back to x, and back through that
        assert penalty == pytest.approx(3 * once, rel=0.01)
    assert cfg.budget_samples == 250_000_000
