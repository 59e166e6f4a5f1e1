"""The command line of `train` as Hydra takes it, and what is wrong with it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from gan_kit import _door
from gan_kit.types import UserError

__all__ = ["HYDRA", "PRINT_CLI", "group_names", "normalised", "quoted"]

HYDRA = ".hydra"  # in a run: the config with its interpolations, the overrides
PRINT_CLI = "--print-cli"

FLAGS = {
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"),
    *("--shell-completion", "-sc", PRINT_CLI),
}
FLAGS_WITH_VALUE = {
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    *("--experimental-rerun", "--info", "-i"),
}


def normalised(arguments: list[str]) -> list[str]:
    """The command line as Hydra takes it: its own flags first, then `experiment=` and `debug=` as appended groups in
    this order, then overrides; a run to resume brings its own config. @FILE stands for the list of arguments in it."""
    arguments = [a for argument in arguments for a in _listed(argument)]
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
        if changed := [a for a in (*rest, *late.values()) if a.lstrip("+").partition("=")[0] in group_names()]:
            raise UserError(f"a resumed run keeps its groups, {changed[0]} can't change one; set single keys instead")
        return flags + resuming(Path(late.pop("resume").strip("'\"")), rest)
    return flags + [late[k] for k in ("experiment", "debug") if k in late] + rest


def _listed(argument: str) -> list[str]:
    """What @best.yaml holds, a YAML list of arguments; any other argument is itself"""
    if not argument.startswith("@"):
        return [argument]
    import yaml

    path = Path(argument[1:])
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{argument}: {path} can't be read ({' '.join(str(error).split())})") from None
    if not isinstance(found, list) or not all(isinstance(a, str) and not a.startswith("@") for a in found):
        raise UserError(f"{argument}: {path} is no list of key=value; a sweep's best.yaml is one")
    return found


def _refuse_unknown_additions(overrides: list[str]) -> None:
    """`+key=value` adds a setting; one that nothing reads is a misspelling."""
    added = [key for o in overrides if o.startswith("+") for key in [o.lstrip("+").partition("=")[0]]]
    if not added:
        return
    import yaml

    settings = yaml.safe_load((_door.conf_dir() / "train.yaml").read_text()).keys() - {"defaults"}
    known = sorted(settings | set(group_names()))
    for key in added:
        top = re.split(r"[.@/]", key)[0]
        if top not in known:
            raise UserError(f"no such setting {key!r}: {_door.nearest(top, known)}have {', '.join(known)}")


def group_names() -> list[str]:
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
