"""kill -9 at any moment, again and again: what is left goes on to the very same weights."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doors import Door, run
from ranks import ALONE, STEP, same, state

from gan_kit.runs import checkpoints, is_whole

# scores and checkpoints often, so that most of the time passes in them
BUSY = [
    *ALONE, f"budget_samples={48 * STEP}", f"callbacks.checkpoints.every_samples={3 * STEP}", "evaluation=fd",
    f"evaluate_every={4 * STEP}", "extractor@callbacks.evaluation.extractor=pixels", "data.val_fraction=0.1",
    "callbacks.evaluation.num_samples=3000", f"sample_every={8 * STEP}",
]  # fmt: skip


@pytest.fixture(scope="module")
def end(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = run("train", *BUSY, f"paths.output_dir={folder}", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return state(folder)


def go_on(folder: Path) -> Door:
    """From what there is, as a requeued job does: anew where nothing was saved."""
    if checkpoints(folder):
        return Door("train", f"resume={folder}", cwd=folder.parent)
    others = [f"paths.output_dir={folder}"]
    if (folder / ".hydra").exists():
        folder.rename(folder.with_name(f"dead-{time.monotonic_ns()}"))
    return Door("train", *BUSY, *others, cwd=folder.parent)


def killed(door: Door, when: Callable[[], object], pause: float = 0.0) -> bool:
    """Whether the door still ran when its moment came."""
    while door.process.is_alive() and not (when() and _stopped_while(door, when)):
        time.sleep(0.0005)
    if pause and door.process.is_alive():
        door.send(signal.SIGCONT)
        time.sleep(pause)
    still = door.process.is_alive()
    door.send(signal.SIGKILL) if still else None
    door.wait()
    return still


def _stopped_while(door: Door, when: Callable[[], object]) -> bool:
    """Halts the door: a moment that was seen in passing may be over before a signal arrives, and is waited for anew."""
    status = Path(f"/proc/{door.process.pid}/status")
    try:
        door.send(signal.SIGSTOP)
        while "State:\tT" not in status.read_text():
            time.sleep(0.0005)
        if when():
            return True
        door.send(signal.SIGCONT)
    except (ProcessLookupError, FileNotFoundError):  # it came to its end first
        pass
    return False


@pytest.mark.slow
@pytest.mark.parametrize("luck", range(4))
def test_five_kills_at_random_moments_change_nothing(end: dict[str, Any], luck: int, tmp_path: Path) -> None:
    folder, chance = tmp_path / "run", random.Random(luck)
    kills = 0
    for _ in range(5):
        moment = time.monotonic() + chance.uniform(0.4, 1.6)
        kills += killed(go_on(folder), lambda moment=moment: time.monotonic() > moment)
    last = go_on(folder).wait()
    assert last.returncode == 0 or "nothing is left to do" in last.stderr, last.stderr
    assert kills
    assert same(state(folder), end)


@pytest.mark.slow
def test_killed_while_a_checkpoint_is_written_and_in_an_evaluation(end: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    parts = folder / "checkpoints"
    history = folder / "evaluation" / "history.jsonl"

    def writing() -> bool:
        return any(parts.glob(".*.part")) and len(checkpoints(folder)) > 0

    def scoring() -> bool:  # the step before it has left its checkpoint, and the next row is not there yet
        rows = len(history.read_text().splitlines()) if history.exists() else 0
        newest = max((int(p.stem.split("=")[1]) for p in checkpoints(folder)), default=0)
        return rows > 0 and newest >= (4 * (rows + 1) - 1) * STEP

    assert killed(go_on(folder), writing)
    assert any(parts.glob(".*.part"))
    assert killed(go_on(folder), scoring, pause=0.002)
    assert all(is_whole(path) for path in checkpoints(folder))
    done = go_on(folder).wait()
    assert done.returncode == 0, done.stderr
    assert not any(parts.glob(".*.part"))
    assert same(state(folder), end)
