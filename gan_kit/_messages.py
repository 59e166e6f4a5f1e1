"""What a training says when it begins and when it ends: what it is made of, where things are, what to call next."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gan_kit._arguments import quoted


def announce(cfg: Any, data: Any, gan: Any, run: Path, checkpoint: Path | None, settled: Sequence[str]) -> None:
    def millions(net: Any) -> str:
        return f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f}M"

    classes = f"{data.spec.num_classes} classes" if data.spec.num_classes else "no classes"
    if data.spec.vector_dim:
        classes = f"a vector of {data.spec.vector_dim} each"
    print(f"run    {run}")
    print(f"data   {len(data.arrays('train').x):,} x {tuple(data.spec.shape)}, {classes}, batch {cfg.data.batch_size}")
    nets = [(name, net) for name, net in gan.named_children() if any(p.requires_grad for p in net.parameters())]
    print(f"nets   {', '.join(f'{name} {millions(net)}' for name, net in nets)} parameters")
    for line in settled:
        print(f"auto   {line}")
    if checkpoint:
        print(f"resume {checkpoint.name}")
    sys.stdout.flush()


def conclude(run: Path, samples_seen: int, cost: str, interrupted: bool) -> None:
    run = from_here(run)
    grids = sorted((run / "samples").glob("*.png"))
    print(f"\n{'stopped' if interrupted else 'done'} after {samples_seen:,} samples")
    if cost:
        print(f"  cost     {cost}")
    if grids:
        page = run / "samples" / "index.html"  # of sounds
        print(f"  samples  {page if page.is_file() else grids[-1]}")
    print(f"  bundle   {run / 'bundle'}")
    print(f"  logs     {run / 'metrics.jsonl'}")
    print("next:")
    if interrupted:
        print(f"  {go_on(run)}")
    elif (run / "bundle" / "classifier.safetensors").is_file():
        print(
            f"  {_python()} -m gan_kit.evaluate run=runs/… extractor=classifier extractor.path={shlex.quote(str(run))}"
        )
    else:
        print(f"  {_command('sample', 'run', run)} {'source=some.wav' if _restores(run) else 'n=64'}")
        print(f"  {_command('evaluate', 'run', run)}")
    if (run / "tensorboard").is_dir():
        print(f"  {_python()} -m tensorboard.main --logdir {shlex.quote(str(run))}")


def _restores(run: Path) -> bool:
    """Whether the bundle takes samples to restore, as vocoders do, and draws none."""
    config = run / "bundle" / "config.yaml"
    return config.is_file() and "\ncondition:" in config.read_text(encoding="utf-8")


def from_here(run: Path) -> Path:
    return Path(os.path.relpath(run)) if run.is_absolute() and run.is_relative_to(Path.cwd()) else run


def _command(door: str, key: str, run: Path) -> str:
    setting = f"{key}={run}"
    if not re.fullmatch(r"[\w./:=-]+", setting):  # Hydra reads quotes of its own within the shell's
        setting = shlex.quote(f"{key}={quoted(run)}")
    return f"{_python()} -m gan_kit.{door} {setting}"


def _python() -> str:
    """How this interpreter is called from here: `python` in an active environment, else its path (after `make`)."""
    found = shutil.which("python")
    if found and Path(found).parent == Path(sys.executable).parent:
        return "python"
    here = Path(sys.executable)
    return shlex.quote(str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here))


def go_on(run: Path) -> str:
    return _command("train", "resume", from_here(run))
