"""What the doors share: where conf/ is, which experiments there are, and errors on one line."""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from gan_kit.types import UserError

VERSION_BASE = "1.3"


def conf_dir() -> Path:
    """conf/ lies inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    return here / "conf" if (here / "conf").is_dir() else here.parent / "conf"


def options(group: str, more: Sequence[Path] = ()) -> list[str]:
    """Names in a config group, nested ones with a slash; `more`: config folders beside our own."""
    roots = [folder / group for folder in (conf_dir(), *more)]
    return sorted(p.relative_to(root).with_suffix("").as_posix() for root in roots for p in root.rglob("*.yaml"))


def fail(message: str) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def nearest(wrong: str, right: Sequence[str]) -> str:
    close = difflib.get_close_matches(wrong, right, n=1, cutoff=0.5)
    return f"did you mean {close[0]}? " if close else ""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A user's mistake leaves as one line and exit code 2; GAN_KIT_TRACEBACK=1 shows where it came from."""
    warnings.showwarning = _one_line_warning
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("GAN_KIT_TRACEBACK"):
            raise
        if isinstance(error, KeyboardInterrupt):
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None
        if message := _as_mistake(error):
            fail(message)
        raise


def _one_line_warning(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):
        print(f"warning: {message}", file=sys.stderr)


def _as_mistake(error: BaseException) -> str | None:
    """The user's mistake behind an exception, or None where it is ours."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for link in chain:
        if isinstance(link, UserError):
            return str(link)
    names = {type(link).__name__ for link in chain}
    if names & {
        "ConfigCompositionException",
        "MissingConfigException",
        "OverrideParseException",
        "ConfigAttributeError",
    }:
        return _as_override(chain)
    if "InstantiationException" in names or "ConfigTypeError" in names or "ValidationError" in names:
        return " ".join(str(chain[-1]).split()) + " (" + str(chain[0]).splitlines()[-1].strip() + ")"
    if isinstance(error, OSError):
        return f"{error.strerror or error}: {error.filename!r}; is the folder there, and may you write to it?"
    return None


def _as_override(chain: list[BaseException]) -> str:
    first = str(chain[0]).splitlines()
    key = next(
        (line.split("full_key:")[1].strip() for e in chain for line in str(e).splitlines() if "full_key:" in line),
        "",
    )
    if key:
        siblings = _siblings(key)
        return f"no such setting {key!r}: {nearest(key, siblings)}have {siblings or 'none'}"
    return " ".join(first[:3])


def _siblings(key: str) -> list[str]:
    """Keys beside a wrong one in the default composition."""
    from omegaconf import DictConfig

    cfg = compose("train", [])
    parent = key.rpartition(".")[0]
    from omegaconf import OmegaConf

    node = OmegaConf.select(cfg, parent) if parent else cfg
    if not isinstance(node, DictConfig):
        return []
    return [f"{parent}.{k}" if parent else str(k) for k in node if not str(k).startswith("_")]


def compose(name: str, overrides: list[str]) -> Any:
    """A config without a run: for doors that write no run folder."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(conf_dir()), version_base=VERSION_BASE):
        return hydra_compose(config_name=name, overrides=overrides)
