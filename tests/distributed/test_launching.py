"""The launchers that users have: Lightning's own, torchrun on one host, torchrun on two. One run, one folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from doors import run
from ranks import ALONE, DDP, STEP, close, free_port

from gan_kit.runs import checkpoints, is_run

ROOT = Path(__file__).resolve().parents[2]
BUDGET = [f"budget_samples={20 * STEP}", f"sample_every={10 * STEP}", "seed=3"]
DIGITS = ["+experiment=image/digits", "data.batch_size=32", "logger=tensorboard", "evaluation=fd",
          "extractor@callbacks.evaluation.extractor=random", "callbacks.evaluation.num_samples=50",
          "budget_samples=256", "evaluate_every=128", "sample_every=128", "log_every_steps=4"]  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training on one process."""
    folder = tmp_path_factory.mktemp("alone")
    done = run("train", *ALONE, *BUDGET, f"paths.output_dir={folder / 'run'}", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def check(folder: Path, stdout: str, whole: Path) -> None:
    close(folder, whole, tolerance=1e-3)
    assert stdout.count("run    ") == stdout.count("done after") == 1
    rows = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows == [5, 10, 15, 20]
    assert {p.name for p in folder.iterdir()} == {p.name for p in whole.iterdir()}
    assert len(list((folder / "samples").glob("*.png"))) == 2
    assert not list(folder.rglob("*.part"))


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


@pytest.mark.slow
def test_lightnings_own_launcher_makes_one_run_and_nothing_else(alone: Path, tmp_path: Path) -> None:
    done = run("train", *DDP, *BUDGET, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = [config.parent for config in tmp_path.rglob("config.yaml") if is_run(config.parent)]
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]
    check(folder, done.stdout, alone)


@pytest.mark.slow
def test_a_sweep_of_jobs_on_two_ranks(tmp_path: Path) -> None:
    done = run("train", *DDP, "budget_samples=320", "--multirun", "seed=1,2", cwd=tmp_path, seconds=90)
    assert done.returncode == 0, done.stderr
    runs = sorted(config.parent for config in tmp_path.rglob("config.yaml") if is_run(config.parent))
    assert len(runs) == 2
    weights = [torch.load(checkpoints(r)[-1], weights_only=True)["state_dict"]["generator.net.0.weight"] for r in runs]
    assert not torch.equal(*weights)


@pytest.mark.slow
def test_torchrun_makes_one_run_and_nothing_else(alone: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "gan_kit.train", *DDP, *BUDGET],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder,) = [config.parent for config in tmp_path.rglob("config.yaml") if is_run(config.parent)]
    check(folder, done.stdout, alone)


# ---- two hosts ----------------------------------------------------------------------------------------------

Hosts = list[tuple[list[str], str, str]]  # how to run a command there, its address, its network interface


@contextlib.contextmanager
def loopback() -> Iterator[Hosts]:
    """Two addresses of this machine."""
    yield [([], "127.0.0.1", "lo"), ([], "127.0.0.2", "lo")]


