"""The adversarial core: losses, penalties, averages, schedules and the step, for data of any rank."""

from gan_kit.adversarial.adaptive import Adaptive, AdaptiveP
from gan_kit.adversarial.auxiliary import ClassPenalty, ClassTerm, CrossEntropy, DataToDataCrossEntropy
from gan_kit.adversarial.consistency import Consistency, LatentConsistency, LatentDiversity
from gan_kit.adversarial.cycle import Cycle
from gan_kit.adversarial.ema import EMA
from gan_kit.adversarial.gan import GAN
from gan_kit.adversarial.lecam import LeCam
from gan_kit.adversarial.losses import (
    Hinge,
    LeastSquares,
    Loss,
    NonSaturating,
    Relativistic,
    RelativisticAverage,
    Wasserstein,
)
from gan_kit.adversarial.orthogonal import OrthogonalPenalty, OrthogonalTerm
from gan_kit.adversarial.own_loss import OwnLoss
from gan_kit.adversarial.path_length import PathLength
from gan_kit.adversarial.penalties import DRAGAN, R1, R2, SAN, DView, GradientPenalty, Penalty
from gan_kit.adversarial.reconstruction import Reconstruction
from gan_kit.adversarial.schedule import Cosine, Exponential, Linear, Scheduled, value_at
from gan_kit.adversarial.terms import FeatureMatching, GView, Term
from gan_kit.adversarial.translation import L1, Translation

__all__ = [
    "DRAGAN",
    "EMA",
    "GAN",
    "L1",
    "R1",
    "R2",
    "SAN",
    "Adaptive",
    "AdaptiveP",
    "ClassPenalty",
    "ClassTerm",
    "Consistency",
    "Cosine",
    "CrossEntropy",
    "Cycle",
    "DView",
    "DataToDataCrossEntropy",
    "Exponential",
    "FeatureMatching",
    "GView",
    "GradientPenalty",
    "Hinge",
    "LatentConsistency",
    "LatentDiversity",
    "LeCam",
    "LeastSquares",
    "Linear",
    "Loss",
    "NonSaturating",
    "OrthogonalPenalty",
    "OrthogonalTerm",
    "OwnLoss",
    "PathLength",
    "Penalty",
    "Reconstruction",
    "Relativistic",
    "RelativisticAverage",
    "Scheduled",
    "Term",
    "Translation",
    "Wasserstein",
    "value_at",
]
