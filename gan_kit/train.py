"""Train an experiment: python -m gan_kit.train +experiment=image/digits"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gan_kit import _door
from gan_kit.types import UserError

HYDRA = ".hydra"  # in a run: the config with its interpolations, the overrides

FLAGS = {
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"),
    *("--shell-completion", "-sc"),
}
FLAGS_WITH_VALUE = {
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    *("--experimental-rerun", "--info", "-i"),
}

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
  logger=tensorboard|csv|wandb|none   trainer=auto|cpu   trainer.precision=bf16-mixed
  debug=two_steps            two steps of everything, to try an experiment out
  --multirun seed=0,1,2      a sweep

Groups:
  {groups}
"""


def main() -> None:
    started = False

    def task(cfg: Any) -> None:
        nonlocal started
        started = True
        with _door.one_line_errors():
            code = train(cfg, _given())
        if code:
            sys.exit(code)

    with _door.one_line_errors():
        with _door.one_line_errors(composing=True):
            arguments = normalised(sys.argv[1:])
        if {"-h", "--help"} & set(arguments):
            print(HELP.format(experiments=_experiments(), groups="\n  ".join(_groups())))
            return
        with _door.leaving_at_once():
            import hydra

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
    return [f"{name}={'|'.join(_door.options(name))}" for name in _group_names() if name != "experiment"]


def normalised(arguments: list[str]) -> list[str]:
    """The command line as Hydra takes it: its own flags first, then `experiment=` and `debug=` as appended groups in
    this order, then overrides; a run to resume brings its own config."""
    if not arguments:
        raise UserError(
            f"name an experiment: python -m gan_kit.train +experiment={_door.options('experiment')[0]} (have "
            f"{', '.join(_door.options('experiment'))}); --help tells more"
        )
    flags, rest, late = [], [], {}
    for i, argument in enumerate(arguments):
        key, _, value = argument.lstrip("+").partition("=")
        if i and arguments[i - 1] in FLAGS_WITH_VALUE:
            flags.append(argument)
        elif argument.startswith("-"):
            flag = argument.partition("=")[0]
            if flag not in FLAGS | FLAGS_WITH_VALUE:
                have = sorted(f for f in FLAGS | FLAGS_WITH_VALUE if f.startswith("--"))
                raise UserError(
                    f"no such flag {flag}: {_door.nearest(flag, have)}settings are key=value, no dashes; see --help"
                )
            flags.append(argument)
        elif key in ("experiment", "debug"):
            late[key] = f"+{key}={value}"
        elif key == "resume" and value not in ("", "null"):
            late[key] = value
        else:
            rest.append(argument)
    more = _config_dirs(flags)
    for key in late.keys() & {"experiment", "debug"}:
        names = _door.options(key, more)
        for name in late[key].partition("=")[2].split(","):
            if name not in names:
                raise UserError(f"no {key} {name!r}: {_door.nearest(name, names)}have {', '.join(names)}")
    if not more:
        _refuse_unknown_additions(rest)
    if "resume" in late:
        if "experiment" in late:
            raise UserError("give resume= or +experiment=, not both: a run goes on with its own experiment")
        if changed := [a for a in (*rest, *late.values()) if a.lstrip("+").partition("=")[0] in _group_names()]:
            raise UserError(f"a resumed run keeps its groups, {changed[0]} can't change one; set single keys instead")
        return flags + resuming(Path(late.pop("resume").strip("'\"")), rest)
    return flags + [late[k] for k in ("experiment", "debug") if k in late] + rest


def _refuse_unknown_additions(overrides: list[str]) -> None:
    """`+key=value` adds a setting; one that nothing reads is a misspelling."""
    added = [key for o in overrides if o.startswith("+") for key in [o.lstrip("+").partition("=")[0]]]
    if not added:
        return
    import yaml

    settings = yaml.safe_load((_door.conf_dir() / "train.yaml").read_text()).keys() - {"defaults"}
    known = sorted(settings | set(_group_names()))
    for key in added:
        top = re.split(r"[.@/]", key)[0]
        if top not in known:
            raise UserError(f"no such setting {key!r}: {_door.nearest(top, known)}have {', '.join(known)}")


def _group_names() -> list[str]:
    return sorted(p.name for p in _door.conf_dir().iterdir() if p.is_dir())


def _config_dirs(flags: list[str]) -> list[Path]:
    """Folders of the user's own configs, as `--config-dir` names them."""
    text = " ".join(flags).replace("--config-dir=", "--config-dir ").replace("-cd ", "--config-dir ").split()
    return [Path(b) for a, b in itertools.pairwise(text) if a == "--config-dir"]


def resuming(path: Path, overrides: list[str]) -> list[str]:
    from omegaconf import OmegaConf

    from gan_kit.runs import newest_run

    run = newest_run(path).resolve()
    saved = run / HYDRA
    if not (saved / "config.yaml").is_file():
        raise UserError(f"{run} has no {HYDRA}/config.yaml, so it can't be resumed from here")
    resolved = OmegaConf.load(run / "config.yaml")
    pinned = f"schedule_samples={resolved.schedule_samples}"  # a larger budget must not stretch what has begun
    return [
        f"--config-path={saved}",
        "--config-name=config",
        *([] if any(o.lstrip("+").startswith("schedule_samples=") for o in overrides) else [pinned]),
        *overrides,
        f"resume={quoted(run)}",
        f"paths.output_dir={quoted(run)}",
        "hydra.run.dir=.",
        "hydra.output_subdir=null",
        "hydra/job_logging=stdout",
    ]


def quoted(path: Path) -> str:
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"


