"""A run that was stopped, killed or damaged ends bitwise where the undisturbed run ends."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from doors import Door, run

from gan_kit.runs import checkpoints, is_whole

# 1,497 digits in batches of 64: an epoch is 23 steps. Batch norm, flips, augmentation, EMA, schedules, lazy R1
CONV = [
    "data=digits", "image_size=8", "data.hflip=true", "generator=dcgan", "discriminator=dcgan", "generator.width=8",
    "discriminator.width=8", "objective=nonsaturating_r1", "objective.penalties.r1.every=3", "augment=diffaugment",
    "augment.p=0.5", "+model.schedules.lr_g={_target_: gan_kit.adversarial.Cosine, start: 1.0e-3, end: 1.0e-5, "
    "duration_samples: 2048}", "logger=none", "log_every_steps=5", "sample_every=500", "trainer=cpu",
]  # fmt: skip
RING = ["+experiment=ring", "data.batch_size=64", "logger=none", "log_every_steps=5", "trainer=cpu"]
STEP = 64


def state(folder: Path) -> dict[str, Any]:
    """What the newest checkpoint holds of the training."""
    saved = torch.load(checkpoints(folder)[-1], weights_only=True)
    return {k: saved[k] for k in ("state_dict", "optimizer_states", "gan", "global_step")}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def train(folder: Path, *arguments: str, **more: Any) -> Any:
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = run("train", *arguments, f"paths.output_dir={folder}", cwd=folder.parent, **more)
    assert done.returncode == 0, done.stderr
    return done


def resume(folder: Path, *arguments: str, **more: Any) -> Any:
    done = run("train", f"resume={folder}", *arguments, cwd=folder.parent, **more)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module", params=[CONV, RING], ids=["digits", "ring"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, Any]]:
    """A recipe, and where it ends after 50 steps that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(folder, *request.param, f"budget_samples={50 * STEP}")
    return request.param, state(folder)


@pytest.mark.parametrize("stops", [(1,), (22,), (23,), (24,), (7, 23, 46)], ids=str)
def test_stopped_and_resumed_is_bitwise_the_whole_run(whole: Any, stops: tuple[int, ...], tmp_path: Path) -> None:
    """22, 23 and 24 lie about the digits' first epoch's edge."""
    recipe, end = whole
    folder = tmp_path / "run"
    length = f"schedule_samples={50 * STEP}"
    train(folder, *recipe, f"budget_samples={stops[0] * STEP}", length)
    for stop in (*stops[1:], 50):
        resume(folder, f"budget_samples={stop * STEP}")
    here = state(folder)
    assert here["gan"]["samples_seen"] == 50 * STEP
    assert same(here, end)


def test_r3gan_of_the_digits_experiment_resumes_bitwise(tmp_path: Path) -> None:
    recipe = ["+experiment=image/digits", "logger=none", "trainer=cpu", f"schedule_samples={8 * STEP}"]
    train(tmp_path / "whole", *recipe, f"budget_samples={8 * STEP}")
    train(tmp_path / "run", *recipe, f"budget_samples={3 * STEP}")
    resume(tmp_path / "run", f"budget_samples={8 * STEP}")
    assert same(state(tmp_path / "run"), state(tmp_path / "whole"))


def test_pictures_and_logs_do_not_touch_the_training(whole: Any, tmp_path: Path) -> None:
    recipe, end = whole
    quiet = [a for a in recipe if not a.startswith("sample_every")]
    off = ["callbacks.samples=null", "callbacks.metrics=null", "callbacks.progress=null", "sample_every=1"]
    train(tmp_path / "run", *quiet, *off, f"budget_samples={50 * STEP}")
    assert same(state(tmp_path / "run"), end)


def test_another_seed_ends_elsewhere(whole: Any, tmp_path: Path) -> None:
    recipe, end = whole
    train(tmp_path / "run", *recipe, "seed=1", f"budget_samples={50 * STEP}")
    assert not same(state(tmp_path / "run")["state_dict"], end["state_dict"])


