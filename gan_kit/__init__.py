"""gan_kit: train, watch, sample and ship generative adversarial networks for images and sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_kit.bundle import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: `import gan_kit` must not pay for it
    if name == "load":
        from gan_kit.bundle import load

        return load
    raise AttributeError(f"module 'gan_kit' has no attribute {name!r}")
