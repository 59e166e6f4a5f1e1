"""What the doors share: where conf/ is, what it offers, building from it, and errors on one line."""

from __future__ import annotations

import difflib
import errno
import inspect
import math
import os
import re
import signal
import sys
import threading
import typing
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from gan_kit._fit import Unfit, fitted, shown, words
from gan_kit.types import UserError

VERSION_BASE = "1.3"
TRUSTED = (
    "gan_kit.",
    "torch.optim.",
    "lightning.pytorch.trainer.",
    "lightning.pytorch.Trainer",
    "lightning.pytorch.loggers.",
)
_composed = "train"  # the config whose keys an error lists


def conf_dir() -> Path:
    """conf/ lies inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    return here / "conf" if (here / "conf").is_dir() else here.parent / "conf"


def options(group: str, more: Sequence[Path] = ()) -> list[str]:
    """Names in a config group, nested ones with a slash; `more`: config folders beside our own."""
    roots = [folder / group for folder in (conf_dir(), *more)]
    return sorted(p.relative_to(root).with_suffix("").as_posix() for root in roots for p in root.rglob("*.yaml"))


def nearest(wrong: str, right: Sequence[str]) -> str:
    close = difflib.get_close_matches(wrong, right, n=1, cutoff=0.5)
    return f"did you mean {close[0]}? " if close else ""


def composed(door: str, arguments: Sequence[str]) -> Any:
    """The config of a door that takes key=value and nothing else. Raises UserError for what is not."""
    if wrong := [a for a in arguments if "=" not in a or a.startswith(("+", "~", "-"))]:
        raise UserError(f"{wrong[0]!r} is not key=value; see python -m gan_kit.{door} --help")
    with one_line_errors(composing=True):
        return compose(door, list(arguments))


def compose(name: str, overrides: list[str]) -> Any:
    """A config without a run: for doors that write no run folder."""
    global _composed
    _composed = name
    with leaving_at_once():
        from hydra import compose as hydra_compose
        from hydra import initialize_config_dir
        from hydra.core.global_hydra import GlobalHydra

        GlobalHydra.instance().clear()
        with initialize_config_dir(config_dir=str(conf_dir()), version_base=VERSION_BASE):
            return hydra_compose(config_name=name, overrides=overrides)


# ---- building -----------------------------------------------------------------------------------------------


class Builder:
    """Builds the parts of a config; a mistake in one is a UserError with the key as the user writes it.

    Types are checked against the constructors' annotations first: what torch says of width='abc' helps nobody.
    foreign: the config came out of a run's folder, which may be somebody else's: it builds what gan_kit itself builds
    """

    def __init__(self, cfg: Any, foreign: bool = False):
        from omegaconf import OmegaConf

        self.cfg, self.foreign = cfg, foreign
        self._written = OmegaConf.to_container(cfg, resolve=False)

    def whole(self, key: str, least: int, optional: bool = False) -> None:
        """Replace a setting by a whole number; 1e6 is one."""
        value = self.cfg[key]
        if optional and value is None:
            return
        try:
            self.cfg[key] = value = fitted(value, int)
        except Unfit:
            raise UserError(f"{key}={shown(value)} is not a whole number") from None
        if value < least:
            raise UserError(f"{key}={value} must be {'positive' if least == 1 else f'at least {least}'}")

    def truncation(self, key: str) -> None:
        value = self.cfg[key]
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
            raise UserError(f"{key}={value} is not a number from 0 on; {key}=0.7, say")

    def resolve(self) -> None:
        from omegaconf import OmegaConf
        from omegaconf.errors import InterpolationResolutionError

        try:
            OmegaConf.resolve(self.cfg)
        except InterpolationResolutionError as error:
            keys = [getattr(e, "full_key", None) for e in _chain(error)]
            where = next(filter(None, keys), "")
            where = re.sub(r"\[(\d+)\]", r".\1", where)
            if "spec.shape" in str(error):
                shape = tuple(self.cfg.spec.shape)
                raise UserError(
                    f"{where or 'a network'} can't be had from data whose samples have shape {shape}: choose networks "
                    f"for such data with generator={'|'.join(options('generator'))} and discriminator=, to match"
                ) from error
            raise UserError(f"{where + ': ' if where else ''}{_folded(error)}") from error

    def __call__(self, key: str, **more: Any) -> Any:
        from hydra.utils import instantiate
        from omegaconf import OmegaConf

        node = OmegaConf.select(self.cfg, key)
        if node is None:
            raise UserError(f"{key}={node}: there is nothing to build; have {key}={'|'.join(options(key))}")
        plain = self._checked(OmegaConf.to_container(node, resolve=True), key)
        with self.errors(key):
            return instantiate(plain, _convert_="all", **more)

    def plain(self, key: str) -> Any:
        """What stands at `key`, resolved and checked like what is built, as plain containers."""
        from omegaconf import OmegaConf

        return self._checked(OmegaConf.to_container(OmegaConf.select(self.cfg, key), resolve=True), key)

    @contextmanager
    def errors(self, key: str) -> Iterator[None]:
        """What building the part at `key` raises is a UserError."""
        from hydra.errors import InstantiationException

        try:
            yield
        except (InstantiationException, ValueError, TypeError) as error:
            root = _chain(error)[-1]
            if isinstance(root, ModuleNotFoundError) and "wandb" in str(root):
                raise UserError("logger=wandb needs Weights & Biases: pip install 'gan-kit[wandb]'") from error
            if mistake := next((link for link in _chain(error) if isinstance(link, UserError)), None):
                raise UserError(str(mistake)) from error
            inner = re.search(r"full_key: (\S+)", str(error))
            where = self.written(f"{key}.{inner[1]}" if inner else key)
            raise UserError(f"{where} can't be built: {_folded(root)} (GAN_KIT_TRACEBACK=1 shows where)") from error

    def parts(self, key: str) -> list[Any]:
        """Everything that a group of named parts holds."""
        return [self(f"{key}.{name}") for name, part in (self.cfg[key] or {}).items() if part]

    def written(self, key: str) -> str:
        """Where the user writes what stands at `key`: model.generator.width -> generator.width"""
        path: list[str] = []
        node: Any = self._written
        for part in key.split("."):
            path.append(part)
            node = _at(node, part)
            while isinstance(node, str) and (link := re.fullmatch(r"\$\{([\w.]+)\}", node)):
                path = link[1].split(".")
                node = self._written
                for step in path:
                    node = _at(node, step)
        return ".".join(path)

    def _checked(self, node: Any, key: str) -> Any:
        """The node with its numbers as the constructors want them."""
        if isinstance(node, list):
            return [self._checked(item, f"{key}.{i}") for i, item in enumerate(node)]
        if not isinstance(node, dict):
            return node
        node = {k: self._checked(v, f"{key}.{k}") for k, v in node.items()}
        if not isinstance(node.get("_target_"), str):
            return node
        if self.foreign:
            check_trusted(node["_target_"], self.written(key))
        from hydra.utils import get_object

        try:
            target = get_object(node["_target_"])
            parameters = inspect.signature(target).parameters
        except Exception:  # no such target, or nothing that tells its arguments: building says what is wrong
            return node
        try:
            hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
        except Exception:
            hints = {}
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        for name, value in node.items():
            if name.startswith("_"):
                continue
            if name not in parameters and not open_ended:
                have = [n for n in parameters if n != "self"]
                raise UserError(
                    f"no such setting {self.written(key)}.{name}: {nearest(name, have)}{target.__name__} has "
                    f"{', '.join(have)}"
                )
            if name not in parameters or value is parameters[name].default:
                continue
            try:
                node[name] = fitted(value, hints.get(name, Any))
            except Unfit:
                wanted = words(hints[name])
                raise UserError(f"{self.written(f'{key}.{name}')}={shown(value)} is not {wanted}") from None
        return node


def check_trusted(target: str, key: str) -> None:
    """Raises UserError for what a config of our own would not build: `os.system` is a target like any other."""
    from hydra.utils import get_object

    named = [name for name in os.environ.get("GAN_KIT_TRUST", "").split(",") if name]
    trusted = (*TRUSTED, *(f"{name.removesuffix('.')}." for name in named))
    # by its own module too: gan_kit.files.os.system begins like one of ours
    if not target.startswith(trusted) or not f"{getattr(get_object(target), '__module__', '')}.".startswith(trusted):
        package = target.partition(".")[0]
        raise UserError(
            f"{key} of this run's config wants to build {target}, which gan_kit does not: a run's folder is somebody's "
            f"file, not code to run; if you trust it, set GAN_KIT_TRUST={package} in the environment"
        )


def _at(node: Any, part: str) -> Any:
    if isinstance(node, dict):
        return node.get(part)
    return node[int(part)] if isinstance(node, list) and part.isdigit() and int(part) < len(node) else None


# ---- errors -------------------------------------------------------------------------------------------------


def fail(message: str) -> NoReturn:
    rank = os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0"
    who = "" if rank == "0" else f"rank {rank}: "
    print(f"error: {who}{_folded(message)}", file=sys.stderr)
    raise SystemExit(2)


@contextmanager
def one_line_errors(composing: bool = False) -> Iterator[None]:
    """A user's mistake leaves as one line and exit code 2; GAN_KIT_TRACEBACK=1 shows where it came from.

    composing: only arguments and configs are read within, so that every error is the user's
    """
    warnings.showwarning = _one_line_warning
    threading.excepthook = _one_line_thread
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("GAN_KIT_TRACEBACK"):
            raise
        if isinstance(error, KeyboardInterrupt):
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None
        if message := _as_mistake(error) or (composing and _folded(error)):
            fail(message)
        raise


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Within, while modules are imported, configs composed and nothing is begun, Ctrl-C ends the process at once.

    An exception that is raised in the middle of somebody's import may be swallowed, or turned into another; so may
    one in the middle of composing, which has been seen to end as a setting that does not exist.
    """
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before is not signal.default_int_handler:  # nohup has it ignored: leave that
        yield
        return

    def leave(*_: Any) -> None:
        os.write(2, b"interrupted\n")
        os._exit(130)

    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _one_line_warning(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):
        print(f"warning: {_folded(message)}", file=sys.stderr)