def test_a_larger_budget_does_not_stretch_what_has_begun(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, *RING, f"budget_samples={10 * STEP}")
    lr = state(folder)["optimizer_states"][0]["param_groups"][0]["lr"]
    resume(folder, f"budget_samples={20 * STEP}")
    later = state(folder)["optimizer_states"][0]["param_groups"][0]["lr"]
    assert lr < 1e-3  # near the cosine's end
    assert later <= lr


@pytest.mark.slow
@pytest.mark.parametrize("luck", range(4))
def test_killed_at_any_moment(whole: Any, luck: int, tmp_path: Path) -> None:
    """kill -9, with a checkpoint every second step, so that most of the time goes into writing them."""
    recipe, end = whole
    folder = tmp_path / "run"
    often = f"callbacks.checkpoints.every_samples={2 * STEP}"
    chance = random.Random(luck)
    budget = f"budget_samples={50 * STEP}"
    door = Door("train", *recipe, budget, often, f"paths.output_dir={folder}", cwd=tmp_path)
    wanted = chance.randint(1, 4)
    door.until(lambda: len(list(folder.glob("checkpoints/*.ckpt"))) and _saves(folder) >= wanted * 2 * STEP)
    chance_pause(chance)
    door.send(signal.SIGKILL).wait()
    resume(folder)
    assert same(state(folder), end)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    seen = [row["samples_seen"] for row in rows]
    assert seen == sorted(set(seen))
    assert seen[-1] == 50 * STEP


def _saves(folder: Path) -> int:
    return max(int(p.stem.split("=")[1]) for p in checkpoints(folder))


def chance_pause(chance: random.Random) -> None:
    import time

    time.sleep(chance.random() * 0.2)


def test_a_truncated_newest_checkpoint_falls_back_to_the_one_before(whole: Any, tmp_path: Path) -> None:
    recipe, end = whole
    folder = tmp_path / "run"
    length = f"schedule_samples={50 * STEP}"
    train(folder, *recipe, f"budget_samples={30 * STEP}", length, f"callbacks.checkpoints.every_samples={20 * STEP}")
    old, new = checkpoints(folder)
    new.write_bytes(new.read_bytes()[:-1000])
    assert not is_whole(new)
    assert is_whole(old)
    done = resume(folder, f"budget_samples={50 * STEP}")
    assert "damaged" in done.stderr
    assert same(state(folder), end)


@pytest.mark.parametrize(("signum", "times", "code"), [(signal.SIGINT, 1, 130), (signal.SIGTERM, 3, 143)])
def test_a_signal_saves_and_says_how_to_go_on(
    whole: Any, signum: signal.Signals, times: int, code: int, tmp_path: Path
) -> None:
    """Launchers send SIGTERM several times over."""
    recipe, end = whole
    folder = tmp_path / "run"
    door = Door(
        "train", *recipe, "budget_samples=10_000_000", f"schedule_samples={50 * STEP}", f"paths.output_dir={folder}",
        cwd=tmp_path,
    )  # fmt: skip
    door.until(lambda: (folder / "metrics.jsonl").exists())
    for _ in range(times):
        door.send(signum)
        time.sleep(0.002)
    done = door.wait()
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert f"resume={folder}" in done.stdout or "resume=run" in done.stdout
    assert (folder / "bundle" / "generator.safetensors").exists()
    seen = state(folder)["gan"]["samples_seen"]
    if seen <= 50 * STEP:
        if seen < 50 * STEP:
            resume(folder, f"budget_samples={50 * STEP}")
        assert same(state(folder), end)
    else:  # a fast machine: the whole run to the same place
        train(tmp_path / "other", *recipe, f"budget_samples={seen}", f"schedule_samples={50 * STEP}")
        assert same(state(folder), state(tmp_path / "other"))
