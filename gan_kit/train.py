"""Train an experiment: python -m gan_kit.train +experiment=image/digits"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gan_kit import _door
from gan_kit._arguments import HYDRA, PRINT_CLI, group_names, normalised
from gan_kit._messages import announce, conclude, from_here, go_on
from gan_kit.types import UserError

RANK_JOB = "GAN_KIT_RANK_JOB"  # in the environment of the ranks that rank 0 starts: the config it composed

HELP = """\
Train a GAN.

  python -m gan_kit.train +experiment=NAME [key=value ...]
  python -m gan_kit.train resume=runs/NAME/TIME [key=value ...]   go on exactly where a run stopped

Experiments:
{experiments}
Often set (conf/train.yaml has them all; --cfg job prints what a command line composes):
  budget_samples=200_000     real samples shown to the discriminator, over all resumes
  seed=0  threads=2          random streams; CPU threads
  data.batch_size=64  data.root=DIR  image_size=32
  generator.width=64  optimizer.g.lr=2.0e-4  objective.gamma.start=0.5
  logger=tensorboard|csv|wandb|none   trainer=auto|cpu|ddp   trainer.precision=bf16-mixed
  debug=two_steps            two steps of everything, to try an experiment out
  --multirun seed=0,1,2      a sweep
  --print-cli                print the run.yaml that trains the same by python -m gan_kit.cli, and leave

Groups:
  {groups}