def _one_line_thread(failure: Any) -> None:
    if isinstance(failure.exc_value, OSError) and not os.environ.get("GAN_KIT_TRACEBACK"):
        print(f"warning: a logger could not write: {_folded(failure.exc_value)}", file=sys.stderr)
    else:
        threading.__excepthook__(failure)


def _folded(text: Any) -> str:
    return " ".join(str(text).split()) or type(text).__name__


def _chain(error: BaseException) -> list[BaseException]:
    """An exception and what it came from, the first cause last."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain


def _as_mistake(error: BaseException) -> str | None:
    """The user's mistake behind an exception, or None where it is ours."""
    chain = _chain(error)
    for link in chain:
        name = type(link).__name__
        if isinstance(link, UserError):
            return str(link)
        if name == "MissingConfigException" and (missing := getattr(link, "missing_cfg_file", None)):
            group, _, option = str(missing).rpartition("/")
            have = list(getattr(link, "options", None) or [])
            return f"no {group or 'config'} {option!r}: {nearest(option, have)}have {', '.join(have) or 'none'}"
        if name == "OverrideParseException":
            return (
                f"can't read {getattr(link, 'override', '')!r}: write key=value, lists as key=[1,2] and text in quotes"
            )
        if name == "MisconfigurationException":
            return str(link)
        if name == "UnpicklingError":
            return (
                "the checkpoint holds more than tensors and plain values, which gan_kit never writes nor loads: it may "
                "run code; go on from another checkpoint"
            )
        if name == "OutOfMemoryError":
            return f"the device has no memory left: set a smaller data.batch_size, or model.accumulate=2 ({link})"
        if isinstance(link, RuntimeError) and str(link).startswith("Error(s) in loading state_dict"):
            return (
                "the checkpoint does not fit what these settings build: resume without changing model.* "
                f"or start a new run ({_folded(link)[:200]})"
            )
    if key := next((found[1] for e in chain if (found := re.search(r"full_key: (\S+)", str(e)))), None):
        parent, _, last = key.rpartition(".")
        have = _siblings(parent)
        if have and last not in have:
            near = nearest(key, [f"{parent}.{name}" if parent else name for name in have])
            return f"no such setting {key!r}: {near}{f'{parent} has' if parent else 'have'} {', '.join(have)}"
        return f"{key}: {_folded(str(chain[-1]).splitlines()[0])}"
    if any(type(e).__name__ in ("ConfigCompositionException", "HydraException") for e in chain):
        return _folded(chain[-1])
    if os_error := next((e for e in chain if isinstance(e, OSError) and e.errno), None):
        return as_disk(os_error)
    return None


