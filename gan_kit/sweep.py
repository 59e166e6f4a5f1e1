"""Search an experiment's settings: python -m gan_kit.sweep +experiment=image/digits budget_samples=50_000"""

from __future__ import annotations

import fcntl
import json
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

from gan_kit import _door
from gan_kit._space import Parameter, changed, overrides_of, space_of
from gan_kit._sweep_trial import Trial, trial_folder
from gan_kit.files import one_at_a_time
from gan_kit.types import UserError

HELP = """\
Search an experiment's settings by the score it reaches: Optuna's samplers, trials that are ordinary trainings.

  python -m gan_kit.sweep +experiment=image/digits [key=value ...]    as given to gan_kit.train, and of its own:

{own}

The same command goes on with a sweep that was stopped, killed, or is to have more trials; started a second time while
it runs, it works on the same trials beside the first. docs/sweep.md tells of the space.
"""
FAILURES = 3  # in a row, without a trial that came through, end a sweep


def main() -> None:
    with _door.one_line_errors():
        arguments = sys.argv[1:]
        if {"-h", "--help"} & set(arguments):
            print(HELP.format(own=_own_settings()))
            return
        own, training = split(arguments)
        with _door.one_line_errors(composing=True):
            ranges = [a for a in own if a.lstrip("+~").startswith("space")]
            cfg = _door.compose("sweep", [a for a in own if a not in ranges])
            base = Base(training, cfg, ranges)
        try:
            sweep(cfg, base)
        except KeyboardInterrupt:
            print(f"\nstopped; the same command goes on: {base.folder}", file=sys.stderr)
            raise SystemExit(130) from None


def _own_settings() -> str:
    lines = (_door.conf_dir() / "sweep.yaml").read_text().split("space:")[0].splitlines()[1:]
    return "\n".join(f"  {line.replace(' # ', '  # ')}" for line in lines)


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """-> the sweep's own settings, the training's"""
    import yaml

    settings = yaml.safe_load((_door.conf_dir() / "sweep.yaml").read_text()).keys() - {"hydra"}
    own: list[str] = []
    training: list[str] = []
    for argument in arguments:
        name = argument.lstrip("+~").partition("=")[0].partition(".")[0]
        (own if name in settings else training).append(argument)
    return own, training


class Base:
    """The training that all trials share: its arguments, and what they compose to."""

    def __init__(self, training: list[str], cfg: Any, ranges: list[str]):
        from omegaconf import OmegaConf

        from gan_kit._arguments import normalised

        _check(cfg)
        if not training:
            raise UserError("name an experiment to sweep: python -m gan_kit.sweep +experiment=image/digits; see --help")
        for argument in training:
            if argument.startswith("-") or argument.lstrip("+").startswith(("resume=", "paths.output_dir=")):
                raise UserError(f"{argument} is of one training, and a sweep has many; leave it out")
        given = {a.lstrip("+").partition("=")[0] for a in training}
        self.kept = [*training, *([] if "evaluation" in given else ["evaluation=fd"])]  # also by best.yaml
        self.arguments = [*self.kept, *([] if "logger" in given else ["logger=none"])]
        composed = _door.compose("train", normalised(list(self.arguments)))
        if not composed.callbacks.get("evaluation"):
            raise UserError("evaluation=none leaves a sweep nothing to go by; evaluation=fd, say")
        budget = int(composed.budget_samples)
        if cfg.rungs > budget:
            raise UserError(f"rungs={cfg.rungs} in budget_samples={budget}; fewer rungs, or more samples")
        self.arguments.append(f"evaluate_every={-(-budget // cfg.rungs)}")
        self.config, self.budget = composed, budget
        space: Any = changed(OmegaConf.to_container(cfg.space), ranges)  # type: ignore[arg-type]
        self.parameters: list[Parameter] = space_of(space, composed)
        runs = Path(composed.paths.runs)
        self.folder = Path(cfg.out) if cfg.out else runs / "sweep" / str(composed.name)


def _check(cfg: Any) -> None:
    build = _door.Builder(cfg)
    for key in ("trials", "rungs"):
        build.whole(key, 1)
    for key in ("prune_startup", "sampler_seed"):
        build.whole(key, 0)
    for key, have in {
        "sampler": ("tpe", "random"),
        "direction": ("minimize", "maximize"),
        "prune": ("median", "halving", "none"),
    }.items():
        if cfg[key] not in have:
            raise UserError(f"no {key} {cfg[key]!r}: {_door.nearest(str(cfg[key]), have)}have {', '.join(have)}")


