"""Every objective and augmentation of conf/ trains two steps with a small pair of networks, or is refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from doors import run

from gan_kit import _door

PAIR = [
    "data=digits", "image_size=32", "generator=sngan", "discriminator=sngan", "generator.width=8",
    "discriminator.width=8", "evaluation=none", "logger=none", "trainer=cpu", "debug=two_steps", "log_every_steps=1",
]  # fmt: skip
NEEDS = {
    "acgan": ["discriminator.conditioning=auxiliary"],
    "reacgan": ["discriminator.conditioning=d2d-ce"],
    "semi_supervised": ["discriminator.conditioning=k+1", "generator.num_classes=0"],
}
OF_OTHER_NETS = {"stylegan2": "path length is taken along w", "fastgan": "discriminator"}


OBJECTIVES = [o for o in _door.options("objective") if o not in OF_OTHER_NETS]


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective, augment", list(zip(OBJECTIVES, itertools.cycle(_door.options("augment")), strict=False))
)
def test_two_steps(objective: str, augment: str, tmp_path: Path) -> None:
    settings = [f"objective={objective}", f"augment={augment}", *NEEDS.get(objective, [])]
    done = run("train", *PAIR, *settings, f"paths.output_dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"loss_d", "loss_g"} <= last.keys()
    assert ("augment_p" in last) == (augment in ("ada", "ada_apa"))


@pytest.mark.parametrize(
    "settings, reason",
    [
        (["objective=san", "discriminator=dcgan", "discriminator.width=8"], "does not end in a gan_kit.nn.ClassHead"),
        (["objective=acgan"], "build it with conditioning=auxiliary"),
        (["data.labelled=100", "objective=hinge"], "null_class=true"),
        (["objective=stylegan2"], OF_OTHER_NETS["stylegan2"]),
        (["augment=ada", "augment.module.policy=[zoom]", "objective=hinge"], "no such augmentation ['zoom']"),
        (["model.label_dropout=0.1", "objective=hinge", "discriminator=dcgan"], "null_class=true"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(settings: list[str], reason: str, tmp_path: Path) -> None:
    done = run("train", *PAIR, *settings, f"paths.output_dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.returncode == 2
    assert reason in done.stderr
