"""Domain-free layers."""

from gan_kit.nn.recorded import Recorded
from gan_kit.nn.resample import Downsample, Upsample

__all__ = ["Downsample", "Recorded", "Upsample"]
