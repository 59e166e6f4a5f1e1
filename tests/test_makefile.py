"""The Makefile says what it can do, hands on what it is given, and names the cure for a machine that can't."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs GNU make")


def make(*args: str) -> subprocess.CompletedProcess[str]:
    # `make test` hands its flags and variables down to its children; these calls stand for a user's own
    env = {"PATH": os.environ["PATH"]}
    return subprocess.run(["make", "-C", ROOT, *args], env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture
def ready(tmp_path: Path) -> str:
    """VENV=… of an environment that make takes for installed."""
    (tmp_path / "bin").mkdir()
    for name in ("bin/python", ".gan-kit-runtime", ".gan-kit-dev"):
        (tmp_path / name).touch()
    return f"VENV={tmp_path}"


def commands(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """What `make -n` would run, after `python -m`."""
    assert done.returncode == 0, done.stderr
    lines = done.stdout.replace("\\\n", " ").splitlines()
    return [line.partition(" -m ")[2].split() for line in lines if " -m " in line]


def test_help_is_the_default_and_lists_every_target():
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    listed = re.findall(r"^  ([a-z-]+) +\S", make().stdout, re.MULTILINE)
    assert listed == phony[1].split()
    assert make("help").stdout == make().stdout


def test_sample_passes_on_what_is_set_and_nothing_else(ready):
    assert commands(make("-n", "sample", ready)) == [["gan_kit.sample"]]
    some = make("-n", "sample", "RUN=runs/a/b", "LABEL=0", "PSI=0.7", ready)
    assert commands(some) == [["gan_kit.sample", "'run=runs/a/b'", "'label=0'", "'psi=0.7'"]]


def test_demo_and_train_start_the_experiment(ready):
    assert commands(make("-n", "demo", ready)) == [["gan_kit.train", "+experiment=image/digits"]]
    train = make("-n", "train", "EXP=ring", "ARGS=seed=1 threads=2", ready)
    assert commands(train) == [["gan_kit.train", "'+experiment=ring'", "seed=1", "threads=2"]]


def test_a_changed_pyproject_installs_again(ready):
    assert commands(make("-n", "setup", ready)) == []
    again = commands(make("-n", "-W", "pyproject.toml", "setup", ready))
    assert [command[0] for command in again] == ["pip"]


@pytest.mark.parametrize(
    "script, cure",
    [
        (None, "install Python 3.11 or newer"),
        ('case "$*" in *version_info*) exit 1;; -V) echo Python 3.9.2;; esac', "is Python 3.9.2; name another"),
        ('case "$*" in *ensurepip*) exit 1;; esac', "apt install python3-venv"),
    ],
    ids=["no Python", "an old Python", "no ensurepip"],
)
def test_a_machine_that_cannot_is_told_why(tmp_path, script, cure):
    python = tmp_path / "python"
    if script:
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
    done = make("setup", f"VENV={tmp_path / 'venv'}", f"PYTHON={python}")
    assert done.returncode == 2
    assert cure in done.stderr
    assert not (tmp_path / "venv").exists()
