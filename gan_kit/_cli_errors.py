"""jsonargparse's reports, many lines of Python types, as one line that names the key, the value and what would fit."""

from __future__ import annotations

import importlib
import inspect
import re
import typing
from collections.abc import Iterable
from typing import Any

from gan_kit import _door
from gan_kit._fit import words

__all__ = ["in_building", "in_one_line"]

UNKNOWN = r"does not accept option '([^']+)'|(?:unrecognized arguments:|ambiguous option:) (\S+)"
MISSING = r"given class_path '([^']+)':\s+(?:module [^\n]* has no attribute|No module named)"
HIDDEN = ("config", "help", "print_config", "print_shtab", "subcommand")


def in_one_line(message: str, keys: Iterable[str]) -> str:
    """keys: what may be set, as the parser knows it: trainer.max_steps, model, ..."""
    keys = list(keys)
    if unknown := re.search(UNKNOWN, message):
        return _no_such_key((unknown[1] or unknown[2]).lstrip("-").partition("=")[0], keys)
    if "arguments are required" in message and "Parser key" not in message:
        return f"nothing to build ({message}): give the file of a run, --config runs/NAME/TIME/run.yaml"
    if missing := re.search(MISSING, message):
        return f"{_where(message, missing.start())}: there is no {missing[1]}{_nearest_class(missing[1])}"
    if refused := re.search(r"Option '([^']+)' is not accepted", message):
        return _no_such_argument(refused[1], message, refused)
    if (wrong := re.search(r"Expected an? <class", message)) and (found := _wrong_type(message, wrong)):
        return found
    text = re.sub(r'Parser key "([^"]+)":', r"\1:", re.split(r"\n\s*Given value", message)[0])
    return " ".join(text.split())[:400]


def in_building(message: str) -> str:
    """What a constructor said, of jsonargparse's report of all readings that it has tried."""
    said = re.search(r"Errors:\s+- (.*?)\n\s*- Expected a <class 'NoneType'>", message, re.DOTALL)
    return " ".join((said[1] if said else message).split())[:400]


def _no_such_key(key: str, keys: list[str]) -> str:
    keys = [k for k in keys if not k.startswith(HIDDEN)]
    parent = key.rpartition(".")[0]
    beside = sorted({k for k in keys if k.rpartition(".")[0] == parent} or {k.partition(".")[0] for k in keys})
    near = _door.nearest(key, beside)
    return f"no such setting {key!r}: {near}{'--help has all' if near and len(beside) > 20 else _have(beside)}"


def _have(names: Iterable[str]) -> str:
    return f"have {', '.join(names)}"


def _no_such_argument(name: str, message: str, at: re.Match[str]) -> str:
    key, target = f"{_where(message, at.start())}.{name}", _class_at(message, at)
    if target is None:
        return f"no such setting {key!r}"
    have = [n for n in inspect.signature(target).parameters if n not in ("self", "params")]
    near = _door.nearest(name, have)
    return f"no such setting {key!r}: {near}{target.__name__} has {', '.join(have)}"


def _wrong_type(message: str, at: re.Match[str]) -> str | None:
    value = re.compile(r"(?:Got value|Given value): (.*?)(?:\. Got value.*)?$", re.M).search(message, at.start())
    where, target = _where(message, at.start()), _class_at(message, at)
    if value is None:
        return None
    shown = value[1] if len(value[1]) < 60 else f"{value[1][:60]}…"
    try:
        wanted = words(typing.get_type_hints(target.__init__)[where.rpartition(".")[2]])
    except (AttributeError, KeyError, NameError, TypeError):
        wanted = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}.get(
            message[at.end() :].split("'")[1], "what fits there"
        )
    return f"{where}={shown} is not {wanted}"


def _nearest_class(path: str) -> str:
    module, _, name = path.rpartition(".")
    try:
        near = _door.nearest(name, dir(importlib.import_module(module)))
    except ImportError:
        return ""
    return f": {near.rstrip()}" if near else ""


def _where(message: str, end: int) -> str:
    """The path of keys that leads to a place in the report, as the command line takes it: model.generator.width"""
    return ".".join(re.findall(r'Parser key "([^"]+)"', message[:end]))


def _class_at(message: str, at: re.Match[str]) -> Any:
    """The class whose arguments a place in the report is about: named before it, or, of callables, after."""
    callables = re.search(r"expects a function or a callable class: (?=[^\n]*)", message)
    after = re.search(r"Namespace\(class_path='([\w.]+)'", message[at.end() :])
    before = re.findall(r"given class_path '([\w.]+)'", message[: at.start()])
    path = after[1] if callables and callables.start() < at.start() and after else before[-1] if before else None
    if path is None:
        return None
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name, None)