@contextlib.contextmanager
def namespaces() -> Iterator[Hosts]:
    """Two network namespaces joined by a cable: neither sees the other's loopback, nor the world."""
    if not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        pytest.skip("needs unshare, nsenter and ip")
    ready = "echo ready; exec sleep 300"
    outer = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", ready]
    first = subprocess.Popen(outer, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    second = None
    try:
        if not first.stdout or not first.stdout.readline():
            pytest.skip("this user may not make network namespaces")
        there = ["nsenter", "--preserve-credentials", "--user", "--net", "--target"]
        second = subprocess.Popen(
            [*there, str(first.pid), "unshare", "--net", "sh", "-c", ready], stdout=subprocess.PIPE
        )
        assert second.stdout
        second.stdout.readline()
        setup = [
            (first, f"ip link add cable0 type veth peer name cable1 netns {second.pid}"),
            (first, "ip addr add 10.77.0.1/24 dev cable0 && ip link set cable0 up && ip link set lo up"),
            (second, "ip addr add 10.77.0.2/24 dev cable1 && ip link set cable1 up && ip link set lo up"),
        ]
        for process, command in setup:
            subprocess.run([*there, str(process.pid), "sh", "-c", command], check=True)
        yield [([*there, str(p.pid)], f"10.77.0.{n}", f"cable{n - 1}") for n, p in ((1, first), (2, second))]
    finally:
        for process in filter(None, (second, first)):
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("network, per_node", [(loopback, 1), (namespaces, 2)], ids=["loopback", "namespaces"])
def test_two_hosts_train_score_and_save_as_one(network: Callable[..., Any], per_node: int, tmp_path: Path) -> None:
    port = free_port()
    with network() as hosts:
        master = hosts[0][1]
        processes = []
        for rank, (there, address, interface) in enumerate(hosts):
            command = [
                *there, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(rank),
                "--nproc_per_node", str(per_node), "--master_addr", master, "--master_port", str(port),
                "--local_addr", address, "-m", "gan_kit.train", *DIGITS, "trainer=ddp_cpu",
                f"trainer.devices={per_node}", "trainer.num_nodes=2",
            ]  # fmt: skip
            env = environment(GLOO_SOCKET_IFNAME=interface)
            log = (tmp_path / f"{rank}.log").open("w")
            processes.append(subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log))
        try:
            codes = [process.wait(120) for process in processes]
        finally:
            for process in processes:
                process.kill()
    logs = [(tmp_path / f"{rank}.log").read_text() for rank in range(2)]
    assert codes == [0, 0], logs
    (folder,) = [config.parent for config in tmp_path.rglob("config.yaml") if is_run(config.parent)]
    assert "done after 256 samples" in logs[0]
    assert "done after" not in logs[1]
    done = run("train", *DIGITS, "trainer=cpu", f"paths.output_dir={tmp_path / 'alone'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    close(folder, tmp_path / "alone", tolerance=2e-3)
    history = [
        [json.loads(line) for line in (f / "evaluation" / "history.jsonl").open()] for f in (folder, tmp_path / "alone")
    ]
    assert len(history[0]) == len(history[1]) == 2
    for here, there in zip(*history, strict=True):
        assert here == pytest.approx(there, rel=5e-3)


# ---- SLURM --------------------------------------------------------------------------------------------------

SRUN = '''#!{python}
"""Two tasks with the environment that SLURM gives them; the highest code is srun's own."""
import os, signal, subprocess, sys, time

slurm = dict(SLURM_NTASKS="2", SLURM_NTASKS_PER_NODE="2", SLURM_NNODES="1", SLURM_NODELIST="127.0.0.1",
             SLURM_JOB_NUM_NODES="1", SLURM_NODEID="0")
tasks = []
for n in ("0", "1"):
    env = os.environ | slurm | dict(SLURM_PROCID=n, SLURM_LOCALID=n)
    tasks.append(subprocess.Popen([sys.executable, *sys.argv[3:]], env=env))
if not os.path.exists("requeued"):  # the time is up when the training is under way
    while not os.path.exists(os.environ["RUN_FOLDER"] + "/metrics.jsonl"):
        time.sleep(0.02)
    for task in tasks:
        task.send_signal(signal.SIGUSR1)
sys.exit(max(task.wait() for task in tasks))
'''


@pytest.mark.slow
def test_the_documented_sbatch_file_saves_requeues_and_goes_on(tmp_path: Path) -> None:
    """Its own lines, under an srun and an scontrol that do what theirs do for one job on one node."""
    page = (ROOT / "docs" / "cluster.md").read_text()
    script = page.split("```bash\n")[1].split("```")[0]
    settings = " ".join([*DDP, "trainer.devices=2", "budget_samples=12800", "log_every_steps=2"])
    old = script[script.index("my_settings=(+") + len("my_settings=(") : script.index('"paths.output_dir')]
    (tmp_path / "job.sh").write_text(script.replace(old, f"{settings} "))
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "srun").write_text(SRUN.replace("{python}", sys.executable))
    (tools / "scontrol").write_text('#!/bin/sh\necho "$@" >> requeued\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    folder = tmp_path / "runs" / "digits-77"
    env = environment(PATH=f"{tools}:{os.environ['PATH']}", SLURM_JOB_ID="77", SLURM_JOB_NAME="digits",
                      RUN_FOLDER=str(folder))  # fmt: skip
    codes = [
        subprocess.run(["bash", "job.sh"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
        for _ in range(2)
    ]
    assert [c.returncode for c in codes] == [138, 0], codes
    assert (tmp_path / "requeued").read_text() == "requeue 77\n"
    assert "done after 12,800 samples" in codes[1].stdout
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["digits-77"]
    assert not list(folder.rglob("hpc_ckpt*"))
