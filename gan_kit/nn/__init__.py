"""Domain-free layers."""

from gan_kit.nn.conv import Conv2d, conv2d
from gan_kit.nn.recorded import Recorded
from gan_kit.nn.resample import Downsample, Upsample

__all__ = ["Conv2d", "Downsample", "Recorded", "Upsample", "conv2d"]