def as_disk(error: OSError, go_on: str = "resume=") -> str:
    """What to do where a file could not be read or written."""
    what = f" {os.fspath(error.filename)}" if isinstance(error.filename, str | Path) else ""
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return (
            f"could not write{what} ({error.strerror}): make room (is the disk full?), then go on with {go_on}; "
            f"earlier checkpoints are whole"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT, errno.EISDIR):
        return f"{error.strerror}:{what}; is the folder there, and may you write to it?"
    return f"{error.strerror}:{what}"


def _siblings(parent: str) -> list[str]:
    """Keys below `parent` in the default composition."""
    from omegaconf import DictConfig, OmegaConf

    try:
        cfg = compose(_composed, [])
    except Exception:
        return []
    node = OmegaConf.select(cfg, parent) if parent else cfg
    return [str(k) for k in node if not str(k).startswith("_")] if isinstance(node, DictConfig) else []


def device(name: str) -> Any:
    """A torch.device that is there. Raises UserError for any other."""
    import torch

    try:
        found = torch.device(name)
        torch.empty(0, device=found).tolist()  # "meta" has nothing to read
    except (RuntimeError, AssertionError, ImportError, NotImplementedError):
        raise UserError(f"device={name}: torch has no such device here; device=cpu is always there") from None
    return found
