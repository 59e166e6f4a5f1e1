"""The door to training: whose folder a run gets, what a failed start leaves, which settings a resumed run uses."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from doors import Door, run

from gan_kit import _door
from gan_kit._arguments import normalised
from gan_kit.runs import checkpoints, is_run
from gan_kit.types import UserError

TWO = ["+experiment=ring", "debug=two_steps", "logger=none", "trainer=cpu"]
RING = ["+experiment=ring", "data.batch_size=64", "logger=none", "trainer=cpu", "model.schedules=null"]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    doors = [Door("train", *TWO, f"seed={i}", "paths.output_dir=runs/a", cwd=tmp_path) for i in range(3)]
    assert [d.wait().returncode for d in doors] == [0, 0, 0]
    made = sorted((tmp_path / "runs").iterdir())
    assert [p.name for p in made] == ["a", "a-2", "a-3"]
    seeds = {re.search(r"^seed: (\d)", (p / ".hydra" / "config.yaml").read_text(), re.M)[1] for p in made}  # type: ignore[index]
    assert seeds == {"0", "1", "2"}
    assert all(is_run(p) and checkpoints(p) for p in made)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_a_run_in_another_precision_is_whole(precision: str, tmp_path: Path) -> None:
    """Also what draws samples outside of the step: pictures, scores, and the count of what it cost."""
    some = ["+experiment=image/digits", "data.batch_size=32", "generator.width=8", "discriminator.width=8"]
    often = ["budget_samples=2048", "sample_every=1024", "evaluate_every=1024", "threads=1", "trainer=cpu"]
    scored = ["evaluation=fd", "extractor@callbacks.evaluation.extractor=pixels", "callbacks.evaluation.num_samples=64"]
    done = run("train", *some, *often, *scored, f"trainer.precision={precision}", "paths.output_dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run"
    assert len(list((folder / "samples").glob("*.png"))) == 2
    assert len((folder / "evaluation" / "history.jsonl").read_text().splitlines()) == 2
    assert json.loads((folder / "cost.json").read_text())["precision"] == precision
    drawn = run("sample", "run=run", "n=4", "out=drawn", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr


@pytest.mark.parametrize("mistake", ["generator.width=-1", "data.batch_size=0", "logger=wandb", "trainer.devices=abc"])
def test_a_start_that_fails_leaves_nothing(mistake: str, tmp_path: Path) -> None:
    assert run("train", *TWO, mistake, cwd=tmp_path).returncode == 2
    assert files(tmp_path) == {}


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ring") / "run"
    done = run("train", *RING, "budget_samples=128", f"paths.output_dir={folder}", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("generator.width=7", "another generator: width was 128, is 7"),
        ("data.batch_size=7", "data.batch_size=64"),
        ("model.ema=null", "does not fit"),
        ("optimizer.g.lr=fast", "optimizer.g.lr=fast is not a number"),
        ("logger=csv", "keeps its groups"),
        ("debug=two_steps", "keeps its groups"),
    ],
)
def test_a_resume_that_fails_leaves_the_run_as_it_was(ring: Path, mistake: str, words: str) -> None:
    """What is in the run decides how the next resume begins."""
    before = files(ring)
    done = run("train", f"resume={ring}", "budget_samples=256", mistake, cwd=ring.parent)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert files(ring) == before


def test_a_resumed_run_uses_the_settings_it_is_given_and_keeps_them(tmp_path: Path) -> None:
    def newest() -> dict:
        return torch.load(checkpoints(folder)[-1], weights_only=True)

    def lr() -> float:
        return newest()["optimizer_states"][0]["param_groups"][0]["lr"]

    folder = tmp_path / "run"
    run("train", *RING, "budget_samples=128", f"paths.output_dir={folder}", cwd=tmp_path)
    assert lr() == 4e-3
    run(
        "train", f"resume={folder}", "budget_samples=1000", "optimizer.g.lr=1.0e-5", "trainer.max_steps=4", cwd=tmp_path
    )
    assert lr() == 1e-5
    done = run("train", f"resume={folder}", "trainer.max_steps=5", cwd=tmp_path)  # the budget is remembered as well
    assert done.returncode == 0, done.stderr
    assert newest()["gan"]["step"] == 5
    assert lr() == 1e-5


def test_resuming_a_folder_without_a_run_or_a_run_without_a_checkpoint(tmp_path: Path, ring: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("train", "resume=empty", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "no run below empty" in done.stderr
    bare = tmp_path / "bare"
    for name, content in files(ring).items():
        if not name.endswith(".ckpt"):
            (bare / name).parent.mkdir(parents=True, exist_ok=True)
            (bare / name).write_bytes(content)
    (bare / "checkpoints").mkdir(exist_ok=True)
    done = run("train", "resume=bare", "budget_samples=1000", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "no checkpoint was saved yet" in done.stderr


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    settings = ["budget_samples=1e6", "optimizer.g.betas=[0,0.9]", "image_size=32.0"]
    done = run("train", *TWO, *settings, f"paths.output_dir={tmp_path / 'a b'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "budget_samples: 1000000\n" in (tmp_path / "a b" / "config.yaml").read_text()
    command = re.search(r"python -m (gan_kit\.sample .*)", done.stdout)
    assert command is not None  # with the blank quoted for the shell and for Hydra
    shell = subprocess.run(["sh", "-c", f"set -- {command[1]}; printf '%s\\n' \"$@\""], capture_output=True, text=True)
    words = shell.stdout.splitlines()
    assert run("sample", *words[1:2], "n=1", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generator=dcgan", "discriminator=dcgan"], ["(2,)", "generator="]),
        (["generator.widht=3"], ["generator.widht", "generator.width?"]),
        (["+generator.foo=3"], ["generator.foo", "width"]),
        (["+foo.bar=3"], ["foo.bar"]),
        (["+model.n_critik=3"], ["n_critic?"]),
        (["model.n_critic=two"], ["model.n_critic=two", "whole number"]),
        (["optimizer.g.lr=-1"], ["optimizer", "-1"]),
        (["optimizer.g.betas=3"], ["optimizer.g.betas=3", "list of 2"]),
        (["objective.gamma.start=abc"], ["objective.gamma.start=abc"]),
        (["generator._target_=nope.Nope"], ["generator", "nope"]),
        (["~generator"], ["generator"]),
        (["generator=null"], ["group"]),
        (["justaword"], ["justaword", "key=value"]),
        (["data.modes=[1"], ["[1"]),
        (["threads=0"], ["threads=0", "positive"]),
        (["seed=-1"], ["seed=-1"]),
        (["log_every_steps=0"], ["log_every_steps=0"]),
        (["callbacks.checkpoints.keep=0"], ["keep=0"]),
        (["name=../up"], ["name=../up"]),
        (["trainer.precision=17"], ["trainer.precision=17", "bf16-mixed"]),
        (["model.accumulate=7"], ["accumulate=7"]),
        (["paths.runs=setup.cfg"], ["setup.cfg"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_one_line_names_the_setting(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    (tmp_path / "setup.cfg").write_text("")
    done = run("train", *TWO, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    for word in words:
        assert word in done.stderr


def test_a_flag_that_does_not_exist() -> None:
    with pytest.raises(UserError, match=r"did you mean --multirun\?"):
        normalised(["--multirn", "seed=0,1"])


def test_config_groups_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    text = (_door.conf_dir() / "experiment" / "ring.yaml").read_text()
    (tmp_path / "mine" / "experiment" / "tiny.yaml").write_text(text.replace("name: ring", "name: tiny"))
    done = run("train", "--config-dir", "mine", "+experiment=tiny", *TWO[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "runs" / "tiny").iterdir())


# ---- signals ------------------------------------------------------------------------------------------------


def test_a_second_signal_stops_at_once_and_harms_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    # a checkpoint and a bundle a step: a signal mostly finds it writing
    busy = ["budget_samples=1_000_000", "callbacks.checkpoints.every_samples=64"]
    door = Door("train", *RING, *busy, f"paths.output_dir={folder}", cwd=tmp_path)
    door.until(lambda: checkpoints(folder))
    door.send(signal.SIGINT).until(lambda: "SIGINT" in door.stderr).send(signal.SIGINT)
    done = door.wait()
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert "resume=" in done.stderr + done.stdout
    seen = torch.load(checkpoints(folder)[-1], weights_only=True)["gan"]["samples_seen"]
    again = run("train", f"resume={folder}", f"budget_samples={seen + 64}", cwd=tmp_path)
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("library", ["/yaml/_yaml", "libtorch_cpu"])
def test_ctrl_c_before_training_begins_is_no_wall_of_text(library: str, seconds: float, tmp_path: Path) -> None:
    """As long after a library is loaded: Hydra's reader, with which composing begins, and torch, which comes after."""
    command = [sys.executable, "-m", "gan_kit.train", *RING, "budget_samples=10_000_000"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    maps, give_up = Path(f"/proc/{process.pid}/maps"), time.monotonic() + 60
    while library not in maps.read_text() and time.monotonic() < give_up:
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr


# ---- what cannot be written ---------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [300, 2_000, 10_000, 100_000])
def test_no_room_for_logs_or_pictures(most: int, tmp_path: Path) -> None:
    """300: not the configs; 2,000: not TensorBoard; 10,000: not the pictures; 100,000: not the bundle."""
    settings = ["logger=tensorboard", "log_every_steps=1", "sample_every=64", "budget_samples=6_400"]
    door = ["train", "+experiment=ring", "data.batch_size=64", "trainer=cpu", *settings, "paths.output_dir=run"]
    done = run(*door, cwd=tmp_path, limits={resource.RLIMIT_FSIZE: most})
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning")]
    assert len(lines) == 1
    assert "make room" in lines[0]
    assert not list(tmp_path.rglob(".*part"))
