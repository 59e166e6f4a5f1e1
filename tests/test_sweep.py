"""A sweep: its space, what it refuses, and a real one that is killed, interrupted and gone on with."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from doors import Door, run

from gan_kit import _door
from gan_kit._arguments import normalised
from gan_kit._space import changed, overrides_of, space_of
from gan_kit.types import UserError

pytest.importorskip("optuna", reason="the sweep extra is not installed")

TIMES = {"times": True, "low": 0.5, "high": 2.0}


def ring(*more: str) -> Any:
    return _door.compose("train", normalised(["+experiment=ring", *more]))


# ---- the space ----------------------------------------------------------------------------------------------


def test_a_factor_keeps_the_shape_of_a_schedule() -> None:
    config = ring()
    space = space_of(
        {"gamma": TIMES | {"keys": ["objective.gamma", "objective.gamma.start", "objective.gamma.end"]}}, config
    )
    assert [key for key, _ in space[0].keys] == ["objective.gamma.start", "objective.gamma.end"]
    assert overrides_of({"gamma": 2.0}, space, config) == ["objective.gamma.start=0.4", "objective.gamma.end=0.02"]


def test_a_factor_of_a_whole_number_is_whole() -> None:
    config = ring()
    space = space_of({"ema": TIMES | {"keys": ["model.ema.halflife_samples"]}}, config)
    assert overrides_of({"ema": 1.23456}, space, config) == ["model.ema.halflife_samples=24691"]


def test_an_element_of_a_list_is_set_with_its_list() -> None:
    config = ring()
    space = space_of(
        {"beta2": {"choices": [0.9, 0.99], "keys": ["optimizer.g.betas.1", "optimizer.d.betas.1"]}}, config
    )
    found = overrides_of({"beta2": 0.99}, space, config)
    assert found == ["optimizer.g.betas=[0.5,0.99]", "optimizer.d.betas=[0.5,0.99]"]
    assert list(ring(*found).optimizer.d.betas) == [0.5, 0.99]


def test_the_default_space_fits_every_experiment_of_a_gan() -> None:
    space = yaml.safe_load((_door.conf_dir() / "sweep.yaml").read_text())["space"]
    for name in ("ring", "image/digits", "image/fashion_mnist_dcgan", "image/fashion_mnist_r3gan"):
        config = _door.compose("train", [f"+experiment={name}"])
        assert [p.name for p in space_of(space, config)] == ["lr", "gamma", "beta2", "ema"]


@pytest.mark.parametrize(
    "space, words",
    [
        ({}, "nothing to search"),
        ({"lr": None}, "nothing to search"),
        ({"lr": 1}, "space.lr=1; give"),
        ({"seed": {"lo": 1, "high": 2}}, "space.seed.lo: did you mean log|space.seed.lo: "),
        ({"seed": {"low": 3, "high": 2}}, "from low=3 to high=2"),
        ({"seed": {"low": 0, "high": 2, "log": True}}, "has no logarithm"),
        ({"seed": {"low": 0, "high": 2, "step": -1}}, "step=-1"),
        ({"seed": {"low": 0, "high": 2, "choices": [1]}}, "choices and a range"),
        ({"sead": {"low": 0, "high": 2}}, "sets sead, and this training has none"),
        ({"name": TIMES}, "name=ring is none|name=ring"),
    ],
)
def test_a_space_that_is_none_is_refused(space: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        space_of(space, ring())


def test_the_command_line_changes_the_space() -> None:
    space: dict[str, Any] = {"lr": {"low": 1, "high": 2}, "gamma": {"low": 3, "high": 4}}
    assert changed(space, ["space.lr.low=1e-1"]) == space | {"lr": {"low": 0.1, "high": 2}}
    assert changed(space, ["space.lr={choices: [1, 2]}"]) == space | {"lr": {"choices": [1, 2]}}
    assert changed(space, ["+space.width={low: 8, high: 64, keys: [a.b, 'c']}"])["width"]["keys"] == ["a.b", "c"]
    assert changed(space, ["space.lr=null"]) == changed(space, ["~space.lr"]) == space | {"lr": None}
    assert changed(space, ["space={seed: {low: 0, high: 9}}"]) == {"seed": {"low": 0, "high": 9}}
    for wrong in ("space.lr={", "space.width.low=1", "space.lr.low.low=1"):
        with pytest.raises(UserError, match=r"space\.(lr|width)"):
            changed(space, [wrong])


# ---- the door -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["+experiment=rung"], "no experiment 'rung': did you mean ring?"),
        (["+experiment=ring", "generator.widht=3"], "no such setting 'generator.widht': did you mean generator.width?"),
        (["+experiment=ring", "sampler=tpa"], "no sampler 'tpa': did you mean tpe?"),
        (["+experiment=ring", "prune=never"], "no prune 'never'"),
        (["+experiment=ring", "trials=0"], "trials=0 must be positive"),
        (["+experiment=ring", "trials=some"], "trials=some is not a whole number"),
        (["+experiment=ring", "space.lr.lwo=1"], "space.lr.lwo"),
        (["+experiment=ring", "resume=runs/ring"], "resume=runs/ring is of one training"),
        (["+experiment=ring", "evaluation=none"], "nothing to go by"),
        (["+experiment=ring", "budget_samples=3"], "rungs=4 in budget_samples=3"),
        ([], "name an experiment"),
        (["+experiment=ring", "space.lr={"], "can't read 'space.lr={'"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = run("sweep", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_tells_the_settings(tmp_path: Path) -> None:
    done = run("sweep", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "trials: 20" in done.stdout


def test_a_file_of_arguments_stands_for_them(tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text("# trial 3\n- +experiment=ring\n- objective.gamma.start=0.7\n")
    assert normalised([f"@{tmp_path}/best.yaml", "seed=1"]) == [
        "+experiment=ring",
        "objective.gamma.start=0.7",
        "seed=1",
    ]
    (tmp_path / "best.yaml").write_text("a: b\n")
    with pytest.raises(UserError, match="no list of key=value"):
        normalised([f"@{tmp_path}/best.yaml"])
    with pytest.raises(UserError, match="can't be read"):
        normalised([f"@{tmp_path}/none.yaml"])


SMALL = [
    "+experiment=ring", "budget_samples=12_800", "data.count=2000", "trainer=cpu", "threads=1", "rungs=4", "trials=3",
    "prune_startup=1", "sampler=random", "sampler_seed=0", "out=found", "callbacks.evaluation.num_samples=500",
    "callbacks.checkpoints.every_samples=640",
    # a rate next to nothing is worse than the median of what came before: pruned
    "space={lr: {choices: [1.0e-4, 1.0], times: true, keys: [model.schedules.lr_g.start, model.schedules.lr_g.end]}}",
]  # fmt: skip


def trials(folder: Path) -> dict[int, Any]:
    import optuna

    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{folder}/found/study.db")
    return {t.number: t for t in study.get_trials()}


@pytest.mark.slow
def test_a_sweep_is_killed_interrupted_and_gone_on_with(tmp_path: Path) -> None:
    def saved(number: int) -> bool:
        return any((tmp_path / "found" / "trials" / f"{number:04d}" / "run" / "checkpoints").glob("samples=*.ckpt"))

    Door("sweep", *SMALL, cwd=tmp_path).until(lambda: saved(0)).send(signal.SIGKILL).wait()
    assert [t.state.name for t in trials(tmp_path).values()] == ["RUNNING"]

    door = Door("sweep", *SMALL, cwd=tmp_path).until(lambda: saved(1), 120)
    stopped = door.send(signal.SIGINT).wait()
    assert stopped.returncode == 130
    assert "the same command goes on" in stopped.stderr

    done = run("sweep", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    found = trials(tmp_path)
    assert sorted(found) == [0, 1, 2]
    states = {n: t.state.name for n, t in found.items()}
    rates = {n: t.params["lr"] for n, t in found.items()}
    assert states == {n: "COMPLETE" if rate == 1 else "PRUNED" for n, rate in rates.items()}
    assert set(states.values()) == {"COMPLETE", "PRUNED"}
    for number, trial in found.items():
        folder = tmp_path / "found" / "trials" / f"{number:04d}"
        history = [json.loads(line) for line in (folder / "run" / "evaluation" / "history.jsonl").open()]
        samples = [row["samples_seen"] for row in history]
        assert samples == sorted(set(samples))
        for row in history:
            score = next(value for name, value in row.items() if name.startswith("fd"))
            assert trial.intermediate_values.get(row["samples_seen"], score) == score
        assert (samples[-1] == 12_800) == (trial.state.name == "COMPLETE")
        assert folder.joinpath("train.log").read_text().count("resume ") == (number < 2)  # both went on, not anew
    assert "complete" in done.stdout
    assert (tmp_path / "found" / "sweep.png").stat().st_size > 5000
    best = _door.compose("train", normalised([f"@{tmp_path}/found/best.yaml"]))
    assert best.model.schedules.lr_g.start == pytest.approx(4e-3)
    assert best.budget_samples == 12_800

    other = run("sweep", *SMALL, "seed=5", cwd=tmp_path)
    assert other.returncode == 2
    assert "holds a sweep of another training" in other.stderr
