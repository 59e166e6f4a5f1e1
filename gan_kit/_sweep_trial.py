"""One trial of a sweep: a training in a process and a folder of its own, watched from outside."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from gan_kit.types import UserError

__all__ = ["Trial", "trial_folder"]


def trial_folder(base: Any, number: int) -> Path:
    return base.folder / "trials" / f"{number:04d}"


class Trial:
    """A training in trials/<number>/run, watched: its scores are reported, and a hopeless one is ended."""

    def __init__(self, study: Any, number: int, lock: IO[str], cfg: Any, base: Any):
        import optuna

        self.study, self.number, self.lock, self.cfg, self.base = study, number, lock, cfg, base
        frozen = study.get_trials(deepcopy=False)[number]
        self.overrides: list[str] | None = frozen.user_attrs.get("overrides")
        self.trial = optuna.trial.Trial(study, frozen._trial_id)
        self.folder = trial_folder(base, number)
        self.run_folder = self.folder / "run"
        self.seen = set(frozen.intermediate_values)

    def run(self) -> bool:
        """-> whether it came to an end that says something of its settings"""
        from optuna.trial import TrialState

        if self.overrides is None:  # its sweep was killed before it had written them
            self.study.tell(self.number, state=TrialState.FAIL)
            return True
        print(f"trial {self.number:3d}  {' '.join(self.overrides)}", flush=True)
        code, pruned = self._train()
        curve = self._curve()
        if pruned:
            self.study.tell(self.number, state=TrialState.PRUNED)
            print(f"           pruned at {max(curve):,} samples: {self.cfg.metric} {curve[max(curve)]:.4g}")
        elif code == 0 and curve and max(curve) >= self.base.budget:
            self.study.tell(self.number, curve[max(curve)])
            print(f"           {self.cfg.metric} {curve[max(curve)]:.4g}")
        else:
            self.study.tell(self.number, state=TrialState.FAIL)
            why = self._last_words()
            print(f"           failed: {why}", flush=True)
            if not (self.run_folder / "config.yaml").exists():  # it never began: the next would not either
                raise UserError(f"trial {self.number} could not be started: {why}")
            return False
        return True

    def _train(self) -> tuple[int, bool]:
        from gan_kit.runs import checkpoints

        if checkpoints(self.run_folder):
            arguments = [f"resume={self.run_folder.resolve()}"]
        else:
            _forget(self.run_folder)
            assert self.overrides is not None
            arguments = [
                *self.base.arguments,
                *self.overrides,
                f"paths.output_dir={self.run_folder.resolve()}",
                "callbacks.checkpoints.keep=1",
            ]
        with (self.folder / "train.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gan_kit.train", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours to hand on
                pass_fds=[self.lock.fileno()],
                preexec_fn=_dies_with_its_sweep,
            )
        pruned = False
        try:
            while process.poll() is None:
                time.sleep(0.2)
                if not pruned and self._report():
                    pruned = True
                    process.send_signal(signal.SIGTERM)
            self._report()
        except BaseException:
            process.send_signal(signal.SIGTERM)  # it saves, to be gone on with
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            raise
        return process.returncode, pruned

    def _report(self) -> bool:
        """Tell Optuna what is new; -> whether the trial is hopeless"""
        hopeless = False
        for samples, value in self._curve().items():
            if samples not in self.seen:
                self.seen.add(samples)
                self.trial.report(value, samples)
                hopeless = samples < self.base.budget and self.trial.should_prune()
        return hopeless

    def _curve(self) -> dict[int, float]:
        """{samples: score} of the history so far. Raises UserError where it has no such score."""
        path = self.run_folder / "evaluation" / "history.jsonl"
        if not path.exists():
            return {}
        found = {}
        for line in path.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # the end of it is being written
                row = json.loads(line)
                names = [n for n in row if n == self.cfg.metric or n.startswith(f"{self.cfg.metric}-")]
                if not names:
                    have = ", ".join(name for name in row if name != "samples_seen")
                    raise UserError(f"no metric {self.cfg.metric!r} in {path}; have {have}")
                found[int(row["samples_seen"])] = float(row[names[0]])
        return found

    def _last_words(self) -> str:
        lines = (self.folder / "train.log").read_text(errors="replace").strip().splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        return (errors or lines or ["no word"])[-1].removeprefix("error: ")


def _forget(run: Path) -> None:
    """A run that was killed before its first checkpoint begins anew."""
    import shutil

    if run.exists():
        shutil.rmtree(run)


def _dies_with_its_sweep() -> None:
    import ctypes

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: it saves and ends when the sweep is killed