def sweep(cfg: Any, base: Base) -> None:
    """Run trials until there are as many as wanted, then tell what was found."""
    from gan_kit._sweep_report import report

    base.folder.mkdir(parents=True, exist_ok=True)
    study = _study(cfg, base)
    print(f"sweep  {base.folder}  ({len(study.get_trials(deepcopy=False))} trials so far, {cfg.trials} wanted)")
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    failures = 0
    try:
        while (claimed := _next_trial(study, cfg, base)) is not None:
            number, lock = claimed
            with lock:
                value = Trial(study, number, lock, cfg, base).run()
            failures = 0 if value else failures + 1
            if failures >= FAILURES:
                raise UserError(
                    f"{failures} trials in a row failed; the latest says why: {trial_folder(base, number)}/train.log"
                )
    finally:
        report(study, base, cfg.direction)


def _as_ctrl_c(*_: Any) -> None:
    raise KeyboardInterrupt


def _study(cfg: Any, base: Base) -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError("a sweep needs Optuna: pip install 'gan-kit[sweep]'") from None
    from optuna import pruners

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    first = -(-base.budget // cfg.rungs)
    pruner = {
        "median": lambda: pruners.MedianPruner(n_startup_trials=cfg.prune_startup),
        "halving": lambda: pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=3),
        "none": pruners.NopPruner,
    }[cfg.prune]()
    with one_at_a_time(base.folder / "lock"):
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{base.folder.resolve()}/study.db", engine_kwargs={"connect_args": {"timeout": 60}}
        )
        study = optuna.create_study(
            storage=storage,
            study_name="sweep",
            pruner=pruner,
            direction=cfg.direction,
            load_if_exists=True,
        )
        what = {
            "training": base.arguments,
            "metric": cfg.metric,
            "direction": cfg.direction,
            "space": json.loads(json.dumps([vars(p) for p in base.parameters])),
        }
        before = study.user_attrs.get("what")
        if before is None:
            study.set_user_attr("what", what)
        elif changed := [k for k in what if before[k] != what[k]]:
            raise UserError(
                f"{base.folder} holds a sweep of another {changed[0]} ({_short(before[changed[0]])}): scores would not "
                f"compare; give this one its own folder, out={base.folder}-2"
            )
    return study


def _sampler(cfg: Any, number: int) -> Any:
    """Its draws are a function of the trial's number: a sweep that goes on, or another beside it, repeats none."""
    from optuna import samplers

    seed = cfg.sampler_seed * 100_003 + number
    return samplers.RandomSampler(seed) if cfg.sampler == "random" else samplers.TPESampler(seed=seed)


def _short(value: Any) -> str:
    text = " ".join(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else json.dumps(value)
    return text if len(text) < 200 else f"{text[:200]}…"


# ---- which trial --------------------------------------------------------------------------------------------


def _next_trial(study: Any, cfg: Any, base: Base) -> tuple[int, IO[str]] | None:
    """The number and the lock of a trial whose sweep has died, else of a new one; None where all is done or under way.

    A trial's lock is held by its sweep and by its training, and goes with the last of them.
    """
    patience = time.monotonic() + 10  # for the training of a sweep that was killed a moment ago to save
    while True:
        with one_at_a_time(base.folder / "lock"):
            trials = study.get_trials(deepcopy=False)
            orphans = [t.number for t in trials if t.state.name == "RUNNING"]
            for number in orphans:
                if (lock := _locked(base, number)) is not None:
                    return number, lock
            if sum(t.state.name != "FAIL" for t in trials) < cfg.trials:
                study.sampler = _sampler(cfg, len(trials))
                trial = study.ask()
                values = {p.name: p.suggest(trial) for p in base.parameters}
                trial.set_user_attr("overrides", overrides_of(values, base.parameters, base.config))
                lock = _locked(base, trial.number)
                assert lock is not None
                return trial.number, lock
        if not orphans or time.monotonic() > patience:
            return None
        time.sleep(0.5)


def _locked(base: Base, number: int) -> IO[str] | None:
    folder = trial_folder(base, number)
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


if __name__ == "__main__":
    main()
