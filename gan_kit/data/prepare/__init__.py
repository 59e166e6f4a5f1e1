"""From a messy folder to a clean, documented, fast data set."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "export": "to_webdataset",
    "images": "Images",
    "pipeline": "Prepared Settings prepare",
    "segments": "Limits",
    "sounds": "Sounds",
    "types": "Domain Found Item Near Unusable",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"gan_kit.data.prepare.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'gan_kit.data.prepare' has no attribute {name!r}")
