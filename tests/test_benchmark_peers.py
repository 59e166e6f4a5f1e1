"""benchmarks/peers.py without any peer: our side of every contest trains, and sides take turns as they are told to."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("peers")


NAMES = ["DCGAN-32", "DCGAN-64", "SNGAN-32", "SNGAN-32, classes", "StyleGAN2-32, config F", "StyleGAN2-32, CIFAR-10's"]


@pytest.mark.parametrize(
    "name", [*(pytest.param(n, marks=pytest.mark.slow) for n in NAMES[2:]), *NAMES[:2], "R3GAN-32"]
)
def test_our_side_takes_two_steps_alone(peers: ModuleType, name: str) -> None:
    [contest] = [c for c in peers.contests(r3gan_width=16) if c.name == name]
    contest.batch, contest.cycle = 2, 1
    gan = contest.ours()
    before = [p.detach().clone() for p in gan.discriminator.parameters()]
    taken = peers.race(gan, contest, {}, rounds=1)
    assert gan.step >= 2
    assert len(taken[""]) == 1
    assert taken[""][0].cpu > 0
    assert any((a != b).any() for a, b in zip(before, gan.discriminator.parameters(), strict=True))


def test_sides_take_as_many_steps_as_ours(peers: ModuleType) -> None:
    contest = peers.contests()[0]
    contest.batch, contest.cycle = 2, 3
    made = []

    def steps() -> Iterator[None]:
        while True:
            made.append(1)
            yield

    gan, net = contest.ours(), nn.Linear(2, 2)
    side = peers.peer_steps.Side(net, net, steps())
    taken = peers.race(gan, contest, {"lynnho": side}, rounds=2)
    assert len(made) == gan.step == 3 * 3  # a round warms up
    assert [len(rounds) for rounds in taken.values()] == [2, 2]
    told = peers.row(contest, "lynnho", gan, side, taken)
    assert told.startswith("| DCGAN-32 | 2 | lynnho | 1.069, 0.663 | 0.000, 0.000 |")


def test_a_checkout_leaves_no_names_behind(peers: ModuleType, tmp_path: Path) -> None:
    import sys

    for name in ("a", "b"):
        (tmp_path / name / "models").mkdir(parents=True)
        (tmp_path / name / "models" / "net.py").write_text(f"NAME = {name!r}")
    found = []
    for name in ("a", "b"):
        with peers.peer_steps.importing(tmp_path / name):
            found.append(importlib.import_module("models.net").NAME)
    assert found == ["a", "b"]
    assert "models" not in sys.modules


def test_scripts_are_read_without_being_run(peers: ModuleType, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text("import torch\nclass Net(torch.nn.Linear):\n    size = nz\nraise SystemExit('it trains')\n")
    found: dict[str, Any] = peers.peer_steps.classes_of(script, nz=7)
    assert found["Net"](2, 3).weight.shape == torch.Size([3, 2])
    assert found["Net"].size == 7


def test_what_is_not_given_is_left_out(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["peers.py", "--only", "r3gan"])
    threads = torch.get_num_threads()
    peers.main()
    torch.set_num_threads(threads)
    assert "left out: give --r3gan PATH" in capsys.readouterr().out
