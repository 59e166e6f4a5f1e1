"""Which family makes the best pictures of a small budget? Each is given the same CPU-minutes, by gan_kit's own doors.

    python benchmarks/leaderboard.py --out runs/leaderboard --cpu-minutes 10 --seeds 0 1 --workers 2
    python benchmarks/leaderboard.py --out runs/leaderboard --report          # tables and sheets into docs/
    python benchmarks/leaderboard.py --list                                   # the recipes; without arguments, too

An entry is a data set, a family and a seed: `gan_kit.train` on one thread, then `gan_kit.evaluate`. Before a family's
first entry on a data set `gan_kit.estimate` takes some steps of it, and tells how many samples the budget holds: so all
schedules end where the budget does. The budget is of the training's steps, in seconds of the process on a core, which a
busy machine changes little; what starting, sample grids and checkpoints add is in what the report calls spent.

A finished entry is a line of OUT/results.jsonl, and isn't run again; neither is one that failed, unless --retry. Ctrl-C
or kill -9, then the same command: trainings go on from their last checkpoint. A second start in one OUT is refused.
--report keeps the lines in --rows too, which stands in the repository: what is there isn't run again either, and a
family's further seeds are given as many samples as its first one had, whatever this machine's speed.

Recipes and data are in leaderboard_recipes.py, tables in leaderboard_report.py.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import leaderboard_report as report
from leaderboard_recipes import DATA, DEFAULT_DATA, FAMILIES, Data, Family, prepared

from gan_kit.files import write_whole
from gan_kit.runs import checkpoints
from gan_kit.types import UserError

PROBE_STEPS = 48  # the first third warms up; 32 hold whole turns of what is due every 2, 4, 8 or 16 steps
ROWS = Path(__file__).parents[1] / "docs" / "results" / "leaderboard.jsonl"
METRICS = "[fd,kid,prdc,memorisation]"
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
SAID_EVERY = 60  # seconds
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Stopped(Exception):
    """A door was stopped from outside: nothing is wrong with its entry."""


class Failed(Exception):
    """A door ended with an error, whose line this is."""


@dataclass(frozen=True)
class Entry:
    data: Data
    family: Family
    seed: int
    cpu_minutes: float
    budget_samples: int | None  # in place of CPU-minutes, to try things out

    @property
    def name(self) -> str:
        return f"{self.data.name}/{self.family.name}/{self.seed}"

    @property
    def key(self) -> dict[str, Any]:
        """What makes it another entry."""
        recipe = self.family.digest(self.data)
        budget = {"cpu_minutes": self.cpu_minutes} if self.budget_samples is None else {"samples": self.budget_samples}
        return {"data": self.data.name, "family": self.family.name, "seed": self.seed, "recipe": recipe} | budget


class Leaderboard:
    def __init__(self, out: Path, lock: int, known: list[dict[str, Any]]):
        self.out, self.lock, self.known = out, lock, known
        self.stopping = threading.Event()
        self.writing, self.probing, self.scoring = threading.Lock(), threading.Lock(), threading.Lock()

    # ---- an entry ---------------------------------------------------------------------------------------------------

    def run(self, entry: Entry) -> None:
        if self.stopping.is_set():
            return
        folder = self.out / "entries" / entry.name
        if (folder / "key.json").exists() and json.loads((folder / "key.json").read_text()) != entry.key:
            shutil.rmtree(folder)  # of another recipe or budget
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "key.json", json.dumps(entry.key))
        trained = False
        try:
            budget = entry.budget_samples or self.samples_in(entry)
            self.train(entry, folder, budget)
            trained = True
            record = self.score(entry, folder) | {"budget_samples": budget}
            said = report.in_short(record)
        except Failed as error:
            record, said = {"failed": str(error)}, f"failed: {error}"
        kept = list(folder.glob("cpu_*.json"))
        spent = sum(json.loads(path.read_text()) for path in kept)
        if not trained:  # with --retry it begins anew; what is left of it can be looked at
            shutil.rmtree(folder / "failed", ignore_errors=True)
            if (folder / "run").exists():
                (folder / "run").rename(folder / "failed")
            for path in kept:
                path.unlink()
        self.append("results.jsonl", {"key": entry.key, **record, "cpu_seconds": spent, **circumstances()})
        print(f"{entry.name}: {said}  ({spent / 60:.1f} CPU-minutes spent)", flush=True)

    def samples_in(self, entry: Entry) -> int:
        """How many samples its CPU-minutes hold, by whole batches: the same for all seeds."""
        for row in self.known:
            if {**row["key"], "seed": entry.seed} == entry.key and "budget_samples" in row:
                return int(row["budget_samples"])
        key = {k: v for k, v in entry.key.items() if k not in ("seed", "cpu_minutes")}
        with self.probing:
            found = [row for row in report.read(self.out / "probes.jsonl") if row["key"] == key]
            if not found:
                path = self.out / "entries" / entry.name / "probe.json"
                self.door("estimate", path.parent, *self.recipe(entry), f"steps={PROBE_STEPS}", f"out={path}")
                found = [{"key": key, **json.loads(path.read_text())}]
                self.append("probes.jsonl", found[0])
        rate = found[0]["samples_per_cpu_second"]
        print(f"{entry.name}: {rate:,.0f} samples a CPU-second", flush=True)
        return max(1, round(60 * entry.cpu_minutes * rate))

    def train(self, entry: Entry, folder: Path, budget: int) -> None:
        run = folder / "run"
        seen = [int(path.stem.partition("=")[2]) for path in checkpoints(run)]
        if seen and seen[-1] >= budget:
            return  # killed after its end
        if seen:
            self.door("train", folder, f"resume={run.resolve()}", total=budget)
            return
        shutil.rmtree(run, ignore_errors=True)  # killed before its first checkpoint
        settings = [f"paths.output_dir={run.resolve()}", f"budget_samples={budget}", f"sample_every={budget}"]
        settings += ["callbacks.checkpoints.every_minutes=2", "callbacks.checkpoints.keep=1", "logger=none"]
        self.door("train", folder, *self.recipe(entry), *settings, total=budget)

    def score(self, entry: Entry, folder: Path) -> dict[str, Any]:
        data, run = entry.data, folder / "run"
        settings = [f"split={data.split}", f"num_samples={data.samples(self.out)}", f"extractor={data.extractor}"]
        settings += [f"metrics={METRICS}", f"out={(folder / 'scores').resolve()}", "threads=1"]
        with self.scoring:  # the first trains the extractor, or extracts the real features, for the others
            self.door("evaluate", folder, f"run={run.resolve()}", *settings)
        report.draw_sheet(run, folder / "sheet.png")
        found = json.loads((folder / "scores" / "scores.json").read_text())
        scores = {s["metric"]: {k: s[k] for k in ("value", "stderr", "floor", "note")} for s in found["scores"]}
        kept = ("protocol", "protocol_sha256")
        return {"scores": scores, "samples_seen": found["subject"]["samples_seen"], **{k: found[k] for k in kept}}

    def recipe(self, entry: Entry) -> list[str]:
        settings = ["name=leaderboard", f"seed={entry.seed}", "threads=1", "trainer=cpu"]
        return [*entry.family.overrides(entry.data), *entry.data.overrides(self.out), *settings]

    # ---- doors ------------------------------------------------------------------------------------------------------

    def door(self, name: str, folder: Path, *arguments: str, total: int = 0) -> None:
        """Run it to its end, at one thread. Its CPU-seconds are kept, of a training in a file of its own."""
        kept = folder / f"cpu_{time.time_ns()}.json"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with (folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"gan_kit.{name}", *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment,
                pass_fds=[self.lock], preexec_fn=_ends_with_us, start_new_session=True,
            )  # fmt: skip
        try:
            said, told = time.monotonic(), False
            while (code := process.poll()) is None:
                if total:
                    seconds = cpu_seconds(process.pid)
                    write_whole(kept, json.dumps(seconds))
                    if time.monotonic() - said > SAID_EVERY:
                        said = time.monotonic()
                        share = samples_seen(folder / "run") / total
                        print(f"{folder.relative_to(self.out / 'entries')}: {share:.0%}", flush=True)
                if self.stopping.is_set() and not told:
                    process.send_signal(signal.SIGTERM)  # it saves; a second one would end it at once
                    told = True
                time.sleep(0.5)
        except BaseException:
            process.send_signal(signal.SIGTERM)
            raise
        if code in STOPPED or code < 0:
            raise Stopped(f"{folder}: {name} was stopped ({code})")
        if code:
            lines = (folder / f"{name}.log").read_text(errors="replace").strip().splitlines() or ["no word"]
            raise Failed(next((x for x in lines if x.startswith("error: ")), lines[-1]).removeprefix("error: ")[:300])

    def append(self, name: str, row: dict[str, Any]) -> None:
        """A whole line, on the disk; a half one that a kill has left is closed first."""
        with self.writing, (self.out / name).open("a+b") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(json.dumps(row).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _ends_with_us() -> None:
    if _libc is not None:
        # PR_SET_PDEATHSIG. Not SIGTERM: it comes for each of our threads, and a second one ends a training that saves
        _libc.prctl(1, signal.SIGKILL)


def cpu_seconds(pid: int) -> float:
    """Of a process so far, where there is /proc; else 0."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def samples_seen(run: Path) -> int:
    """By the last line of the run's metrics.jsonl."""
    rows = report.read(run / "metrics.jsonl")
    return int(rows[-1].get("samples_seen", rows[-1].get("samples", 0))) if rows else 0


