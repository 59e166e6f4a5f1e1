"""The adversarial core: losses, penalties, averages, schedules and the step, for data of any rank."""

from gan_kit.adversarial.ema import EMA
from gan_kit.adversarial.gan import GAN
from gan_kit.adversarial.losses import Hinge, LeastSquares, Loss, NonSaturating, Relativistic, Wasserstein
from gan_kit.adversarial.penalties import R1, R2, DView, GradientPenalty, Penalty
from gan_kit.adversarial.reconstruction import Reconstruction
from gan_kit.adversarial.schedule import Cosine, Linear, Scheduled, value_at

__all__ = [
    "EMA",
    "GAN",
    "R1",
    "R2",
    "Cosine",
    "DView",
    "GradientPenalty",
    "Hinge",
    "LeastSquares",
    "Linear",
    "Loss",
    "NonSaturating",
    "Penalty",
    "Reconstruction",
    "Relativistic",
    "Scheduled",
    "Wasserstein",
    "value_at",
]
