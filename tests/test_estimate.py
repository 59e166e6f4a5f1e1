"""Operations against a count by hand, hours against a training that is then done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from doors import run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from gan_kit.adversarial import GAN, R1, R2, NonSaturating
from gan_kit.callbacks import Stopwatch
from gan_kit.cost import flops_of, peak_flops, step_cost
from gan_kit.image import DCGANDiscriminator, DCGANGenerator
from gan_kit.types import Batch


def test_a_product_and_a_convolution_by_hand() -> None:
    assert flops_of(lambda: nn.Linear(10, 20)(torch.zeros(4, 10))) == 2 * 4 * 10 * 20
    assert flops_of(lambda: nn.Conv2d(3, 8, 5, padding=2)(torch.zeros(2, 3, 9, 9))) == 2 * 2 * 8 * 3 * 25 * 81
    x = torch.zeros(4, 10, requires_grad=True)
    layer = nn.Linear(10, 20)
    assert flops_of(lambda: layer(x).sum().backward()) == 3 * 2 * 4 * 10 * 20  # forward, by weights, by inputs


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("layer, positions", [(nn.Conv2d, 4 * 4), (nn.ConvTranspose2d, 8 * 8)])
def test_each_gradient_of_a_convolution_costs_what_it_cost(layer: Any, positions: int, groups: int) -> None:
    conv, x = layer(4, 8, 3, stride=2, padding=1, groups=groups), torch.zeros(5, 4, 8, 8, requires_grad=True)
    once = 2 * 5 * positions * 4 * 8 * 9 // groups
    assert flops_of(lambda: conv(x)) == once
    assert flops_of(lambda: conv(x).sum().backward()) == 3 * once
    conv.requires_grad_(False)
    assert flops_of(lambda: conv(x).sum().backward()) == 2 * once


def conv(k: int, a: int, b: int, side: int) -> int:
    return 2 * k * k * a * b * side * side


def test_a_dcgan_by_hand() -> None:
    adam = partial(torch.optim.Adam, lr=1e-3)
    G, D = DCGANGenerator(16, 1, z_dim=10, width=8), DCGANDiscriminator(16, 1, width=8, norm="none")
    gan = GAN(G, D, NonSaturating(), adam, adam, n_critic=2)
    found = step_cost(gan, Batch(torch.zeros(6, 1, 16, 16), None))
    # z to 4x4, up to 8x8, up to 16x16; a transposed convolution costs its kernel at each input
    generator = conv(4, 10, 16, 1) + conv(4, 16, 8, 4) + conv(4, 8, 1, 8)
    first, rest = conv(4, 1, 8, 8), conv(4, 8, 16, 4) + conv(4, 16, 1, 1)
    assert found.generator == generator
    d = generator + 2 * (2 * first + 3 * rest)  # reals and fakes; nobody asks for gradients of pixels
    assert found.d_step == pytest.approx(d, rel=0.01)
    # through D to the pixels without gradients of D's weights, and G's three passes but for those of z
    g = 2 * first + 2 * rest + 3 * generator - conv(4, 10, 16, 1)
    assert found.g_step == pytest.approx(g / 2, rel=0.01)
    assert found.total == pytest.approx(d + g / 2, rel=0.01)


def test_lazy_penalties_share_their_cost_out() -> None:
    adam = partial(torch.optim.Adam, lr=1e-3)

    def cost(every: int) -> dict[str, float]:
        G, D = DCGANGenerator(16, 1, z_dim=10, width=8), DCGANDiscriminator(16, 1, width=8, norm="none")
        before = [p.clone() for p in D.parameters()]
        gan = GAN(G, D, NonSaturating(), adam, adam, penalties={"r1": R1(1.0, every=every), "r2": R2(1.0, every=every)})
        found = step_cost(gan, Batch(torch.zeros(4, 1, 16, 16), None)).penalties
        assert all(torch.equal(a, b) for a, b in zip(before, D.parameters(), strict=True))
        assert set(gan.penalties) == {"r1", "r2"}
        return found

    each, lazy = cost(1), cost(4)
    assert each["r1"] == each["r2"] > 0
    assert lazy["r1"] == each["r1"] / 4


DIGITS = ["+experiment=image/digits", "trainer=cpu", "threads=1"]


@pytest.mark.slow
def test_hours_are_those_that_the_training_takes(tmp_path: Path) -> None:
    done = run("estimate", *DIGITS, "budget_samples=12800", "steps=50", f"out={tmp_path / 'told.json'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    began = time.time()
    done = run("train", *DIGITS, "budget_samples=12800", f"paths.output_dir={tmp_path / 'r'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").open()]
    seconds = 12800 / (sum(row["samples_per_second"] for row in rows) / len(rows))
    assert time.time() - began > seconds * 0.7
    assert told["hours"] * 3600 == pytest.approx(seconds, rel=0.5)  # others use the machine too: 25 % when it is quiet
    kept = json.loads((tmp_path / "r" / "cost.json").read_text())
    assert kept["samples"] == 12800
    assert kept["flops_per_training_sample"] == told["flops_per_training_sample"]
    assert kept["tflops_per_second"] == pytest.approx(
        told["flops_per_training_sample"] * 12800 / kept["seconds"] / 1e12, rel=1e-6
    )
    assert 0 < kept["foretold_seconds"] < 3 * kept["seconds"]  # others use the machine too
    assert kept["mfu"] is None  # of a CPU
    assert "foretold" in done.stdout
    logged = EventAccumulator(str(tmp_path / "r" / "tensorboard")).Reload()
    for name in ("samples_per_second", "tflops_per_second"):
        (event,) = logged.Scalars(f"cost/{name}")
        assert event.step == 12800
        assert event.value == pytest.approx(kept[name], rel=1e-6)
    assert len(logged.Scalars("loss_d")) == len(rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    "experiment, nets", [("classifier/digits", ["net"]), ("image/digits_pix2pix", ["generator", "discriminator"])]
)
def test_trainings_that_are_no_gans_are_counted_as_a_whole(experiment: str, nets: list[str], tmp_path: Path) -> None:
    out = tmp_path / "told.json"
    done = run(
        "estimate", f"+experiment={experiment}", "trainer=cpu", "threads=1", "steps=6", f"out={out}", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(out.read_text())
    assert [key.removesuffix("_parameters") for key in told if key.endswith("_parameters")] == nets
    assert told["hours"] > 0
    if nets == ["net"]:
        from gan_kit.evaluate.classifier_nets import ConvClassifier

        net = ConvClassifier((1, 16, 16), 10)
        forward = flops_of(lambda: net(torch.zeros(2, 1, 16, 16))) / 2
        # forward, by the weights, by the inputs but for the pictures
        assert 2 * forward < told["flops_per_training_sample"] < 3 * forward


LARGE = """
import os, sys
held = bytearray(1_000_000_000)
held[::4096] = b"1" * len(held[::4096])
os.execv(sys.executable, [sys.executable, "-m", "gan_kit.estimate", *sys.argv[1:]])
"""


@pytest.mark.slow
def test_memory_is_not_hidden_by_what_the_program_that_started_it_held(tmp_path: Path) -> None:
    out = tmp_path / "told.json"
    root = str(Path(__file__).resolve().parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    subprocess.run(
        [sys.executable, "-c", LARGE, *DIGITS, "steps=6", f"out={out}"],
        cwd=tmp_path, env=env, capture_output=True, timeout=240, check=True,
    )  # fmt: skip
    assert 10 < json.loads(out.read_text())["peak_memory_bytes"] / 2**20 < 400


def test_the_peak_is_that_of_the_device() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3", "bf16-mixed") == 989e12
    assert peak_flops("NVIDIA H100 PCIe", "32-true") in (378e12, 51e12)
    assert peak_flops("NVIDIA A10", "16-mixed") == 125e12
    assert peak_flops("NVIDIA A100-SXM4-40GB", "bf16-mixed") == 312e12
    assert peak_flops("NVIDIA L40S", "bf16-true") == 362e12
    for unknown in ("cpu", "NVIDIA A10G", "NVIDIA GeForce RTX 4090 Laptop GPU"):
        assert peak_flops(unknown, "32-true") is None


def test_a_short_training_foretells_nothing() -> None:
    watch, gan = Stopwatch(), SimpleNamespace(device=torch.device("cpu"), samples_seen=0)
    trainer: Any = None
    watch.on_train_start(trainer, gan)
    for _ in range(50):
        gan.samples_seen += 8
        watch.on_train_batch_end(trainer, gan)
    watch.on_train_end(trainer, gan)
    assert watch.figures() is None
    time.sleep(0.05)  # what the first steps do not have
    gan.samples_seen += 8
    watch.on_train_batch_end(trainer, gan)
    watch.on_train_end(trainer, gan)
    found = watch.figures()
    assert found is not None
    assert found["samples"] == 51 * 8
    assert found["seconds"] > 0.05 > found["foretold_seconds"]


@pytest.mark.parametrize(
    "given, words",
    [
        (["steps=2"], "steps=2"),
        (["watts=-3"], "watts=-3"),
        (["trainer.devices=auto"], "trainer.devices=auto"),
        (["budget=3"], "budget"),
    ],
)
def test_mistakes_are_one_line(given: list[str], words: str, tmp_path: Path) -> None:
    done = run("estimate", *DIGITS, *given, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
