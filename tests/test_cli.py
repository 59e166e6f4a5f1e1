"""The Lightning CLI trains what Hydra trains, bit by bit (all experiments: test_experiments.py), and says on one line
what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from doors import Done, Door, run

from gan_kit import _door
from gan_kit._command_line import CommandLine
from gan_kit._converted import Partial, as_yaml, converted, hydra_form, run_config
from gan_kit.runs import CLAIM, checkpoints, locked
from gan_kit.types import UserError

RING = ["+experiment=ring", "trainer=cpu", "logger=none", "data.batch_size=16", "log_every_steps=1"]


def lines(folder: Path) -> list[str]:
    return (folder / "metrics.jsonl").read_text().splitlines()


def rows(folder: Path) -> list[dict[str, float]]:
    """metrics.jsonl without what a clock has measured."""
    found = [json.loads(line) for line in lines(folder)]
    return [{k: v for k, v in row.items() if k != "samples_per_second"} for row in found]


def state(folder: Path) -> dict[str, Any]:
    """What the newest checkpoint holds of the training."""
    saved = torch.load(checkpoints(folder)[-1], weights_only=True)
    return {k: saved.get(k) for k in ("state_dict", "optimizer_states", "gan", "classifier", "global_step")}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def missing(given: Any, left: Any, at: str = "") -> list[str]:
    """Keys of `given` whose value is another one in `left`, or not there; what `left` has beside them is its own."""
    if isinstance(given, dict) and isinstance(left, dict):
        if "class_path" in given and "class_path" not in left:  # a dataclass, whose fields alone are kept
            given = given["init_args"]
        absent = [f"{at}.{k}" for k in given if k not in left]
        return absent + [m for k in given if k in left for m in missing(given[k], left[k], f"{at}.{k}")]
    if isinstance(given, list) and isinstance(left, list) and len(given) == len(left):
        return [m for i, (a, b) in enumerate(zip(given, left, strict=True)) for m in missing(a, b, f"{at}.{i}")]
    return [] if given == left else [f"{at}: {given!r}, {left!r}"]


def hydra(folder: Path, *arguments: str) -> Done:
    done = run("train", *arguments, f"paths.output_dir={folder}", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return done


def cli_door(*arguments: str | Path, cwd: Path, env: Mapping[str, str | None] | None = None) -> Done:
    done = run("cli", *map(str, arguments), cwd=cwd, env=env)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps, scored at its end."""
    folder = tmp_path_factory.mktemp("ring") / "run"
    scored = ["evaluation=fd", "callbacks.evaluation.num_samples=200", "evaluate_every=64"]
    hydra(folder, *RING, *scored, "budget_samples=64")
    return folder


# ---- the same training ------------------------------------------------------------------------------------------


def test_every_run_leaves_the_run_yaml_that_trains_the_same(ring: Path) -> None:
    done = cli_door("fit", "--config", ring / "run.yaml", cwd=ring.parent)
    again = ring.with_name("run-2")  # never into a run that is there
    assert f"run    {again}" in done.stdout
    assert "done after 64 samples" in done.stdout
    assert len(rows(ring)) == 4
    assert rows(again) == rows(ring)
    assert same(state(again), state(ring))
    history = "evaluation/history.jsonl"
    assert (again / history).read_text() == (ring / history).read_text()


def test_print_cli_prints_that_run_yaml_and_writes_nothing(ring: Path, tmp_path: Path) -> None:
    given = [*RING, "evaluation=fd", "callbacks.evaluation.num_samples=200", "evaluate_every=64", "budget_samples=64"]
    done = run("train", *given, f"paths.output_dir={ring}", "--print-cli", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout) == yaml.safe_load((ring / "run.yaml").read_text())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["folder", "file", "last"])
