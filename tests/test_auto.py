"""objective.gamma=auto and optimizer.*.lr=auto are the published rules' numbers, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from doors import run

from gan_kit import _door
from gan_kit._auto import settle
from gan_kit.adversarial.heuristics import gamma_r1, gamma_relativistic, learning_rate
from gan_kit.types import AudioSpec, DataSpec, UserError

PICTURES = DataSpec((3, 64, 64), 10)
SMALL = ["generator.width=32", "discriminator.width=16"]


def settled(*settings: str, spec: DataSpec = PICTURES) -> dict:
    cfg = _door.compose("train", ["paths.output_dir=run", *settings])
    cfg.spec = spec.settings()
    settle(cfg, spec)
    build = _door.Builder(cfg)
    build.resolve()
    return build.plain("model")


def test_r3gans_gamma_falls_tenfold_from_where_its_settings_lie() -> None:
    for objective in ("r3gan", "relativistic"):
        penalties = settled(f"objective={objective}", "objective.gamma=auto")["penalties"]
        for name in ("r1", "r2"):
            weight = penalties[name]["weight"]
            assert weight["start"] == pytest.approx(gamma_relativistic(64))
            assert weight["end"] == pytest.approx(gamma_relativistic(64) / 10)
            assert weight["duration_samples"] == 200_000


@pytest.mark.parametrize("objective", ["nonsaturating_r1", "stylegan2"])
def test_r1s_gamma_goes_by_size_and_batch(objective: str) -> None:
    model = settled(f"objective={objective}", "objective.gamma=auto", "data.batch_size=16")
    assert model["penalties"]["r1"]["weight"] == pytest.approx(gamma_r1(64, 16))


def test_lr_goes_by_each_nets_width() -> None:
    model = settled("generator=r3gan", *SMALL, "optimizer.g.lr=auto", "optimizer.d.lr=auto")
    assert model["optimizer_g"]["lr"] == learning_rate(64)  # 32 channels, twice as wide inside a block
    assert model["optimizer_d"]["lr"] == learning_rate(32)
    assert settled(*SMALL, "optimizer.d.lr=auto")["optimizer_g"]["lr"] == 2e-4


WAVES = DataSpec((1, 4096), audio=AudioSpec(16000, 4096))


@pytest.mark.parametrize(
    "settings, spec, said",
    [
        (["objective.gamma=auto"], WAVES, "pictures, which these data are not"),
        (["objective.gamma=auto"], DataSpec((1, 64, 64), audio=WAVES.audio), "pictures, which these data are not"),
        (["objective=r3gan", "objective.gamma=auto", "~objective.penalties.r2"], PICTURES, "not R1 with Relativistic"),
        (["objective=hinge", "+objective.gamma=auto"], PICTURES, "no R1 with Hinge"),
        (["generator=stylegan2", "optimizer.g.lr=auto"], PICTURES, "StyleGAN2Generator has none"),
        (
            ["optimizer.g.lr=auto", "+model.schedules.lr_g={_target_: gan_kit.adversarial.Linear, start: 1, end: 0}"],
            PICTURES,
            "model.schedules.lr_g sets it",
        ),
        (["model=classifier", "optimizer.g.lr=auto"], PICTURES, "auto is for model=gan"),
    ],
)
def test_where_there_is_no_rule_it_is_refused(settings: list[str], spec: DataSpec, said: str) -> None:
    with pytest.raises(UserError, match=said):
        settled(*settings, spec=spec)


def test_a_run_says_what_it_was_and_goes_on_with_it(tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = ["data=digits", "image_size=8", "trainer=cpu", "debug=two_steps", "generator.width=16"]
    given += ["discriminator.width=16", "objective.gamma=auto", "optimizer.g.lr=auto", f"paths.output_dir={out}"]
    done = run("train", *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "auto   objective.gamma" in done.stdout
    kept = yaml.safe_load((out / "config.yaml").read_text())
    assert kept["objective"]["penalties"]["r1"]["weight"]["start"] == pytest.approx(gamma_relativistic(8))
    assert kept["optimizer"]["g"]["lr"] == learning_rate(32)
    done = run("train", f"resume={out}", "trainer.max_steps=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "auto   optimizer.g.lr" in done.stdout
