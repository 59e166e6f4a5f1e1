"""What every test stands on: one thread, a fixed seed, a cache of its own, doors run as users run them."""

from __future__ import annotations

import os

# before torch is imported, and inherited by every subprocess: xdist's workers share the cores
os.environ["OMP_NUM_THREADS"] = "1"

import functools
import http.server
import importlib
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import hypothesis
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

torch.set_num_threads(1)
hypothesis.settings.register_profile("gan_kit", deadline=None, derandomize=True)
hypothesis.settings.load_profile("gan_kit")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    # not under tmp_path: a test may count what lies in there
    monkeypatch.setenv("GAN_KIT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of all workers together, for classifiers that take long: one trains, the others wait for it."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "judges"


@pytest.fixture(scope="session")
def fashion_root() -> Path:
    """The folder that holds Fashion-MNIST's four files; skips where there is none, a test never downloads."""
    places = [Path("/usr/share/datasets/fashion-mnist")]
    if data := os.environ.get("GAN_KIT_DATA"):
        names = ("", "fashion-mnist", "fashion_mnist", "FashionMNIST/raw")
        places = [Path(data) / name for name in names] + places
    for place in places:
        if any(place.glob("train-images-idx3-ubyte*")):
            return place
    pytest.skip(f"Fashion-MNIST is in none of {[str(p) for p in places]}; apt install dataset-fashion-mnist")


@pytest.fixture(scope="session")
def cifar_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with twelve made-up pictures a file in CIFAR-10's format: to be read with data.check=false."""
    folder = tmp_path_factory.mktemp("cifar") / "cifar-10-batches-py"
    folder.mkdir()
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        pixels = np.random.default_rng(i).integers(0, 256, (12, 3072), np.uint8)
        entry = {"batch_label": name, "data": pixels, "labels": [k % 10 for k in range(12)], "filenames": ["x"] * 12}
        (folder / name).write_bytes(pickle.dumps(entry, protocol=2))
    return folder.parent


@pytest.fixture(scope="session")
def fsdd_root() -> Path:
    """Where the spoken digits are: $GAN_KIT_DATA."""
    for place in (Path(os.environ.get("GAN_KIT_DATA") or "/nowhere") / "fsdd", Path("data/fsdd")):
        if place.is_dir():
            return place
    pytest.skip("the Free Spoken Digit Dataset is not in $GAN_KIT_DATA")


@pytest.fixture(scope="session")
def torchaudio() -> ModuleType:
    """torchaudio, to compare with; its last release refuses to be imported beside a torch of another CUDA version."""
    try:
        return importlib.import_module("torchaudio")
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"torchaudio can't be imported here: {error}")


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """An empty folder, and the address at which a server of our own shows what is put there; no $GAN_KIT_DATA."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.delenv("GAN_KIT_DATA", raising=False)
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a door from an empty folder, as a user would: `cli("train", "+experiment=ring").returncode`."""

    def run(
        door: str,
        *args: str,
        timeout: float = 240,
        env: Mapping[str, str] | None = None,
        cwd: Path = tmp_path,
    ) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return subprocess.run(
            [sys.executable, "-m", f"gan_kit.{door}", *args],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": path, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    return run