def test_resumed_by_ckpt_path_it_ends_where_the_whole_run_ends(ring: Path, how: str, tmp_path: Path) -> None:
    here = tmp_path / "run"
    fit = ["fit", "--config", ring / "run.yaml", "--trainer.default_root_dir", here]
    first = ["--ckpt_path", "last"] if how == "last" else []  # where there is none, from the beginning: for requeues
    cli_door(*fit, *first, "--trainer.max_steps", "2", cwd=tmp_path)
    assert len(rows(here)) == 2
    given = {"folder": here, "file": checkpoints(here)[-1], "last": "last"}[how]
    cli_door(*fit, "--ckpt_path", given, cwd=tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["run"]
    assert same(state(here), state(ring))
    assert rows(here) == rows(ring)


@pytest.mark.slow
def test_flags_reach_every_part(ring: Path, tmp_path: Path) -> None:
    flags = ["--trainer.max_steps", "1", "--data.batch_size", "8", "--model.generator.width", "16", "--threads", "1"]
    cli_door("fit", "--config", ring / "run.yaml", *flags, "--trainer.default_root_dir", tmp_path / "a", cwd=tmp_path)
    assert [row["samples_seen"] for row in rows(tmp_path / "a")] == [8]
    made = yaml.safe_load((tmp_path / "a" / "run.yaml").read_text())
    assert made["model"]["init_args"]["generator"]["init_args"]["width"] == 16
    assert made["trainer"]["default_root_dir"] == str(tmp_path / "a")


@pytest.mark.slow
def test_a_signal_saves_and_last_goes_on_to_the_same_end(ring: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((ring / "run.yaml").read_text())
    config["trainer"]["callbacks"] = [
        c for c in config["trainer"]["callbacks"] if not c["class_path"].endswith(("Evaluation", "SampleGrid"))
    ]
    config["trainer"]["callbacks"][0]["init_args"]["samples"] = 16 * 400
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    fit = ["fit", "--config", "run.yaml", "--ckpt_path", "last", "--trainer.default_root_dir"]
    cli_door(*fit, "whole", cwd=tmp_path)
    here = tmp_path / "here"
    for stop, number in ((signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        before = len(rows(here)) if here.exists() else 0
        door = Door("cli", *fit, "here", cwd=tmp_path)
        door.until(lambda n=before: (here / "metrics.jsonl").exists() and len(lines(here)) > n + 40)
        assert door.send(stop).wait().returncode == number
        assert checkpoints(here)
    cli_door(*fit, "here", cwd=tmp_path)
    assert same(state(here), state(tmp_path / "whole"))
    assert rows(here) == rows(tmp_path / "whole")


def test_one_folder_is_trained_by_one_process(ring: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / CLAIM).mkdir(parents=True)
    with locked(here):
        fit = ["fit", "--config", str(ring / "run.yaml"), "--ckpt_path", "last", "--trainer.default_root_dir", "here"]
        done = run("cli", *fit, cwd=tmp_path)
    assert done.returncode == 2
    assert f"is being trained by process {os.getpid()}" in done.stderr


@pytest.mark.slow
def test_two_processes_by_torchrun(ring: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m"]
    flags = ["--trainer.devices", "2", "--trainer.strategy", "gan_ddp", "--trainer.default_root_dir", "two"]
    done = subprocess.run(
        [*torchrun, "gan_kit.cli", "fit", "--config", str(ring / "run.yaml"), *flags],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["two"]
    for two, one in zip(rows(tmp_path / "two"), rows(ring), strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-5)


@pytest.mark.slow
def test_two_processes_by_lightnings_own_flags(ring: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    flags = ["--trainer.devices", "2", "--trainer.strategy", "gan_ddp", "--trainer.default_root_dir", "two"]
    done = cli("cli", "fit", "--config", str(ring / "run.yaml"), *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["two"]
    for two, one in zip(rows(tmp_path / "two"), rows(ring), strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-5)


# ---- scores and samples -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_predict_writes_the_samples_that_the_sample_door_writes(tmp_path: Path) -> None:
    settings = ["+experiment=image/digits", "debug=two_steps", "trainer=cpu", "logger=none"]
    hydra(tmp_path / "run", *settings)
    cli_door("predict", "--config", "run/run.yaml", "--n", "5", "--label", "3", "--seed", "7", cwd=tmp_path)
    done = run("sample", "run=run", "n=5", "label=3", "seed=7", "out=there", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    mine = tmp_path / "run" / "generated" / "label=3_seed=7_psi=1.0"
    files = sorted(p.name for p in mine.iterdir())
    assert len(files) == 6
    assert all((mine / f).read_bytes() == (tmp_path / "there" / f).read_bytes() for f in files)


@pytest.mark.slow
def test_a_run_of_the_cli_is_a_run_to_the_other_doors(ring: Path, tmp_path: Path) -> None:
    cli_door("fit", "--config", ring / "run.yaml", "--trainer.default_root_dir", "mine", cwd=tmp_path)
    done = run("sample", "run=mine", "n=4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run("evaluate.__main__", "run=mine", "num_samples=100", "metrics=[fd]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "mine" / "evaluation").rglob("scores.json"))


@pytest.mark.slow
def test_validate_gives_the_score_of_training_and_test_that_of_the_test_split(ring: Path) -> None:
    trained = json.loads((ring / "evaluation" / "history.jsonl").read_text().splitlines()[-1])
    before = (ring / "evaluation" / "history.jsonl").read_bytes()
    found = {}
    for command, split in (("validate", "val"), ("test", "test")):
        done = cli_door(command, "--config", ring / "run.yaml", cwd=ring.parent)
        assert f"real ones of split {split}" in done.stdout
        scores = json.loads((ring / "evaluation" / f"cli_{split}" / "scores.json").read_text())
        found[split] = scores["scores"][0]["value"]
    assert found["val"] == pytest.approx(trained["fd-pixels"], rel=1e-9)
    assert found["test"] != found["val"]
    assert (ring / "evaluation" / "history.jsonl").read_bytes() == before


@pytest.mark.slow
def test_a_classifier_is_tested_by_its_accuracy_and_draws_nothing(tmp_path: Path) -> None:
    hydra(tmp_path / "run", "+experiment=classifier/digits", "trainer=cpu", "logger=none", "budget_samples=2_000")
    done = cli_door("test", "--config", "run/run.yaml", cwd=tmp_path)
    facts = yaml.safe_load((tmp_path / "run" / "bundle" / "config.yaml").read_text())["facts"]
    assert f"accuracy {facts['test_accuracy']:.4f} of {facts['test_samples']}" in done.stdout
    done = run("cli", "predict", "--config", "run/run.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "Classifier draws no samples" in done.stderr


# ---- mistakes ---------------------------------------------------------------------------------------------------

MISTAKES = [
    (["--trainer.device", "2"], "did you mean trainer.devices?"),
    (["--modle", "2"], "no such setting 'modle': did you mean model? have ckpt_path, data, model"),
    (["--model.generator.widht", "2"], "'model.generator.widht': did you mean width? MLPGenerator has dims,"),
    (["--model.init_args.generator.init_args.widht", "2"], "did you mean width? MLPGenerator has dims,"),
    (["--model.generator.width", "wide"], "model.generator.width=wide is not a whole number"),
    (["--model.n_critic", "0"], "n_critic=0 must be at least 1"),
    (["--model.generator.width", "-1"], "negative dimension -1"),
    (["--trainer.max_steps", "many"], "trainer.max_steps=many is not a whole number"),
    (["--data", "gan_kit.data.RingDatum"], "gan_kit.data.RingDatum"),
    (["--ckpt_path", "nowhere.ckpt"], "ckpt_path=nowhere.ckpt: no such checkpoint"),
    ("widht", "'model.generator.widht': did you mean width? MLPGenerator has dims,"),
    ("lrr", "'model.optimizer_g.lrr': did you mean lr? Adam has lr, betas,"),
    ("lr", "model.optimizer_g.lr=fast is not a number"),
    ("penalty", "'model.penalties.evry': did you mean every? R1 has weight, every,"),
    ("schedule", "'model.schedules.strat': did you mean start? Cosine has start, end,"),
    ("callback", "'trainer.callbacks.sampels': did you mean samples? Budget has samples"),
    ("trainer", "no such setting 'trainer.maxsteps': did you mean trainer.max_steps?"),
    ("top", "no such setting 'treads': did you mean threads? have ckpt_path, data, model,"),
    ("class", "model.generator: there is no gan_kit.vector.MLPGen: did you mean MLPGenerator?"),
    ("module", "gan_kit.vectr"),
]


def broken(config: dict[str, Any], how: str) -> None:
    model, trainer = config["model"]["init_args"], config["trainer"]
    generator, adam = model["generator"], model["optimizer_g"]["init_args"]
    match how:
        case "widht":
            generator["init_args"]["widht"] = generator["init_args"].pop("width")
        case "lrr":
            adam["lrr"] = 1.0
        case "lr":
            adam["lr"] = "fast"
        case "penalty":
            model["penalties"]["r1"]["init_args"]["evry"] = 1
        case "schedule":
            model["schedules"]["lr_g"]["init_args"]["strat"] = 1.0
        case "callback":
            trainer["callbacks"][0]["init_args"] = {"sampels": 1}
        case "trainer":
            trainer["maxsteps"] = 1
        case "top":
            config["treads"] = 1
        case "class":
            generator["class_path"] = "gan_kit.vector.MLPGen"
        case "module":
            generator["class_path"] = "gan_kit.vectr.MLPGenerator"


@pytest.mark.parametrize("mistake, words", MISTAKES, ids=lambda v: "" if isinstance(v, list) else v[:20])
def test_a_mistake_is_one_line_that_names_what_is_right(
    mistake: list[str] | str, words: str, ring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load((ring / "run.yaml").read_text())
    config["trainer"]["default_root_dir"] = str(tmp_path / "run")
    broken(config, mistake if isinstance(mistake, str) else "")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    flags = mistake if isinstance(mistake, list) else []
    monkeypatch.setattr(sys, "argv", ["cli", "fit", "--config", str(tmp_path / "run.yaml"), *flags])
    with pytest.raises(UserError) as caught:
        CommandLine()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists(), "a start that fails leaves nothing"


def test_mistakes_leave_by_the_door_with_2(ring: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (["fitt"], "did you mean fit?"),
        (["fit", "--config", "nope.yaml"], "File does not exist"),
        (["fit"], "--config runs/NAME/TIME/run.yaml"),
        (["fit", "--threads", "1", "--config", "nope.yaml"], "put --config before --threads"),
        (["validate", "--config", str(ring / "run.yaml"), "--trainer.devices", "2"], "--trainer.devices 1"),
    ):
        done = run("cli", *arguments, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.slow
def test_without_an_evaluation_it_says_how_to_score(tmp_path: Path) -> None:
    hydra(tmp_path / "run", *RING, "budget_samples=16")
    done = run("cli", "validate", "--config", "run/run.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "train with evaluation=fd" in done.stderr
    assert f"python -m gan_kit.evaluate run={tmp_path / 'run'} split=val" in done.stderr


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["fit", "predict"])
def test_a_checkpoint_runs_no_code_and_names_no_class(command: str, ring: Path, tmp_path: Path) -> None:
    config = ring / "run.yaml"
    torch.save({"state_dict": {}, "hyper_parameters": Evil()}, tmp_path / "evil.ckpt")
    done = run("cli", command, "--config", str(config), "--ckpt_path", "evil.ckpt", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "more than tensors and plain values" in done.stderr
    assert not (tmp_path / "ran").exists()
    assert not ring.with_name("run-3").exists()

    saved = torch.load(checkpoints(ring)[-1], weights_only=True)
    saved["hyper_parameters"] = {"_class_path": "os.mkdir", "path": "ran"}
    torch.save(saved, tmp_path / "named.ckpt")
    done = run("cli", "predict", "--config", str(config), "--ckpt_path", "named.ckpt", "--n", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


ATTACKS = {
    "a class": lambda model, trainer: model.update(
        generator={"class_path": "torch.nn.Linear", "init_args": {"in_features": 1, "out_features": 1}}
    ),
    "a function": lambda model, trainer: model["schedules"].update(lr_g="os.mkdir"),
    "a bound function": lambda model, trainer: evaluation(trainer).update(
        extractor={
            "class_path": "gan_kit._converted.Partial",
            "init_args": {"function": "os.mkdir", "arguments": {"mode": 0}},
        }
    ),
    "within plain values": lambda model, trainer: trainer["callbacks"][-1]["init_args"]["facts"].update(
        x={"class_path": "subprocess.Popen", "init_args": {"args": ["mkdir", "ran"]}}
    ),
}


def evaluation(trainer: dict[str, Any]) -> dict[str, Any]:
    return next(c for c in trainer["callbacks"] if c["class_path"].endswith("Evaluation"))["init_args"]


@pytest.mark.parametrize("how", ATTACKS)
def test_a_run_yaml_builds_what_gan_kit_builds(
    how: str, ring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load((ring / "run.yaml").read_text())
    config["trainer"]["default_root_dir"] = str(tmp_path / "run")
    ATTACKS[how](config["model"]["init_args"], config["trainer"])
    (tmp_path / "os.mkdir").write_text(yaml.safe_dump(config))  # a file's name is nobody's word
    monkeypatch.chdir(tmp_path)
    for file in (["--config", "os.mkdir"], ["--config=os.mkdir"]):
        monkeypatch.setattr(sys, "argv", ["cli", "fit", *file])
        with pytest.raises(UserError, match="set GAN_KIT_TRUST="):
            CommandLine()
    assert [p.name for p in tmp_path.iterdir()] == ["os.mkdir"]


def test_a_class_of_ones_own_is_built_when_it_is_named(
    ring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_cli_loss.py").write_text("from gan_kit.adversarial import Hinge\nclass Mine(Hinge): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    one = ["--trainer.max_steps", "1", "--trainer.default_root_dir", "mine"]
    fit = ["cli", "fit", "--config", str(ring / "run.yaml"), *one]
    monkeypatch.setattr(sys, "argv", [*fit, "--model.loss", "my_cli_loss.Mine"])
    assert CommandLine().code == 0
    monkeypatch.setattr(sys, "argv", ["cli", "fit", "--config", "mine/run.yaml", "--trainer.max_steps", "1"])
    with pytest.raises(UserError, match="set GAN_KIT_TRUST=my_cli_loss in the environment"):
        CommandLine()
    monkeypatch.setenv("GAN_KIT_TRUST", "my_cli_loss")
    assert CommandLine().code == 0


# ---- help -------------------------------------------------------------------------------------------------------


def test_help_is_there_at_once_and_without_torch() -> None:
    code = "import sys; sys.argv = ['x', '--help']; import gan_kit.cli as c; c.main(); sys.exit('torch' in sys.modules)"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert time.monotonic() - began < 3
    assert done.returncode == 0, done.stderr
    assert all(f"gan_kit.cli {command}" in done.stdout for command in ("fit", "validate", "test", "predict"))
    assert max(map(len, done.stdout.splitlines())) <= 120


# ---- the form of a config ---------------------------------------------------------------------------------------


def test_parts_partials_and_functions_have_their_forms() -> None:
    adam = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.1, "betas": [0.0, 0.9]}
    assert converted(adam, "k") == {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1, "betas": [0.0, 0.9]}}
    assert converted({"_target_": "gan_kit.latent.Normal", "_convert_": "all"}, "k") == {
        "class_path": "gan_kit.latent.Normal"
    }
    free = {"_target_": "gan_kit.evaluate.auto_extractor", "_partial_": True}
    assert converted(free, "k") == "gan_kit.evaluate.auto_extractor"
    bound = converted({"_target_": "os.path.join", "_partial_": True, "p": 1}, "k")
    assert bound == {
        "class_path": "gan_kit._converted.Partial",
        "init_args": {"function": "os.path.join", "arguments": {"p": 1}},
    }
    assert Partial(int, {"base": 2})("101") == 5


def test_a_converted_part_converts_back() -> None:
    part = {"_target_": "a.B", "x": 1, "y": [{"_target_": "c.D", "z": None}], "m": {"k": {"_target_": "e.F"}}}
    assert hydra_form(converted(part, "k")) == part


OPTIONS = [
    f"{group}={option}"
    for group in (
        "generator",
        "discriminator",
        "objective",
        "augment",
        "optimizer",
        "trainer",
        "logger",
        "evaluation",
        "compile",
    )
    for option in _door.options(group)
]
OPTIONS += [f"extractor@callbacks.evaluation.extractor={option}" for option in _door.options("extractor")]


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_the_cli_reads_every_option(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = option.startswith("extractor")
    cfg = _door.compose("train", [*(["evaluation=fd"] if extractor else []), option, f"paths.output_dir={tmp_path}"])
    build = _door.Builder(cfg)
    spec = build("data").spec
    cfg.spec = spec.settings()
    try:
        build.resolve()
    except UserError:
        pytest.skip("for data of another kind than the digits")
    (tmp_path / "run.yaml").write_text(as_yaml(run_config(cfg)))

    class Read(Exception):
        pass

    class Reading(CommandLine):
        def before_instantiate_classes(self) -> None:
            raise Read

    monkeypatch.setattr(sys, "argv", ["cli", "fit", "--config", str(tmp_path / "run.yaml")])
    with pytest.raises(Read):
        Reading()


def test_positional_arguments_are_refused() -> None:
    with pytest.raises(UserError, match=r"model\.x\._args_: .* give them by name"):
        converted({"_target_": "a.B", "x": {"_target_": "c.D", "_args_": [1]}}, "model")