def circumstances() -> dict[str, Any]:
    import torch

    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    return {
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "machine": f"{os.cpu_count()} x {name}",
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
        "time": time.strftime("%F %T"),
    }


@contextlib.contextmanager
def locked(out: Path) -> Iterator[int]:
    """OUT is ours. Doors hold the lock too: those of a start that was killed are waited for."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "lock").open("a+") as file:
        said = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip()
                if owner.isdigit() and Path(f"/proc/{owner}").exists():
                    raise UserError(f"{out} is being filled by process {owner}: wait for it, or give --out") from None
                if not said:
                    print("waiting for the end of what a killed start has left", flush=True)
                said = True
                time.sleep(0.5)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()


# ---- the door -------------------------------------------------------------------------------------------------------


def run_all(args: argparse.Namespace, data: list[Data], families: list[Family]) -> None:
    with locked(args.out) as lock:
        known = report.read(args.rows) + report.read(args.out / "results.jsonl")
        board = Leaderboard(args.out, lock, known)
        for each in data:
            prepared(each, args.out)
        done = [row["key"] for row in known if not (args.retry and "failed" in row)]
        budget = args.cpu_minutes, args.budget_samples
        every = [Entry(d, f, seed, *budget) for seed in args.seeds for d in data for f in families]
        entries = [entry for entry in every if entry.key not in done]
        print(f"{len(every) - len(entries)} of {len(every)} entries done before", flush=True)
        with ThreadPoolExecutor(args.workers) as pool:
            jobs = [pool.submit(board.run, entry) for entry in entries]
            try:
                for ended in wait(jobs, return_when=FIRST_EXCEPTION).done:
                    ended.result()
            except BaseException as error:
                board.stopping.set()
                pool.shutdown(wait=True, cancel_futures=True)
                if isinstance(error, Stopped | KeyboardInterrupt):
                    why = f"{error}; " if isinstance(error, Stopped) else ""
                    print(f"{why}the same command goes on", file=sys.stderr)
                    raise SystemExit(130) from None
                raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/leaderboard"))
    parser.add_argument("--cpu-minutes", type=float, default=10.0, help="of training, each entry")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--data", default=",".join(DEFAULT_DATA), help=f"of {', '.join(DATA)}, with commas between")
    parser.add_argument("--families", default="", help="with commas between; all that can be trained here")
    parser.add_argument("--workers", type=int, default=1, help="trainings at a time, each on one thread")
    parser.add_argument("--retry", action="store_true", help="run failed entries again")
    parser.add_argument("--budget-samples", type=int, help="in place of CPU-minutes, to try things out")
    parser.add_argument("--list", action="store_true", help="the recipes")
    parser.add_argument("--report", action="store_true", help="write tables and sheets of what is done, run nothing")
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"), help="with --report: between its markers")
    parser.add_argument("--rows", type=Path, default=ROWS, help="results that are kept; --report adds ours")
    parser.add_argument("--sheets", type=Path, default=Path("docs/results"), help="with --report: where pictures go")
    args = parser.parse_args()
    names = [name for name in args.families.split(",") if name] or [n for n, f in FAMILIES.items() if f.available()]
    wanted = [name for name in args.data.split(",") if name]
    for what, given, have in (("family", names, FAMILIES), ("data set", wanted, DATA)):
        if unknown := [name for name in given if name not in have]:
            parser.error(f"no {what} {unknown[0]!r}; have {', '.join(have)}")
    if args.workers < 1 or args.cpu_minutes <= 0:
        parser.error("--workers and --cpu-minutes are positive")
    data, families = [DATA[name] for name in wanted], [FAMILIES[name] for name in names]
    if args.list or len(sys.argv) == 1:  # `make bench` starts no hours of training
        for family in families:
            print(f"{family.name:12} {family.about}\n    " + " ".join(family.overrides(data[0])))
    elif args.report:
        report.write(args.out, args.rows, args.page, args.sheets, args.cpu_minutes, data)
    else:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # trainings save at it, as at Ctrl-C
        try:
            run_all(args, data, families)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from None


if __name__ == "__main__":
    main()