def train(cfg: Any, given: Sequence[str] = ()) -> int:
    """Build everything that `cfg` names and train; -> exit code (130 or 143 after a signal).

    given: the overrides that made `cfg`, to keep beside it
    """
    import logging
    import warnings

    with _door.leaving_at_once():
        import torch
        from lightning.pytorch import Trainer
        from lightning.pytorch.callbacks import LambdaCallback
        from lightning.pytorch.utilities.warnings import PossibleUserWarning

        import gan_kit.adversarial
        import gan_kit.data
        import gan_kit.image  # noqa: F401 (what most configs build)
        from gan_kit.callbacks import Interrupt
        from gan_kit.runs import abandoned, claimed, newest_whole

    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # says on stdout what is raised as well
    build = _door.Builder(cfg)
    build.whole("seed", 0)
    for key in ("image_size", "budget_samples", "schedule_samples", "log_every_steps"):
        build.whole(key, 1)
    for key in ("sample_every", "sample_columns", "evaluate_every"):
        build.whole(key, 1)
    build.whole("threads", 1, optional=True)
    if not cfg.name or not isinstance(cfg.name, str) or ".." in Path(cfg.name).parts or Path(cfg.name).is_absolute():
        raise UserError(f"name={cfg.name} does not make a folder below {cfg.paths.runs}; name=my/first, say")
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    data = build("data")
    fresh = not cfg.resume
    run = Path(cfg.paths.output_dir)
    checkpoint = None if fresh else newest_whole(run)
    if fresh:
        run = claimed(run)
    began = False
    interrupt: Interrupt | None = None
    try:
        cfg.paths.output_dir, cfg.resume = str(run), None
        as_composed = cfg.copy()  # with its interpolations: what a resumed run starts from
        cfg.spec = {"shape": list(data.spec.shape), "num_classes": data.spec.num_classes}
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
                with build.errors("callbacks"):
                    callback.prepare(data)
        callbacks.append(LambdaCallback(on_train_start=keep_config))  # last: the others found nothing amiss
        loggers = build.parts("logger")
        trainer: Trainer = build("trainer", callbacks=callbacks, logger=loggers or False)
        with build.errors("optimizer"):
            gan.configure_optimizers()
        data.train_dataloader()  # its mistakes, before anything is announced
        if trainer.is_global_zero:
            _announce(cfg, data, gan, run, checkpoint)
        trainer.fit(gan, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except BaseException as error:
        if fresh and not began:
            abandoned(run)
        if isinstance(error, SystemExit | KeyboardInterrupt):  # Lightning turns the second into the first
            if interrupt is None or interrupt.received is None:
                raise KeyboardInterrupt from None
            print(
                f"stopped at once, without saving; the last checkpoint goes on with\n  {_go_on(run)}", file=sys.stderr
            )
            return 128 + interrupt.received
        if isinstance(error, OSError) and began:
            raise UserError(_door.as_disk(error, f"resume={_from_here(run)}")) from error
        raise
    received = interrupt.received if interrupt else None
    if trainer.is_global_zero:
        _conclude(run, gan.samples_seen, interrupted=received is not None)
    return 128 + received if received else 0


def _keep(run: Path, as_composed: Any, resolved: Any, given: Sequence[str] | None) -> None:
    """Write the configs, once training has begun: a start that fails leaves those of the run as they are."""
    from omegaconf import OmegaConf

    from gan_kit.files import write_whole

    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    (run / HYDRA).mkdir(exist_ok=True)
    if given is not None:
        write_whole(run / HYDRA / "overrides.yaml", OmegaConf.to_yaml(list(given)))
    write_whole(run / HYDRA / "config.yaml", OmegaConf.to_yaml(as_composed))
    write_whole(run / "config.yaml", OmegaConf.to_yaml(resolved))


def _announce(cfg: Any, data: Any, gan: Any, run: Path, checkpoint: Path | None) -> None:
    def millions(net: Any) -> str:
        return f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f}M"

    classes = f"{data.spec.num_classes} classes" if data.spec.num_classes else "no classes"
    print(f"run    {run}")
    print(f"data   {len(data.arrays('train').x):,} x {tuple(data.spec.shape)}, {classes}, batch {cfg.data.batch_size}")
    nets = [(name, net) for name, net in gan.named_children() if any(p.requires_grad for p in net.parameters())]
    print(f"nets   {', '.join(f'{name} {millions(net)}' for name, net in nets)} parameters")
    if checkpoint:
        print(f"resume {checkpoint.name}")
    sys.stdout.flush()


def _conclude(run: Path, samples_seen: int, interrupted: bool) -> None:
    run = _from_here(run)
    grids = sorted((run / "samples").glob("*.png"))
    print(f"\n{'stopped' if interrupted else 'done'} after {samples_seen:,} samples")
    if grids:
        print(f"  samples  {grids[-1]}")
    print(f"  bundle   {run / 'bundle'}")
    print(f"  logs     {run / 'metrics.jsonl'}")
    print("next:")
    if interrupted:
        print(f"  {_go_on(run)}")
    elif (run / "bundle" / "classifier.safetensors").is_file():
        print(
            f"  {_python()} -m gan_kit.evaluate run=runs/… extractor=classifier extractor.path={shlex.quote(str(run))}"
        )
    else:
        print(f"  {_command('sample', 'run', run)} n=64")
        print(f"  {_command('evaluate', 'run', run)}")
    if (run / "tensorboard").is_dir():
        print(f"  {_python()} -m tensorboard.main --logdir {shlex.quote(str(run))}")


def _from_here(run: Path) -> Path:
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


def _go_on(run: Path) -> str:
    return _command("train", "resume", _from_here(run))


if __name__ == "__main__":
    main()
