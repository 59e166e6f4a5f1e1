"""Train an experiment: python -m gan_kit.train +experiment=image/digits"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from gan_kit import _door
from gan_kit.types import UserError

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

Groups: {groups}
"""


def main() -> None:
    with _door.one_line_errors():
        arguments = normalised(sys.argv[1:])
        if {"-h", "--help"} & set(arguments):
            print(HELP.format(experiments=_experiments(), groups=" ".join(_groups())))
            return
        import hydra

        os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us whole, and leave as one line
        sys.argv[1:] = arguments
        hydra.main(version_base=_door.VERSION_BASE, config_path=str(_door.conf_dir()), config_name="train")(_task)()


def _experiments() -> str:
    lines = []
    for name in _door.options("experiment"):
        text = (_door.conf_dir() / "experiment" / f"{name}.yaml").read_text().splitlines()
        about = next((t[2:] for t in text if t.startswith("# ") and "@package" not in t), "")
        lines.append(f"  {name:30} {about}\n")
    return "".join(lines)


def _groups() -> list[str]:
    return [
        f"{p.name}={'|'.join(_door.options(p.name))}"
        for p in sorted(_door.conf_dir().iterdir())
        if p.is_dir() and p.name != "experiment"
    ]


def normalised(arguments: list[str]) -> list[str]:
    """The command line as Hydra takes it: its own flags first, then `experiment=` and `debug=` as appended groups in
    this order, then overrides; a run to resume brings its own config."""
    flags, rest, late = [], [], {}
    for i, argument in enumerate(arguments):
        key, _, value = argument.lstrip("+").partition("=")
        if argument.startswith("-") or (i and arguments[i - 1] in ("--config-dir", "-cd", "--cfg", "-c", "--info")):
            flags.append(argument)
        elif key in ("experiment", "debug"):
            late[key] = f"+{key}={value}"
        elif key == "resume" and value not in ("", "null"):
            late[key] = value
        else:
            rest.append(argument)
    for key in late.keys() & {"experiment", "debug"}:
        names = _door.options(key, _config_dirs(flags))
        for name in late[key].partition("=")[2].split(","):
            if name not in names:
                raise UserError(f"no {key} {name!r}: {_door.nearest(name, names)}have {', '.join(names)}")
    if "resume" in late:
        if "experiment" in late:
            raise UserError("give resume= or +experiment=, not both: a run goes on with its own experiment")
        return flags + resuming(Path(late.pop("resume")), rest) + list(late.values())
    return flags + [late[k] for k in ("experiment", "debug") if k in late] + rest


def _config_dirs(flags: list[str]) -> list[Path]:
    """Folders of the user's own configs, as `--config-dir` names them."""
    text = " ".join(flags).replace("--config-dir=", "--config-dir ").replace("-cd ", "--config-dir ").split()
    return [Path(b) for a, b in zip(text, text[1:], strict=False) if a == "--config-dir"]


def resuming(path: Path, overrides: list[str]) -> list[str]:
    from omegaconf import OmegaConf

    from gan_kit.runs import newest_run

    run = newest_run(path).resolve()
    saved = run / ".hydra"
    if not (saved / "config.yaml").is_file():
        raise UserError(f"{run} has no .hydra/config.yaml, so it can't be resumed from here")
    resolved = OmegaConf.load(run / "config.yaml")
    pinned = [f"schedule_samples={resolved.schedule_samples}"]  # a larger budget must not stretch what has begun
    return [
        f"--config-path={saved}",
        "--config-name=config",
        *[p for p in pinned if not any(o.startswith(p.split("=")[0] + "=") for o in overrides)],
        *overrides,
        f"resume={_quoted(run)}",
        f"paths.output_dir={_quoted(run)}",
        f"hydra.run.dir={_quoted(run)}",
    ]


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "\\'") + "'"


def _task(cfg: Any) -> None:
    with _door.one_line_errors():
        code = train(cfg)
    if code:
        sys.exit(code)


def train(cfg: Any) -> int:
    """Build everything that `cfg` names and train; -> exit code (130 or 143 after a signal)."""
    import logging
    import warnings

    import torch
    from hydra.utils import instantiate
    from lightning.pytorch import Trainer
    from lightning.pytorch.utilities.warnings import PossibleUserWarning
    from omegaconf import OmegaConf

    from gan_kit.callbacks import Interrupt
    from gan_kit.runs import newest_whole

    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    data = instantiate(cfg.data, _convert_="all")
    cfg.spec = {"shape": list(data.spec.shape), "num_classes": data.spec.num_classes}
    OmegaConf.resolve(cfg)
    run = Path(cfg.paths.output_dir)
    gan: Any = instantiate(cfg.model, _convert_="all")
    callbacks = [instantiate(c, _convert_="all") for c in cfg.callbacks.values() if c]
    loggers = [instantiate(c, _convert_="all") for c in cfg.logger.values() if c]
    trainer: Trainer = instantiate(cfg.trainer, _convert_="all", callbacks=callbacks, logger=loggers or False)
    checkpoint = newest_whole(run) if cfg.resume else None
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, run / "config.yaml")
    if trainer.is_global_zero:
        _announce(cfg, data, gan, run, checkpoint)
    trainer.fit(gan, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    received = next((c.received for c in callbacks if isinstance(c, Interrupt)), None)
    if trainer.is_global_zero:
        _conclude(run, gan.samples_seen, interrupted=received is not None)
    return 128 + received if received else 0


def _announce(cfg: Any, data: Any, gan: Any, run: Path, checkpoint: Path | None) -> None:
    def millions(net: Any) -> str:
        return f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f}M"

    classes = f"{data.spec.num_classes} classes" if data.spec.num_classes else "no classes"
    print(f"run    {run}")
    print(f"data   {len(data.arrays('train').x):,} x {tuple(data.spec.shape)}, {classes}, batch {cfg.data.batch_size}")
    print(f"nets   G {millions(gan.generator)}, D {millions(gan.discriminator)} parameters")
    if checkpoint:
        print(f"resume {checkpoint.name}")
    sys.stdout.flush()


def _conclude(run: Path, samples_seen: int, interrupted: bool) -> None:
    run = Path(os.path.relpath(run)) if run.is_relative_to(Path.cwd()) else run
    grids = sorted((run / "samples").glob("*.png"))
    print(f"\n{'stopped' if interrupted else 'done'} after {samples_seen:,} samples")
    if grids:
        print(f"  samples  {grids[-1]}")
    print(f"  bundle   {run / 'bundle'}")
    print(f"  logs     {run / 'metrics.jsonl'}")
    print("next:")
    if interrupted:
        print(f"  python -m gan_kit.train resume={run}")
    else:
        print(f"  make sample RUN={run} N=64       (or: python -m gan_kit.sample run={run} n=64)")
    print(f"  tensorboard --logdir {run}")


if __name__ == "__main__":
    main()
