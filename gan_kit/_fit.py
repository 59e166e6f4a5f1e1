"""Values from a config as a constructor's annotations want them, and annotations in words."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from typing import Any

__all__ = ["Unfit", "fitted", "shown", "words"]


class Unfit(Exception):
    pass


def fitted(value: Any, hint: Any) -> Any:
    """The value as `hint` wants it (an int for a float, 1e6 for an int), or Unfit; odd hints take everything."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, dict) and "_target_" in value:
        return value
    if origin in (typing.Union, types.UnionType):
        for kind in args:
            if type(value) is kind:
                return value
        for kind in args:
            try:
                return fitted(value, kind)
            except Unfit:
                continue
        raise Unfit
    if origin is typing.Literal:
        if value not in args:
            raise Unfit
    elif hint is type(None):
        if value is not None:
            raise Unfit
    elif hint is bool or hint is str:
        if not isinstance(value, hint):
            raise Unfit
    elif hint is int or hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unfit
        if hint is int and isinstance(value, float) and not value.is_integer():
            raise Unfit
        return hint(value)
    elif origin is tuple and Ellipsis not in args:
        if not isinstance(value, list | tuple) or len(value) != len(args):
            raise Unfit
        return [fitted(v, a) for v, a in zip(value, args, strict=True)]
    elif origin in (list, tuple, collections.abc.Sequence, collections.abc.Iterable):
        if not isinstance(value, list | tuple):
            raise Unfit
        return [fitted(v, args[0] if args else Any) for v in value]
    elif origin in (dict, collections.abc.Mapping):
        if not isinstance(value, dict):
            raise Unfit
    elif hint is not Any and inspect.isclass(hint):
        # a part is wanted, not a number or nothing; paths and the like do take text
        ours = hint.__module__.startswith(("gan_kit.", "torch"))
        if value is None or (ours and isinstance(value, int | float | str | list)):
            raise Unfit
    return value


def words(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(word for a in args for word in words(a).split(" or ")))
    if origin is typing.Literal:
        return " or ".join(dict.fromkeys(map(str, args)))
    if origin is tuple and Ellipsis not in args:
        return f"a list of {len(args)}, each {words(args[0])}"
    if origin in (list, tuple, collections.abc.Sequence, collections.abc.Iterable):
        return f"a list, each {words(args[0])}" if args else "a list"
    simple = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return simple.get(hint) or f"a {getattr(hint, '__name__', str(hint))}"


def shown(value: Any) -> str:
    return "null" if value is None else str(value)
