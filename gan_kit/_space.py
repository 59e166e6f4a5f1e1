"""The space that a sweep searches: named parameters, each a range or choices, for keys of the training's config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gan_kit import _door
from gan_kit.types import UserError

__all__ = ["Parameter", "changed", "overrides_of", "space_of"]

FIELDS = {"low", "high", "log", "step", "choices", "times", "keys"}


@dataclass(frozen=True)
class Parameter:
    """keys: those of the training that take the value, with what stands there now

    low, high, log, step: a range, whole numbers where all three are; or choices. times: the value multiplies what
    stands there now, so that schedules keep their shape
    """

    name: str
    keys: tuple[tuple[str, Any], ...]
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()
    times: bool = False

    def suggest(self, trial: Any) -> Any:
        if self.choices:
            return trial.suggest_categorical(self.name, list(self.choices))
        whole = all(isinstance(x, int) for x in (self.low, self.high, self.step or 1))
        if whole and not self.times:
            return trial.suggest_int(self.name, self.low, self.high, log=self.log, step=self.step or 1)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log, step=self.step)


def changed(space: dict[str, Any], arguments: list[str]) -> dict[str, Any]:
    """The space with what the command line says of it: space={...} is another one, space.lr={...} another or one more
    parameter, space.lr=null one less, space.lr.low=0.1 one number. Raises UserError for what can't be read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    for argument in arguments:
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException:
            raise UserError(
                f"can't read {argument!r}: write space.lr.low=0.1 or space.lr={{low: 0.1, high: 2}}"
            ) from None
        _, *path = override.key_or_group.split(".")
        value: Any = None if override.is_delete() else _plain(override.value())
        if not path:
            space = value
        elif not isinstance(space, dict):
            raise UserError(f"{argument}: space={space} has no parameters")
        elif len(path) == 1:
            space = {**space, path[0]: value}
        else:
            inner = space.get(path[0])
            if len(path) > 2 or not isinstance(inner, dict):
                raise UserError(
                    f"{argument}: have space.{', space.'.join(space)}; a new one is whole: space.NAME={{...}}"
                )
            space = {**space, path[0]: {**inner, path[1]: value}}
    return space


def _plain(value: Any) -> Any:
    """Without the parser's marks on quoted strings"""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return getattr(value, "text", value)


def space_of(space: Any, config: Any) -> list[Parameter]:
    """The parameters that `config`, a composed training, has keys for.

    Raises UserError for what is no range, for names and keys that nothing has, and where nothing is left to search.
    """
    if not isinstance(space, Mapping) or not any(space.values()):
        raise UserError("space is empty: there is nothing to search; see conf/sweep.yaml")
    return [_parameter(str(name), given, config) for name, given in space.items() if given]


def _parameter(name: str, given: Any, config: Any) -> Parameter:
    if not isinstance(given, Mapping):
        raise UserError(f"space.{name}={given}; give {{low: 1e-4, high: 1e-2, log: true}} or {{choices: [1, 2]}}")
    if unknown := given.keys() - FIELDS:
        wrong = sorted(unknown)[0]
        near = _door.nearest(wrong, sorted(FIELDS))
        raise UserError(f"no such setting space.{name}.{wrong}: {near}have {', '.join(sorted(FIELDS))}")
    wanted = list(given.get("keys") or [name])
    keys = tuple((key, now) for key in wanted if (now := value_at(config, key)) is not None)
    if not keys:
        raise UserError(
            f"space.{name} sets {', '.join(wanted)}, and this training has none of them; take it out by "
            f"space.{name}=null, or give other space.{name}.keys (--cfg job of gan_kit.train shows what there is)"
        )
    times = bool(given.get("times"))
    if times and (words := [f"{key}={now}" for key, now in keys if not _is_number(now)]):
        raise UserError(f"space.{name}.times=true multiplies numbers, and {words[0]} is none")
    choices = tuple(given.get("choices") or ())
    if choices:
        if {"low", "high", "log", "step"} & given.keys():
            raise UserError(f"space.{name} has choices and a range; give one of them")
        return Parameter(name, keys, choices=choices, times=times)
    low, high, step, log = given.get("low"), given.get("high"), given.get("step"), bool(given.get("log"))
    if low is None or high is None or not (_is_number(low) and _is_number(high) and low < high):
        raise UserError(
            f"space.{name} goes from low={low} to high={high}; give two numbers, low below high, or choices"
        )
    if log and low <= 0:
        raise UserError(f"space.{name}.low={low} has no logarithm; a positive low, or log=false")
    if step is not None and (log or not _is_number(step) or step <= 0):
        raise UserError(f"space.{name}.step={step}; a positive number, and without log")
    return Parameter(name, keys, low, high, log, step, times=times)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def value_at(config: Any, key: str) -> Any:
    """The plain value at a.b.1, None where there is none (or a whole group)"""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        value = OmegaConf.select(config, key)
    except (OmegaConfBaseException, TypeError, AttributeError):
        return None
    return None if OmegaConf.is_config(value) else value


def overrides_of(values: Mapping[str, Any], parameters: list[Parameter], config: Any) -> list[str]:
    """key=value for the training. Elements of a list are set by setting the list, which is all that Hydra takes."""
    from omegaconf import OmegaConf

    found: dict[str, Any] = {}
    for parameter in parameters:
        value = values[parameter.name]
        for key, now in parameter.keys:
            new = value
            if parameter.times:
                new = round(now * value) if isinstance(now, int) else float(f"{now * value:.6g}")
            parent, _, last = key.rpartition(".")
            if last.isdigit():
                found.setdefault(parent, list(OmegaConf.select(config, parent)))[int(last)] = new
            else:
                found[key] = new
    return [f"{key}={_written(value)}" for key, value in found.items()]


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(_written(v) for v in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value) if isinstance(value, int | float) else str(value)
