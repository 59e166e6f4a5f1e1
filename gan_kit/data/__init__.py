"""Data sets as arrays, and batches of them in an order that can be resumed exactly."""

from __future__ import annotations

import importlib
from typing import Any

# Where each public name lives. Imported at first use: preparing a folder must not wait for torch.
_HOMES = {
    "arrays": "Arrays Source",
    "datamodule": "ArrayDataModule DigitsData FashionMNISTData FolderData RingData",
    "digits": "Digits",
    "fashion_mnist": "FashionMNIST",
    "folder": "Folder",
    "loader": "BatchLoader RawBatch",
    "packed": "Packed",
    "ring": "Ring",
    "samples": "Samples load_samples",
    "transforms": "PadTo Resize Transform",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"gan_kit.data.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'gan_kit.data' has no attribute {name!r}")
