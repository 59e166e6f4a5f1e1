"""A mistake on the command line is one line with the cure, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from doors import Done, run
from PIL import Image

import gan_kit
from gan_kit.types import UserError

QUICK = ["debug=two_steps", "logger=none", "trainer=cpu"]


def said(done: Done) -> str:
    """The one line of an error."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["+experiment=image/digit"], ["image/digit", "image/digits", "ring"]),
        (["+experiment=ring", "data.batchsize=3"], ["data.batchsize", "data.batch_size"]),
        (["+experiment=ring", "data.batch_size=abc"], ["data.batch_size=abc", "whole number"]),
        (["+experiment=ring", "data=nope"], ["nope", "digits", "fashion_mnist"]),
        (["+experiment=image/digits", "generator.widths=3"], ["generator.widths=3", "list"]),
        (["+experiment=image/digits", "image_size=33"], ["33"]),
        (["+experiment=image/digits", "data.batch_size=100_000"], ["data.batch_size"]),
        (["+experiment=ring", "budget_samples=-5"], ["budget_samples=-5", "positive"]),
        (["+experiment=ring", "budget_samples=0"], ["budget_samples=0", "positive"]),
        (["+experiment=image/folder", "data.root=/no/such/folder"], ["/no/such/folder"]),
        (["+experiment=ring", "paths.output_dir=/proc/nowhere/run"], ["/proc/nowhere"]),
        (["resume=no/such/run"], ["no/such/run"]),
        (["resume=x", "+experiment=ring"], ["not both"]),
        (["+experiment=ring", "logger=wandb"], ["gan-kit[wandb]"]),
        (["+experiment=ring", "model.schedules.lr={_target_: gan_kit.adversarial.Cosine}"], ["lr"]),
        (["+experiment=ring", "--budget_samples=5"], ["--budget_samples"]),
        ([], ["+experiment="]),
    ],
    ids=lambda v: " ".join(v)[:60] if v and isinstance(v, list) else "nothing",
)
def test_training(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    line = said(run("train", *arguments, cwd=tmp_path))
    for word in words:
        assert word in line, line


def test_pictures(tmp_path: Path) -> None:
    def folder(name: str) -> Path:
        (tmp_path / name).mkdir()
        return tmp_path / name

    def train(root: Path, *more: str) -> Done:
        settings = [f"data.root={root}", "image_size=16", "data.batch_size=4", *QUICK, *more]
        return run("train", "+experiment=image/folder", *settings, cwd=tmp_path)

    assert "empty" in said(train(folder("empty")))
    some = folder("some")
    for i in range(8):
        Image.new("RGB", (20, 20), (i * 20, 0, 0)).save(some / f"{i}.png")
    (some / "broken.png").write_bytes((some / "0.png").read_bytes()[:40])
    line = said(train(some))
    assert "broken.png" in line
    assert "on_error=skip" in line
    assert train(some, "data.on_error=skip").returncode == 0


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("errors") / "run"
    done = run("train", "+experiment=image/digits", *QUICK, f"paths.output_dir={folder}", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["label=99"], ["99", "0 to 9"]),
        (["label=-1"], ["-1", "0 to 9"]),
        (["n=0"], ["n=0"]),
        (["n=abc"], ["n=abc"]),
        (["psi=-1"], ["psi=-1"]),
        (["nn=3"], ["nn", "n"]),
        (["run=/no/where"], ["/no/where"]),
        (["64"], ["64", "key=value"]),
    ],
    ids=str,
)
def test_sampling(digits: Path, arguments: list[str], words: list[str], tmp_path: Path) -> None:
    line = said(run("sample", f"run={digits}", f"out={tmp_path / 'out'}", *arguments, cwd=tmp_path))
    for word in words:
        assert word in line, line


def test_resuming_another_architecture(digits: Path, tmp_path: Path) -> None:
    line = said(run("train", f"resume={digits}", "generator.widths=[32,32]", cwd=tmp_path))
    assert "another generator" in line
    assert "widths" in line


def test_resuming_what_is_done(tmp_path: Path) -> None:
    start = ["+experiment=ring", "data.batch_size=64", "budget_samples=128", "logger=none", "trainer=cpu"]
    done = run("train", *start, f"paths.output_dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "larger budget_samples" in said(run("train", f"resume={tmp_path / 'run'}", cwd=tmp_path))


def test_a_damaged_bundle(digits: Path, tmp_path: Path) -> None:
    import shutil

    bundle = tmp_path / "bundle"
    shutil.copytree(digits / "bundle", bundle)
    weights = bytearray((bundle / "generator.safetensors").read_bytes())
    weights[-5] ^= 1
    (bundle / "generator.safetensors").write_bytes(weights)
    assert "SHA-256" in said(run("sample", f"run={bundle}", cwd=tmp_path))
    with pytest.raises(UserError, match="SHA-256"):
        gan_kit.load(bundle)


def test_the_traceback_on_request(tmp_path: Path) -> None:
    done = run("train", "+experiment=rong", cwd=tmp_path, env={"GAN_KIT_TRACEBACK": "1"})
    assert done.returncode not in (0, 2)
    assert "Traceback" in done.stderr
