"""Each promise of docs/security.md about somebody else's files, attacked."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from doors import run
from PIL import Image

TINY = ["+experiment=image/digits", "trainer=cpu", "logger=none", "data.batch_size=8", "generator.width=8",
        "discriminator.width=8", "sample_every=100000"]  # fmt: skip


class Bomb:
    """Unpickled, it leaves a trace."""

    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.witness),)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    done = run("train", *TINY, "budget_samples=16", f"paths.output_dir={folder}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return folder


def changed(path: Path, key: str, value: Any) -> None:
    config = yaml.safe_load(path.read_text())
    *parents, last = key.split(".")
    node = config
    for name in parents:
        node = node[name]
    node[last] = value
    path.write_text(yaml.safe_dump(config, sort_keys=False))


@pytest.mark.parametrize("target", ["os.mkdir", "gan_kit.files.os.mkdir", "torch.hub.load", "subprocess.run"])
def test_a_runs_config_builds_nothing_else(trained: Path, tmp_path: Path, target: str) -> None:
    witness = tmp_path / "witness"
    part = {"_target_": target, "path": str(witness)}
    for file in (trained / ".hydra" / "config.yaml", trained / "config.yaml"):
        changed(file, "callbacks.progress", part)
    done = run("train", f"resume={trained}", "budget_samples=32", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert f"wants to build {target}" in done.stderr
    assert f"GAN_KIT_TRUST={target.partition('.')[0]}" in done.stderr
    changed(trained / "config.yaml", "data", part)
    done = run("evaluate.__main__", f"run={trained}", "extractor=random", cwd=tmp_path)
    assert done.returncode == 2
    assert f"wants to build {target}" in done.stderr
    assert not witness.exists()


def test_a_package_of_the_users_own_may_be_named(trained: Path, tmp_path: Path) -> None:
    changed(trained / ".hydra" / "config.yaml", "callbacks.progress", {"_target_": "lightning.pytorch.Callback"})
    given = ["train", f"resume={trained}", "budget_samples=32"]
    assert run(*given, cwd=tmp_path).returncode == 2
    done = run(*given, cwd=tmp_path, env={"GAN_KIT_TRUST": "lightning"})
    assert done.returncode == 0, done.stderr


def test_a_checkpoint_is_not_unpickled(trained: Path, tmp_path: Path) -> None:
    (newest,) = (trained / "checkpoints").glob("*.ckpt")
    state = torch.load(newest, weights_only=True)
    torch.save({**state, "extra": Bomb(tmp_path / "witness")}, newest)
    done = run("train", f"resume={trained}", "budget_samples=32", cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "witness").exists()
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "more than tensors and plain values" in done.stderr


def test_arrays_are_not_unpickled(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(real / f"{i}.png")
    np.savez(tmp_path / "fake.npz", np.array([Bomb(tmp_path / "witness")], dtype=object), allow_pickle=True)
    done = run("evaluate.__main__", f"real={real}", f"fake={tmp_path / 'fake.npz'}", "extractor=random", cwd=tmp_path)
    assert done.returncode == 2
    assert "fake.npz" in done.stderr
    assert not (tmp_path / "witness").exists()


def test_a_pickle_named_as_a_picture_is_no_picture(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.png").write_bytes(pickle.dumps(Bomb(tmp_path / "witness")))
    Image.new("RGB", (8, 8)).save(source / "b.png")
    done = run("prepare", f"source={source}", f"out={tmp_path / 'out'}", "image_size=8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a.png" in done.stdout
    assert not (tmp_path / "witness").exists()


def test_what_an_archive_holds_stays_where_it_belongs(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "in" / "x.png")
    data = (tmp_path / "in" / "x.png").read_bytes()
    (tmp_path / "in" / "x.png").unlink()
    with zipfile.ZipFile(tmp_path / "in" / "a.zip", "w") as archive:
        for name in ("good.png", "../../evil.png", "/tmp/evil_of_gan_kit.png", "C:\\evil.png"):
            archive.writestr(name, data)
    done = run("prepare", f"source={tmp_path / 'in'}", f"out={tmp_path / 'out'}", "image_size=8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.parent.rglob("evil.png"))
    assert not Path("/tmp/evil_of_gan_kit.png").exists()
    assert "evil" in done.stdout