"""


def main() -> None:
    if job := os.environ.pop(RANK_JOB, None):
        with _door.one_line_errors():
            sys.exit(_train_as_rank(job))
    started = False
    until_started = contextlib.ExitStack()

    def task(cfg: Any) -> None:
        nonlocal started
        started = True
        until_started.close()
        with _door.one_line_errors():
            if printing:
                print_cli(cfg)
                return
            code = train(cfg, _given())
        if code:
            sys.exit(code)

    with _door.one_line_errors(), until_started:
        until_started.enter_context(_door.leaving_at_once())
        with _door.one_line_errors(composing=True):
            arguments = normalised(sys.argv[1:])
        if {"-h", "--help"} & set(arguments):
            print(HELP.format(experiments=_experiments(), groups="\n  ".join(_groups())))
            return
        import hydra

        printing = PRINT_CLI in arguments
        arguments = [a for a in arguments if a != PRINT_CLI]  # Hydra does not know it
        os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us whole, and leave as one line
        sys.argv[1:] = arguments
        run = hydra.main(version_base=_door.VERSION_BASE, config_path=str(_door.conf_dir()), config_name="train")(task)
        try:
            run()
        except Exception:
            if started:
                raise
            with _door.one_line_errors(composing=True):
                raise


def _given() -> list[str]:
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task)


def _experiments() -> str:
    lines = []
    for name in _door.options("experiment"):
        text = (_door.conf_dir() / "experiment" / f"{name}.yaml").read_text().splitlines()
        about = next((t[2:] for t in text if t.startswith("# ") and "@package" not in t), "")
        lines.append(f"  {name:30} {about}\n")
    return "".join(lines)


def _groups() -> list[str]:
    return [f"{name}={'|'.join(_door.options(name))}" for name in group_names() if name != "experiment"]


def _train_as_rank(job: str) -> int:
    """As one of the ranks that rank 0 started on this machine: nothing is composed, claimed or said anew."""
    import ctypes
    import json
    import signal

    from hydra.core.utils import setup_globals
    from omegaconf import OmegaConf

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches all; rank 0 tells the others
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: when rank 0 dies, however it does
    setup_globals()
    config, run, checkpoint = json.loads(job)
    train(OmegaConf.create(config), place=(Path(run), Path(checkpoint) if checkpoint else None))
    return 0  # rank 0 says how it ended


def train(cfg: Any, given: Sequence[str] = (), place: tuple[Path, Path | None] | None = None) -> int:
    """Build everything that `cfg` names and train; -> exit code (130, 138 or 143 after a signal).

    given: the overrides that made `cfg`, to keep beside it
    place: the run's folder, and the checkpoint to resume from, where another rank has claimed them already
    """
    import json
    import logging
    import warnings

    from omegaconf import OmegaConf

    with _door.leaving_at_once():
        import torch
        from lightning.pytorch import Trainer
        from lightning.pytorch.callbacks import LambdaCallback
        from lightning.pytorch.utilities.warnings import PossibleUserWarning

        import gan_kit.adversarial
        import gan_kit.data
        import gan_kit.image  # noqa: F401 (what most configs build)
        from gan_kit._auto import settle
        from gan_kit.callbacks import Interrupt, Stopwatch
        from gan_kit.cost import keep_cost
        from gan_kit.runs import abandoned
        from gan_kit.strategies import how_it_ended, lost_connection

    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # says on stdout what is raised as well
    build = _door.Builder(cfg, foreign=bool(cfg.resume))
    build.whole("seed", 0)
    for key in ("image_size", "budget_samples", "schedule_samples", "log_every_steps"):
        build.whole(key, 1)
    for key in ("sample_every", "sample_columns", "evaluate_every", "guard_every"):
        build.whole(key, 1)
    build.whole("threads", 1, optional=True)
    if not cfg.name or not isinstance(cfg.name, str) or ".." in Path(cfg.name).parts or Path(cfg.name).is_absolute():
        raise UserError(f"name={cfg.name} does not make a folder below {cfg.paths.runs}; name=my/first, say")
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    data = build("data")
    environment = dict(os.environ)
    launched = place is not None
    fresh = not cfg.resume and not launched
    team = None if launched else _team(cfg, build)
    lead = not launched and (team is None or team.is_global_zero)
    if not lead:
        warnings.simplefilter("ignore")  # rank 0 has said it
    held = contextlib.ExitStack()  # the lock on the run's folder
    run, checkpoint = place or _placed(cfg, team, held)
    began = False
    interrupt: Interrupt | None = None
    trainer: Trainer | None = None
    try:
        cfg.paths.output_dir, cfg.resume = str(run), None
        as_composed = cfg.copy()  # with its interpolations: what a resumed run starts from
        cfg.spec = data.spec.settings()
        settled = settle(cfg, data.spec)
        build.resolve()

        def keep_config(trainer: Trainer, _: Any) -> None:
            nonlocal began
            if trainer.is_global_zero:
                _keep(run, as_composed, cfg, given if fresh else None)
            began = True

        gan: Any = build("model")
        callbacks = build.parts("callbacks")
        interrupt = next((c for c in callbacks if isinstance(c, Interrupt)), None)
        for callback in callbacks:
            if hasattr(callback, "prepare"):  # may train a classifier: before anything of this run is begun
                if team is not None and not lead:
                    team.strategy.barrier()  # what rank 0 has trained is found in the cache
                with build.errors("callbacks"):
                    callback.prepare(data)
                if team is not None and lead:
                    team.strategy.barrier()
        callbacks.append(watch := Stopwatch())
        callbacks.append(LambdaCallback(on_train_start=keep_config))  # last: the others found nothing amiss
        loggers = build.parts("logger")
        trainer = build("trainer", callbacks=callbacks, logger=loggers or False)
        assert trainer is not None
        with build.errors("optimizer"):
            gan.configure_optimizers()
        data.train_dataloader()  # its mistakes, before anything is announced
        if trainer.is_global_zero:
            announce(cfg, data, gan, run, checkpoint, settled)
        if trainer.world_size > 1:
            os.environ[RANK_JOB] = json.dumps(
                [OmegaConf.to_container(as_composed), str(run), str(checkpoint) if checkpoint else None]
            )
        trainer.fit(gan, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except BaseException as error:
        if fresh and lead and not began:
            abandoned(run)
        if isinstance(error, SystemExit | KeyboardInterrupt):  # Lightning turns the second into the first
            if interrupt is None or interrupt.received is None:
                raise KeyboardInterrupt from None
            print(f"stopped at once, without saving; the last checkpoint goes on with\n  {go_on(run)}", file=sys.stderr)
            return 128 + interrupt.received
        if lost_connection(error):
            if launched:
                raise SystemExit(1) from None  # rank 0 is gone, or says the same
            procs = getattr(trainer.strategy.launcher, "procs", []) if trainer else []
            who = how_it_ended(procs, seconds=3) or f"a process is gone or does not answer ({str(error)[:200]})"
            raise UserError(f"{who}; what it said is above; go on from the last checkpoint: {go_on(run)}") from error
        if isinstance(error, OSError) and began:
            raise UserError(_door.as_disk(error, f"resume={from_here(run)}")) from error
        raise
    finally:
        held.close()
        _restore_environment(environment)
    if trainer.world_size > 1:
        trainer.strategy.disband()  # type: ignore[union-attr]
    received = interrupt.received if interrupt else None
    if trainer.is_global_zero:
        cost = keep_cost(run, watch.figures(), gan, data, trainer) if received is None else ""
        conclude(run, gan.samples_seen, cost, interrupted=received is not None)
    return 128 + received if received else 0


def print_cli(cfg: Any) -> None:
    """Print the run.yaml of a composed config; its data are looked at, nothing is written."""
    from gan_kit._auto import settle
    from gan_kit._converted import as_yaml, run_config

    build = _door.Builder(cfg)
    build.whole("seed", 0)
    build.whole("threads", 1, optional=True)
    spec = build("data").spec
    cfg.spec = spec.settings()
    settle(cfg, spec)
    build.resolve()
    sys.stdout.write(as_yaml(run_config(cfg)))


def _team(cfg: Any, build: _door.Builder) -> Any:
    """The trainer of several processes as it stands before anything of the run is built, or None for one process.

    Where torchrun, SLURM or the like started them, each comes here by itself: they are connected, to agree on a folder.
    """
    if cfg.trainer.get("devices") == 1 and cfg.trainer.get("num_nodes", 1) == 1:
        return None
    team = build("trainer", logger=False)
    if team.world_size == 1:
        return None
    if not hasattr(team.strategy, "average_gradients"):
        raise UserError(f"training on {team.world_size} devices needs trainer=ddp, or trainer.strategy=gan_ddp")
    if team.strategy.cluster_environment.creates_processes_externally:
        team.strategy.setup_environment()
    elif team.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={team.num_nodes}: start it on each node by torchrun or srun, docs/cluster.md"
        )
    return team


def _placed(cfg: Any, team: Any, held: contextlib.ExitStack) -> tuple[Path, Path | None]:
    """The run's folder and the checkpoint that it goes on from: rank 0 claims and locks it, the others are told."""
    from gan_kit.runs import claimed, locked, newest_whole
    from gan_kit.strategies import lost_connection

    place: Any = None
    if team is None or team.is_global_zero:
        run = Path(cfg.paths.output_dir) if cfg.resume else claimed(Path(cfg.paths.output_dir))
        held.enter_context(locked(run))
        place = run, newest_whole(run) if cfg.resume else None
    try:
        return team.strategy.broadcast(place) if team is not None else place
    except Exception as error:
        if lost_connection(error):
            raise SystemExit(2) from None  # rank 0 has said why
        raise


def _restore_environment(before: dict[str, str]) -> None:
    """Take back what launching left (addresses, ranks), which the next job of a sweep would take for its own."""
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _keep(run: Path, as_composed: Any, resolved: Any, given: Sequence[str] | None) -> None:
    """Write the configs, once training has begun: a start that fails leaves those of the run as they are."""
    import warnings

    from omegaconf import OmegaConf

    from gan_kit._converted import as_yaml, run_config
    from gan_kit.files import write_whole

    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    (run / HYDRA).mkdir(exist_ok=True)
    if given is not None:
        write_whole(run / HYDRA / "overrides.yaml", OmegaConf.to_yaml(list(given)))
    write_whole(run / HYDRA / "config.yaml", OmegaConf.to_yaml(as_composed))
    write_whole(run / "config.yaml", OmegaConf.to_yaml(resolved))
    try:
        write_whole(run / "run.yaml", as_yaml(run_config(resolved)))
    except UserError as error:
        warnings.warn(f"no run.yaml for the Lightning CLI: {error}", stacklevel=2)


if __name__ == "__main__":
    main()
