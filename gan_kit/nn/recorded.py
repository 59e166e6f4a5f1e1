"""Networks that remember how they were built."""

from __future__ import annotations

import functools
import inspect
from typing import Any

__all__ = ["Recorded"]


class Recorded:
    """Mix-in: keeps the constructor's arguments in `init_args`, so that a checkpoint or bundle can rebuild the net.

    Put it before `nn.Module` in the bases. The arguments should be plain (numbers, strings, lists of them).
    """

    init_args: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        init = cls.__init__
        signature = inspect.signature(init)

        @functools.wraps(init)
        def recording(self: Any, *args: Any, **kwargs: Any) -> None:
            if "init_args" not in self.__dict__:  # a subclass's constructor has recorded its own, outer ones already
                bound = signature.bind(self, *args, **kwargs)
                bound.apply_defaults()
                plain = {k: list(v) if isinstance(v, tuple) else v for k, v in bound.arguments.items() if k != "self"}
                self.__dict__["init_args"] = plain
            init(self, *args, **kwargs)

        cls.__init__ = recording  # type: ignore[method-assign]

    @property
    def target(self) -> str:
        """The import path that builds this class, for Hydra's `_target_`."""
        return f"{type(self).__module__}.{type(self).__qualname__}"
