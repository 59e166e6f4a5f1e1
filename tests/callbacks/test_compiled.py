"""Compiled nets: the same training but for rounding, and eager again around each step."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch

from gan_kit.adversarial import EMA, GAN, R1, NonSaturating
from gan_kit.callbacks import Budget, Compile
from gan_kit.data import RingData
from gan_kit.types import UserError
from gan_kit.vector import MLPDiscriminator, MLPGenerator

STEPS = 6


class Graphs:
    """A backend that runs a graph as it is, and counts those that it was given and how often each has run."""

    def __init__(self) -> None:
        self.runs: list[int] = []

    def __call__(self, graph: Any, _: Any) -> Any:
        number = len(self.runs)
        self.runs.append(0)

        def run(*given: Any) -> Any:
            self.runs[number] += 1
            return graph(*given)

        return run


def fit(folder: Path, every: int, *callbacks: L.Callback) -> GAN:
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.99))
    gan = GAN(
        MLPGenerator(width=16), MLPDiscriminator(width=16), NonSaturating(), adam, adam, {"r1": R1(0.5, every=every)},
        ema=EMA(100), init_seed=0,
    )  # fmt: skip
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, use_distributed_sampler=False,
        callbacks=[Budget(64 * STEPS), *callbacks],
    )  # fmt: skip
    trainer.fit(gan, datamodule=RingData(batch_size=64, labels=False))
    return gan


@pytest.mark.slow
@pytest.mark.parametrize("nets", [("generator",), ("generator", "discriminator")])
def test_a_compiled_training_is_the_training_and_leaves_no_trace(nets: tuple[str, ...], tmp_path: Path) -> None:
    torch.compiler.reset()
    graphs = Graphs()
    plain, compiled = fit(tmp_path, 2), fit(tmp_path, 2, Compile(nets, backend=graphs))
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    # G draws for D and for itself; D is compiled in each second step, for reals, fakes and G's fakes
    assert sum(graphs.runs) == 2 * STEPS + (3 * STEPS // 2 if "discriminator" in nets else 0)
    assert not any("forward" in vars(getattr(compiled, name)) for name in nets)


@pytest.mark.parametrize(
    "nets, every, words",
    [((), 2, "have generator"), (("critic",), 2, "critic"), (("discriminator",), 1, "r1.every=16")],
)
def test_what_can_not_be_compiled_is_told(nets: tuple[str, ...], every: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        fit(tmp_path, every, Compile(nets))
