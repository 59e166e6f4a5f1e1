"""From a messy folder to a clean, documented, fast data set."""

from __future__ import annotations

from gan_kit.lazy import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        "export": "to_webdataset",
        "images": "Images",
        "pipeline": "Prepared Settings prepare",
        "segments": "Limits",
        "sounds": "Sounds",
        "types": "Domain Found Item Near Unusable",
    },
)
